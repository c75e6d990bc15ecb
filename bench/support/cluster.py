"""A real Airflow with the Celery executor on this machine: Postgres, Redis, S3, and workers that come and go.

Everything listens on loopback with generated passwords, lives in one temporary folder and ends with the block. The
workers have an ``AIRFLOW_HOME`` of their own and no database URL, as on other machines.
"""

from __future__ import annotations

import json
import os
import pwd
import secrets
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import yaml

from bench.support.environments import bench_folder, python_with
from standalone.airflow_api import AirflowApi, await_value
from standalone.errors import StackError
from standalone.home import REPO, Credentials, Home, free_port, write_private
from standalone.processes import KEEP_MARKER, end, find, marker
from standalone.processes import MARKER as MARKER_VARIABLE
from standalone.s3 import S3Server, run_server
from standalone.stack import LAKE_BUCKET, LANDING_BUCKET, Stack

READY_SECONDS = 120
GRACE_SECONDS = 10
LOG_CHARACTERS = 2000
# What each library would otherwise size by the number of cores.
ONE_THREAD = dict.fromkeys(
    (
        "OMP_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
        "MKL_NUM_THREADS",
        "ARROW_IO_THREADS",
        "POLARS_MAX_THREADS",
        "RAYON_NUM_THREADS",
        "TOKIO_WORKER_THREADS",
    ),
    "1",
)


@dataclass(frozen=True)
class Cluster:
    """A running Airflow; see ``open_cluster``."""

    folder: Path
    python: Path
    environ: Mapping[str, str] = field(repr=False)
    worker_environ: Mapping[str, str] = field(repr=False)
    s3: S3Server
    api: AirflowApi

    @contextmanager
    def workers(self, cores: Sequence[int]) -> Iterator[None]:
        """One Celery worker on each of these cores, ready to take tasks when the block begins.

        :raises StackError: when one does not start.
        """
        names = [f"worker-{core}" for core in cores]
        try:
            for name, core in zip(names, cores, strict=True):
                home = self.folder / name
                home.mkdir(exist_ok=True)
                options = ("--concurrency", "1", "--celery-hostname", name, "--skip-serve-logs")
                command = [str(self.python), "-m", "airflow", "celery", "worker", *options]
                environ = {**self.worker_environ, **ONE_THREAD, "AIRFLOW_HOME": str(home)}
                start(self.folder, name, ["taskset", "--cpu-list", str(core), *command], environ)
            for name in names:
                log = self.folder / f"{name}.log"
                await_ready(self.folder, name, partial(_says, log, " ready."))
            yield
        finally:
            for name in names:
                end(find(self.folder, name), grace_seconds=GRACE_SECONDS)
                (self.folder / f"{name}.log").unlink(missing_ok=True)

    def last_words(self, dag_id: str) -> str:
        """The end of each log of the DAG's tasks that has an error in it, the newest last; they are on the workers."""
        logs = [path for path in self.folder.glob(f"worker-*/logs/dag_id={dag_id}/**/*.log") if path.is_file()]
        texts = [path.read_text(encoding="utf-8", errors="replace") for path in sorted(logs, key=_age)]
        return "\n".join(text[-LOG_CHARACTERS:] for text in texts if "error" in text)[-3 * LOG_CHARACTERS :]


def _age(path: Path) -> float:
    return path.stat().st_mtime


def _says(log: Path, text: str) -> None:
    if text not in log.read_text(encoding="utf-8", errors="replace"):
        raise StackError(f"{log.name} does not say {text!r} yet", remedy=f"Read {log}.")


def start(
    folder: Path, name: str, command: Sequence[str], environ: Mapping[str, str], *, user: str | None = None
) -> None:
    """Start a service whose processes ``find(folder, name)`` will find, with a log of its own.

    :param user: run as this one; only root may ask for it.
    """
    groups: list[int] | None = [] if user else None
    with (folder / f"{name}.log").open("ab") as log:
        subprocess.Popen(  # noqa: S603 - our own command lines; ended by ``end``
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={**environ, MARKER_VARIABLE: marker(folder, name), **KEEP_MARKER},
            cwd=folder,
            start_new_session=True,
            user=user,
            group=pwd.getpwnam(user).pw_gid if user else None,
            extra_groups=groups,
        )


