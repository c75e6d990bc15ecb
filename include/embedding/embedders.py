"""Embedders: from texts to vectors of unit length. A project names a built-in one, or its own."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from include.errors import ProjectError

Vectors = npt.NDArray[np.float32]

UNIT_TOLERANCE = 1e-3


@runtime_checkable
class Embedder(Protocol):
    """What a project's ``embedding.embedder`` must offer; it is made without arguments.

    ``name`` says which vectors these are: change it whenever the same text would get another vector, and everything is
    embedded anew. Load models in ``embed``: name and dimensions are asked for more often than vectors.
    """

    name: str
    dimensions: int

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Vectors of N texts, shape (N, dimensions), each of unit length; the same text always has the same one."""
        ...


def own_embedder(spec: str) -> Embedder:
    """The class behind ``package.module:Class``, made.

    :raises ProjectError: when it cannot be imported, cannot be made without arguments, or is no ``Embedder``.
    """
    module_name, _, class_name = spec.partition(":")
    try:
        made: Any = getattr(importlib.import_module(module_name), class_name)()
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise ProjectError(
            f"embedding.embedder {spec!r} cannot be loaded ({error})",
            remedy="Check the spelling, and that the package is installed where tasks run.",
        ) from error
    if not isinstance(made, Embedder):
        raise ProjectError(
            f"embedding.embedder {spec!r} lacks 'name', 'dimensions' or 'embed'",
            remedy="Give it all three, as include/embedding/embedders.py says.",
        )
    return made


def embed(embedder: Embedder, texts: Sequence[str]) -> Vectors:
    """Vectors of N texts on one thread, shape (N, dimensions).

    :raises ProjectError: when the embedder breaks its contract.
    """
    from threadpoolctl import threadpool_limits

    with threadpool_limits(limits=1):
        vectors = np.asarray(embedder.embed(texts), dtype=np.float32)
    shape = (len(texts), embedder.dimensions)
    if vectors.shape != shape or not np.allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=UNIT_TOLERANCE):
        raise ProjectError(
            f"embedder {embedder.name!r} gave no unit vectors of shape {shape} for {len(texts)} texts",
            remedy="Let embed() divide each vector by its length, and keep to its own dimensions.",
        )
    return vectors
