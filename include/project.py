"""One labeling project = one YAML file, validated by the models in this module.

The YAML is the only thing a data team writes. Unknown keys are errors (a typo must not silently become a default), and
every message names the file, the field and the remedy.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from include.errors import ProjectError
from include.validation.suites import check_expectations, read_suite

PROJECTS_DIR = Path(__file__).parent / "projects"
SUITES_DIR = Path(__file__).parent / "suites"

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{1,47}$", description="lower case, digits, underscores")]
Share = Annotated[float, Field(ge=0.0, le=1.0)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Connections(_Section):
    """Airflow connection ids; the same project file runs anywhere the connections exist."""

    s3: str = "labelwheel_s3"
    argilla: str = "labelwheel_argilla"


class LakeSection(_Section):
    """Where the tables live."""

    bucket: str = "lake"
    prefix: str = ""


class RecordField(_Section):
    """One field of a record that annotators read."""

    title: str = Field(description="heading shown to annotators")
    required: bool = Field(True, description="a row without it is quarantined")
    markdown: bool = Field(False, description="render as markdown in Argilla")


class MetadataProperty(_Section):
    """One column kept beside the record, to filter and sort by."""

    title: str
    type: Literal["terms", "integer", "float"] = "terms"


# Metadata that Labelwheel itself gives to every record it shows.
RESERVED_METADATA = frozenset({"batch", "cycle", "strategy", "reason", "priority", "model_version", "content_hash"})


class Limits(_Section):
    """How large and how deep input may be: what exceeds a limit is refused, and does not eat the worker's memory."""

    max_object_bytes: int = Field(16 * 1024**3, ge=1, description="size of an object, unpacked; above: it is rejected")
    max_row_bytes: int = Field(
        8 * 1024**2,
        ge=1024,
        le=256 * 1024**2,
        description="size of a row as it is stored; above: the row is quarantined with its first bytes",
    )
    max_nesting: int = Field(64, ge=1, le=200, description="levels of objects and lists in a row; above: quarantined")
    max_columns: int = Field(10_000, ge=1, description="columns of a table, names in a JSON row")
    max_unpacked_ratio: float = Field(
        200.0, ge=1, description="unpacked size over stored size of an object; above: it is rejected (16 MiB are free)"
    )


class Source(_Section):
    """Where new data lands, and which column means what."""

    bucket: str = "landing"
    prefix: str = Field(description="folder in the bucket; ends with /")
    id_column: str | None = Field(None, description="source id; without one the content is the id")
    event_time_column: str | None = Field(None, description="when the thing happened, ISO 8601")
    consent_column: str | None = Field(None, description="false = stored, but never shown or trained on")
    format: Literal["rows", "text", "image"] = Field(
        "rows", description="rows: each object is a table; text, image: each object is one record, its key the id"
    )
    limits: Limits = Limits()
    fields: dict[str, RecordField] = Field(min_length=1)
    metadata: dict[str, MetadataProperty] = Field(default_factory=dict)
    lateness_hours: float = Field(
        2.0, gt=0, description="how late a key may come after later ones, to be found at once"
    )
    sweep_hours: float = Field(24.0, gt=0, description="all objects are compared with the ledger at least this often")
    events_queue_url: str | None = Field(
        None, description="SQS queue of this folder's S3 event notifications; they only start work earlier"
    )

    @field_validator("prefix")
    @classmethod
    def _folder(cls, value: str) -> str:
        if not value.endswith("/") or value.startswith("/"):
            raise ValueError("must name a folder: end with '/' and not start with '/'")
        return value

    @field_validator("metadata")
    @classmethod
    def _not_reserved(cls, value: dict[str, MetadataProperty]) -> dict[str, MetadataProperty]:
        if taken := sorted(RESERVED_METADATA & set(value)):
            raise ValueError(f"{taken[0]!r} is a name Labelwheel gives to its own metadata: rename the column")
        return value

    @model_validator(mode="before")
    @classmethod
    def _key_is_the_id(cls, data: Any) -> Any:
        if isinstance(data, dict) and data.get("format") in ("text", "image") and data.get("id_column") is None:
            return {**data, "id_column": "key"}
        return data

    @model_validator(mode="after")
    def _whole_objects(self) -> Source:
        if self.format != "rows":
            if len(self.fields) != 1 or self.id_column in self.fields:
                raise ValueError(f"format {self.format!r} needs one field, and not {self.id_column!r}, which is the id")
            if self.metadata or self.event_time_column or self.consent_column:
                raise ValueError(f"format {self.format!r} has no columns: leave out metadata, event time, consent")
        return self

    @property
    def required_columns(self) -> list[str]:
        """Columns every row must have: required fields, then the id and time columns when they are configured."""
        extra = [c for c in (self.id_column, self.event_time_column) if c]
        return [n for n, f in self.fields.items() if f.required] + extra


