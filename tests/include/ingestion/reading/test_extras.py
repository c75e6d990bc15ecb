"""Unknown columns as JSON at column speed: byte by byte what ``canonical_json`` writes."""

from typing import Any

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from include.ingestion.reading.extras import LARGEST_FLOAT, LEAST_FLOAT, encode_extras, uneven_floats
from include.lake.keys import canonical_json

even_floats = st.floats(LEAST_FLOAT, LARGEST_FLOAT, exclude_max=True) | st.sampled_from(
    [0.0, 1e-4, 9.999999999999998e15]
)
texts = st.text(st.characters(codec="utf-8"))
VALUES: dict[str, tuple[pa.DataType, st.SearchStrategy[Any]]] = {
    "text": (pa.string(), texts),
    "whole": (pa.int64(), st.integers(-(2**63), 2**63 - 1)),
    "unsigned": (pa.uint64(), st.integers(0, 2**64 - 1)),
    "float": (pa.float64(), even_floats | even_floats.map(lambda value: -value).filter(bool)),
    "truth": (pa.bool_(), st.booleans()),
}


@st.composite
def tables(draw: st.DrawFn) -> pa.Table:
    names = draw(st.lists(texts | st.sampled_from(["^a$", "*", "s", '"', ""]), min_size=1, max_size=4, unique=True))
    rows = draw(st.integers(0, 5))
    columns = {}
    for name in names:
        kind, values = VALUES[draw(st.sampled_from(sorted(VALUES)))]
        drawn = draw(st.lists(st.none() | values, min_size=rows, max_size=rows))
        columns[name] = pa.array(drawn, kind)
    return pa.table(columns)


@settings(max_examples=500, deadline=None)
@given(tables())
def test_equal_to_canonical_json(table: pa.Table):
    expected = []
    for row in table.to_pylist():
        values = {name: value for name, value in row.items() if value is not None}
        expected.append(canonical_json(values) if values else None)
    encoded = encode_extras(table, table.column_names)
    assert encoded.type == pa.string()
    assert encoded.to_pylist() == expected


def test_floats_that_are_written_in_two_ways_are_told():
    values = [0.5, None, 5.0, 0.0, -0.0, 1e-5, -1e-5, 1e16, 1e15 + 0.5, 5e-324]
    column = pa.chunked_array([pa.array(values, pa.float64())])
    whole_too = [False, False, True, True, True, True, True, True, False, True]
    assert uneven_floats(column, whole_too=True).tolist() == whole_too
    otherwise = [False, False, False, False, False, True, True, True, False, True]
    assert uneven_floats(column, whole_too=False).tolist() == otherwise
