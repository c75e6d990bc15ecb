"""The state folder of one stack: where its files are, its ports, its credentials and what the supervisor last reported.

Everything is under ``.standalone/`` or ``LABELWHEEL_HOME``; only the virtual environments may be elsewhere
(``LABELWHEEL_VENVS``), so that several stacks can share them.
"""

from __future__ import annotations

import base64
import json
import os
import random
import secrets
import socket
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from standalone.errors import PortError, StackError

REPO = Path(__file__).resolve().parent.parent

# The first four are what people and programs open; the others are internal to the S3 server.
DEFAULT_PORTS = {
    "airflow": 8080,
    "argilla": 6900,
    "s3": 8333,
    "redis": 6390,
    "s3_grpc": 18333,
    "s3_master": 18334,
    "s3_master_grpc": 18335,
    "s3_volume": 18336,
    "s3_volume_grpc": 18337,
    "s3_filer": 18338,
    "s3_filer_grpc": 18339,
    "s3_admin": 18340,
    "s3_admin_grpc": 18341,
}
# Below the range from which the kernel takes ports of outgoing connections.
AUTO_PORT_RANGE = range(20_000, 32_000)


def port_variable(name: str) -> str:
    """The environment variable that sets a port."""
    return f"LABELWHEEL_{name.upper()}_PORT"


@dataclass(frozen=True)
class Credentials:
    """Generated at the first start, kept in ``credentials.json`` (mode 0600), never logged."""

    airflow_admin_password: str = field(repr=False)
    airflow_viewer_password: str = field(repr=False)
    airflow_jwt_secret: str = field(repr=False)
    airflow_api_secret: str = field(repr=False)
    airflow_fernet_key: str = field(repr=False)
    argilla_owner_password: str = field(repr=False)
    argilla_owner_api_key: str = field(repr=False)
    argilla_service_password: str = field(repr=False)
    argilla_service_api_key: str = field(repr=False)
    argilla_annotator_password: str = field(repr=False)
    argilla_annotator_api_key: str = field(repr=False)
    argilla_auth_secret: str = field(repr=False)
    s3_access_key_id: str = field(repr=False)
    s3_secret_access_key: str = field(repr=False)
    redis_password: str = field(repr=False)

    airflow_admin_username: str = "admin"
    airflow_viewer_username: str = "viewer"
    argilla_owner_username: str = "owner"
    argilla_service_username: str = "labelwheel"
    argilla_annotator_username: str = "annotator"

    @classmethod
    def generate(cls) -> Credentials:
        """New random credentials."""
        return cls(
            airflow_admin_password=secrets.token_urlsafe(12),
            airflow_viewer_password=secrets.token_urlsafe(12),
            airflow_jwt_secret=secrets.token_urlsafe(64),
            airflow_api_secret=secrets.token_urlsafe(32),
            airflow_fernet_key=base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
            argilla_owner_password=secrets.token_urlsafe(12),
            argilla_owner_api_key=f"owner.{secrets.token_urlsafe(32)}",
            argilla_service_password=secrets.token_urlsafe(24),
            argilla_service_api_key=f"service.{secrets.token_urlsafe(32)}",
            argilla_annotator_password=secrets.token_urlsafe(12),
            argilla_annotator_api_key=f"annotator.{secrets.token_urlsafe(32)}",
            argilla_auth_secret=secrets.token_urlsafe(32),
            s3_access_key_id=secrets.token_hex(10),
            s3_secret_access_key=secrets.token_urlsafe(30),
            redis_password=secrets.token_urlsafe(24),
        )

    def secret_values(self) -> list[str]:
        """Every value that must not show up in a log, a process list or a state file."""
        return [v for k, v in asdict(self).items() if v and not k.endswith("_username") and k != "s3_access_key_id"]


