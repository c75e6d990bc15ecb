"""The registry: nothing untrusted is ever loaded, and one promotion wins."""

import dataclasses
import hashlib
import io
import pickle
import zipfile

import numpy as np
import pytest

from include.errors import TrainingError
from include.training import registry
from include.training.trainers import TextClassifier, fit, predict
from tests.include.training.world import World, mails, mixed


@pytest.fixture(scope="module")
def model():
    kinds = mixed(60)
    odd = "__id__ is_json file __module__ __class__ content key_types"  # words that are also skops' own keys
    return fit(TextClassifier(), [f"{text} {odd}" for text in mails(kinds, seed=1)], kinds, np.ones(60), seed=17)


REFERENCE = registry.ChampionRef(
    model_version="aaaaaaaa-bbbbbbbb",
    snapshot_id="a" * 32,
    sha256="b" * 64,
    trainer="text_classifier",
    promoted_at="2026-03-01T12:00:00+00:00",
    why="Promoted: better.",
    report={"n": 50},
    previous=None,
)


def put(world: World, data: bytes) -> str:
    sha256 = hashlib.sha256(data).hexdigest()
    world.lake.files.put(registry.artifact_path(world.project, sha256), data)
    return sha256


def test_a_model_comes_back_as_it_was(world: World, model):
    sha256 = registry.save_model(world.project, world.lake, model)
    assert registry.save_model(world.project, world.lake, model) == sha256
    texts = mails(mixed(30), seed=5)
    loaded = registry.load_model(world.project, world.lake, sha256)
    np.testing.assert_array_equal(predict(loaded, texts), predict(model, texts))
    assert registry.save_model(world.project, world.lake, loaded) == sha256


def test_one_changed_byte_is_refused(world: World, model):
    sha256 = registry.save_model(world.project, world.lake, model)
    path = registry.artifact_path(world.project, sha256)
    data = bytearray(world.lake.files.get(path))
    data[len(data) // 2] ^= 1
    world.lake.files.put(path, bytes(data))
    with pytest.raises(TrainingError, match="bytes do not match its name"):
        registry.load_model(world.project, world.lake, sha256)


class Bomb:
    """A pickle that would run code when it is loaded."""

    def __reduce__(self):
        return pytest.fail, ("the pickle was executed",)


def test_a_pickle_is_refused_even_under_its_own_digest(world: World):
    sha256 = put(world, pickle.dumps(Bomb()))
    with pytest.raises(TrainingError, match="is not a skops file"):
        registry.load_model(world.project, world.lake, sha256)


def test_a_zip_without_a_schema_is_refused(world: World):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("other.json", "{}")
    with pytest.raises(TrainingError, match="is not a skops file"):
        registry.load_model(world.project, world.lake, put(world, buffer.getvalue()))


class Custom:
    """A type skops does not trust."""

    def __init__(self) -> None:
        self.value = 1


def test_untrusted_types_are_named_and_neither_saved_nor_loaded(world: World):
    import skops.io

    with pytest.raises(TrainingError, match=r"not trusted: .*Custom"):
        registry.load_model(world.project, world.lake, put(world, skops.io.dumps(Custom())))
    with pytest.raises(TrainingError, match=r"not trusted: .*Custom"):
        registry.save_model(world.project, world.lake, Custom())
    with pytest.raises(TrainingError, match="cannot be stored"):
        registry.save_model(world.project, world.lake, (one for one in "generator"))


def test_a_missing_artifact_is_named(world: World):
    with pytest.raises(TrainingError, match="artifact cccccccc does not exist"):
        registry.load_model(world.project, world.lake, "c" * 64)


def test_the_pointer_is_swapped_only_from_what_was_read(world: World):
    assert registry.champion(world.project, world.lake) is None
    assert registry.swap_champion(world.project, world.lake, REFERENCE, expected=None)
    assert not registry.swap_champion(world.project, world.lake, REFERENCE, expected=None)
    first = registry.champion(world.project, world.lake)
    assert first == dataclasses.replace(REFERENCE, etag=first.etag)
    second = dataclasses.replace(REFERENCE, model_version="cccccccc-dddddddd")
    third = dataclasses.replace(REFERENCE, model_version="eeeeeeee-ffffffff")
    assert registry.swap_champion(world.project, world.lake, second, expected=first)
    assert not registry.swap_champion(world.project, world.lake, third, expected=first)
    assert registry.champion(world.project, world.lake).model_version == second.model_version


def test_a_broken_pointer_is_an_error_not_a_missing_champion(world: World):
    for content in (b"{", b"[]", b'{"model_version": "x"}'):
        world.lake.files.put(registry.champion_path(world.project), content)
        with pytest.raises(TrainingError, match="is not readable"):
            registry.champion(world.project, world.lake)
