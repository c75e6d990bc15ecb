"""What every process of this Argilla needs before it does anything: the right version, its defaults, the engine."""

import atexit
import os
import shutil
import sqlite3
from contextlib import closing
from importlib import metadata
from pathlib import Path
from typing import Any

from sqlalchemy import event, make_url
from sqlalchemy.engine import Engine

from argilla_sqlite import SUPPORTED_ARGILLA_VERSION
from argilla_sqlite.errors import ConfigurationError, UnsupportedVersionError

ENGINE_NAME = "sqlite"

# Argilla reads these when it is first imported. What is set in the environment wins.
DEFAULT_ENVIRONMENT = {
    "ARGILLA_SEARCH_ENGINE": ENGINE_NAME,
    # A bulk write may hold the database's write lock for seconds; the others wait rather than fail.
    "ARGILLA_DATABASE_SQLITE_TIMEOUT": "30",
    # Argilla reports its use to Hugging Face unless told not to.
    "HF_HUB_DISABLE_TELEMETRY": "1",
}


def prepare() -> None:
    """Register the engine and patch Argilla in this process.

    Raises UnsupportedVersionError when another Argilla than the one supported is installed, or this Python's SQLite
    lacks what the engine needs; ConfigurationError when Argilla's database is not an SQLite file.
    """
    require_supported_argilla()
    for name, value in DEFAULT_ENVIRONMENT.items():
        os.environ.setdefault(name, value)

    _require_engine_settings()

    # Not before: importing any part of argilla_server reads the environment and builds the whole application.
    from argilla_server import app
    from argilla_server.search_engine.base import SearchEngine

    from argilla_sqlite import engine, web_ui
    from argilla_sqlite.patches import apply_patches

    SearchEngine.register(ENGINE_NAME)(engine.SqliteSearchEngine)
    apply_patches()
    _use_write_ahead_log()
    user_interface = web_ui.served_directory(app)
    atexit.register(shutil.rmtree, user_interface.parent, ignore_errors=True)
    web_ui.remove_web_fonts(user_interface)


def require_supported_argilla() -> None:
    """Raise UnsupportedVersionError unless the installed argilla-server is the one this package was written against."""
    try:
        installed = metadata.version("argilla-server")
    except metadata.PackageNotFoundError as error:
        raise UnsupportedVersionError(
            f"argilla-server is not installed; install argilla-server=={SUPPORTED_ARGILLA_VERSION}."
        ) from error
    if installed != SUPPORTED_ARGILLA_VERSION:
        raise UnsupportedVersionError(
            f"argilla-server {installed} is installed, but argilla_sqlite patches and reads the insides of "
            f"{SUPPORTED_ARGILLA_VERSION}; install argilla-server=={SUPPORTED_ARGILLA_VERSION}."
        )


def database_file(database_url: str) -> Path:
    """Return the file of an SQLite database URL. Raises ConfigurationError for any other database."""
    url = make_url(database_url)
    if url.get_backend_name() != "sqlite" or url.database in (None, "", ":memory:"):
        raise ConfigurationError(
            f"ARGILLA_SEARCH_ENGINE={ENGINE_NAME} answers from Argilla's own SQLite file, but ARGILLA_DATABASE_URL "
            f"names a {url.get_backend_name()} database that is not a file; use an SQLite file or another engine."
        )
    return Path(str(url.database))


def _require_engine_settings() -> None:
    """Refuse early: importing Argilla with another database fails on its missing driver before it names the setting."""
    if os.environ["ARGILLA_SEARCH_ENGINE"] != ENGINE_NAME:
        return
    if database_url := os.environ.get("ARGILLA_DATABASE_URL"):
        database_file(database_url)
    try:
        with closing(sqlite3.connect(":memory:")) as connection:
            connection.execute("CREATE VIRTUAL TABLE probe USING fts5(body, tokenize = 'ascii')")
            connection.execute("CREATE TABLE other (body TEXT) STRICT")
            connection.execute("SELECT value FROM json_each('[1]') ORDER BY 1 NULLS LAST").fetchall()
    except sqlite3.OperationalError as error:
        raise UnsupportedVersionError(
            f"This Python's SQLite {sqlite3.sqlite_version} cannot run the search engine ({error}); "
            "use a Python built with SQLite 3.38 or later, with FTS5 and JSON."
        ) from error


def _use_write_ahead_log() -> None:
    """Let readers and one writer work at the same time. The setting stays with the file; repeating it costs nothing."""
    from argilla_server.settings import settings

    if not settings.database_is_sqlite:
        return

    @event.listens_for(Engine, "connect")
    def set_journal_mode(dbapi_connection: Any, connection_record: object) -> None:
        cursor = dbapi_connection.cursor()
        cursor.execute("PRAGMA journal_mode = WAL")
        cursor.close()
