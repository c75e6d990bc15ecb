"""The Airflow hook of the connection type ``argilla``."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from airflow.sdk import BaseHook

from include.errors import LabelingError
from labelwheel_argilla.client import ArgillaClient

if TYPE_CHECKING:
    from airflow.sdk import Connection


NAMED_WORKSPACES = 10


class ArgillaHook(BaseHook):
    """An Argilla server, by its Airflow connection (host = server URL, password = API key).

    Usage: ``with ArgillaHook("labelwheel_argilla").client as argilla: …``. Nothing is read or opened before ``client``.

    :param argilla_conn_id: id of a connection of type ``argilla``.
    :param timeout_seconds: per HTTP request, not per call.
    """

    conn_name_attr = "argilla_conn_id"
    default_conn_name = "argilla_default"
    conn_type = "argilla"
    hook_name = "Argilla"

    def __init__(self, argilla_conn_id: str = default_conn_name, *, timeout_seconds: float = 60.0) -> None:
        super().__init__()
        self.argilla_conn_id = argilla_conn_id
        self.timeout_seconds = timeout_seconds

    @cached_property
    def client(self) -> ArgillaClient:
        """The typed REST client; a context manager.

        :raises LabelingError: when the connection lacks its URL or its key.
        """
        url, api_key = address(self.get_connection(self.argilla_conn_id))
        return ArgillaClient(url, api_key, timeout_seconds=self.timeout_seconds)

    def get_conn(self) -> ArgillaClient:
        """The same as ``client``, under the name every Airflow hook has."""
        return self.client

    def test_connection(self) -> tuple[bool, str]:
        """Whether the server answers and takes the key, and as whom, in one sentence."""
        try:
            url, api_key = address(self.get_connection(self.argilla_conn_id))
            # A person waits for this answer: one attempt, ten seconds.
            with ArgillaClient(url, api_key, timeout_seconds=10, patience_seconds=0) as argilla:
                version, me = argilla.version(), argilla.me()
                names = sorted(str(one["name"]) for one in argilla.workspaces())
        except LabelingError as error:
            return False, str(error)
        more = f" and {len(names) - NAMED_WORKSPACES} more" if len(names) > NAMED_WORKSPACES else ""
        where = (
            f"sees {', '.join(names[:NAMED_WORKSPACES])}{more}" if names else "sees no workspace: add the user to one"
        )
        return True, f"Argilla {version} answers; user {me['username']} has the role {me['role']} and {where}."


def address(connection: Connection) -> tuple[str, str]:
    """Server URL and API key of a connection.

    Airflow splits a connection given as a URI, so scheme, host, port and path may arrive in separate fields.

    :raises LabelingError: when one of them is missing.
    """
    host = (connection.host or "").rstrip("/")
    if not host or not connection.password:
        missing = "the server URL (host)" if not host else "the API key (password)"
        raise LabelingError(
            f"the Argilla connection {connection.conn_id!r} lacks {missing}",
            remedy="Fill it in under Admin → Connections, or in the secrets backend.",
        )
    scheme, separator, rest = host.partition("://")
    if not separator:
        scheme, rest = connection.schema or "http", host
    place, slash, path = rest.partition("/")
    if connection.port and ":" not in place:
        place = f"{place}:{connection.port}"
    return f"{scheme}://{place}{slash}{path}", connection.password
