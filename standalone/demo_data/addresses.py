"""Address parsing: US addresses that people typed, from the training data of usaddress, as a stream of daily uploads.

usaddress tells 29 kinds of tokens apart; nobody marks that many without mistakes. What belongs together for a reader is
one kind here: a street is its directions, type and name; a unit is its type and number.
"""

from __future__ import annotations

import re
import tarfile
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from include.lake.keys import digest
from standalone.demo_data import registry
from standalone.demo_data.stream import LandingObject, Row, Shape, Stream, empty_object, make_object
from standalone.errors import InstallError

PROJECT = "address_parsing"
PACKAGE = registry.ADDRESSES
FIRST_DAY = date(2024, 3, 4)
FIRST_WEEKS_UNTIL = date(2024, 3, 18)
ROWS_PER_DAY = 60
COLUMNS = ("address_id", "uploaded_at", "text", "characters")
MERGED = {
    "house_number": ("AddressNumber", "AddressNumberPrefix", "AddressNumberSuffix"),
    "street": (
        "StreetName",
        "StreetNamePreDirectional",
        "StreetNamePostDirectional",
        "StreetNamePreModifier",
        "StreetNamePostModifier",
        "StreetNamePreType",
        "StreetNamePostType",
        "IntersectionSeparator",
    ),
    "unit": ("OccupancyType", "OccupancyIdentifier", "SubaddressType", "SubaddressIdentifier"),
    "po_box": ("USPSBoxType", "USPSBoxID", "USPSBoxGroupType", "USPSBoxGroupID"),
    "city": ("PlaceName",),
    "state": ("StateName",),
    "zip_code": ("ZipCode", "ZipPlus4"),
    "country": ("CountryName",),
    "recipient": ("Recipient", "BuildingName", "LandmarkName"),
}
LABEL_OF = {tag: label for label, tags in MERGED.items() for tag in tags}  # CornerOf and NotAddress stay unmarked


def _example(text: str, day: date) -> Row:
    return {
        "address_id": f"example/{day.isoformat()}",
        "uploaded_at": datetime.combine(day, time(9), UTC).isoformat(),
        "text": text,
        "characters": len(text),
    }


SHAPE = Shape(COLUMNS, "address_id", "uploaded_at", "text", _example)


def build(archive: Path) -> Stream:
    """The whole stream: the addresses in a fixed random order, so many on each working day.

    :param archive: the fetched package file.
    :raises InstallError: when the archive lacks the labeled addresses.
    """
    truth = dict(read_corpus(archive))
    texts = sorted(truth, key=lambda text: digest("upload order", text))
    objects: list[LandingObject] = []
    day = FIRST_DAY
    for start in range(0, len(texts), ROWS_PER_DAY):
        objects.extend(day_objects(day, [to_row(text, day) for text in texts[start : start + ROWS_PER_DAY]]))
        day += timedelta(days=3 if day.weekday() == 4 else 1)
    return Stream(PROJECT, objects, {address_id(text): list(spans) for text, spans in truth.items()})


def read_corpus(archive: Path) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Every labeled address as its text and its spans; of a text that was labeled twice, both (the last one counts)."""
    with tarfile.open(archive) as tar:
        name = next((n for n in tar.getnames() if n.endswith("/training/labeled.xml")), "")
        file = tar.extractfile(name) if name else None
        if file is None:
            raise InstallError(f"{archive.name} has no training/labeled.xml", remedy=f"Delete {archive} and try again.")
        root = ElementTree.fromstring(file.read())  # noqa: S314  (the digest of the file was checked)
    for element in root:
        text, spans = read_address(element)
        if spans:
            yield text, spans


def read_address(element: ElementTree.Element) -> tuple[str, list[dict[str, Any]]]:
    """Text and spans of one ``AddressString``; neighbouring tokens of one kind make one span, without outer commas."""
    text = ""
    spans: list[dict[str, Any]] = []
    for token in element:
        word = re.sub(r"\s+", " ", token.text or "")
        label = LABEL_OF.get(token.tag)
        start = len(text) + len(word) - len(word.lstrip(" ,;("))
        end = len(text) + len(word.rstrip(" ,;)"))
        if label and end > start:
            together = spans and spans[-1]["label"] == label and not text[spans[-1]["end"] : start].strip()
            if together:
                spans[-1]["end"] = end
            else:
                spans.append({"start": start, "end": end, "label": label})
        text += word + (" " if token.tail and token is not element[-1] else "")
    return text.rstrip(), spans


def address_id(text: str) -> str:
    """The source id: the corpus has none, and the same text is the same address."""
    return f"usaddress/{digest('address', text)[:12]}"


def to_row(text: str, day: date) -> Row:
    """What is uploaded of an address: everything but its spans."""
    return {**_example(text, day), "address_id": address_id(text)}


def day_objects(day: date, rows: list[Row]) -> Iterator[LandingObject]:
    """One upload: JSON Lines or CSV by turns; Mondays and Thursdays bring a flawed row, one Wednesday an empty file."""
    folder = f"{PROJECT}/{day.isoformat()}"
    if day.weekday() in (1, 3):
        flaws = ["too_many_columns"] if day.weekday() == 3 else []
        yield make_object(SHAPE, f"{folder}/addresses.csv", day, rows, flaws)
    else:
        flaws = ["no_text"] if day.weekday() == 0 else []
        yield make_object(SHAPE, f"{folder}/addresses.jsonl.gz", day, rows, flaws)
    if day == FIRST_DAY + timedelta(days=2):
        yield empty_object(f"{folder}/broken-empty.csv", day)
