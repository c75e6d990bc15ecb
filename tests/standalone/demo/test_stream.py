"""Dated objects, their flaws, and what is kept out of them."""

import csv
import gzip
import io
import json
import tarfile
from collections import Counter
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from xml.etree import ElementTree

import pytest

from standalone.demo_data import addresses, emails
from standalone.demo_data.messages import Email
from standalone.demo_data.stream import FLAWS, LandingObject, Stream
from standalone.demo_data.upload import answers_path, read_answers, write_answers
from standalone.errors import StackError
from standalone.home import Home

MONDAY = date(2002, 7, 29)  # a week with both kinds of broken objects and resent rows is W31 or W36 or W37


def email(number: int, day: date = MONDAY) -> Email:
    return Email(
        message_id=f"<{number}@example.org>",
        received_at=datetime(day.year, day.month, day.day, 8, tzinfo=UTC) + timedelta(hours=number * 168 / 240),
        subject=f"Subject {number}",
        body=f'Line one of {number}\n"quoted", line two',
        sender_domain="example.org",
        has_html=bool(number % 2),
        body_characters=30,
        label="spam" if number % 3 else "newsletter",
    )


def week() -> list[LandingObject]:
    return list(emails.week_objects(MONDAY, [email(n) for n in range(240)]))


def lines_of(one: LandingObject) -> list[bytes]:
    body = gzip.decompress(one.body) if one.key.endswith(".gz") else one.body
    return body.rstrip(b"\n").split(b"\n")


def test_building_twice_gives_the_same_bytes():
    assert week() == week()


def test_a_busy_week_has_several_formats_under_its_iso_week():
    endings = {one.key: one.rows for one in week()}
    assert set(endings) == {
        "email_triage/2002/W31/mail-1.jsonl.gz",
        "email_triage/2002/W31/mail-2.jsonl",
        "email_triage/2002/W31/weekend.csv",
        "email_triage/2002/W31/broken-empty.jsonl",
        "email_triage/2002/W31/resent.jsonl",
    }


def test_every_good_row_is_uploaded_once_and_resent_rows_are_copies():
    ids: Counter[str] = Counter()
    for one in week():
        if one.key.endswith(".csv"):
            ids.update(row["message_id"] for row in csv.DictReader(io.StringIO(one.body.decode())))
        elif one.body:
            for line in lines_of(one):
                try:
                    ids[json.loads(line)["message_id"]] += 1
                except json.JSONDecodeError:
                    assert b"Broken on purpose" in line
    good = {name: count for name, count in ids.items() if not name.startswith("broken-on-purpose/")}
    assert len(good) == 240
    assert Counter(good.values()) == {1: 232, 2: 8}


def test_labels_are_never_uploaded():
    for one in week():
        body = gzip.decompress(one.body) if one.key.endswith(".gz") else one.body
        assert b"label" not in body
        assert b"newsletter" not in body


def test_flaws_are_few_and_every_kind_is_there():
    objects = week()
    flaws = Counter(flaw for one in objects for flaw in one.flaws if one.rows)
    assert set(flaws) == set(FLAWS)
    assert sum(flaws.values()) / sum(one.rows for one in objects) < 0.05
    whole = [flaw for one in objects for flaw in one.flaws if not one.rows]
    cut_off = emails.week_objects(date(2002, 7, 22), [email(n, date(2002, 7, 22)) for n in range(240)])
    assert whole == ["empty_file"]
    assert "cut_off_file" in {flaw for one in cut_off for flaw in one.flaws}


def test_a_quiet_week_has_no_flaws():
    (one,) = emails.week_objects(MONDAY, [email(n) for n in range(20)])
    assert (one.rows, one.flaws) == (20, ())


def test_flawed_rows_are_what_they_say():
    shape = emails.SHAPE
    with pytest.raises(json.JSONDecodeError):
        json.loads(shape.flawed("cut_off_line", MONDAY))
    assert len(next(csv.reader([shape.flawed("too_many_columns", MONDAY)]))) == len(shape.columns) + 3
    assert shape.flawed("no_text", MONDAY)["body"] is None
    with pytest.raises(ValueError, match="Invalid isoformat"):
        datetime.fromisoformat(shape.flawed("unreadable_time", MONDAY)["received_at"])
    assert datetime.fromisoformat(shape.flawed("wrong_year", MONDAY)["received_at"]).year == 2031
    assert "@" in shape.flawed("address_not_masked", MONDAY)["body"]


