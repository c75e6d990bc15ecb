"""Virtual environments that only benchmarks need; installed from their locks when first used, then kept."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from standalone.home import REPO, Home
from standalone.install import Layer, install_environment
from standalone.processes import locked

ENVIRONMENTS = REPO / "bench" / "environments"


def bench_folder() -> Path:
    """Where benchmarks keep what is expensive to make; remove it to start afresh."""
    folder = Home().path / "bench"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@cache
def python_with(name: str, *, on_top_of: tuple[Path, ...] = ()) -> Path:
    """The interpreter of the environment locked in ``bench/environments/<name>.txt``.

    :param on_top_of: locks that are installed before.
    :raises InstallError: with the last lines of the installer.
    """
    home = Home()
    home.venvs = bench_folder() / "venvs"
    home.venvs.mkdir(exist_ok=True)
    wanted = [Layer(lock) for lock in (*on_top_of, ENVIRONMENTS / f"{name}.txt")]
    with locked(home.venvs / f".{name}.lock"):
        install_environment(home, name, wanted, _report)
    return home.python(name)


def _report(name: str, state: str) -> None:
    if state == "installing":
        print(f"installing the {name} environment", flush=True)
