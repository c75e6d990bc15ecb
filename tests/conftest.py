"""Real servers for every tier: see ``tests/stack_fixture.py``."""

import pytest

from standalone.airflow_api import AirflowApi
from standalone.stack import Stack

pytest_plugins = ["tests.stack_fixture"]


@pytest.fixture(scope="session")
def airflow(stack: Stack) -> AirflowApi:
    """Airflow of the session's stack, as its administrator."""
    return AirflowApi(stack)


@pytest.fixture(scope="session")
def loop(stack: Stack, airflow: AirflowApi) -> Stack:
    """The session's stack after one turn of the loop on the demo data, as ``make demo`` leaves it."""
    from standalone.demo import go_round

    go_round(stack, airflow)
    return stack
