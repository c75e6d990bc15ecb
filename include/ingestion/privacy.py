"""Personal data in incoming text: flagged, redacted or kept out before anything is stored in ``records``.

Looked at are all fields and the text metadata a project names. Ids and times are never changed, and columns the project
does not know are not looked at. The built-in detector (``personal_data.py``) knows e-mail addresses, phone numbers,
payment cards and IBANs; names and postal addresses need another one. A project names it as ``privacy.plugin:
package.module:Class``: the class is called with the kinds to detect and gives a ``Redactor``.

``quarantine`` keeps the raw row, personal data included, in the quarantine table, as every quarantined row is kept.
"""

from __future__ import annotations

import importlib
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import pyarrow as pa
import pyarrow.compute as pc

from include.errors import ProjectError
from include.ingestion.personal_data import PatternRedactor, Redacted
from include.lake.keys import canonical_json
from include.project import Project


@runtime_checkable
class Redactor(Protocol):
    """Finds personal data in many texts at once. Texts without any come back byte for byte."""

    def __call__(self, texts: pa.StringArray) -> Redacted:
        """Look at (N,) texts; some may be null."""
        ...


@dataclass
class PrivacyResult:
    """A chunk of R rows after the project's action.

    :param columns: the rows, redacted when the project says so.
    :param kinds: (R,) canonical JSON list of the kinds found, null where nothing was: the metadata value ``pii``. None
        when the project does not flag.
    :param failures: by row position, rows to quarantine: ``[{"expectation": "pii(email, phone)", "column": None,
        "observed": ["body"]}]``; the data itself is not repeated.
    """

    columns: pa.Table
    kinds: pa.StringArray | None = None
    failures: dict[int, list[dict[str, Any]]] = field(default_factory=dict)


class Privacy:
    """The privacy gate of one project: all fields and all text metadata, but never the id and time columns.

    :raises ProjectError: when the project names a plug-in that cannot be loaded.
    """

    def __init__(self, project: Project) -> None:
        source = project.source
        self._rules = project.privacy
        spared = {source.id_column, source.event_time_column, source.consent_column}
        texts = [*source.fields, *(name for name, one in source.metadata.items() if one.type == "terms")]
        self._columns = [name for name in texts if name not in spared]
        self._redactor = _redactor(project) if self._rules.action != "off" else None

    def apply(self, columns: pa.Table) -> PrivacyResult:
        """Do what the project says to a chunk of rows.

        :param columns: R rows of contract columns.
        :raises ProjectError: when the project's plug-in breaks its promise.
        """
        if self._redactor is None:
            return PrivacyResult(columns)
        kinds: dict[int, set[str]] = defaultdict(set)
        places: dict[int, set[str]] = defaultdict(set)
        for name in self._columns:
            if name not in columns.column_names or not pa.types.is_string(columns.schema.field(name).type):
                continue
            texts, found = self._look(columns[name])
            for kind, rows in found.items():
                for row in rows:
                    kinds[row].add(kind)
                    places[row].add(name)
            if self._rules.action == "redact" and any(found.values()):
                columns = columns.set_column(columns.column_names.index(name), name, texts)
        if self._rules.action == "quarantine":
            return PrivacyResult(columns, failures={row: [_failure(kinds[row], places[row])] for row in sorted(kinds)})
        if self._rules.action == "flag":
            return PrivacyResult(columns, kinds=_as_json(kinds, columns.num_rows))
        return PrivacyResult(columns)

    def _look(self, column: pa.ChunkedArray) -> tuple[pa.ChunkedArray, dict[str, list[int]]]:
        """The redacted column, and the rows in which each kind was found."""
        assert self._redactor is not None  # noqa: S101 - apply has looked
        done: list[pa.StringArray] = []
        found: dict[str, list[int]] = defaultdict(list)
        offset = 0
        for texts in column.chunks:
            redacted = self._redactor(texts)
            self._check(redacted, len(texts))
            done.append(redacted.texts)
            for kind, mask in redacted.found.items():
                found[kind] += [offset + int(row) for row in pc.indices_nonzero(mask).to_pylist()]
            offset += len(texts)
        return pa.chunked_array(done, pa.string()), found

    def _check(self, redacted: Redacted, size: int) -> None:
        arrays = [(redacted.texts, pa.string()), *((mask, pa.bool_()) for mask in redacted.found.values())]
        if not all(len(array) == size and array.type == kind for array, kind in arrays):
            raise ProjectError(
                f"privacy.plugin {self._rules.plugin!r} gave other than {size} texts and masks for {size} texts",
                remedy="Make it return as many strings as it got, and one boolean for each in every mask.",
            )


def _redactor(project: Project) -> Redactor:
    rules = project.privacy
    if rules.plugin is None:
        return PatternRedactor(rules.detect)
    module, _, name = rules.plugin.partition(":")
    try:
        made: Any = getattr(importlib.import_module(module), name)(tuple(rules.detect))
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise ProjectError(
            f"privacy.plugin {rules.plugin!r} of project {project.name!r} cannot be loaded ({error})",
            remedy="Check the spelling, that the package is installed where tasks run, and that the class takes kinds.",
        ) from error
    if not isinstance(made, Redactor):
        raise ProjectError(
            f"privacy.plugin {rules.plugin!r} of project {project.name!r} cannot be called",
            remedy="Give it __call__(texts), as include/ingestion/privacy.py says.",
        )
    return made


def _failure(kinds: set[str], places: set[str]) -> dict[str, Any]:
    return {"expectation": f"pii({', '.join(sorted(kinds))})", "column": None, "observed": sorted(places)}


def _as_json(kinds: Mapping[int, set[str]], size: int) -> pa.StringArray:
    """(size,) canonical JSON lists, null where nothing was found."""
    texts: list[str | None] = [None] * size
    for row, names in kinds.items():
        texts[row] = canonical_json(sorted(names))
    return pa.array(texts, pa.string())
