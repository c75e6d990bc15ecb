"""The state folder: private credentials, remembered ports, plain sentences when it cannot be used."""

from __future__ import annotations

import json
import os
import resource
import socket
import stat
import subprocess
from pathlib import Path

import pytest

from standalone.errors import PortError, StackError
from standalone.home import DEFAULT_PORTS, REPO, Home, port_is_free, port_variable


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "stack")
    home.create()
    return home


def test_credentials_are_private_and_stay(home: Home) -> None:
    first, created = home.ensure_credentials()
    again, created_again = home.ensure_credentials()
    assert (created, created_again) == (True, False)
    assert first == again
    assert stat.S_IMODE(home.credentials_file.stat().st_mode) == 0o600
    assert stat.S_IMODE(home.path.stat().st_mode) == 0o700


def test_credentials_are_random_and_do_not_print(home: Home, tmp_path: Path) -> None:
    other = Home(tmp_path / "other")
    other.create()
    mine, theirs = home.ensure_credentials()[0], other.ensure_credentials()[0]
    secrets = mine.secret_values()
    assert len(secrets) == len(set(secrets)) >= 14
    assert not set(secrets) & set(theirs.secret_values())
    assert not [secret for secret in secrets if secret in repr(mine)]
    assert len(mine.airflow_jwt_secret) >= 64


def test_damaged_credentials_are_named(home: Home) -> None:
    home.credentials_file.write_text('{"airflow_admin_password": ')
    with pytest.raises(StackError, match=r"credentials\.json is damaged.*make clean"):
        home.credentials()


def test_default_ports_need_no_file(home: Home) -> None:
    assert home.choose_ports({}) == DEFAULT_PORTS
    assert not home.ports_file.exists()


def test_a_variable_wins(home: Home) -> None:
    ports = home.choose_ports({"LABELWHEEL_PORTS": "auto", port_variable("argilla"): "23456"})
    assert ports["argilla"] == 23456
    assert home.choose_ports({})["argilla"] == DEFAULT_PORTS["argilla"], "a variable is for one start, not for ever"


def test_auto_ports_are_free_different_and_remembered(home: Home) -> None:
    ports = home.choose_ports({"LABELWHEEL_PORTS": "auto"})
    assert len(set(ports.values())) == len(DEFAULT_PORTS)
    assert all(map(port_is_free, ports.values()))
    assert home.choose_ports({"LABELWHEEL_PORTS": "auto"}) == ports
    assert home.choose_ports({}) == ports


def test_auto_replaces_only_what_was_taken_meanwhile(home: Home) -> None:
    ports = home.choose_ports({"LABELWHEEL_PORTS": "auto"})
    with socket.create_server(("127.0.0.1", ports["redis"])):
        later = home.choose_ports({"LABELWHEEL_PORTS": "auto"})
    assert {name for name in ports if ports[name] != later[name]} == {"redis"}


@pytest.mark.parametrize("text", ["0", "65536", "http", "-1", "8080 "])
def test_what_is_not_a_port_is_refused(home: Home, text: str) -> None:
    with pytest.raises(PortError, match="LABELWHEEL_S3_PORT"):
        home.choose_ports({port_variable("s3"): text})


def test_one_port_for_two_services_is_refused(home: Home) -> None:
    with pytest.raises(PortError, match="airflow and argilla share port 6900"):
        home.choose_ports({port_variable("airflow"): "6900"})


def test_unusable_state_folder_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StackError, match="cannot be written.*LABELWHEEL_HOME"):
        Home(tmp_path / "file" / "stack").create()


def test_full_disk_is_a_sentence(tmp_path: Path) -> None:
    """A limit of 0 bytes per file stands for a disk without free space: every write fails, folders can be made."""
    process = subprocess.run(
        [str(Home().python("tools")), "-m", "standalone", "up"],
        cwd=REPO,
        env={**os.environ, "LABELWHEEL_HOME": str(tmp_path / "stack")},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0)),  # noqa: PLW1509
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert process.returncode == 1
    assert "cannot be written" in process.stdout
    assert "Traceback" not in process.stdout + process.stderr


def test_no_stack_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(StackError, match="no stack.*make up"):
        Home(tmp_path).credentials()


def test_readers_never_see_half_a_state(home: Home) -> None:
    home.state_file.write_text(json.dumps({"healthy": False}))
    assert home.read_state() == {"healthy": False}
    home.state_file.unlink()
    assert home.read_state() == {}
