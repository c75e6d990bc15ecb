"""One labeling project = one YAML file, validated by the models in this module.

The YAML is the only thing a data team writes. Unknown keys are errors (a typo must not silently become a default), and
every message names the file, the field and the remedy.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    field_validator,
    model_validator,
)

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
    type: Literal["text", "chat", "image", "custom"] = Field(
        "text",
        description="chat: a list of {role, content}; image: an http(s) or data URL, or an object named s3://…; "
        "custom: a mapping shown by 'template'",
    )
    required: bool = Field(True, description="a row without it is quarantined")
    markdown: bool = Field(False, description="render texts and chats as markdown in Argilla")
    template: str | None = Field(None, min_length=1, description="custom fields: HTML with {{record.fields.<name>}}")
    scripts: bool = Field(False, description="custom fields: the template brings scripts of its own")

    @model_validator(mode="after")
    def _template_is_for_custom(self) -> RecordField:
        if (self.type == "custom") != (self.template is not None):
            raise ValueError("'template' belongs to custom fields, and custom fields need it")
        if self.scripts and self.type != "custom":
            raise ValueError("'scripts' belongs to custom fields")
        if self.markdown and self.type not in ("text", "chat"):
            raise ValueError(f"'markdown' does not go with {self.type} fields")
        return self


class MetadataProperty(_Section):
    """One column kept beside the record, to filter and sort by."""

    title: str
    type: Literal["terms", "integer", "float"] = "terms"
    visible: bool = Field(True, description="annotators see it and may filter and sort by it")


# Metadata that Labelwheel itself gives to every record it shows.
RESERVED_METADATA = frozenset(
    {"batch", "cycle", "strategy", "reason", "priority", "model_version", "selection_score", "content_hash"}
)

# The field that Labelwheel itself adds to what annotators read.
REASON_FIELD = "why_shown"


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

    @field_validator("fields")
    @classmethod
    def _not_the_reason(cls, value: dict[str, RecordField]) -> dict[str, RecordField]:
        if REASON_FIELD in value:
            raise ValueError(f"{REASON_FIELD!r} is the name of the field that says why a record is shown: rename it")
        return value

    @field_validator("metadata")
    @classmethod
    def _not_reserved(cls, value: dict[str, MetadataProperty]) -> dict[str, MetadataProperty]:
        if taken := sorted(RESERVED_METADATA & set(value)):
            raise ValueError(f"{taken[0]!r} is a name Labelwheel gives to its own metadata: rename the column")
        return value

    @model_validator(mode="before")
    @classmethod
    def _whole_objects_name_themselves(cls, data: Any) -> Any:
        if not isinstance(data, dict) or data.get("format") not in ("text", "image"):
            return data
        if data.get("id_column") is None:
            data = {**data, "id_column": "key"}
        if data["format"] == "image" and isinstance(data.get("fields"), dict):
            shown = {n: {"type": "image", **f} if isinstance(f, dict) else f for n, f in data["fields"].items()}
            data = {**data, "fields": shown}
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


# Questions whose answers become labels. Answers to the others are kept in the journal as Argilla gives them.
DECIDED_QUESTION_TYPES = frozenset({"label", "span"})
# The fewest options Argilla takes for a question that has any.
MIN_LABELS = {"label": 2, "multi_label": 2, "ranking": 2, "span": 1}


class Question(_Section):
    """One thing annotators answer."""

    name: Name
    type: Literal["label", "multi_label", "rating", "ranking", "span", "text"]
    title: str
    description: str | None = None
    required: bool = Field(True, description="people cannot submit without answering it")
    labels: dict[str, str] = Field(
        default_factory=dict, description="label, multi_label, ranking, span: stored value: text on the button"
    )
    ratings: list[Annotated[int, Field(ge=0, le=10)]] = Field(
        default_factory=list, max_length=11, description="rating questions: the values to choose from"
    )
    field: str | None = Field(None, description="span questions: the text field that is marked")
    markdown: bool = Field(False, description="text questions: answers are markdown")

    @model_validator(mode="after")
    def _parts_of_its_type(self) -> Question:
        if (self.type == "span") != (self.field is not None):
            raise ValueError("'field' belongs to span questions, and span questions need it")
        least = MIN_LABELS.get(self.type, 0)
        if len(self.labels) < least or (self.labels and not least):
            raise ValueError(f"{self.type} questions need {least or 'no'} 'labels'{' or more' if least else ''}")
        if (self.type == "rating") != (len(set(self.ratings)) >= 2) or len(set(self.ratings)) < len(self.ratings):
            raise ValueError("'ratings' belongs to rating questions, which need two or more different values")
        if self.markdown and self.type != "text":
            raise ValueError("'markdown' belongs to text questions")
        return self


class Labeling(_Section):
    """What people see in Argilla, and when an answer counts."""

    workspace: Name | None = Field(None, description="Argilla workspace; the project's name by default")
    guidelines: str = Field(min_length=20)
    guideline_version: int = Field(1, ge=1)
    schema_version: int = Field(1, ge=1)
    questions: list[Question] = Field(
        min_length=1, max_length=20, description="the first one is what labels are decided and models are trained for"
    )
    min_submitted: int = Field(2, ge=1, le=10, description="submitted answers before a record is complete")
    agreement_floor: Share = Field(0.5, description="share of answers that must agree; at or below: adjudication")
    aggregation: Literal["majority", "reliability"] = Field(
        "majority",
        description="how answers become a label; reliability: they count by how often each annotator turns out right",
    )
    posterior_floor: float = Field(
        0.8, ge=0.5, lt=1.0, description="reliability: probability the label must have; below: adjudication"
    )

    @field_validator("questions")
    @classmethod
    def _first_is_decided(cls, value: list[Question]) -> list[Question]:
        names = [question.name for question in value]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise ValueError(f"two questions have the name {twice!r}")
        first = value[0]
        if first.type not in DECIDED_QUESTION_TYPES:
            raise ValueError(
                f"question {first.name!r} comes first, and answers to {first.type} questions are kept but not yet made "
                f"into labels: put a question of type {' or '.join(sorted(DECIDED_QUESTION_TYPES))} first"
            )
        if not first.required:
            raise ValueError(f"question {first.name!r} comes first, so it must be required: its answers are the labels")
        return value

    @model_validator(mode="after")
    def _reliability_needs_classes(self) -> Labeling:
        if self.aggregation == "reliability" and self.questions[0].type != "label":
            raise ValueError(f"aggregation 'reliability' needs a label question first, not {self.questions[0].type!r}")
        return self


class _ByColumn(_Section):
    by: str = Field(description="metadata column")


class _StratifiedOptions(_ByColumn):
    shares: Literal["equal", "proportional"] = "equal"


class _RareClassOptions(_Section):
    classes: list[str] | None = Field(None, description="wanted ones; by default those with few labels so far")


class _ProductionOptions(_Section):
    flag: str | None = Field(None, description="metadata column that is true where a user complained")


class _DiverseOptions(_Section):
    method: Literal["kmeans", "kcenter"] = "kmeans"


class _HybridOptions(_Section):
    oversample: float = Field(8.0, ge=1, le=50, description="least sure records looked at, for each place")


class _RelabelOptions(_Section):
    most_answers: int = Field(5, ge=1, description="records with as many answers are left alone")


# What each built-in strategy of include/sampling/strategies.py may be told.
STRATEGY_OPTIONS: dict[str, type[_Section]] = {
    "random": _Section,
    "stratified": _StratifiedOptions,
    "margin": _Section,
    "entropy": _Section,
    "least_confidence": _Section,
    "diverse": _DiverseOptions,
    "hybrid": _HybridOptions,
    "rare_class": _RareClassOptions,
    "production": _ProductionOptions,
    "stale": _ByColumn,
    "cold_start": _DiverseOptions,
    "relabel": _RelabelOptions,
}


def _known_strategy(name: str) -> str:
    if name not in STRATEGY_OPTIONS and not re.fullmatch(r"[\w.]+:[A-Za-z_]\w*", name):
        raise ValueError(f"{name!r} is none of {', '.join(STRATEGY_OPTIONS)}, nor package.module:Class")
    return name


StrategyName = Annotated[str, AfterValidator(_known_strategy)]


class MixtureLine(_Section):
    """A strategy with its share of the batch."""

    strategy: StrategyName = Field(description=f"{', '.join(STRATEGY_OPTIONS)}, or package.module:Class")
    share: Share
    options: dict[str, Any] = Field(default_factory=dict, description="what the strategy is made with")

    @model_validator(mode="after")
    def _options_fit(self) -> MixtureLine:
        if (model := STRATEGY_OPTIONS.get(self.strategy)) is not None:
            try:
                model.model_validate(self.options)
            except ValidationError as error:
                first = error.errors(include_url=False)[0]
                field = ".".join(["options", *(str(part) for part in first["loc"])])
                raise ValueError(f"strategy {self.strategy!r}: {field}: {first['msg']}") from error
        return self


Mixture = Annotated[
    Annotated[dict[StrategyName, Share], Tag("short")] | Annotated[list[MixtureLine], Tag("long")],
    Discriminator(lambda value: "long" if isinstance(value, list) else "short"),
]


def mixture_lines(mixture: dict[str, float] | list[MixtureLine]) -> list[MixtureLine]:
    """A mixture in its long form.

    :raises ValueError: when a strategy needs options, which the short form does not have.
    """
    if isinstance(mixture, list):
        return mixture
    return [MixtureLine(strategy=name, share=share) for name, share in mixture.items()]


class Sampling(_Section):
    """How a cycle picks the records worth a person's time."""

    batch_size: int = Field(100, ge=1, le=10_000)
    mixture: Mixture = Field(
        {"random": 0.4, "margin": 0.6},
        description="strategy: share of the batch; or a list of {strategy, share, options}. Shares add up to 1",
    )
    weight_floor: float = Field(0.1, gt=0, le=1, description="least weight, as a share of the mean weight")
    holdout_share: Share = Field(0.5, description="of the random frame: kept from training, for ever")
    blind_share: Share = Field(0.1, description="shown without a suggestion, to measure anchoring")
    max_open_records: int = Field(300, ge=1, description="no new batch while this many wait for people")
    seed: int = 17

    @field_validator("mixture")
    @classmethod
    def _adds_up(cls, value: dict[str, float] | list[MixtureLine]) -> dict[str, float] | list[MixtureLine]:
        lines = mixture_lines(value)
        total = sum(line.share for line in lines)
        if abs(total - 1.0) > 1e-9:
            raise ValueError(f"shares must add up to 1, they add up to {total:g}")
        names = [line.strategy for line in lines if line.strategy == "random" and line.share > 0]
        if len(names) != 1:
            raise ValueError("needs one random share above 0: holdout and unbiased estimates come from it")
        return value

    @property
    def lines(self) -> list[MixtureLine]:
        """The mixture in its long form."""
        return mixture_lines(self.mixture)


