"""Expectation suites as data: read from files in Great Expectations' own format, without importing the library.

A suite file is what ``json.dump(suite.to_json_dict())`` writes, or YAML with the same keys::

    name: email_triage
    expectations:
      - type: expect_column_values_to_be_in_set
        kwargs: {column: lang, value_set: [en, de]}
        meta: {severity: warn}

What an expectation that fails does to the data is its *severity*: ``meta.severity`` says it in our words
(``quarantine``, ``warn``, ``hold``). Without it, Great Expectations' own ``severity`` counts: ``warning`` and ``info``
warn; ``critical``, which the library writes for everyone who did not choose, is the default of the expectation's level
(``contract.py``). So a suite means the same before and after Great Expectations saved it, and nothing is held that
nobody asked to hold.
"""

from __future__ import annotations

import json
from datetime import date, datetime
from pathlib import Path
from typing import Any

import yaml

from include.errors import ProjectError

SEVERITIES = ("quarantine", "warn", "hold")
DEFAULT = None  # the severity of those who did not choose one
_GX_SEVERITIES = {"critical": DEFAULT, "warning": "warn", "info": "warn"}
_SUITE_KEYS = {"name", "id", "expectations", "meta", "notes"}
_EXPECTATION_KEYS = {"type", "kwargs", "meta", "notes", "id", "description", "severity", "rendered_content"}
_REMEDY = "Correct it there; the Great Expectations gallery lists every type and its kwargs."


def read_suite(folder: Path, name: str) -> list[dict[str, Any]]:
    """The expectations of one suite file, checked as far as that goes without Great Expectations.

    :param folder: where suite files are kept.
    :param name: the file, relative to ``folder``; ``.yaml``, ``.yml`` or ``.json``.
    :raises ProjectError: naming the file and the position in it.
    """
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()) or path.suffix not in {".yaml", ".yml", ".json"}:
        raise ProjectError(
            f"suite {name!r} is no .yaml or .json file below {folder.name}/",
            remedy=f"Put the suite into {folder.name}/ and name it relative to that folder.",
        )
    try:
        text = path.read_text(encoding="utf-8")
        raw = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except FileNotFoundError as error:
        raise ProjectError(
            f"suite {name!r} does not exist in {folder.name}/", remedy="Create the file, or correct validation.suite."
        ) from error
    except (yaml.YAMLError, json.JSONDecodeError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark else getattr(error, "lineno", None)
        where = f" at line {line}" if line else ""
        kind = path.suffix.removeprefix(".").upper()
        raise ProjectError(
            f"suite {name!r} is not readable as {kind}{where}", remedy="Fix the syntax there."
        ) from error
    if not isinstance(raw, dict) or not isinstance(raw.get("expectations"), list):
        raise ProjectError(
            f"suite {name!r} has no list 'expectations'", remedy="Write 'name: …' and 'expectations:' with a list."
        )
    if unknown := sorted(set(raw) - _SUITE_KEYS):
        raise ProjectError(
            f"suite {name!r} has the unknown key {unknown[0]!r}", remedy=f"Known are {', '.join(sorted(_SUITE_KEYS))}."
        )
    return check_expectations(raw["expectations"], where=f"suite {name!r}: expectations")


def check_expectations(raw: list[Any], *, where: str) -> list[dict[str, Any]]:
    """Expectations with plain JSON values (YAML's dates become ISO 8601 text, as the columns are text).

    :param where: names the list in messages; the position is appended.
    :raises ProjectError: for an entry without ``type`` and ``kwargs``, an unknown key or severity, or NaN.
    """
    checked = []
    for position, entry in enumerate(raw):
        place = f"{where}[{position}]"
        if (
            not isinstance(entry, dict)
            or not isinstance(entry.get("type"), str)
            or not isinstance(entry.get("kwargs"), dict)
        ):
            raise ProjectError(f"{place} needs 'type' (text) and 'kwargs' (a mapping)", remedy=_REMEDY)
        place = f"{place} ({entry['type']})"
        if unknown := sorted(set(entry) - _EXPECTATION_KEYS):
            raise ProjectError(f"{place} has the unknown key {unknown[0]!r}", remedy=_REMEDY)
        if not isinstance(entry.get("meta") or {}, dict):
            raise ProjectError(f"{place}: 'meta' is not a mapping", remedy=_REMEDY)
        try:
            plain = json.loads(json.dumps(entry, default=_plain, allow_nan=False))
        except (TypeError, ValueError) as error:
            raise ProjectError(f"{place} holds a value JSON does not know ({error})", remedy=_REMEDY) from error
        try:
            severity_of(plain)
        except ValueError as error:
            raise ProjectError(f"{place}: {error}", remedy="Correct meta.severity or severity.") from error
        checked.append(plain)
    return checked


def severity_of(expectation: dict[str, Any]) -> str | None:
    """What was asked for: ``quarantine`` | ``warn`` | ``hold``, or ``DEFAULT``.

    :raises ValueError: for any other word.
    """
    chosen = (expectation.get("meta") or {}).get("severity")
    if chosen is not None:
        if chosen not in SEVERITIES:
            raise ValueError(f"severity {chosen!r} is none of {', '.join(SEVERITIES)}")
        return str(chosen)
    own = expectation.get("severity") or "critical"
    if own not in _GX_SEVERITIES:
        raise ValueError(f"severity {own!r} is none of {', '.join(_GX_SEVERITIES)}")
    return _GX_SEVERITIES[own]


def _plain(value: object) -> str:
    if isinstance(value, date | datetime):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} {value!r}")
