"""The virtual environments, from their locks. An environment whose locks have not changed is left alone."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from standalone.errors import InstallError
from standalone.home import REPO, Home
from standalone.processes import locked

Report = Callable[[str, str], None]  # (environment, "installing" | "ready")
STAMP = ".labelwheel.json"


@dataclass(frozen=True)
class Layer:
    """One thing installed into an environment.

    :param file: a lock with hashes, or the ``pyproject.toml`` of a package installed in place.
    """

    file: Path
    editable: bool = False

    @property
    def digest(self) -> str:
        """Changes when this layer must be installed anew."""
        place = str(self.file.parent) if self.editable else ""
        return hashlib.sha256(self.file.read_bytes() + place.encode()).hexdigest()

    @property
    def arguments(self) -> list[str]:
        """What to tell ``uv pip install``."""
        if self.editable:
            # The build backend is in the lock below: nothing unlocked is downloaded.
            return ["--no-deps", "--no-build-isolation", "--editable", str(self.file.parent)]
        return ["--require-hashes", "--requirement", str(self.file)]


def layers(environment: str, *, dev: bool) -> list[Layer]:
    """What belongs into an environment, in order.

    :raises InstallError: when a file of the repository is missing.
    """
    argilla = REPO / "standalone" / "argilla_sqlite"
    wanted = {
        "airflow": [Layer(REPO / "requirements.txt"), Layer(REPO / "plugins" / "pyproject.toml", editable=True)],
        "argilla": [Layer(argilla / "requirements.txt")],
    }[environment]
    if dev:
        extra = {"airflow": REPO / "requirements-dev.txt", "argilla": argilla / "requirements-test.txt"}
        wanted.append(Layer(extra[environment]))
    for layer in wanted:
        if not layer.file.exists():
            raise InstallError(f"{layer.file.relative_to(REPO)} is missing", remedy="Restore it with 'git checkout'.")
    return wanted


def install(home: Home, report: Report, *, dev: bool = False) -> None:
    """Bring both environments up to date, side by side.

    :raises InstallError: with the last lines of the installer.
    """
    home.venvs.mkdir(parents=True, exist_ok=True)
    with locked(home.venvs / ".install.lock"), ThreadPoolExecutor() as pool:
        jobs = [
            pool.submit(install_environment, home, name, layers(name, dev=dev), report)
            for name in ("airflow", "argilla")
        ]
        for job in jobs:
            job.result()


def install_environment(home: Home, name: str, wanted: list[Layer], report: Report) -> None:
    """Bring one environment up to date: made anew when its first layer has changed or it does not work.

    :raises InstallError: with the last lines of the installer.
    """
    venv = home.venvs / name
    base = wanted[0]
    done = _read_stamp(venv)
    version = ".".join(map(str, sys.version_info[:3]))
    if done.get(base.file.name) != base.digest or done.get("python") != version or not _works(venv):
        report(name, "installing")
        (venv / STAMP).unlink(missing_ok=True)
        _uv(home, name, "venv", "--clear", "--python", sys.executable, str(venv))
        done = {"python": version}
    for layer in wanted:
        if done.get(layer.file.name) == layer.digest:
            continue
        report(name, "installing")
        _uv(home, name, "pip", "install", "--python", str(home.python(name)), *layer.arguments)
        done[layer.file.name] = layer.digest
        # Written after each layer: an interrupted installation goes on where it was.
        (venv / STAMP).write_text(json.dumps(done, indent=2), encoding="utf-8")
    report(name, "ready")


def _read_stamp(venv: Path) -> dict[str, str]:
    try:
        stamp: dict[str, str] = json.loads((venv / STAMP).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return stamp


def _works(venv: Path) -> bool:
    python = venv / "bin" / "python"
    return python.exists() and subprocess.run([str(python), "-c", ""], check=False).returncode == 0


def _uv(home: Home, name: str, *arguments: str) -> None:
    home.logs.mkdir(parents=True, exist_ok=True)
    log = home.logs / f"install-{name}.log"
    folders = [str(Path(sys.executable).parent), *os.get_exec_path()]
    uv = shutil.which("uv", path=os.pathsep.join(folders))
    if uv is None:
        raise InstallError("The installer 'uv' is missing", remedy="Run 'make install'.")
    for attempt in (1, 2, 3):
        with log.open("w") as output:
            command = [uv, *arguments]
            code = subprocess.run(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=_environ(), check=False
            ).returncode
        if code == 0:
            return
        if attempt < 3:
            time.sleep(attempt)  # a registry that hiccups
    tail = "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-15:])
    raise InstallError(
        f"{log} ends with:\n{tail}\nThe {name} environment could not be installed",
        remedy="Check the network and the free disk space, then run it again.",
    )


def _environ() -> Mapping[str, str]:
    """The environment of ``uv``: it compiles at install, never fetches an interpreter, and uses pip's package index."""
    environ = {**os.environ, "UV_COMPILE_BYTECODE": "1", "UV_PYTHON_DOWNLOADS": "never", "UV_NO_PROGRESS": "1"}
    if not environ.get("HOME"):
        environ["UV_NO_CACHE"] = "1"
    if "UV_DEFAULT_INDEX" not in environ and (index := _pip_index()):
        environ["UV_DEFAULT_INDEX"] = index
    return environ


def _pip_index() -> str:
    """The package index pip is configured with: machines behind a mirror have it there, and uv does not look."""
    if index := os.environ.get("PIP_INDEX_URL"):
        return index
    command = [sys.executable, "-m", "pip", "config", "get", "global.index-url"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    return result.stdout.strip()
