"""The load of the ingest benchmarks: seeded JSON Lines like a mail archive's, and the project with the contract for it.

A row has eight columns and about 420 bytes, with non-ASCII letters, quotes and backslashes in its texts. One row in 100
can be parsed but breaks exactly one of the ten expectations, a different one in turn.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

ROWS_PER_OBJECT = 50_000  # 21 MB
BAD_EVERY = 100
BAD_OFFSET = 7
SEED = 5
VERSION = 1  # raise it when the generator changes: files of older versions are not used
WORDS = 5000
ODD_WORDS = ("naïve", "“quote”", "don't", r"\"hi\"", r"tab\tx", "Straße")
SUBJECT_WORDS, BODY_WORDS = 6, 30

EXPECTATIONS: list[dict[str, Any]] = [
    {"type": "expect_column_values_to_not_be_null", "kwargs": {"column": "id"}},
    {"type": "expect_column_values_to_not_be_null", "kwargs": {"column": "body"}},
    {
        "type": "expect_column_value_lengths_to_be_between",
        "kwargs": {"column": "subject", "min_value": 1, "max_value": 200},
    },
    {
        "type": "expect_column_value_lengths_to_be_between",
        "kwargs": {"column": "body", "min_value": 2, "max_value": 4000},
    },
    {"type": "expect_column_values_to_match_regex", "kwargs": {"column": "received_at", "regex": "^2026-"}},
    {
        "type": "expect_column_values_to_not_match_regex",
        "kwargs": {"column": "body", "regex": "[A-Za-z0-9]@[A-Za-z0-9-]+[.][A-Za-z]"},
    },
    {"type": "expect_column_values_to_be_in_set", "kwargs": {"column": "lang", "value_set": ["en", "de", "fr"]}},
    {
        "type": "expect_column_values_to_be_between",
        "kwargs": {"column": "characters", "min_value": 2, "max_value": 1_000_000},
    },
    {"type": "expect_column_values_to_be_between", "kwargs": {"column": "score", "min_value": 0, "max_value": 1}},
    {
        "type": "expect_column_values_to_match_regex",
        "kwargs": {"column": "sender_domain", "regex": "^[a-z0-9-]+(?:[.][a-z0-9-]+)+$"},
    },
]
# What is wrong with a bad row, by turns: the column, its JSON text, and the expectation it breaks.
FLAWS: tuple[tuple[str, str, str], ...] = (
    ("lang", '"xx"', "expect_column_values_to_be_in_set"),
    ("characters", "1", "expect_column_values_to_be_between"),
    ("body", '"please write to someone@example.com"', "expect_column_values_to_not_match_regex"),
    ("score", "1.5", "expect_column_values_to_be_between"),
    ("sender_domain", '"no domain"', "expect_column_values_to_match_regex"),
    ("received_at", '"2025-12-31T23:59:59Z"', "expect_column_values_to_match_regex"),
    ("subject", f'"{"x" * 201}"', "expect_column_value_lengths_to_be_between"),
)


def project_settings(name: str, prefix: str, *, lake_prefix: str = "") -> dict[str, Any]:
    """A project that ingests these rows from ``prefix`` of the bucket "landing"; as its YAML file would say it."""
    never = "0 0 1 1 *"
    return {
        "name": name,
        "title": f"Benchmark {name}",
        "lake": {"prefix": lake_prefix},
        "source": {
            "prefix": prefix,
            "id_column": "id",
            "event_time_column": "received_at",
            "fields": {"subject": {"title": "Subject"}, "body": {"title": "Body"}},
            "metadata": {
                "sender_domain": {"title": "Sender's domain"},
                "lang": {"title": "Language"},
                "characters": {"title": "Characters", "type": "integer"},
                "score": {"title": "Score", "type": "float"},
            },
        },
        "validation": {"expectations": EXPECTATIONS},
        "labeling": {
            "guidelines": "Nobody labels the rows of a benchmark.",
            "questions": [
                {"name": "kind", "type": "label", "title": "Which?", "labels": {"spam": "Spam", "ham": "Not spam"}}
            ],
        },
        "schedule": dict.fromkeys(("ingest", "cycle", "collect", "retrain", "monitor"), never),
    }


def is_bad(row: int) -> bool:
    """Whether this row breaks the contract."""
    return row % BAD_EVERY == BAD_OFFSET


def expected_bad(rows: int) -> Counter[str]:
    """How many of the first ``rows`` rows break which ``expectation(column)``."""
    numbers = range(BAD_OFFSET, rows, BAD_EVERY)
    flaws = (FLAWS[row // BAD_EVERY % len(FLAWS)] for row in numbers)
    return Counter(f"{expectation}({column})" for column, _, expectation in flaws)


def source_id(row: int, tag: str = "msg") -> str:
    """The id in the data."""
    return f"{tag}-{row:09d}"


def retag(data: bytes, tag: str) -> bytes:
    """The same rows under other ids and with a word more in their bodies, so that no content comes twice."""
    mark = tag.encode()
    return data.replace(b'{"id":"msg-', b'{"id":"%s-' % mark).replace(b'"body":"', b'"body":"%s ' % mark)


def objects(folder: Path, rows: int, rows_per_object: int = ROWS_PER_OBJECT) -> list[Path]:
    """Files with the first ``rows`` rows, generated where they are missing, ``rows_per_object`` in each.

    :raises ValueError: when the objects would not be of equal size.
    """
    if rows % rows_per_object:
        raise ValueError(f"{rows} rows are not a multiple of {rows_per_object}")
    target = folder / f"mails-{VERSION}-{rows_per_object}"
    target.mkdir(parents=True, exist_ok=True)
    starts = range(0, rows, rows_per_object)
    paths = [target / f"mails-{start:09d}.jsonl" for start in starts]
    missing = [(path, start, rows_per_object) for path, start in zip(paths, starts, strict=True) if not path.exists()]
    if missing:
        print(f"generating {len(missing)} objects of {rows_per_object} rows", flush=True)
        with ProcessPoolExecutor() as pool:
            list(pool.map(_write, missing))
    return paths


def _write(job: tuple[Path, int, int]) -> None:
    path, start, rows = job
    part = path.with_suffix(".part")
    with part.open("w", encoding="utf-8") as file:
        file.writelines(generate(start, rows))
    part.replace(path)


def generate(start: int, rows: int) -> Iterator[str]:
    """Lines of the rows from ``start``; the same rows come out however they are cut into objects."""
    words = _vocabulary()
    for block in range(start // 1000, (start + rows + 999) // 1000):
        rng = np.random.default_rng([SEED, block])
        picked = rng.integers(0, WORDS, (1000, SUBJECT_WORDS + BODY_WORDS)).tolist()
        times = rng.integers(0, 12 * 28 * 24 * 60, 1000).tolist()
        choices = rng.integers(0, 3, (1000, 2)).tolist()
        characters = rng.integers(10, 4000, 1000).tolist()
        scores = rng.integers(0, 10_000, 1000).tolist()
        for offset in range(max(start - block * 1000, 0), min(start + rows - block * 1000, 1000)):
            row = block * 1000 + offset
            texts = [words[word] for word in picked[offset]]
            day, minute = divmod(times[offset], 24 * 60)
            date, time = f"2026-{day // 28 + 1:02d}-{day % 28 + 1:02d}", f"{minute // 60:02d}:{minute % 60:02d}:00"
            values = {
                "id": f'"{source_id(row)}"',
                "subject": f'"{" ".join(texts[:SUBJECT_WORDS])}"',
                "body": f'"{" ".join(texts[SUBJECT_WORDS:])}"',
                "received_at": f'"{date}T{time}Z"',
                "sender_domain": ('"example.com"', '"mail.org"', '"x.net"')[choices[offset][0]],
                "lang": ('"en"', '"de"', '"fr"')[choices[offset][1]],
                "characters": str(characters[offset]),
                "score": repr(scores[offset] / 10_000),
            }
            if is_bad(row):
                column, text, _ = FLAWS[row // BAD_EVERY % len(FLAWS)]
                values[column] = text
            yield "{" + ",".join(f'"{name}":{text}' for name, text in values.items()) + "}\n"


def _vocabulary() -> list[str]:
    """Words as they stand inside a JSON string."""
    rng = np.random.default_rng([SEED])
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    words = ["".join(rng.choice(letters, length)) for length in rng.integers(2, 11, WORDS)]
    words[: 6 * len(ODD_WORDS)] = 6 * list(ODD_WORDS)
    words[6 * len(ODD_WORDS) : 6 * len(ODD_WORDS) + 4] = ["a"] * 4
    return words
