"""Environments: left alone when nothing has changed, made anew when a lock has changed or they are broken."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from standalone.errors import InstallError
from standalone.home import REPO, Home
from standalone.install import Layer, install_environment


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setenv("LABELWHEEL_VENVS", str(tmp_path / "venvs"))
    return Home(tmp_path / "stack")


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    """One small package with its hashes, out of our own lock."""
    return write_lock(tmp_path / "lock.txt", "six")


def write_lock(path: Path, *names: str) -> Path:
    text = (REPO / "standalone" / "tools.txt").read_text()
    found = [re.search(rf"^{name}==.*?(?=^\S)", text, re.MULTILINE | re.DOTALL) for name in names]
    path.write_text("".join(match.group() for match in found if match))
    assert path.read_text().count("==") == len(names)
    return path


def install(home: Home, lock: Path) -> list[str]:
    """Install and return what was reported."""
    reports: list[str] = []
    install_environment(home, "small", [Layer(lock)], lambda _, state: reports.append(state))
    return reports


def has(home: Home, module: str) -> bool:
    return subprocess.run([str(home.python("small")), "-c", f"import {module}"], capture_output=True).returncode == 0


def test_unchanged_lock_is_not_installed_again(home: Home, lock: Path) -> None:
    assert install(home, lock)[0] == "installing"
    assert has(home, "six")
    assert install(home, lock) == ["ready"]


def test_bytecode_is_compiled_at_install(home: Home, lock: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    install(home, lock)
    assert list((home.venvs / "small").rglob("six.*.pyc"))


def test_changed_lock_is_installed_and_what_left_it_is_gone(home: Home, lock: Path) -> None:
    install(home, lock)
    write_lock(lock, "h11")
    assert "installing" in install(home, lock)
    assert has(home, "h11")
    assert not has(home, "six")


def test_broken_environment_is_made_anew(home: Home, lock: Path) -> None:
    install(home, lock)
    home.python("small").unlink()
    assert "installing" in install(home, lock)
    assert has(home, "six")


def test_interrupted_installation_is_done_again(home: Home, lock: Path) -> None:
    install(home, lock)
    (home.venvs / "small" / ".labelwheel.json").write_text('{"python": ')
    assert "installing" in install(home, lock)


def test_wrong_hash_is_refused_in_a_sentence(home: Home, lock: Path) -> None:
    lock.write_text(re.sub(r"sha256:[0-9a-f]{64}", "sha256:" + "0" * 64, lock.read_text()))
    with pytest.raises(InstallError, match="small environment could not be installed") as caught:
        install(home, lock)
    assert "hash" in str(caught.value).lower()
    assert not has(home, "six")
