"""Exact nearest neighbours, against numbers worked out by hand."""

import numpy as np
import pytest

from argilla_sqlite.errors import InvalidSearchError
from argilla_sqlite.similarity import Vectors, nearest

UNITS = np.array([[1, 0], [0.6, 0.8], [0, 1], [-1, 0], [0, 0]], dtype=np.float32)
VECTORS = Vectors(("a", "b", "c", "d", "zero"), ("t",) * 5, UNITS)


def test_best_first_with_half_of_one_plus_cosine() -> None:
    found = nearest(VECTORS, [2, 0], count=5)
    assert [record_id for record_id, _ in found] == ["a", "b", "c", "zero", "d"]
    assert [score for _, score in found] == pytest.approx([1.0, 0.8, 0.5, 0.5, 0.0])


def test_filters_apply_before_the_best_are_taken() -> None:
    assert [found[0] for found in nearest(VECTORS, [1, 0], count=1, allowed_ids={"c", "d", "other"})] == ["c"]
    assert [found[0] for found in nearest(VECTORS, [1, 0], count=1, excluded_id="a")] == ["b"]
    assert nearest(VECTORS, [1, 0], count=5, allowed_ids={"a"}, excluded_id="a") == []
    assert [found[0] for found in nearest(VECTORS, [1, 0], count=5, threshold=0.6)] == ["a", "b"]


def test_no_vectors_find_nothing() -> None:
    assert nearest(Vectors((), (), np.zeros((0, 2), dtype=np.float32)), [1, 0], count=5) == []


@pytest.mark.parametrize(
    ("query", "message"),
    [([1.0], "has 1 numbers"), ([0.0, 0.0], "no direction"), ([float("nan"), 1.0], "no direction")],
)
def test_impossible_query_vectors_are_refused(query: list[float], message: str) -> None:
    with pytest.raises(InvalidSearchError, match=message):
        nearest(VECTORS, query, count=5)
