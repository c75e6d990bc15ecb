"""Answers as arrays: numbering, and refusal of what cannot be right."""

from __future__ import annotations

import numpy as np
import pytest

from include.errors import LabelingError
from include.labeling.aggregation.votes import Votes, encode


def test_answers_are_numbered_in_order_of_appearance() -> None:
    votes, book = encode([("r2", "ann", "ham"), ("r1", "bob", "spam"), ("r2", "bob", "ham")], ["spam", "ham", "odd"])
    assert (book.items, book.workers, book.classes) == (["r2", "r1"], ["ann", "bob"], ["spam", "ham", "odd"])
    assert votes.counts().tolist() == [[0, 2, 0], [1, 0, 0]]
    assert (votes.per_item().tolist(), votes.per_worker().tolist()) == ([2, 1], [1, 2])
    empty, _ = encode([], ["a", "b"])
    assert empty.counts().shape == (0, 2)


def test_what_cannot_be_right_is_refused() -> None:
    with pytest.raises(LabelingError, match="'egg' is no class"):
        encode([("r", "ann", "egg")], ["spam", "ham"])
    with pytest.raises(LabelingError, match="'ann' answered 'r' twice"):
        encode([("r", "ann", "ham"), ("r", "ann", "spam")], ["spam", "ham"])
    one = np.array([0])
    with pytest.raises(LabelingError, match="length"):
        Votes(one, one, np.array([0, 1]), 1, 1, 2)
    with pytest.raises(LabelingError, match="labels has a position outside 0..1"):
        Votes(one, one, np.array([2]), 1, 1, 2)