def test_cut_off_and_empty_objects_cannot_be_read():
    broken = [
        one
        for monday in (date(2002, 7, 22), MONDAY)
        for one in emails.week_objects(monday, [email(n, monday) for n in range(240)])
    ]
    cut_off = next(one for one in broken if one.flaws == ("cut_off_file",))
    with pytest.raises(EOFError):
        gzip.decompress(cut_off.body)
    assert next(one for one in broken if one.flaws == ("empty_file",)).body == b""


def test_the_same_date_cuts_a_stream_in_two():
    objects = [LandingObject(f"k/{n}", MONDAY + timedelta(days=7 * n), b"x", 1) for n in range(4)]
    stream = Stream("email_triage", objects, {})
    cut = MONDAY + timedelta(days=14)
    assert stream.between(None, cut) + stream.between(cut, None) == objects
    assert len(stream.between(None, cut)) == 2


def test_texts_are_kept_once_and_ids_made_unique():
    first, copy, same_id = email(1), replace(email(2), subject="Subject 1", body=email(1).body), email(3)
    kept = emails.unique(
        [same_id, replace(email(4), message_id=same_id.message_id), copy, first, replace(email(5), message_id="")]
    )
    assert [one.subject for one in kept] == ["Subject 1", "Subject 3", "Subject 4", "Subject 5"]
    assert len({one.message_id for one in kept}) == 4
    assert kept[2].message_id == f"{same_id.message_id}#2"


def test_answers_are_private_and_by_record_id(tmp_path: Path):
    home = Home(tmp_path)
    write_answers(Stream("email_triage", [], {"<1@example.org>": "spam"}), home)
    assert list(read_answers("email_triage", home).values()) == ["spam"]
    assert "example.org" not in answers_path("email_triage", home).read_text()
    assert answers_path("email_triage", home).stat().st_mode & 0o077 == 0
    with pytest.raises(StackError, match="no answer key for project 'address_parsing'"):
        read_answers("address_parsing", home)


# ---- addresses ----------------------------------------------------------------------------------------------------


def marked(xml: str) -> tuple[str, list[tuple[str, str]]]:
    text, spans = addresses.read_address(ElementTree.fromstring(xml))  # noqa: S314  (written below)
    return text, [(text[span["start"] : span["end"]], span["label"]) for span in spans]


def test_tokens_of_one_kind_become_one_span_without_outer_commas():
    text, spans = marked(
        "<AddressString><AddressNumber>211</AddressNumber> <StreetNamePreDirectional>W.</StreetNamePreDirectional> "
        "<StreetName>Wacker</StreetName> <StreetNamePostType>Dr.,</StreetNamePostType> "
        "<OccupancyType>Ste</OccupancyType> <OccupancyIdentifier>300,</OccupancyIdentifier> "
        "<PlaceName>Chicago,</PlaceName> <StateName>IL</StateName></AddressString>"
    )
    assert text == "211 W. Wacker Dr., Ste 300, Chicago, IL"
    assert spans == [
        ("211", "house_number"),
        ("W. Wacker Dr.", "street"),
        ("Ste 300", "unit"),
        ("Chicago", "city"),
        ("IL", "state"),
    ]


def test_a_comma_between_tokens_of_one_kind_ends_the_span():
    _, spans = marked(
        "<AddressString><PlaceName>Brooklyn,</PlaceName> "
        "<PlaceName>New</PlaceName> <PlaceName>York</PlaceName></AddressString>"
    )
    assert spans == [("Brooklyn", "city"), ("New York", "city")]


def test_white_space_in_tokens_is_one_blank_and_unknown_tags_stay_unmarked():
    text, spans = marked(
        "<AddressString><CornerOf>near\t\n</CornerOf> <StreetName>Oak\n  Lane</StreetName>\n</AddressString>"
    )
    assert (text, spans) == ("near  Oak Lane", [("Oak Lane", "street")])


def test_addresses_arrive_on_working_days(tmp_path: Path):
    archive = tmp_path / "usaddress-0.tar.gz"
    items = "".join(
        f"<AddressString><AddressNumber>{n}</AddressNumber> <StreetName>Oak</StreetName></AddressString>"
        for n in range(400)
    )
    data = f"<AddressCollection>{items}</AddressCollection>".encode()
    with tarfile.open(archive, "w:gz") as tar:
        info = tarfile.TarInfo("usaddress-0/training/labeled.xml")
        info.size = len(data)
        tar.addfile(info, io.BytesIO(data))
    stream = addresses.build(archive)
    assert stream == addresses.build(archive)
    assert len(stream.answers) == 400
    days = sorted({one.day for one in stream.objects})
    assert all(day.weekday() < 5 for day in days)
    assert len(days) == 7
    assert sum(one.rows - len(one.flaws) for one in stream.objects if one.rows) == 400
    assert {one.key.rpartition(".")[2] for one in stream.objects} == {"gz", "csv"}
