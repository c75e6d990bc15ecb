"""The Argilla provider as Airflow sees it: registration, connection form, addresses, and a stable trigger."""

from __future__ import annotations

from importlib.metadata import entry_points
from pathlib import Path

import pytest
from airflow._shared.module_loading.file_discovery import find_path_from_directory
from airflow.providers_manager import ProvidersManager
from airflow.sdk import Connection
from airflow.sdk.providers_manager_runtime import ProvidersManagerTaskRuntime
from airflow.triggers.base import BaseEventTrigger
from labelwheel_argilla import get_provider_info
from labelwheel_argilla.client import ArgillaClient
from labelwheel_argilla.hook import ArgillaHook, address
from labelwheel_argilla.triggers import DatasetActivityTrigger

from include.errors import LabelingError

PLUGINS = Path(__file__).parents[2] / "plugins"


def test_airflow_discovers_the_connection_type_and_its_form() -> None:
    assert "labelwheel_argilla:get_provider_info" in {
        one.value for one in entry_points(group="apache_airflow_provider")
    }
    hook = ProvidersManagerTaskRuntime().hooks["argilla"]
    assert hook is not None
    assert (hook.hook_class_name, hook.hook_name) == ("labelwheel_argilla.hook.ArgillaHook", "Argilla")
    assert hook.connection_testable
    form = ProvidersManager().field_behaviours["argilla"]
    assert set(form["hidden_fields"]) == {"schema", "login", "port", "extra"}
    assert form["relabeling"] == {"host": "Server URL", "password": "API key"}


def test_hook_and_provider_tell_the_same_names() -> None:
    described = get_provider_info()["connection-types"][0]
    assert described["connection-type"] == ArgillaHook.conn_type
    assert described["hook-name"] == ArgillaHook.hook_name
    assert described["hook-class-name"] == f"{ArgillaHook.__module__}.{ArgillaHook.__qualname__}"


@pytest.mark.filterwarnings("ignore:GitWildMatchPattern")  # Airflow 3.3 matches ignore files with a deprecated class
def test_airflow_imports_only_what_is_a_plugin_by_its_stem() -> None:
    found = [Path(path) for path in find_path_from_directory(PLUGINS, ".airflowignore", "glob")]
    assert {path.name for path in found if path.suffix == ".py"} == {"labelwheel_data_docs.py"}
    assert list(PLUGINS.glob("*/*.py"))  # there was something to ignore


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("http://127.0.0.1:6900", "http://127.0.0.1:6900"),
        ("http://127.0.0.1:6900/", "http://127.0.0.1:6900"),
        ("https://argilla.example.org/team/a", "https://argilla.example.org/team/a"),
        ("argilla:6900", "http://argilla:6900"),
    ],
)
def test_addresses_survive_airflows_uri_form(host: str, expected: str) -> None:
    connection = Connection(conn_id="a", conn_type="argilla", host=host, password="k/e@y:")
    again = Connection.from_uri(connection.get_uri(), conn_id="a")
    assert address(connection) == address(again) == (expected, "k/e@y:")


def test_a_connection_in_parts_has_the_same_address() -> None:
    connection = Connection(
        conn_id="a", conn_type="argilla", host="argilla.example.org", schema="https", port=8443, password="key"
    )
    assert address(connection) == ("https://argilla.example.org:8443", "key")


@pytest.mark.parametrize(("missing", "words"), [("host", "server URL"), ("password", "API key")])
def test_an_incomplete_connection_says_what_it_lacks(missing: str, words: str) -> None:
    parts = {"host": "http://127.0.0.1:6900", "password": "key", missing: None}
    with pytest.raises(LabelingError, match=f"'a' lacks the {words}"):
        address(Connection(conn_id="a", conn_type="argilla", **parts))


def test_nothing_shows_the_key() -> None:
    client = ArgillaClient("http://127.0.0.1:1", "secret.key")
    assert "secret" not in repr(client)


def test_equal_watches_share_one_trigger() -> None:
    one, other = (DatasetActivityTrigger("conn", workspace="w", dataset="d") for _ in range(2))
    assert BaseEventTrigger.hash(*one.serialize()) == BaseEventTrigger.hash(*other.serialize())
    path, arguments = DatasetActivityTrigger("conn", workspace="w", dataset="e", poll_seconds=2).serialize()
    assert BaseEventTrigger.hash(path, arguments) != BaseEventTrigger.hash(*one.serialize())
    assert path == f"{DatasetActivityTrigger.__module__}.{DatasetActivityTrigger.__qualname__}"
    assert DatasetActivityTrigger(**arguments).serialize() == (path, arguments)
