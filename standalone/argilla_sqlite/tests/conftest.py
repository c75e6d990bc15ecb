"""Servers shared by the tests. Migrating a database takes seconds, so it is done once and copied."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from stack import Stack, running_redis

# No files beside the tests; a failing example is printed and belongs in a test of its own.
settings.register_profile("without files", database=None)
settings.load_profile("without files")

# Further engines run the same scenarios when their URL is given.
ENGINE_URLS = {
    "elasticsearch": ("ARGILLA_PARITY_ELASTICSEARCH_URL", "ARGILLA_ELASTICSEARCH"),
    "opensearch": ("ARGILLA_PARITY_OPENSEARCH_URL", "ARGILLA_ELASTICSEARCH"),
}
ENGINES = ["sqlite", *(engine for engine, (given, _) in ENGINE_URLS.items() if os.environ.get(given))]


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_redis(tmp_path_factory.mktemp("redis")) as url:
        yield url


@pytest.fixture(scope="session")
def migrated_home(tmp_path_factory: pytest.TempPathFactory, redis_url: str) -> Path:
    home = tmp_path_factory.mktemp("migrated")
    Stack(home, redis_url).bootstrap()
    return home


@pytest.fixture(scope="session", params=ENGINES)
def any_engine(
    request: pytest.FixtureRequest, migrated_home: Path, redis_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stack]:
    """A running server, one per engine that can be reached."""
    environment = {"ARGILLA_SEARCH_ENGINE": request.param}
    if request.param in ENGINE_URLS:
        given, setting = ENGINE_URLS[request.param]
        environment[setting] = os.environ[given]
    home = tmp_path_factory.mktemp(request.param)
    shutil.copytree(migrated_home, home, dirs_exist_ok=True)
    with Stack(home, redis_url, environment).running() as stack:
        yield stack


@pytest.fixture
def stack(migrated_home: Path, redis_url: str, tmp_path: Path) -> Iterator[Stack]:
    """A server of the test's own, which the test starts, stops and kills as it likes."""
    shutil.copytree(migrated_home, tmp_path, dirs_exist_ok=True)
    stack = Stack(tmp_path, redis_url)
    yield stack
    if stack.server is not None:
        stack.server.kill()
        stack.server.wait()
