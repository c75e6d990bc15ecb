"""The query language: what is read, that FTS5 agrees with it, and that nothing typed can break or escape it."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from argilla_sqlite.errors import InvalidSearchError
from argilla_sqlite.text_query import (
    MAX_NESTING,
    MAX_TERMS,
    Combined,
    Everything,
    Node,
    Not,
    Nothing,
    Phrase,
    Prefix,
    Words,
    parse,
    to_fts5,
)
from argilla_sqlite.tokens import WORD_PUNCTUATION, tokens

A, B, C = Words(("a",)), Words(("b",)), Words(("c",))


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("a b", Combined("AND", (A, B))),
        ("a + b", Combined("AND", (A, B))),
        ("a|b|c", Combined("OR", (A, B, C))),
        ("a | b c", Combined("AND", (Combined("OR", (A, B)), C))),
        ("a b | c", Combined("OR", (Combined("AND", (A, B)), C))),
        ("a (b | c)", Combined("AND", (A, Combined("OR", (B, C))))),
        ("-a", Not(A)),
        ("--a", A),
        ("-(a b)", Not(Combined("AND", (A, B)))),
        ("- a", A),
        ("a - b", Combined("AND", (A, B))),
        ('"a b"', Phrase(("a", "b"))),
        ('-"a b"', Not(Phrase(("a", "b")))),
        ('"a b"~3 c', Combined("AND", (Phrase(("a", "b")), C))),
        ('"a \\" b"', Phrase(("a", "b"))),
        ("a~2 b", Combined("AND", (A, B))),
        ("Ab*", Prefix("ab")),
        ("a\\*", A),
        ("a-b", Words(("a", "b"))),
        ("| a", A),
        ("a |", A),
        ("a | () b", Combined("AND", (A, B))),  # empty parentheses take the operator with them
        ('a | "" b', Combined("AND", (A, B))),
        ("(a", A),
        ("a)", A),
        ("((a) b", Combined("AND", (A, B))),
        ('"a', A),
        (" * ", Everything()),
        ("", Nothing()),
        ("()", Nothing()),
        ("\\", Nothing()),
    ],
)
def test_parse(query: str, expected: Node) -> None:
    assert parse(query) == expected


@pytest.mark.parametrize(
    "query",
    [
        "(" * (MAX_NESTING + 2) + "a" + ")" * (MAX_NESTING + 2),
        "-(" * (MAX_NESTING + 2) + "a" + ")" * (MAX_NESTING + 2),
        "a|b c|d e" * MAX_NESTING,
        "a " * (MAX_TERMS + 1),
        "a-" * (MAX_TERMS + 1),
        "a* " * (MAX_TERMS + 1),
    ],
)
def test_too_large_a_query_is_refused(query: str) -> None:
    with pytest.raises(InvalidSearchError, match="text query"):
        to_fts5(parse(query), ["c0"])


def test_long_hostile_input_is_read_in_linear_time() -> None:
    """A million characters that pair with nothing: a quadratic reader would take hours."""
    for query in ("(" * 1_000_000, '"' * 1_000_001, "\\" * 1_000_000, "-" * 1_000_000, ")" * 1_000_000):
        assert parse(query) == Nothing()


DOCUMENTS = [
    ("apple pie", "with cream"),
    ("pie apple", ""),
    ("apple", "pie with ice cream"),
    ("applesauce", "example.com can’t"),
    ("", "cream"),
]


@pytest.fixture(scope="module")
def index() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute(
            f"CREATE VIRTUAL TABLE t USING fts5(every, c0, c1, tokenize = \"ascii tokenchars '{WORD_PUNCTUATION}'\")"
        )
        connection.executemany(
            "INSERT INTO t VALUES ('x', ?, ?)",
            [[" ".join(tokens(text)) for text in document] for document in DOCUMENTS],
        )
        yield connection


def found(index: sqlite3.Connection, node: Node) -> set[int]:
    expression = to_fts5(node, ["c0", "c1"])
    if expression is None:
        return set()
    return {row - 1 for (row,) in index.execute("SELECT rowid FROM t WHERE t MATCH ?", (expression,))}


def holds(node: Node, document: tuple[str, str]) -> bool:
    """What a query means, said plainly."""
    fields = [tokens(text) for text in document]
    match node:
        case Words(words):
            return any(set(words) <= set(field) for field in fields)
        case Phrase(words):
            return any(
                tuple(field[start : start + len(words)]) == words for field in fields for start in range(len(field))
            )
        case Prefix(start):
            return any(token.startswith(start) for field in fields for token in field)
        case Not(operand):
            return not holds(operand, document)
        case Combined("AND", operands):
            return all(holds(operand, document) for operand in operands)
        case Combined(_, operands):
            return any(holds(operand, document) for operand in operands)
        case Everything():
            return True
        case _:
            return False


PIECES = [
    "apple",
    "pie",
    "cream",
    "with",
    "app*",
    "e*",
    '"apple pie"',
    '"with ice"',
    "can't",
    "ice-cream",
    "example.com",
    "nosuch",
]
JOINTS = [" ", " | ", " + ", " -", " (", ") ", "-", "|", '"', "~2 ", "\\"]


@settings(max_examples=400, deadline=None)
@given(st.lists(st.sampled_from(PIECES + JOINTS), max_size=14).map("".join))
def test_fts5_finds_what_the_query_means(index: sqlite3.Connection, query: str) -> None:
    node = parse(query)
    assert found(index, node) == {row for row, document in enumerate(DOCUMENTS) if holds(node, document)}


@settings(max_examples=600, deadline=None)
@given(
    st.text(max_size=200)
    | st.text(alphabet="ab\"'()|+-*~\\ {}:^,.NEAROT\x00\ud800\ue000", max_size=80)
    | st.lists(
        st.sampled_from(["AND", "OR", "NOT", "NEAR(", "c0:", "{every}:", "; DROP TABLE t;", "^a", "'"]), max_size=12
    ).map(" ".join)
)
def test_nothing_typed_breaks_or_escapes_the_query(index: sqlite3.Connection, query: str) -> None:
    try:
        node = parse(query)
    except InvalidSearchError:
        return
    assert found(index, node) == {row for row, document in enumerate(DOCUMENTS) if holds(node, document)}
    assert index.execute("SELECT count(*) FROM t").fetchone() == (len(DOCUMENTS),)
