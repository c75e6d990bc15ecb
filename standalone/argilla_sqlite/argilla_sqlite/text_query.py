"""Elasticsearch's simple_query_string syntax, with AND as the default, translated to an FTS5 expression.

    word other        both            "some words"    the phrase         (a | b) c    grouping
    a | b             either          wor*            the prefix         \\|           the character itself
    -word             not             *               every record

The reading rules, also for malformed input, are those of Lucene's SimpleQueryParser: nothing is a syntax error.
`~n` (fuzzy words, sloppy phrases) is read and ignored: the word or phrase is matched exactly.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from argilla_sqlite.errors import InvalidSearchError
from argilla_sqlite.tokens import WORD_PUNCTUATION, normalize, tokens

# Lucene's own limit; FTS5 would take more, slowly.
MAX_TERMS: Final = 1024
# SQLite's parser stack for FTS5 expressions holds about a hundred entries.
MAX_NESTING: Final = 24

# In every document, in a column of its own, so that "not" has something to subtract from.
EVERY_DOCUMENT: Final = "x"
EVERY_DOCUMENT_COLUMN: Final = "every"

_WORD_START: Final = re.compile(f"[a-z0-9{re.escape(WORD_PUNCTUATION)}\x80-\ud7ff\uf900-\U0010ffff]+")
_WHITESPACE: Final = " \t\n\r"
_AND: Final = "AND"
_OR: Final = "OR"


@dataclass(frozen=True)
class Words:
    """Words that must all occur in one and the same field."""

    words: tuple[str, ...]


@dataclass(frozen=True)
class Phrase:
    words: tuple[str, ...]


@dataclass(frozen=True)
class Prefix:
    start: str


@dataclass(frozen=True)
class Not:
    operand: "Node"
    depth: int = field(init=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "depth", _depth_above((self.operand,)))


@dataclass(frozen=True)
class Combined:
    """Operands under one operator, `AND` or `OR`."""

    operator: str
    operands: tuple["Node", ...]
    depth: int = field(init=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "depth", _depth_above(self.operands))


@dataclass(frozen=True)
class Everything:
    """Every document."""


@dataclass(frozen=True)
class Nothing:
    """No document."""


Node = Words | Phrase | Prefix | Not | Combined | Everything | Nothing


def parse(query: str) -> Node:
    """Read a query as typed. Raises InvalidSearchError when it is nested too deeply or has too many terms."""
    if query.strip() == "*":
        return Everything()
    source = _Source(query, _closing_parentheses(query))
    return _Parser(source, 0, len(query), nesting=0).parse() or Nothing()


def to_fts5(node: Node, columns: Sequence[str]) -> str | None:
    """Return the FTS5 expression over the index columns `columns`, or None when no document can match.

    Every word is a quoted string and holds no quote, so the expression is valid whatever was typed.
    """
    match node:
        case Everything():
            return _every_document()
        case Nothing():
            return None
        case Not(operand):
            excluded = to_fts5(operand, columns)
            return _every_document() if excluded is None else f"({_every_document()} NOT {excluded})"
        case Combined(operator, operands):
            return _combined(operator, [to_fts5(operand, columns) for operand in operands])
        case _:
            return _leaf(node, columns) if columns else None


@dataclass
class _Source:
    """The whole query: its text, where each opened parenthesis closes, and how many terms were read so far."""

    text: str
    closing_parentheses: dict[int, int]
    term_count: int = 0

    def count(self, words: Sequence[str]) -> None:
        self.term_count += len(words)
        if self.term_count > MAX_TERMS:
            raise InvalidSearchError(f"The text query has more than {MAX_TERMS} terms; make it shorter.")


def _closing_parentheses(text: str) -> dict[int, int]:
    """Map the position of each opening parenthesis that is ever closed to the position that closes it."""
    opened: list[int] = []
    closing: dict[int, int] = {}
    is_escaped = False
    for position, character in enumerate(text):
        if is_escaped:
            is_escaped = False
        elif character == "\\":
            is_escaped = True
        elif character == "(":
            opened.append(position)
        elif character == ")" and opened:
            closing[opened.pop()] = position
    return closing


def _depth_above(operands: Iterable[Node]) -> int:
    depth = 1 + max(getattr(operand, "depth", 0) for operand in operands)
    if depth > MAX_NESTING:
        raise _too_deep()
    return depth


def _too_deep() -> InvalidSearchError:
    return InvalidSearchError(f"The text query is nested more than {MAX_NESTING} levels deep; simplify it.")


@dataclass
class _Parser:
    """Reads `source.text[index:end]`: one query, or what is between one pair of parentheses."""

    source: _Source
    index: int
    end: int
    nesting: int
    top: Node | None = field(default=None, init=False)
    operator: str | None = field(default=None, init=False)
    previous_operator: str | None = field(default=None, init=False)
    is_negated: bool = field(default=False, init=False)

    def parse(self) -> Node | None:
        if self.nesting > MAX_NESTING:
            raise _too_deep()
        while self.index < self.end:
            character = self.source.text[self.index]
            if character == "-":
                self.is_negated = not self.is_negated
                self.index += 1
                continue
            if character == "(":
                self._read_group()
            elif character == '"':
                self._read_phrase()
            elif character in "+|":
                self._read_operator(character)
            elif character in _WHITESPACE or character == ")":
                self.index += 1
            else:
                self._read_word()
            # "- word" negates nothing: the sign must touch what it negates.
            self.is_negated = False
        return self.top

    def _read_operator(self, character: str) -> None:
        if self.operator is None and self.top is not None:
            self.operator = _AND if character == "+" else _OR
        self.index += 1

    def _read_group(self) -> None:
        start = self.index + 1
        close = self.source.closing_parentheses.get(self.index)
        if close is None:
            self.index = start
        elif close == start:
            self.operator = None
            self.index = close + 1
        else:
            group = _Parser(self.source, start, close, self.nesting + 1).parse()
            if group is not None:
                self._add(group)
            self.index = close + 1

    def _read_phrase(self) -> None:
        start = self.index + 1
        content: list[str] = []
        position = start
        while position < self.end and self.source.text[position] != '"':
            if self.source.text[position] == "\\":
                position += 1
            if position < self.end:
                content.append(self.source.text[position])
            position += 1
        if position >= self.end:
            self.index = start  # never closed: the quote means nothing
        elif position == start:
            self.operator = None
            self.index = position + 1
        else:
            self.index = position + 1
            if self.index < self.end and self.source.text[self.index] == "~":
                self._skip_to_word_end()
            self._add_words(Phrase, "".join(content))

    def _read_word(self) -> None:
        content: list[str] = []
        is_prefix = False
        while self.index < self.end and not self._is_word_end():
            character = self.source.text[self.index]
            if character == "~" and content:
                self._skip_to_word_end()
                is_prefix = False
                break
            is_prefix = character == "*" and bool(content)
            if character == "\\":
                self.index += 1
            if self.index < self.end:
                content.append(self.source.text[self.index])
            self.index += 1
        if is_prefix:
            start = normalize("".join(content[:-1]))
            self.source.count([start])
            self._add(Prefix(start))
        else:
            self._add_words(Words, "".join(content))

    def _add_words(self, kind: type[Words] | type[Phrase], content: str) -> None:
        words = tokens(content)
        self.source.count(words)
        if words:
            self._add(kind(tuple(words)))

    def _is_word_end(self) -> bool:
        return self.source.text[self.index] in '"|+()' + _WHITESPACE

    def _skip_to_word_end(self) -> None:
        while self.index < self.end and not self._is_word_end():
            self.index += 1

    def _add(self, branch: Node) -> None:
        if self.is_negated:
            branch = Not(branch)
        if self.top is None:
            self.top = branch
        else:
            operator = self.operator or _AND
            if isinstance(self.top, Combined) and self.previous_operator == operator:
                self.top = Combined(operator, (*self.top.operands, branch))
            else:
                self.top = Combined(operator, (self.top, branch))
            self.previous_operator = operator
        self.operator = None


def _combined(operator: str, parts: list[str | None]) -> str | None:
    possible = [part for part in parts if part is not None]
    if not possible or (operator == _AND and len(possible) < len(parts)):
        return None
    return possible[0] if len(possible) == 1 else "(" + f" {operator} ".join(possible) + ")"


def _leaf(node: Words | Phrase | Prefix, columns: Sequence[str]) -> str | None:
    any_column = "{" + " ".join(columns) + "} : "
    match node:
        case Prefix(start):
            # Unlike a word, the start of one is not split: `e-ma*` matches nothing, as no word holds a hyphen.
            return f'({any_column}"{start}" *)' if _WORD_START.fullmatch(start) else None
        case Phrase(words):
            return f'({any_column}"{" ".join(words)}")'
        case Words((word,)):
            return f'({any_column}"{word}")'
        case Words(words):
            together = "(" + " AND ".join(f'"{word}"' for word in words) + ")"
            return "(" + " OR ".join(f"({{{column}}} : {together})" for column in columns) + ")"


def _every_document() -> str:
    return f'({{{EVERY_DOCUMENT_COLUMN}}} : "{EVERY_DOCUMENT}")'
