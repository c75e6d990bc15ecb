"""Embedders as a project might bring them along: good ones and bad ones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from include.embedding.embedders import Vectors

CALLS: list[list[str]] = []  # the texts of every call


class ByLength:
    """Points on a circle."""

    name = "by_length-1"
    dimensions = 2

    def embed(self, texts: Sequence[str]) -> Vectors:
        CALLS.append(list(texts))
        angle = np.array([len(text) for text in texts], np.float32) / 100
        return np.column_stack([np.cos(angle), np.sin(angle)])


class TooLong:
    """Not of unit length."""

    name = "too_long"
    dimensions = 2

    def embed(self, texts: Sequence[str]) -> Vectors:
        return np.ones((len(texts), 2), np.float32)


class TooWide(ByLength):
    """Not of its own dimensions."""

    dimensions = 3


class NotEvenOne:
    """Has no vectors to give."""

    name = "none"