def await_ready(folder: Path, name: str, check: Callable[[], object]) -> None:
    """Wait until the check no longer raises.

    :raises StackError: when that takes too long, or the service has ended.
    """
    deadline = time.monotonic() + READY_SECONDS
    while True:
        try:
            check()
            return
        except (StackError, httpx.HTTPError, OSError, KeyError, subprocess.CalledProcessError) as error:
            if time.monotonic() > deadline or not find(folder, name):
                log = (folder / f"{name}.log").read_text(encoding="utf-8", errors="replace")
                tail = "\n".join(log.splitlines()[-15:])
                raise StackError(f"{tail}\n{name} is not ready ({error})", remedy="See its log above.") from error
            time.sleep(0.5)


@contextmanager
def open_cluster(projects: list[dict[str, Any]]) -> Iterator[Cluster]:
    """Airflow with exactly these projects, without workers.

    :param projects: what their YAML files would say.
    :raises StackError: when a program is missing or a service does not start.
    """
    python = python_with("celery", on_top_of=(REPO / "requirements.txt",))
    with ExitStack() as stack:
        # Short and outside our private state folder: Postgres' own user must be able to reach its part.
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="labelwheel-fanout-")))
        folder.chmod(0o755)
        stack.callback(lambda: end(find(folder), grace_seconds=GRACE_SECONDS))
        data = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="s3-", dir=bench_folder())))
        s3 = stack.enter_context(run_server(data))
        for bucket in (LANDING_BUCKET, LAKE_BUCKET):
            s3.client().create_bucket(Bucket=bucket)
        write_code(folder / "code", projects)
        ports: dict[str, int] = {}
        for name in ("airflow", "postgres", "redis"):
            ports[name] = free_port(set(ports.values()))
        credentials = Credentials.generate()
        database = start_postgres(folder, ports["postgres"])
        broker = start_redis(folder, ports["redis"], credentials.redis_password)
        worker_environ = airflow_environ(folder, ports["airflow"], credentials, s3, broker, database)
        environ = {
            **worker_environ,
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"postgresql+psycopg2://{database}",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_ASYNC": f"postgresql+asyncpg://{database}",
        }
        urls = {"airflow": f"http://127.0.0.1:{ports['airflow']}", "s3": s3.endpoint_url}
        api = AirflowApi(Stack(Home(folder), ports, urls, credentials))
        start_airflow(folder, python, environ, api)
        for name, pool in json.loads((REPO / "deploy" / "pools.json").read_text(encoding="utf-8")).items():
            api.call("POST", "/pools", {"name": name, **pool})
        yield Cluster(folder, python, environ, worker_environ, s3, api)


def write_code(target: Path, projects: list[dict[str, Any]]) -> None:
    """The repository's DAGs, plugins and logic, with these projects instead of its own."""
    for name in ("dags", "plugins", "include"):
        ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
        shutil.copytree(REPO / name, target / name, ignore=ignored)
    folder = target / "include" / "projects"
    for path in folder.glob("*.yaml"):
        path.unlink()
    for project in projects:
        text = yaml.safe_dump(project, allow_unicode=True, sort_keys=False)
        (folder / f"{project['name']}.yaml").write_text(text, encoding="utf-8")
    # Only the DAG that is measured: others would wake up by its assets and take the workers' time.
    for path in (target / "dags").glob("*.py"):
        if path.stem != "ingest":
            path.unlink()


