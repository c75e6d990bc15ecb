"""Argilla's filters and sort orders as SQL over its tables, with the meaning Elasticsearch gives them.

Every expression is about one row of `argilla.records AS record`. A filter on a list (several labels, several metadata
terms, several scores) holds when any item satisfies it. Missing values sort last in both directions.
"""

import math
import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

from argilla_server.enums import RecordSortField, ResponseStatusFilter, SortOrder
from argilla_server.search_engine.base import (
    AndFilter,
    Filter,
    FilterScope,
    MetadataFilterScope,
    Order,
    RangeFilter,
    RecordFilterScope,
    ResponseFilterScope,
    SuggestionFilterScope,
    TermsFilter,
)

from argilla_sqlite.clause import EVERYTHING, NOTHING, Clause, SqlValue, all_of, any_of, placeholders
from argilla_sqlite.errors import InvalidSearchError
from argilla_sqlite.schema import DatasetSchema, ValueKind

SqlConverter = Callable[[Any], SqlValue]

_DATES: Final = (RecordSortField.inserted_at.value, RecordSortField.updated_at.value)
_SUGGESTION_COLUMNS: Final = ("agent", "type")


def where(condition: Filter, schema: DatasetSchema) -> Clause:
    """Return the SQL condition of a filter. Raises InvalidSearchError for values its target cannot be compared with."""
    if isinstance(condition, AndFilter):
        return all_of(where(part, schema) for part in condition.filters)
    scope = condition.scope
    if isinstance(scope, RecordFilterScope):
        return _record_condition(condition, RecordSortField(scope.property).value)
    if isinstance(scope, ResponseFilterScope) and scope.question is None:
        return _response_status_condition(condition, scope)
    values = _values(scope, schema)
    return _exists(values.source, _value_condition(condition, values))


def order_by(orders: Iterable[Order], schema: DatasetSchema) -> Clause:
    """Return the terms of ORDER BY, without the tie-breaker."""
    terms = [_order_term(order, schema) for order in orders]
    return Clause(", ".join(term.sql for term in terms), tuple(v for term in terms for v in term.parameters))


def _order_term(order: Order, schema: DatasetSchema) -> Clause:
    direction, extreme = ("DESC", "max") if order.order == SortOrder.desc else ("ASC", "min")
    scope = order.scope
    if isinstance(scope, RecordFilterScope):
        return Clause(f"record.{RecordSortField(scope.property).value} {direction} NULLS LAST")
    if isinstance(scope, ResponseFilterScope) and scope.question is None:
        source, value = _responses(scope), "response.status"
    else:
        source, kind, value = _values(scope, schema)
        if isinstance(scope, ResponseFilterScope) and kind is ValueKind.NUMBER:
            extreme = "avg"  # ratings sort by their mean over the answers; on labels Elasticsearch fails
    return Clause(f"(SELECT {extreme}({value}) FROM {source.sql}) {direction} NULLS LAST", source.parameters)


class Values(NamedTuple):
    """Where a subquery finds the values of one record: its FROM clause with WHERE, one row per value."""

    source: Clause
    kind: ValueKind
    # The SQL expression of one value.
    value: str = "item.value"


def metadata_values(name: str, kind: ValueKind) -> Values:
    """The values of one metadata property. Found by key: a JSON path cannot name every property (quotes, accents)."""
    source = Clause(
        "json_each(record.metadata) AS property, "
        "json_each(CASE property.type WHEN 'array' THEN property.value ELSE '[null]' END) AS item "
        "WHERE property.key = ?",
        (name,),
    )
    return Values(source, kind, "CASE property.type WHEN 'array' THEN item.value ELSE property.value END")


def _values(scope: FilterScope, schema: DatasetSchema) -> Values:
    if isinstance(scope, MetadataFilterScope):
        kind = schema.metadata.get(scope.metadata_property, ValueKind.UNSEARCHABLE)
        return metadata_values(scope.metadata_property, kind)
    if isinstance(scope, SuggestionFilterScope):
        return _suggestion_values(scope, schema)
    return _response_values(scope, schema)


def _suggestion_values(scope: SuggestionFilterScope, schema: DatasetSchema) -> Values:
    question = schema.questions[scope.question]
    items, kind = "json_each('[]')", ValueKind.UNSEARCHABLE
    if scope.property == "value" and question.kind is not ValueKind.UNSEARCHABLE:
        items, kind = "json_each(suggestion.value)", question.kind
    elif scope.property == "score":
        items, kind = "json_each(suggestion.score)", ValueKind.NUMBER
    elif scope.property in _SUGGESTION_COLUMNS:
        items, kind = f"json_each(json_quote(suggestion.{scope.property}))", ValueKind.KEYWORD
    source = Clause(
        f"argilla.suggestions AS suggestion, {items} AS item "
        "WHERE suggestion.record_id = record.id AND suggestion.question_id = ?",
        (question.id,),
    )
    return Values(source, kind)


def _response_values(scope: ResponseFilterScope, schema: DatasetSchema) -> Values:
    kind = schema.questions[scope.question].kind
    items = "json_each(answer.value, '$.value')" if kind is not ValueKind.UNSEARCHABLE else "json_each('[]')"
    owned = _owned_responses(scope)
    source = Clause(
        f'argilla.responses AS response, json_each(response."values") AS answer, {items} AS item '
        f"WHERE {owned.sql} AND answer.key = ?",
        (*owned.parameters, scope.question),
    )
    return Values(source, kind)


def _responses(scope: ResponseFilterScope) -> Clause:
    owned = _owned_responses(scope)
    return Clause(f"argilla.responses AS response WHERE {owned.sql}", owned.parameters)