def write_private(path: Path, text: str, mode: int = 0o600) -> None:
    """Replace a file in one step; readers see the old or the new text, and nobody else may read it."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        temporary.chmod(mode)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


class Home:
    """The folders and files of one stack.

    :param path: the state folder; by default ``LABELWHEEL_HOME``, else ``.standalone`` in the repository.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = Path(path or os.environ.get("LABELWHEEL_HOME") or REPO / ".standalone").absolute()
        self.venvs = Path(os.environ.get("LABELWHEEL_VENVS") or self.path / "venvs").absolute()
        self.logs = self.path / "logs"
        self.data = self.path / "data"
        self.credentials_file = self.path / "credentials.json"
        self.ports_file = self.path / "ports.json"
        self.state_file = self.path / "state.json"
        self.lock_file = self.path / "supervisor.lock"
        self.guardian_lock_file = self.path / "guardian.lock"
        self.up_lock_file = self.path / "up.lock"
        self.shown_file = self.path / "credentials.shown"

    def contents(self) -> list[Path]:
        """Everything a stack puts into its state folder (shared virtual environments stay)."""
        files = [self.credentials_file, self.ports_file, self.state_file, self.shown_file, self.path / ".writable"]
        locks = [self.lock_file, self.guardian_lock_file, self.up_lock_file]
        folders = [self.data, self.logs, self.path / "venvs", self.path / "bench", self.path / "report.json"]
        return [path for path in (*files, *locks, *folders) if path.exists()]

    def python(self, venv: str) -> Path:
        """The interpreter of one of our virtual environments (``tools``, ``airflow``, ``argilla``)."""
        return self.venvs / venv / "bin" / "python"

    def create(self) -> None:
        """Make the folders, private to the user.

        :raises StackError: when the state folder cannot be written.
        """
        try:
            for folder in (self.path, self.logs, *(self.data / d for d in ("s3", "redis", "argilla", "airflow"))):
                folder.mkdir(parents=True, exist_ok=True)
            self.path.chmod(0o700)
            write_private(self.path / ".writable", "yes")
        except OSError as error:
            raise StackError(
                f"The state folder {self.path} cannot be written ({error.strerror})",
                remedy="Free space or fix its permissions, or set LABELWHEEL_HOME to another folder.",
            ) from error

    def credentials(self) -> Credentials:
        """The credentials of this stack.

        :raises StackError: when there are none yet, or the file is damaged.
        """
        try:
            return Credentials(**json.loads(self.credentials_file.read_text(encoding="utf-8")))
        except FileNotFoundError as error:
            raise StackError(f"There is no stack in {self.path}", remedy="Start one with 'make up'.") from error
        except (ValueError, TypeError) as error:
            raise StackError(
                f"{self.credentials_file} is damaged",
                remedy="Restore it from a backup, or start afresh with 'make clean' (this removes all data).",
            ) from error

    def ensure_credentials(self) -> tuple[Credentials, bool]:
        """The credentials and whether they were made just now."""
        if self.credentials_file.exists():
            return self.credentials(), False
        credentials = Credentials.generate()
        write_private(self.credentials_file, json.dumps(asdict(credentials), indent=2) + "\n")
        return credentials, True

    def ports(self) -> dict[str, int]:
        """The ports of the last start, or the defaults before the first."""
        try:
            return {**DEFAULT_PORTS, **json.loads(self.ports_file.read_text(encoding="utf-8"))}
        except FileNotFoundError:
            return dict(DEFAULT_PORTS)

    def choose_ports(self, environ: Mapping[str, str]) -> dict[str, int]:
        """Decide this start's ports and remember them.

        A variable of its own wins, then what an earlier start with ``LABELWHEEL_PORTS=auto`` chose (as long as it is
        free), then a free port when ``LABELWHEEL_PORTS=auto``, then the default.

        :raises PortError: when a variable is not a port number, or two names share one.
        """
        remembered = self.ports() if self.ports_file.exists() else {}
        auto = environ.get("LABELWHEEL_PORTS") == "auto"
        given = {name: environ.get(port_variable(name)) for name in DEFAULT_PORTS}
        fixed = {name: _port(text, name) for name, text in given.items() if text}
        ports: dict[str, int] = {}
        for name, default in DEFAULT_PORTS.items():
            if name in fixed:
                ports[name] = fixed[name]
            elif name in remembered and (not auto or port_is_free(remembered[name])):
                ports[name] = remembered[name]
            else:
                ports[name] = free_port({*ports.values(), *fixed.values()}) if auto else default
        for name, port in ports.items():
            if twin := next((n for n, p in ports.items() if p == port and n != name), None):
                raise PortError(
                    f"{name} and {twin} share port {port}",
                    remedy=f"Set {port_variable(name)} or {port_variable(twin)} to another.",
                )
        if auto or remembered:
            chosen = {name: port for name, port in ports.items() if name not in fixed}
            write_private(self.ports_file, json.dumps({**remembered, **chosen}, indent=2) + "\n")
        return ports

    def read_state(self) -> dict[str, Any]:
        """What the supervisor last reported; empty before the first start."""
        try:
            state: dict[str, Any] = json.loads(self.state_file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        return state


def _port(text: str, name: str) -> int:
    if not text.isdigit() or not 0 < int(text) < 65_536:
        raise PortError(
            f"{port_variable(name)} is {text!r}, which is not a port", remedy="Set it to a number from 1024 to 65535."
        )
    return int(text)


def port_is_free(port: int) -> bool:
    """Whether a server could listen on this loopback port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def free_port(taken: set[int]) -> int:
    """A free loopback port that is not in ``taken``."""
    while True:
        port = random.choice(AUTO_PORT_RANGE)  # noqa: S311  (not a secret)
        if port not in taken and port_is_free(port):
            return port