def _with_suite(data: Any, *, suite: str, expectations: str) -> Any:
    """A section as it is written, with the expectations of the suite file it names."""
    if not isinstance(data, dict) or not isinstance(data.get(suite), str):
        return data
    if data.get(expectations):
        raise ValueError(f"has both {suite!r} and {expectations!r}: keep one of them")
    return {**data, expectations: read_suite(SUITES_DIR, data[suite])}


class Validation(_Section):
    """The contract for incoming rows, in Great Expectations' own words."""

    suite: str | None = Field(None, description="suite file in include/suites: GX JSON, or YAML with the same keys")
    expectations: list[dict[str, Any]] = Field(
        default_factory=list, description="instead of a suite file, as in one: type, kwargs, meta"
    )
    max_quarantined_pct: float = Field(10.0, ge=0, le=100, description="fail the run above this share of a batch")

    @model_validator(mode="before")
    @classmethod
    def _read_suite(cls, data: Any) -> Any:
        return _with_suite(data, suite="suite", expectations="expectations")

    @field_validator("expectations")
    @classmethod
    def _shape(cls, value: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return check_expectations(value, where="validation.expectations")


class Duplicates(_Section):
    """What becomes of records that say the same as an earlier one.

    ``keep``: independent records, only reported. ``link``: people see one record of a group, and a group never has one
    member in the training set and another in the holdout. ``drop``: beyond that, only the first one is ever scored.
    """

    exact: Literal["keep", "link", "drop"] = Field("link", description="same content under another id")
    near: Literal["off", "keep", "link", "drop"] = Field("off", description="nearly the same text (MinHash)")
    threshold: float = Field(0.85, ge=0.8, le=1.0, description="Jaccard similarity of texts called nearly the same")
    fields: list[str] = Field(default_factory=list, description="fields compared for near ones; all by default")

    @model_validator(mode="after")
    def _copies_are_the_nearest(self) -> Duplicates:
        order = ["off", "keep", "link", "drop"]
        if order.index(self.near) > order.index(self.exact):
            raise ValueError(f"near ({self.near}) is stricter than exact ({self.exact}): set exact to {self.near}")
        return self


class Privacy(_Section):
    """What is done about personal data in incoming text, before anything is stored."""

    detect: list[Literal["email", "phone", "card", "iban"]] = Field(
        default=["email", "phone", "card", "iban"], min_length=1, description="kinds the built-in detector looks for"
    )
    action: Literal["off", "flag", "redact", "quarantine"] = Field(
        "off", description="flag: metadata 'pii'; redact: replace by [kind]; quarantine: the row does not land"
    )
    plugin: str | None = Field(
        None, description="package.module:Class of your own detector", pattern=r"^[\w.]+:[A-Za-z_]\w*$"
    )


class Question(_Section):
    """One thing annotators answer."""

    name: Name
    type: Literal["label", "span"]
    title: str
    description: str | None = None
    labels: dict[str, str] = Field(min_length=2, description="stored value: text on the button")
    field: str | None = Field(None, description="span questions: the field that is marked")

    @model_validator(mode="after")
    def _span_needs_field(self) -> Question:
        if (self.type == "span") != (self.field is not None):
            raise ValueError("'field' belongs to span questions, and span questions need it")
        return self


class Labeling(_Section):
    """What people see in Argilla, and when an answer counts."""

    workspace: Name | None = Field(None, description="Argilla workspace; the project's name by default")
    guidelines: str = Field(min_length=20)
    guideline_version: int = Field(1, ge=1)
    schema_version: int = Field(1, ge=1)
    questions: list[Question] = Field(min_length=1, max_length=1)
    min_submitted: int = Field(2, ge=1, le=10, description="submitted answers before a record is complete")
    agreement_floor: Share = Field(0.5, description="share of answers that must agree; at or below: adjudication")


class Sampling(_Section):
    """How a cycle picks the records worth a person's time."""

    batch_size: int = Field(100, ge=1, le=10_000)
    mixture: dict[Literal["random", "margin"], Share] = {"random": 0.4, "margin": 0.6}
    weight_floor: float = Field(0.1, gt=0, le=1, description="least weight, as a share of the mean weight")
    holdout_share: Share = Field(0.5, description="of the random frame: kept from training, for ever")
    blind_share: Share = Field(0.1, description="shown without a suggestion, to measure anchoring")
    max_open_records: int = Field(300, ge=1, description="no new batch while this many wait for people")
    seed: int = 17

    @field_validator("mixture")
    @classmethod
    def _adds_up(cls, value: dict[str, float]) -> dict[str, float]:
        if abs(sum(value.values()) - 1.0) > 1e-9:
            raise ValueError(f"shares must add up to 1, they add up to {sum(value.values()):g}")
        if not value.get("random"):
            raise ValueError("needs a random share above 0: holdout and unbiased estimates come from it")
        return value


class Training(_Section):
    """When to retrain, with what, and what it takes to become champion."""

    trainer: str = Field("text_classifier", description="built-in name or package.module:Class")
    min_new_labels: int = Field(100, ge=1, description="final labels since the last snapshot")
    min_holdout: int = Field(40, ge=10, description="holdout records below which nothing is promoted")
    significance: float = Field(0.05, gt=0, lt=0.5, description="one-sided level of the exact McNemar test")
    seed: int = 17
    label_suite: str | None = Field(None, description="suite file in include/suites that labels must keep")
    # Not part of a policy as decisions record it; the table of validations says how labels were judged.
    label_expectations: list[dict[str, Any]] = Field(
        default_factory=list,
        exclude=True,
        description="instead of a suite file, as in one; without either a default suite is kept",
    )

    @model_validator(mode="before")
    @classmethod
    def _read_suite(cls, data: Any) -> Any:
        return _with_suite(data, suite="label_suite", expectations="label_expectations")

    @field_validator("label_expectations")
    @classmethod
    def _shape(cls, value: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return check_expectations(value, where="training.label_expectations")


class Monitoring(_Section):
    """What is watched between cycles."""

    window_records: int = Field(1500, ge=50, description="newest records compared with the reference window")
    significance: float = Field(0.01, gt=0, lt=0.5)


class Schedule(_Section):
    """Cron expressions in UTC. Assets start the work earlier; these are the safety net."""

    ingest: str = "*/30 * * * *"
    cycle: str = Field("0 6 * * 1-5", description="one batch for people per slot")
    collect: str = Field("*/5 * * * *", description="sweep for late and edited answers")
    retrain: str = "0 3 * * *"
    monitor: str = "30 * * * *"
    maintain: str = Field("15 2 * * *", description="compaction and clean-up of the project's tables and files")

    @field_validator("*")
    @classmethod
    def _cron(cls, value: str) -> str:
        from croniter import croniter

        if not croniter.is_valid(value):
            raise ValueError(f"{value!r} is not a cron expression; write five fields, for example '0 6 * * 1-5'")
        return value


class Project(_Section):
    """A labeling project as its YAML file describes it."""

    name: Name
    title: str
    description: str = ""
    connections: Connections = Connections()
    lake: LakeSection = LakeSection()
    source: Source
    validation: Validation = Validation()
    duplicates: Duplicates = Duplicates()
    privacy: Privacy = Privacy()
    labeling: Labeling
    sampling: Sampling = Sampling()
    training: Training | None = Field(None, description="leave out to collect labels only")
    monitoring: Monitoring = Monitoring()
    schedule: Schedule = Schedule()

    @model_validator(mode="after")
    def _fields_exist(self) -> Project:
        for question in self.labeling.questions:
            if question.field is not None and question.field not in self.source.fields:
                raise ValueError(
                    f"question {question.name!r} marks field {question.field!r}, which source.fields lacks"
                )
        if unknown := [name for name in self.duplicates.fields if name not in self.source.fields]:
            raise ValueError(f"duplicates.fields names {unknown[0]!r}, which source.fields lacks")
        if self.privacy.action == "redact" and self.source.id_column in self.source.fields:
            raise ValueError(
                f"privacy.action 'redact' would change ids: {self.source.id_column!r} is both a field and the id column"
            )
        return self

    @cached_property
    def workspace(self) -> str:
        """The Argilla workspace of the project."""
        return self.labeling.workspace or self.name

    @property
    def dataset(self) -> str:
        """The Argilla dataset: a new one for each schema version, because Argilla freezes label sets."""
        return f"{self.name}-v{self.labeling.schema_version}"

    @property
    def question(self) -> Question:
        """The question that is asked (one per project for now)."""
        return self.labeling.questions[0]

    def dag_id(self, step: str) -> str:
        """The id of this project's DAG for one step of the loop."""
        return f"{self.name}__{step}"


def load_project(path: Path) -> Project:
    """Read one project file.

    :raises ProjectError: naming the file, the field and the remedy.
    """
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        where = getattr(error, "problem_mark", None)
        line = f" at line {where.line + 1}" if where else ""
        raise ProjectError(f"{path.name} is not readable as YAML{line}", remedy="Fix the syntax there.") from error
    if not isinstance(raw, dict):
        raise ProjectError(f"{path.name} is empty or not a mapping", remedy="Start it with 'name: …'.")
    try:
        project = Project.model_validate(raw)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(str(part) for part in first["loc"]) or "the file as a whole"
        more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
        raise ProjectError(
            f"{path.name}: {field}: {first['msg'].removeprefix('Value error, ')}{more}",
            remedy="Correct this field; docs/project-schema.json lists every field.",
        ) from error
    except ProjectError as error:  # from a suite, which names its own place
        raise ProjectError(f"{path.name}: {error.what}", remedy=error.remedy) from error
    if project.name != path.stem:
        raise ProjectError(
            f"{path.name}: name is {project.name!r}", remedy=f"Name the project {path.stem!r} or rename the file."
        )
    return project


def project_files(folder: Path | None = None) -> list[Path]:
    """All project files, in name order."""
    return sorted(p for p in (folder or PROJECTS_DIR).iterdir() if p.suffix == ".yaml")


def load_projects(folder: Path | None = None) -> Iterator[Project]:
    """Every project whose file is valid; broken files are left to ``broken_projects``."""
    for path in project_files(folder):
        try:
            yield load_project(path)
        except ProjectError:
            continue  # dags/projects.py raises it again as an import error that people see


def broken_projects(folder: Path | None = None) -> list[ProjectError]:
    """The error of every project file that cannot be used."""
    errors = []
    for path in project_files(folder):
        try:
            load_project(path)
        except ProjectError as error:
            errors.append(error)
    return errors