def _owned_responses(scope: ResponseFilterScope) -> Clause:
    """The record's answers: one user's when the search is that user's own, otherwise everyone's."""
    if scope.user is None:
        return Clause("response.record_id = record.id")
    return Clause("response.record_id = record.id AND response.user_id = ?", (scope.user.id.hex,))


def _exists(source: Clause, condition: Clause = EVERYTHING) -> Clause:
    return Clause(
        f"EXISTS (SELECT 1 FROM {source.sql} AND {condition.sql})", (*source.parameters, *condition.parameters)
    )


# Conditions.


def _response_status_condition(condition: Filter, scope: ResponseFilterScope) -> Clause:
    if scope.property != "status" or not isinstance(condition, TermsFilter):
        raise InvalidSearchError("A filter on responses must name a question, or list values of the property 'status'.")
    answered = _responses(scope)
    statuses = [str(value) for value in condition.values]
    alternatives = []
    if ResponseStatusFilter.pending.value in statuses:
        never_answered = _exists(answered)
        alternatives.append(Clause(f"NOT {never_answered.sql}", never_answered.parameters))
    given = [status for status in statuses if status != ResponseStatusFilter.pending.value]
    if given:
        listed = placeholders(given)
        alternatives.append(_exists(answered, Clause(f"response.status IN ({listed.sql})", listed.parameters)))
    return any_of(alternatives)


def _record_condition(condition: Filter, column: str) -> Clause:
    if column in _DATES:
        return _compare(f"record.{column}", condition, _earliest, _latest)
    if column == RecordSortField.id.value:
        return _compare("record.id", condition, _hex_digits, _hex_digits)
    return _compare(f"record.{column}", condition, str, str)


def _value_condition(condition: Filter, values: Values) -> Clause:
    if values.kind is ValueKind.NUMBER:
        return _compare(values.value, condition, _number, _number, parameter="json_extract(?, '$')")
    if values.kind is ValueKind.KEYWORD:
        return _compare(f"CAST({values.value} AS TEXT)", condition, str, str)
    return NOTHING


def _compare(
    expression: str, condition: Filter, lower: SqlConverter, upper: SqlConverter, parameter: str = "?"
) -> Clause:
    """Compare with the listed values, or with bounds that are both included."""
    if isinstance(condition, TermsFilter):
        listed = placeholders([lower(value) for value in condition.values], parameter)
        return Clause(f"{expression} IN ({listed.sql})", listed.parameters)
    if not isinstance(condition, RangeFilter):
        raise InvalidSearchError(f"Filters of type {type(condition).__name__} are not supported here.")
    bounds = []
    if condition.ge is not None:
        bounds.append(Clause(f"{expression} >= {parameter}", (lower(condition.ge),)))
    if condition.le is not None:
        bounds.append(Clause(f"{expression} <= {parameter}", (upper(condition.le),)))
    return all_of(bounds)


# Values as they are stored.


def _hex_digits(value: object) -> str:
    """Ids are stored as 32 hex digits; what is not an id is equal to none."""
    return str(value).replace("-", "").lower()


def _number(value: object) -> str:
    """Return the number as JSON, which SQLite reads as it reads the stored one: equal numbers are equal to the bit."""
    text = str(value).strip()
    if re.fullmatch(r"[+-]?\d{1,18}", text):
        return str(int(text))
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise InvalidSearchError(
            f"The filter value {value!r} is not a number, but the filtered property holds numbers."
        )
    return repr(number)


_DATE: Final = re.compile(
    r"(?P<year>\d{4})(?:-(?P<month>\d\d)(?:-(?P<day>\d\d)(?:[T ](?P<hour>\d\d)(?::(?P<minute>\d\d)"
    r"(?::(?P<second>\d\d)(?:[.,](?P<fraction>\d{1,9}))?)?)?)?)?)?(?P<zone>Z|[+-]\d\d(?::?\d\d)?)?"
)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def _earliest(value: object) -> str:
    """The first moment a date names, as Argilla stores it: UTC, microseconds."""
    return _stored_date(value, {"month": 1, "day": 1, "hour": 0, "minute": 0, "second": 0}, missing_microsecond=0)


def _latest(value: object) -> str:
    """The last moment: Elasticsearch fills in missing hours, minutes and seconds upwards, but months and days by 1."""
    filling = {"month": 1, "day": 1, "hour": 23, "minute": 59, "second": 59}
    return _stored_date(value, filling, missing_microsecond=999_999)


def _stored_date(value: object, filling: dict[str, int], missing_microsecond: int) -> str:
    try:
        moment = _parse_date(str(value), filling, missing_microsecond)
    except (ValueError, OverflowError) as error:
        raise InvalidSearchError(
            f"The filter value {value!r} is not a date; "
            "give ISO 8601 (2026-01-31T12:00:00Z) or milliseconds since 1970."
        ) from error
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")


def _parse_date(text: str, filling: dict[str, int], missing_microsecond: int) -> datetime:
    match = _DATE.fullmatch(text.strip())
    if match is None:
        return _EPOCH + timedelta(milliseconds=float(text))
    parts = {name: int(match[name]) if match[name] else missing for name, missing in filling.items()}
    microsecond = int(match["fraction"].ljust(6, "0")[:6]) if match["fraction"] else missing_microsecond
    zone = match["zone"] or "Z"
    return datetime.fromisoformat(
        f"{int(match['year']):04}-{parts['month']:02}-{parts['day']:02}T"
        f"{parts['hour']:02}:{parts['minute']:02}:{parts['second']:02}.{microsecond:06}{zone}"
    )
