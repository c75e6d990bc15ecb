"""What is personal data and what only looks like it; redacted text has none left, other text is not touched."""

from __future__ import annotations

import time

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from include.ingestion.personal_data import KINDS, PatternRedactor, luhn, mod_97

ALL = tuple(kind.name for kind in KINDS)

FOUND = {
    "email": [
        "bob@example.com",
        "bob.smith+x@mail.example.co.uk",
        "o'hara@x-y.org",
        "jürgen@münchen.de",
        "user_1%a@xn--e1afmkfd.xn--p1ai",
    ],
    "phone": [
        "+49 30 1234567",
        "+4915112345678",
        "+49 (0)30 1234567",
        "+1 (555) 123-4567",
        "+44 20 7946 0958",
        "+33.6.12.34.56.78",
        "0049 30 1234567",
        "(555) 123-4567",
        "555-123-4567",
        "555.123.4567",
        "1-800-555-0199",
        "030/1234567",
        "0171-1234567",
        "(030) 123 45 67",
        "01 23 45 67 89",
        "01.23.45.67.89",
        "020 7946 0958",
        "01632 960983",
    ],
    "card": [
        "4111 1111 1111 1111",
        "4111-1111-1111-1111",
        "4111111111111111",
        "4222222222222",
        "5500 0000 0000 0004",
        "2221 0000 0000 0009",
        "3400 000000 00009",
        "6011000000000004",
        "30000000000004",
        "3530111333300000",
        "6304000000000000",
    ],
    "iban": [
        "DE89 3704 0044 0532 0130 00",
        "DE89370400440532013000",
        "de89370400440532013000",
        "GB29 NWBK 6016 1331 9268 19",
        "NO9386011117947",
        "FR14 2004 1010 0505 0001 3M02 606",
        "MT84 MALT 0110 0001 2345 MTLC AST0 01S",
        "CH93-0076-2011-6238-5295-7",
    ],
}

NOT_FOUND = [
    "@mention and user@localhost",
    "logo@2x.png",
    "2002-09-24 14:35:22 +0200",
    "Tue, 24 Sep 2002 10:11:12 -0700 (PDT)",
    "24.09.2002 14:35",
    "01/02/2003 1435",
    "from 05-12-1999 08:30 on",
    "2001-2002, 1998/1999",
    "order 0012345678",
    "id 0301234567",
    "at 1732461234 and 20021109123456",
    "$1,299.00 or 1.234.567,89 or +12.345.678",
    "EUR 555.123.4567%",
    "$555-123-4567",
    "192.168.100.12 and 10.0.12.123",
    "Boston, MA 02134-1234",
    "ISBN 0-395-36341-1, 978-0-13-110362-8",
    "part 1234-5678-9012 or 0123-4567-8901",
    "01 05 12 23 34 45",
    "01 02 03 04 05 06 07 08",
    "v3.11.5, rfc2822",
    "3.14159265358979 and 0.4111111111111111",
    "4111 1111 1111 1112",  # wrong check digit
    "9111111111111111111",  # no issuer
    "41 11 11 11 11 11 11 11",  # nobody writes a card like this
    "x4111111111111111",
    "DE88 3704 0044 0532 0130 00",  # wrong check digits
    "DE89 3704 0044 0532 0130",  # too short
    "ABDE89370400440532013000",
    "ZZ89370400440532013000",  # no such country
    "call 911",
]


def redact(*texts: str | None, kinds: tuple[str, ...] = ALL) -> list[str | None]:
    return PatternRedactor(kinds)(pa.array(texts, pa.string())).texts.to_pylist()


@pytest.mark.parametrize(("kind", "item"), [(kind, item) for kind, items in FOUND.items() for item in items])
def test_items_are_found_alone_and_within_text(kind: str, item: str):
    texts = [item, f"Write to {item}, please.", f"({item})", f"a\n{item}\nb", f"{item}, {item}"]
    result = PatternRedactor(ALL)(pa.array(texts))
    mark = f"[{kind}]"
    assert result.texts.to_pylist() == [
        mark,
        f"Write to {mark}, please.",
        f"({mark})",
        f"a\n{mark}\nb",
        f"{mark}, {mark}",
    ]
    assert {name: mask.to_pylist() for name, mask in result.found.items()} == {
        name: [name == kind] * len(texts) for name in ALL
    }


