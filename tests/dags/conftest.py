"""Airflow for tests without a scheduler: a home of its own, set before Airflow is imported."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
_HOME = tempfile.TemporaryDirectory(prefix="airflow-home-")
os.environ.update(
    AIRFLOW_HOME=_HOME.name,
    AIRFLOW__CORE__LOAD_EXAMPLES="False",
    AIRFLOW__CORE__UNIT_TEST_MODE="False",
    AIRFLOW__CORE__DAGS_FOLDER=str(ROOT / "dags"),
    AIRFLOW__CORE__PLUGINS_FOLDER=str(ROOT / "plugins"),
)


@pytest.fixture(scope="session")
def dag_files() -> list[Path]:
    return sorted((ROOT / "dags").glob("*.py"))


@pytest.fixture(scope="session")
def bag() -> Iterator[Any]:
    """Every DAG of the repository, as the dag processor would see it."""
    from airflow.dag_processing.dagbag import DagBag

    yield DagBag(dag_folder=str(ROOT / "dags"))
    _HOME.cleanup()