class Embedding(_Section):
    """How texts become vectors: for diverse batches, and for *find similar* in Argilla."""

    embedder: str | None = Field(
        "latent_text", description="built-in name or package.module:Class; null: no vectors", pattern=r"^[\w.]+(:\w+)?$"
    )


class Queue(_Section):
    """How much people are asked, and for how long."""

    target_days: float = Field(5.0, gt=0, description="days of work that wait for people after a new batch, at most")
    max_batch_size: int | None = Field(
        None, ge=1, le=10_000, description="a fast team gets batches of up to this size; sampling.batch_size by default"
    )
    throughput_days: int = Field(28, ge=7, le=365, description="days over which the speed of people is measured")
    max_pending_days: float | None = Field(
        30.0, gt=0, description="records nobody answered for longer are withdrawn, and may be chosen again; null: never"
    )


class Rule(_Section):
    """Keywords that suggest a label while there is no model. A suggestion is shown, never stored as a label.

    A keyword is a word or phrase; case does not matter. The rule holds when every condition that is given does.
    """

    label: str
    any: list[str] = Field(default_factory=list, description="at least one of these occurs")
    all: list[str] = Field(default_factory=list, description="each of these occurs")
    none: list[str] = Field(default_factory=list, description="none of these occurs")
    field: str | None = Field(None, description="the field that is read; all by default")
    question: str | None = Field(None, description="the question that is answered; the first by default")

    @model_validator(mode="after")
    def _says_when(self) -> Rule:
        if not self.any and not self.all:
            raise ValueError("needs keywords under 'any' or 'all'")
        if not all(keyword.strip() for keyword in (*self.any, *self.all, *self.none)):
            raise ValueError("has an empty keyword, which would occur everywhere")
        return self


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
    embedding: Embedding = Embedding()
    queue: Queue = Queue()
    rules: list[Rule] = Field(default_factory=list, description="suggestions before there is a model; first match wins")
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
            if question.field is not None and self.source.fields[question.field].type != "text":
                raise ValueError(f"question {question.name!r} marks field {question.field!r}, which is no text field")
        for rule in self.rules:
            _check_rule(rule, self)
        _check_columns(self.sampling, self.source)
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
        """The question that labels are decided and models are trained for."""
        return self.labeling.questions[0]

    def dag_id(self, step: str) -> str:
        """The id of this project's DAG for one step of the loop."""
        return f"{self.name}__{step}"


def _check_rule(rule: Rule, project: Project) -> None:
    if rule.field is not None and rule.field not in project.source.fields:
        raise ValueError(f"a rule for {rule.label!r} reads field {rule.field!r}, which source.fields lacks")
    questions = {question.name: question for question in project.labeling.questions}
    name = rule.question or project.labeling.questions[0].name
    if name not in questions:
        raise ValueError(f"a rule for {rule.label!r} answers question {name!r}, which labeling.questions lacks")
    if questions[name].type != "label":
        raise ValueError(f"a rule can only answer a label question, and {name!r} is a {questions[name].type} question")
    if rule.label not in questions[name].labels:
        raise ValueError(f"a rule suggests {rule.label!r}, which is no label of question {name!r}")


def _check_columns(sampling: Sampling, source: Source) -> None:
    """Refuse a mixture whose built-in strategies look at metadata columns that do not exist."""
    for line in sampling.lines:
        for option in ("by", "flag"):
            column = line.options.get(option)
            if line.strategy in STRATEGY_OPTIONS and column is not None and column not in source.metadata:
                raise ValueError(f"sampling.mixture: {line.strategy} names {column!r}, which source.metadata lacks")


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
