"""The built-in detector of personal data: e-mail addresses, phone numbers, payment cards, IBANs.

Every kind has filters and spans. The filters are regular expressions for polars' engine (linear time on any text), each
applied to what the one before let through; they run over whole columns and decide almost every row. ``spans`` then
finds the exact places in the few texts left, with patterns of bounded repetitions only: crafted text cannot stall it.

Precision comes from checks, not from narrow patterns: cards need a known issuer, a usual grouping and a valid check
digit; IBANs the length of their country and mod 97; phone numbers a country code, an area code written with separators,
or a word like "tel" before them, and must not be a part of a longer number, a date or a price.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    import polars as pl

Span = tuple[int, int]
PASSES = 4  # a redacted item may have hidden its neighbour, so a changed text is looked at again


@dataclass(frozen=True)
class Redacted:
    """What was found in N texts.

    :param texts: (N,) the texts with every item replaced; null where the input is null.
    :param found: kind of item → (N,) whether the text has any.
    """

    texts: pa.StringArray
    found: dict[str, pa.BooleanArray]


@dataclass(frozen=True)
class Kind:
    """One kind of personal data.

    :param filters: a text has an item only if all of these (Rust syntax) are found in it.
    :param spans: the places of the items in a text, from left to right.
    """

    name: str
    filters: tuple[str, ...]
    spans: Callable[[str], Iterator[Span]]


class PatternRedactor:
    """Replaces every item by its kind in brackets, for example ``[email]``.

    :param kinds: names in ``KINDS``.
    """

    def __init__(self, kinds: Sequence[str]) -> None:
        self._kinds = [kind for kind in KINDS if kind.name in kinds]

    def __call__(self, texts: pa.StringArray) -> Redacted:
        """Look at (N,) texts; some may be null."""
        import polars as pl

        series = pl.Series(pl.from_arrow(texts), dtype=pl.String)
        suspects = [_passing(series, kind.filters) for kind in self._kinds]
        changed: dict[int, str] = {}
        hits: dict[str, set[int]] = {kind.name: set() for kind in self._kinds}
        for row in sorted({row for rows in suspects for row in rows}):
            text, names = _redact(series[row], self._kinds)
            if names:
                changed[row] = text
            for name in names:
                hits[name].add(row)
        found = {name: _mask(rows, len(texts)) for name, rows in hits.items()}
        if changed:
            replacements = pa.array(changed.values(), pa.string())
            texts = pc.replace_with_mask(texts, _mask(changed, len(texts)), replacements)
        return Redacted(texts, found)


def _passing(texts: pl.Series, filters: Sequence[str]) -> list[int]:
    """Positions of the texts in which every filter is found."""
    import polars as pl

    rows = pl.Series(range(0), dtype=pl.UInt32)
    for number, pattern in enumerate(filters):
        passing = (texts if number == 0 else texts.gather(rows)).str.contains(pattern).arg_true()
        rows = passing if number == 0 else rows.gather(passing)
        if rows.is_empty():
            break
    return rows.to_list()


def _mask(rows: Sequence[int] | set[int] | dict[int, str], size: int) -> pa.BooleanArray:
    import numpy as np

    mask = np.zeros(size, dtype=bool)
    mask[list(rows)] = True
    return pa.array(mask)


def _redact(text: str, kinds: Sequence[Kind]) -> tuple[str, set[str]]:
    """The text without any item, and the kinds that were found."""
    names: set[str] = set()
    for _ in range(PASSES):
        before = text
        for kind in kinds:
            parts, done = [], 0
            for start, end in kind.spans(text):
                parts += [text[done:start], f"[{kind.name}]"]
                done = end
            if parts:
                names.add(kind.name)
                text = "".join([*parts, text[done:]])
        if text == before:
            return text, names
    return "".join(f"[{name}]" for name in sorted(names)), names  # made to hide things in one another: nothing is kept


def _at(text: str, place: int) -> str:
    """The character at a place; empty outside of the text."""
    return text[place] if 0 <= place < len(text) else ""


def _glued(text: str, start: int, end: int) -> bool:
    """Whether a letter, digit or underscore touches the span: then it is a part of something else."""
    return any(touching == "_" or touching.isalnum() for touching in (_at(text, start - 1), _at(text, end)))


# ---------------------------------------------------------------- e-mail addresses

LOCAL_CHARACTERS = 64  # RFC 5321
_LOCAL = re.compile(r"[\w.%+'-]")
_DOMAIN = re.compile(r"(?:[^\W_][\w-]{0,62}\.){1,8}(?:xn--[a-z0-9-]{2,59}|[^\W\d_]{2,24})", re.IGNORECASE)
_IMAGE_FOR_DENSE_SCREENS = re.compile(r"[1-4]x\.(?:png|jpe?g|gif|webp|svg)$", re.IGNORECASE)  # logo@2x.png


def _emails(text: str) -> Iterator[Span]:
    done = 0
    at = text.find("@")
    while at >= 0:
        start = at
        while start > max(done, at - LOCAL_CHARACTERS) and _LOCAL.match(text, start - 1):
            start -= 1
        while start < at and text[start] in ".'-":  # punctuation before the address, not of it
            start += 1
        domain = _DOMAIN.match(text, at + 1)
        if start < at and domain and not _IMAGE_FOR_DENSE_SCREENS.match(domain[0]):
            done = domain.end()
            yield start, done
        at = text.find("@", max(at + 1, done))


# ---------------------------------------------------------------- payment cards

_NUMBERS = re.compile(r"[0-9]+(?:[ \u00a0-][0-9]+)*")
_ISSUERS = (  # first digits, lengths
    (re.compile("4"), {13, 16, 19}),  # Visa
    (re.compile("5[1-5]|222[1-9]|22[3-9]|2[3-6]|27[01]|2720"), {16}),  # Mastercard
    (re.compile("3[47]"), {15}),  # American Express
    (re.compile("30[0-5]|3[689]"), {14, 16, 19}),  # Diners
    (re.compile("6011|64[4-9]|65|62|81"), {16, 17, 18, 19}),  # Discover, UnionPay
    (re.compile("35(?:2[89]|[3-8])"), {16, 17, 18, 19}),  # JCB
    (re.compile("50|5[6-9]|6[0-9]"), {13, 14, 15, 16, 17, 18, 19}),  # Maestro, RuPay and others
    (re.compile("220[0-4]"), {16, 17, 18, 19}),  # Mir
)
_GROUP = re.compile("[0-9]+")
MOST_GROUPS, LEAST_CARD_DIGITS = 5, 13
_GROUPINGS = re.compile("1[3-9]|4 4 4 [1-4]|4 4 4 4 [1-3]|4 6 [45]")  # digits per group


def _cards(text: str) -> Iterator[Span]:
    for run in _NUMBERS.finditer(text):
        if run.end() - run.start() < LEAST_CARD_DIGITS:
            continue
        groups = list(_GROUP.finditer(text, *run.span()))
        first = 0
        while first < len(groups):
            count = _card_length([group[0] for group in groups[first : first + MOST_GROUPS]])
            start, end = groups[first].start(), groups[first + max(count, 1) - 1].end()
            if count and not _glued(text, start, end) and not _continues_a_number(text, start):
                yield start, end
            first += max(count, 1)


def _card_length(groups: Sequence[str]) -> int:
    """How many of the first groups of digits make a card number, the most possible; 0 when none do."""
    if len(groups[0]) < 4:
        return 0
    for count in range(len(groups), 0, -1):
        digits = "".join(groups[:count])
        shape = " ".join(str(len(group)) for group in groups[:count])
        if (
            _GROUPINGS.fullmatch(shape)
            and any(issuer.match(digits) and len(digits) in lengths for issuer, lengths in _ISSUERS)
            and luhn(digits)
        ):
            return count
    return 0


def _continues_a_number(text: str, start: int) -> bool:
    """Whether the digits from ``start`` follow a decimal point (0.4111…) or the plus sign of a phone number."""
    before = _at(text, start - 1)
    return before == "+" or (before in (".", ",") and _at(text, start - 2).isdigit())


def luhn(digits: str) -> bool:
    """Whether the last digit is the check digit of the others (ISO/IEC 7812-1, annex B)."""
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit) * (1 + place % 2)
        total += value - 9 * (value > 9)
    return total % 10 == 0


# ---------------------------------------------------------------- IBANs

# Length by country: SWIFT IBAN registry, and countries that use the format without being registered.
IBAN_LENGTHS = {
    country: int(length)
    for length, countries in {
        "15": "NO", "16": "BE", "18": "DK FI FK FO GL NL SD", "19": "MK SI", "20": "AT BA EE KZ LT LU MN XK",
        "21": "CH CR HR LI LV", "22": "BG BH DE GB GE IE ME RS VA", "23": "AE GI IL IQ OM SO TL",
        "24": "AD CZ ES MD PK RO SA SE SK TN VG YE", "25": "LY PT ST", "26": "IR IS TR",
        "27": "BI DJ FR GR IT MC MR SM", "28": "AL AZ BY CY DO GT HN HU LB NI PL SV", "29": "BR EG PS QA UA",
        "30": "JO KW MU", "31": "MT SC", "32": "LC", "33": "RU",
    }.items()
    for country in countries.split()
}  # fmt: skip
_IBAN_HEAD = re.compile("[A-Za-z]{2}[0-9]{2}")
_IBAN_SEPARATORS = " \u00a0-"


def _ibans(text: str) -> Iterator[Span]:
    done = 0
    for head in _IBAN_HEAD.finditer(text):
        end = _iban_end(text, head.start(), IBAN_LENGTHS.get(head[0][:2].upper(), 0))
        if head.start() >= done and end and not _glued(text, head.start(), end):
            yield head.start(), end
            done = end


def _iban_end(text: str, start: int, length: int) -> int:
    """Where the IBAN of so many characters ends that begins at ``start``; 0 when there is none."""
    characters = ""
    place = start
    while len(characters) < length and place < len(text):
        character = text[place]
        if character.isascii() and character.isalnum():
            characters += character.upper()
        elif character not in _IBAN_SEPARATORS or text[place - 1] in _IBAN_SEPARATORS:
            return 0
        place += 1
    return place if length and len(characters) == length and mod_97(characters) == 1 else 0


def mod_97(iban: str) -> int:
    """The remainder that is 1 for a valid IBAN (ISO 13616, ISO 7064)."""
    return int("".join(str(int(character, 36)) for character in iban[4:] + iban[:4])) % 97


# ---------------------------------------------------------------- phone numbers

_GAP = r"[ .()/\u00a0-]"
_COUNTRY_CODE = (
    "(?:1|7|2[07]|3[0-469]|4[013-9]|5[1-8]|6[0-6]|8[1246]|9[0-58]"
    "|(?:2[1-689]|3[578]|42|5[09]|6[7-9]|8[0578]|9[679])[0-9])"
)
_INTERNATIONAL = rf"(?:\+ ?|\(\+|\b00[ -]?){_COUNTRY_CODE}(?:{_GAP}{{0,3}}[0-9]){{5,13}}"
_NORTH_AMERICAN = r"(?:1[ .-])?(?:\([2-9][0-9]{2}\)[ .-]?|[2-9][0-9]{2}[.-])[0-9]{3}[ .-][0-9]{4}"
_AREA_CODE = rf"\(?0[1-9](?:{_GAP}{{0,3}}[0-9]){{7,10}}"
_ANNOUNCEMENT = r"\b(?i:tel|telephone|telefon|phone|fax|mobile|mobil|cell|handy|call|whatsapp|sms)\b[^0-9\n]{0,12}"
_ANNOUNCED = rf"[0-9](?:{_GAP}{{0,2}}[0-9]){{5,14}}"
_ANNOUNCEMENT_CHARACTERS = 25
_PHONE_RUN = re.compile(rf"(?:[+(]{{1,2}} ?)?[0-9](?:{_GAP}{{0,4}}[0-9]){{5,}}")
_BEFORE_PHONE = re.compile(f"{_ANNOUNCEMENT}$")
_PHONE = re.compile(f"(?P<international>{_INTERNATIONAL})|(?P<north_american>{_NORTH_AMERICAN})|(?P<area>{_AREA_CODE})")
_PHONE_FILTER = f"{_INTERNATIONAL}|{_NORTH_AMERICAN}|{_AREA_CODE}|{_ANNOUNCEMENT}[+( ]{{0,3}}{_ANNOUNCED}"
_ANNOUNCED_PHONE = re.compile(rf"(?:[+(]{{1,2}} ?)?{_ANNOUNCED}")
_DATE = re.compile(
    r"(?:19|20)[0-9]{2}([-./ ])[01]?[0-9]\1[0-3]?[0-9](?![0-9])|[0-3]?[0-9]([-./])[0-3]?[0-9]\2(?:19|20)[0-9]{2}"
)
_THOUSANDS = re.compile(r"\+?[0-9]{1,3}(?:[. \u00a0][0-9]{3})+")
_NUMBER_SIGNS = tuple("$€£¥#=@/\\&+")  # before a price, an id, a part of an address
_JOINTS = tuple(".,:/-")


def _phones(text: str) -> Iterator[Span]:
    for run in _PHONE_RUN.finditer(text):
        start, end = run.span()
        if _BEFORE_PHONE.search(text, max(0, start - _ANNOUNCEMENT_CHARACTERS), start):
            found = _ANNOUNCED_PHONE.match(text, start, end)
            if found and (span := _longest_phone(text, found, "announced", start)):
                yield span
                start = span[1]
        done = start
        while found := _PHONE.search(text, start, end):
            start = found.start() + 1
            if span := _longest_phone(text, found, str(found.lastgroup), done):
                yield span
                start = done = span[1]


def _longest_phone(text: str, found: re.Match[str], form: str, done: int) -> Span | None:
    """The most groups of digits of a match that are a phone number; two numbers may stand side by side.

    :param done: where the item before it ends: digits before that say nothing about this one.
    """
    start = found.start()
    for end in reversed([group.end() for group in _GROUP.finditer(text, start, found.end())]):
        if text[start] == "(" and text.count("(", start, end) > text.count(")", start, end):
            start += 1
        if _is_phone(text, start, end, form, done):
            return start, end
    return None


def _is_phone(text: str, start: int, end: int, form: str, done: int) -> bool:
    number, before, after = text[start:end], _at(text, start - 1), _at(text, end)
    goes_on = after in _JOINTS and _at(text, end + 1).isdigit()
    if _glued(text, start, end) or goes_on or after in tuple("%€$") or _DATE.match(number):
        return False
    digits = [len(group) for group in _GROUP.findall(number)]
    if form == "announced":
        return sum(digits) >= 6
    follows_digit = start - 2 >= done and _at(text, start - 2).isdigit()
    if before in _NUMBER_SIGNS or (before in _JOINTS and follows_digit):
        return False
    if number.lstrip("(").startswith("+"):
        return 8 <= sum(digits) <= 15 and not _THOUSANDS.fullmatch(number)
    if (before == " " and follows_digit) or len(digits) == 1:
        return False  # one of many numbers, or an id with leading zeros
    if form == "area":
        listed = after == " " and _at(text, end + 1).isdigit()
        return 9 <= sum(digits) <= 12 and number.count("/") < 2 and _is_grouped_like_a_phone(digits, listed)
    return form == "north_american" or 9 <= sum(digits) <= 15


def _is_grouped_like_a_phone(digits: list[int], listed: bool) -> bool:
    """Not an American postal code (02134-1234), an id in fours, or a list of two-digit numbers (but 01 23 45 67 89)."""
    return digits not in ([5, 4], [4, 4, 4]) and (max(digits) > 2 or (len(digits) == 5 and not listed))


KINDS = (  # in the order they are looked for: an address may hold digits, an IBAN what looks like a card or a phone
    Kind("email", ("@", r"\S@\S"), _emails),
    Kind(
        "iban",
        ("[0-9]", f"(?i)(?:{'|'.join(IBAN_LENGTHS)})[0-9]{{2}}(?:[ \u00a0-]?[0-9A-Z]){{11}}"),
        _ibans,
    ),
    Kind("card", ("[0-9](?:[ \u00a0-]?[0-9]){12}",), _cards),
    Kind("phone", (rf"[0-9](?:{_GAP}{{0,4}}[0-9]){{5}}", _PHONE_FILTER), _phones),
)