def find_postgres() -> Path:
    """The folder of Postgres' programs.

    :raises StackError: when it is not installed.
    """
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name), reverse=True)
    for folder in (*installed, *map(Path, os.get_exec_path())):
        if (folder / "postgres").exists() and (folder / "initdb").exists():
            return folder.resolve()
    raise StackError("There is no Postgres server", remedy="Install it (Debian: apt-get install postgresql).")


def start_postgres(folder: Path, port: int) -> str:
    """A database server; returns ``user:password@host:port/database``."""
    programs, home, password = find_postgres(), folder / "postgres", secrets.token_urlsafe(24)
    user = "nobody" if os.geteuid() == 0 else None  # Postgres refuses to run as root
    home.mkdir(mode=0o700)
    password_file = home / "password"
    write_private(password_file, password)
    if user:
        account = pwd.getpwnam(user)
        for path in (home, password_file):
            os.chown(path, account.pw_uid, account.pw_gid)
    subprocess.run(  # noqa: S603 - our own command line
        [
            *(str(programs / "initdb"), "--pgdata", str(home / "data"), "--username", "airflow", "--no-locale"),
            *("--encoding", "UTF8", "--auth", "scram-sha-256", "--pwfile", str(password_file), "--no-sync"),
        ],
        check=True,
        stdout=subprocess.DEVNULL,
        cwd=home,
        user=user,
        group=pwd.getpwnam(user).pw_gid if user else None,
        extra_groups=[] if user else None,
    )
    settings = {"listen_addresses": "127.0.0.1", "unix_socket_directories": str(home), "fsync": "off"}
    options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
    command = [str(programs / "postgres"), "-D", str(home / "data"), "-p", str(port), *options]
    start(folder, "postgres", command, base_environ(), user=user)
    return f"airflow:{password}@127.0.0.1:{port}/postgres"


def start_redis(folder: Path, port: int, password: str) -> str:
    """A message broker; returns its URL."""
    names = (os.environ.get("LABELWHEEL_REDIS_SERVER", ""), "valkey-server", "redis-server")
    server = next((found for name in names if name and (found := shutil.which(name))), None)
    if server is None:
        raise StackError("There is no Redis server", remedy="Run 'make bench-fanout', or install redis-server.")
    settings = {
        "bind": "127.0.0.1",
        "port": port,
        "requirepass": password,
        "save": '""',
        "set-proc-title": "no",  # a title would overwrite the marker we find the process by
    }
    path = folder / "redis.conf"
    write_private(path, "".join(f"{key} {value}\n" for key, value in settings.items()))
    start(folder, "redis", [server, str(path)], base_environ())
    return f"redis://:{password}@127.0.0.1:{port}/0"


def base_environ() -> dict[str, str]:
    """The user's environment without settings for other programs of the same kind."""
    foreign = ("AIRFLOW", "AWS_", "PYTHON", "VIRTUAL_ENV", "PG")
    return {
        **{key: value for key, value in os.environ.items() if not key.startswith(foreign)},
        "NO_PROXY": "127.0.0.1,localhost",
        "no_proxy": "127.0.0.1,localhost",
        "AWS_EC2_METADATA_DISABLED": "true",
        "DO_NOT_TRACK": "1",
        "GX_ANALYTICS_ENABLED": "false",
    }


