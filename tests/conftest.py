"""Real servers for every tier: see ``tests/stack_fixture.py``."""

pytest_plugins = ["tests.stack_fixture"]
