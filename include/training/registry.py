"""Where models rest, and which one is champion.

An artifact is a ``skops`` file named by the SHA-256 of its bytes. The champion is one small JSON file that is swapped
by If-Match; it holds everything the tables say about a promotion, so that rows a killed task left out can be
completed from the pointer alone.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import zipfile
from dataclasses import dataclass
from typing import Any

from include.errors import TrainingError
from include.lake import Lake
from include.project import Project
from include.training.trainers import Model

TRUSTED_TYPES: frozenset[str] = frozenset()  # beyond what skops itself trusts
EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time a zip file can hold


@dataclass(frozen=True)
class ChampionRef:
    """The pointer's content; ``etag`` is that of the file it was read from."""

    model_version: str
    snapshot_id: str
    sha256: str
    trainer: str
    promoted_at: str
    why: str
    report: dict[str, Any]
    previous: dict[str, str] | None  # model_version, snapshot_id, sha256, trainer of the one it replaced
    etag: str | None = None


def model_version(snapshot_id: str, sha256: str) -> str:
    """The name of a model: the first 8 digits of what it was trained on, and of what came out."""
    return f"{snapshot_id[:8]}-{sha256[:8]}"


def artifact_path(project: Project, sha256: str) -> str:
    """Where an artifact is kept."""
    return f"models/{project.name}/{sha256}.skops"


def champion_path(project: Project) -> str:
    """Where the champion pointer is kept."""
    return f"champions/{project.name}.json"


def save_model(project: Project, lake: Lake, model: Model) -> str:
    """Store a model and return the SHA-256 of its artifact. Equal models have equal artifacts.

    :raises TrainingError: when the model is made of parts that could not be loaded again safely.
    """
    import skops.io
    from skops.io.exceptions import UnsupportedTypeException

    try:
        data = _canonical(skops.io.dumps(model))
    except (UnsupportedTypeException, TypeError) as error:
        raise TrainingError(
            f"the model cannot be stored ({error})", remedy="Let the trainer return a pipeline of scikit-learn parts."
        ) from error
    sha256 = hashlib.sha256(data).hexdigest()
    _check_types(data, sha256)
    lake.files.create(artifact_path(project, sha256), data)
    return sha256


def load_model(project: Project, lake: Lake, sha256: str) -> Model:
    """The model behind a digest. Nothing is executed before digest and types are checked.

    :raises TrainingError: when the artifact is missing, altered, no skops file, or holds types beyond the allow-list.
    """
    import skops.io

    data = lake.files.get(artifact_path(project, sha256))
    if data is None:
        raise TrainingError(f"model artifact {sha256[:8]} does not exist", remedy="Train this snapshot again.")
    if hashlib.sha256(data).hexdigest() != sha256:
        raise TrainingError(
            f"model artifact {sha256[:8]} was altered: its bytes do not match its name",
            remedy="Do not load it; delete the file and train its snapshot again.",
        )
    _check_types(data, sha256)
    model: Model = skops.io.loads(data, trusted=sorted(TRUSTED_TYPES))
    return model


def champion(project: Project, lake: Lake) -> ChampionRef | None:
    """The present champion, or None before the first promotion.

    :raises TrainingError: when the pointer is not readable.
    """
    found = lake.files.get_versioned(champion_path(project))
    if found is None:
        return None
    try:
        return ChampionRef(**json.loads(found[0]), etag=found[1])
    except (ValueError, TypeError) as error:
        raise TrainingError(
            f"the champion pointer {champion_path(project)} is not readable",
            remedy="Restore an earlier version of the file, or delete it and promote again.",
        ) from error


def swap_champion(project: Project, lake: Lake, new: ChampionRef, *, expected: ChampionRef | None) -> bool:
    """Make ``new`` the champion if ``expected`` still is. False when somebody else was faster."""
    content = dataclasses.asdict(new)
    del content["etag"]
    data = json.dumps(content, sort_keys=True).encode()
    return lake.files.swap(champion_path(project), data, expected.etag if expected else None)


def _check_types(data: bytes, sha256: str) -> None:
    import skops.io

    try:
        untrusted = set(skops.io.get_untrusted_types(data=data)) - TRUSTED_TYPES
    except (zipfile.BadZipFile, KeyError, TypeError, ValueError) as error:
        raise TrainingError(
            f"model artifact {sha256[:8]} is not a skops file",
            remedy="Only artifacts this registry has written can be loaded.",
        ) from error
    if untrusted:
        raise TrainingError(
            f"model artifact {sha256[:8]} holds types that are not trusted: {', '.join(sorted(untrusted))}",
            remedy="Build the model from scikit-learn parts, or add the type to TRUSTED_TYPES after a review.",
        )


def _canonical(data: bytes) -> bytes:
    """The same artifact without what differs between runs: memory addresses and times.

    skops names objects and array files by ``id()`` and zips them with the present time. Objects are numbered in order
    of appearance instead; plain JSON values lose their number, which loading does not use. scikit-learn's text
    vectorizers remember the address of their stop words, a cache they fill again.
    """
    source = zipfile.ZipFile(io.BytesIO(data))
    schema = json.loads(source.read("schema.json"))
    numbers: dict[str, int] = {}
    _renumber(schema, numbers)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as target:
        for name in sorted(set(source.namelist()) - {"schema.json"}, key=lambda n: numbers[n.partition(".")[0]]):
            stem, dot, suffix = name.partition(".")
            _add(target, f"{numbers[stem]}{dot}{suffix}", source.read(name))
        _add(target, "schema.json", json.dumps(schema, separators=(",", ":")).encode())
    return out.getvalue()


def _add(target: zipfile.ZipFile, name: str, content: bytes) -> None:
    target.writestr(zipfile.ZipInfo(name, EPOCH), content, compress_type=zipfile.ZIP_DEFLATED, compresslevel=6)


def _renumber(node: object, numbers: dict[str, int]) -> None:
    if isinstance(node, list):
        for item in node:
            _renumber(item, numbers)
    elif isinstance(node, dict):
        # Types are checked because a stored mapping may have any keys, and a vocabulary any word; its values are nodes.
        if node.get("is_json") is True:
            node.pop("__id__", None)
        if node.get("__module__") == "sklearn.feature_extraction.text":
            _forget(node["content"], "_stop_words_id")
        if isinstance(node.get("__id__"), int):
            node["__id__"] = _number(str(node["__id__"]), numbers)
        if isinstance(node.get("file"), str):
            stem, dot, suffix = node["file"].partition(".")
            node["file"] = f"{_number(stem, numbers)}{dot}{suffix}"
        for item in node.values():
            _renumber(item, numbers)


def _forget(attributes: dict[str, Any], name: str) -> None:
    """Drop one attribute from an object's stored mapping: its value, and its entry in the list of key types."""
    names = list(attributes["content"])
    if name in names:
        del attributes["content"][name]
        del attributes["key_types"]["content"][names.index(name)]


def _number(address: str, numbers: dict[str, int]) -> int:
    return numbers.setdefault(address, len(numbers) + 1)
