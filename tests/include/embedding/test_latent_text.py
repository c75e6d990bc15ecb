"""The built-in embedder: unit vectors, the same for the same text, near for texts about the same thing."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from include.embedding.latent_text import DIMENSIONS, LatentText
from include.errors import StorageError
from tests.include.training.world import mails, mixed

KINDS = mixed(240)
TEXTS = mails(KINDS, seed=3)


@pytest.fixture(scope="module")
def learned() -> LatentText:
    return LatentText.fit("latent_text-128-100", TEXTS)


def test_neighbours_are_about_the_same_thing(learned: LatentText):
    kinds = mixed(150)
    vectors = learned.embed(mails(kinds, seed=99))
    nearness = vectors @ vectors.T
    np.fill_diagonal(nearness, -1)
    nearest = [kinds[place] for place in nearness.argmax(axis=1)]
    assert np.mean([one == other for one, other in zip(kinds, nearest, strict=True)]) > 0.6  # by chance a third


@settings(max_examples=50, deadline=None)
@given(st.lists(st.one_of(st.text(max_size=60), st.sampled_from(TEXTS)), max_size=8))
def test_whatever_the_text_its_vector_has_unit_length_and_does_not_depend_on_its_neighbours(
    learned: LatentText, texts: list[str]
):
    vectors = learned.embed(texts)
    assert vectors.shape == (len(texts), DIMENSIONS)
    assert vectors.dtype == np.float32
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)
    for text, vector in zip(texts, vectors, strict=True):
        assert np.allclose(learned.embed([text])[0], vector, atol=1e-6)


def test_texts_without_a_known_word_are_alike_and_unlike_all_others(learned: LatentText):
    strange, empty, known = learned.embed(["qqq zzz", "", "kernel patch"])
    assert strange @ empty == 1.0
    assert strange @ known == 0.0


def test_what_is_loaded_is_what_was_learned(learned: LatentText):
    again = LatentText.load(learned.name, learned.dump())
    assert (again.name, again.dimensions) == (learned.name, DIMENSIONS)
    assert np.array_equal(again.embed(TEXTS[:20]), learned.embed(TEXTS[:20]))
    assert LatentText.fit(learned.name, TEXTS).dump() == learned.dump()


@pytest.mark.parametrize("texts", [[""], ["a b"], ["same words", "same words"], ["one two", "three four", "five"]])
def test_it_learns_from_whatever_there_is(texts: list[str]):
    learned = LatentText.fit("x", texts)
    assert np.allclose(np.linalg.norm(learned.embed([*texts, "other"]), axis=1), 1.0, atol=1e-5)
    assert np.array_equal(LatentText.load("x", learned.dump()).embed(texts), learned.embed(texts))


@pytest.mark.parametrize("data", [b"", b"no archive", b"PK\x03\x04 cut off"])
def test_damaged_bytes_are_refused(data: bytes):
    with pytest.raises(StorageError, match="damaged"):
        LatentText.load("x", data)
