"""Argilla for Airflow: the connection type ``argilla``, a hook, and a trigger that watches labeling activity."""

from __future__ import annotations

from typing import Any

__version__ = "0.1.0"


def get_provider_info() -> dict[str, Any]:
    """What Airflow shows of this provider. The connection form is described here, so the UI imports no hook."""
    return {
        "package-name": "airflow-provider-labelwheel-argilla",
        "name": "Argilla (Labelwheel)",
        "description": "Argilla 2.8 as an Airflow connection, with a hook and an asset trigger for labeling activity.",
        "versions": [__version__],
        "connection-types": [
            {
                "connection-type": "argilla",
                "hook-name": "Argilla",
                "hook-class-name": "labelwheel_argilla.hook.ArgillaHook",
                "ui-field-behaviour": {
                    "hidden-fields": ["schema", "login", "port", "extra"],
                    "relabeling": {"host": "Server URL", "password": "API key"},
                    "placeholders": {
                        "host": "https://argilla.example.org",
                        "password": "key of an admin of the project's workspace",
                    },
                },
            }
        ],
        "hooks": [{"integration-name": "Argilla", "python-modules": ["labelwheel_argilla.hook"]}],
        "triggers": [{"integration-name": "Argilla", "python-modules": ["labelwheel_argilla.triggers"]}],
    }