@pytest.mark.parametrize("text", NOT_FOUND)
def test_what_only_looks_like_it_is_left_alone(text: str):
    assert redact(text) == [text]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Tel.: 555-1234", "Tel.: [phone]"),
        ("call me at 5551234", "call me at [phone]"),
        ("Fax (030) 123456", "Fax [phone]"),
        ("030/1234567 0171/1234567 0172/1234567 0173/1234567 0174/1234567 0175/1", "[phone] " * 5 + "0175/1"),
        ("555-1234", "555-1234"),  # too short without a word that says what it is
        ("Telephone 2002-09-24", "Telephone 2002-09-24"),
        ("card 1234 4111 1111 1111 1111 12/25", "card 1234 [card] 12/25"),
        ("GB29 NWBK 6016 1331 9268 19 is mine", "[iban] is mine"),
        ("a@b.org@c.org <x@y.de>.", "[email]@c.org <[email]>."),
    ],
)
def test_context_decides(text: str, expected: str):
    assert redact(text) == [expected]


def test_only_the_kinds_asked_for_are_found():
    text = "bob@example.com +49 30 1234567"
    assert redact(text, kinds=("phone",)) == ["bob@example.com [phone]"]
    assert set(PatternRedactor(("phone",))(pa.array([text])).found) == {"phone"}


def test_missing_texts_stay_missing_and_slices_are_read_right():
    texts = pa.array(["skipped@example.com", None, "", "a@b.org", "plain"])[1:]
    result = PatternRedactor(("email",))(texts)
    assert result.texts.to_pylist() == [None, "", "[email]", "plain"]
    assert result.found["email"].to_pylist() == [False, False, True, False]
    assert redact() == []


ITEMS = st.sampled_from([item for items in FOUND.values() for item in items] + NOT_FOUND)
GLUE = st.text(st.sampled_from("0123456789 +-./()@:,abDE\u00a0\n"), max_size=6)
TEXTS = st.one_of(
    st.text(max_size=60),
    st.lists(st.one_of(ITEMS, GLUE), max_size=8).map("".join),
    st.text(st.sampled_from("0123456789 +-./()"), max_size=60),
)


@given(TEXTS)
@settings(max_examples=1500, deadline=None)
@example("+49 30 1234567+49 30 1234567+49 30 1234567+49 30 1234567+49 30 1234567+49 30 1234567")
def test_redacted_text_has_nothing_left_and_other_text_is_not_touched(text: str):
    first = PatternRedactor(ALL)(pa.array([text]))
    redacted = first.texts.to_pylist()[0]
    found = any(mask.to_pylist()[0] for mask in first.found.values())
    assert found == (redacted != text)
    again = PatternRedactor(ALL)(pa.array([redacted]))
    assert again.texts.to_pylist() == [redacted]
    assert not any(mask.to_pylist()[0] for mask in again.found.values())


@given(TEXTS)
@settings(max_examples=1500, deadline=None)
def test_the_filters_let_every_item_through(text: str):
    """Without this a filter could hide what the exact search would find."""
    import polars as pl

    for kind in KINDS:
        if list(kind.spans(text)):
            for pattern in kind.filters:
                assert pl.Series([text]).str.contains(pattern)[0], (kind.name, pattern)


@pytest.mark.parametrize(
    "text", ["a" * 200_000 + "@", "1 " * 100_000, "4111 " * 40_000, "+49 " * 50_000, "DE89" * 50_000]
)
def test_crafted_text_takes_time_in_proportion_to_its_length(text: str):
    started = time.process_time()
    redact(text + " bob@example.com 4111 1111 1111 1111 DE89 3704 0044 0532 0130 00 +49 30 1234567")
    assert time.process_time() - started < 5


@pytest.mark.parametrize(("digits", "valid"), [("79927398713", True), ("79927398710", False), ("0", True)])
def test_luhn(digits: str, valid: bool):
    assert luhn(digits) is valid


def test_mod_97():
    assert mod_97("GB82WEST12345698765432") == 1
    assert mod_97("GB83WEST12345698765432") != 1