def airflow_environ(
    folder: Path, port: int, credentials: Credentials, s3: S3Server, broker: str, database: str
) -> dict[str, str]:
    """Airflow's configuration as workers get it: everything but the way to the database."""
    url = f"http://127.0.0.1:{port}"
    passwords = folder / "passwords.json"
    write_private(passwords, json.dumps({credentials.airflow_admin_username: credentials.airflow_admin_password}))
    connection = {
        "conn_type": "aws",
        "login": s3.access_key_id,
        "password": s3.secret_access_key,
        "extra": {
            "endpoint_url": s3.endpoint_url,
            "region_name": s3.region_name,
            "config_kwargs": {"signature_version": "s3v4", "s3": {"addressing_style": "path"}},
        },
    }
    code = folder / "code"
    settings = {
        "CORE__DAGS_FOLDER": code / "dags",
        "CORE__PLUGINS_FOLDER": code / "plugins",
        "CORE__LOAD_EXAMPLES": False,
        "CORE__DAGS_ARE_PAUSED_AT_CREATION": False,
        "CORE__EXECUTOR": "CeleryExecutor",
        "CORE__EXECUTION_API_SERVER_URL": f"{url}/execution/",
        "CORE__FERNET_KEY": credentials.airflow_fernet_key,
        "CORE__SIMPLE_AUTH_MANAGER_USERS": f"{credentials.airflow_admin_username}:admin",
        "CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": passwords,
        "API__HOST": "127.0.0.1",
        "API__PORT": port,
        "API__BASE_URL": url,
        "API__WORKERS": 1,
        "API__SECRET_KEY": credentials.airflow_api_secret,
        "API_AUTH__JWT_SECRET": credentials.airflow_jwt_secret,
        "CELERY__BROKER_URL": broker,
        "CELERY__RESULT_BACKEND": f"db+postgresql+psycopg2://{database}",
        "CELERY__WORKER_PREFETCH_MULTIPLIER": 1,
        "DAG_PROCESSOR__PARSING_PROCESSES": 1,
        "DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": 3600,
        "DAG_PROCESSOR__STALE_DAG_THRESHOLD": 7200,
        "SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": 1,
        "LOGGING__COLORED_CONSOLE_LOG": False,
        "USAGE_DATA_COLLECTION__ENABLED": False,
    }
    return {
        **base_environ(),
        "PYTHONPATH": os.pathsep.join([str(code), str(code / "plugins")]),
        "PYTHONUNBUFFERED": "1",
        "AIRFLOW_HOME": str(folder / "airflow"),
        "AIRFLOW_CONN_LABELWHEEL_S3": json.dumps(connection),
        **{f"AIRFLOW__{name}": str(value) for name, value in settings.items()},
    }


def start_airflow(folder: Path, python: Path, environ: Mapping[str, str], api: AirflowApi) -> None:
    """Migrate the database, start everything but workers, wait until it is healthy and knows the DAGs."""
    (folder / "airflow").mkdir()

    def migrate() -> None:
        with (folder / "migrate.log").open("wb") as log:
            command = [str(python), "-m", "airflow", "db", "migrate"]
            subprocess.run(command, check=True, env=environ, stdout=log, stderr=log)  # noqa: S603 - our own

    await_ready(folder, "postgres", migrate)
    for name in ("api-server", "scheduler", "dag-processor"):
        options = ["--skip-serve-logs"] if name == "scheduler" else []
        start(folder, name, [str(python), "-m", "airflow", name, *options], environ)
    for name, part in {
        "api-server": "metadatabase",
        "scheduler": "scheduler",
        "dag-processor": "dag_processor",
    }.items():
        await_ready(folder, name, partial(_healthy, api.stack.urls["airflow"], part))


def _healthy(url: str, part: str) -> None:
    health = httpx.get(f"{url}/api/v2/monitor/health", timeout=10, trust_env=False).raise_for_status().json()
    if health[part]["status"] != "healthy":
        raise StackError(f"Airflow's {part} is not healthy yet", remedy="Wait, then read its log.")


def await_dags(api: AirflowApi, dag_ids: Sequence[str]) -> None:
    """Wait until Airflow has read the DAGs.

    :raises StackError: when that takes too long, or a file cannot be imported.
    """

    def known() -> bool | None:
        errors = api.call("GET", "/importErrors")["import_errors"]
        if errors:
            raise StackError(f"Airflow cannot read a DAG file:\n{errors[0]['stack_trace']}", remedy="Correct it.")
        found = {one["dag_id"] for one in api.call("GET", "/dags?limit=100")["dags"]}
        return True if set(dag_ids) <= found else None

    await_value(known, READY_SECONDS, "Airflow does not know all DAGs", "Read dag-processor.log.")
