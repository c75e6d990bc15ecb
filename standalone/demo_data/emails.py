"""E-mail triage: the public SpamAssassin corpus (2002) as a stream of weekly exports.

Ten classes. The texts lose what would give the class away (list tags, footers, feed headers) and every e-mail address.
From 2002-09-24 on a class arrives that the first weeks never saw, ``news_feed``: the drift of the demo.
"""

from __future__ import annotations

import tarfile
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path

from standalone.demo_data import registry
from standalone.demo_data.messages import Email, is_adult_spam, parse_email
from standalone.demo_data.stream import LandingObject, Row, Shape, Stream, cut_off_object, empty_object, make_object

PROJECT = "email_triage"
PACKAGE = registry.EMAILS
FIRST_DAY = date(2002, 7, 15)  # before this Monday the corpus is a trickle of spam only
FIRST_WEEKS_UNTIL = date(2002, 8, 5)  # three weeks, eight of the ten classes
COLUMNS = ("message_id", "received_at", "subject", "body", "sender_domain", "has_html", "body_characters")
# Weeks that are busy enough get flawed rows: at most 6, so below 3 % of the rows.
BUSY_WEEK_ROWS = 200
CUT_OFF_WEEKS, EMPTY_WEEKS, RESENT_WEEKS = {30, 36}, {31, 39}, {31, 37}


def _example(text: str, day: date) -> Row:
    moment = datetime.combine(day, time(12), UTC)
    return {
        "message_id": f"example/{day.isoformat()}",
        "received_at": moment.isoformat(),
        "subject": "A row of the demo that is no e-mail",
        "body": text,
        "sender_domain": "example.org",
        "has_html": "no",
        "body_characters": len(text),
    }


SHAPE = Shape(COLUMNS, "message_id", "received_at", "body", _example)


def build(archive: Path, *, adult: bool = False) -> Stream:
    """The whole stream.

    :param archive: the fetched package file.
    :param adult: keep spam with sexual content, which is left out by default.
    """
    emails = [e for e in read_corpus(archive) if e.received_at.date() >= FIRST_DAY and (adult or not is_adult_spam(e))]
    emails = unique(emails)
    weeks: dict[date, list[Email]] = defaultdict(list)
    for email in emails:
        day = email.received_at.date()
        weeks[day - timedelta(days=day.weekday())].append(email)
    objects = [one for monday in sorted(weeks) for one in week_objects(monday, weeks[monday])]
    return Stream(PROJECT, objects, {email.message_id: email.label for email in emails})


def read_corpus(archive: Path) -> Iterator[Email]:
    """Every readable e-mail of the package, in the package's order."""
    with tarfile.open(archive) as tar:
        for member in tar:
            parts = Path(member.name).parts  # package/data/<group>/<name>.txt
            if len(parts) == 4 and parts[1] == "data" and member.name.endswith(".txt"):
                file = tar.extractfile(member)
                email = parse_email(file.read(), parts[2]) if file else None
                if email is not None:
                    yield email


def unique(emails: list[Email]) -> list[Email]:
    """In order of arrival, each text once, each id once (the same id on another text gets a suffix)."""
    texts: set[tuple[str, str]] = set()
    ids: dict[str, int] = defaultdict(int)
    kept = []
    for email in sorted(emails, key=lambda e: (e.received_at, e.message_id, e.subject, e.body)):
        if (email.subject, email.body) in texts:
            continue
        texts.add((email.subject, email.body))
        name = email.message_id or f"no-id/{email.received_at:%Y%m%dT%H%M%S}"
        ids[name] += 1
        kept.append(Email(**{**asdict(email), "message_id": name if ids[name] == 1 else f"{name}#{ids[name]}"}))
    return kept


def week_objects(monday: date, emails: list[Email]) -> Iterator[LandingObject]:
    """The exports of one ISO week: two of the working week in JSON Lines, one of the weekend in CSV, and mishaps."""
    year, week, _ = monday.isocalendar()
    folder = f"{PROJECT}/{year}/W{week:02d}"
    rows = [to_row(email) for email in emails]
    if len(rows) < BUSY_WEEK_ROWS:
        yield make_object(SHAPE, f"{folder}/mail-1.jsonl.gz", monday, rows)
        return
    days = [email.received_at.weekday() for email in emails]
    early = [row for row, day in zip(rows, days, strict=True) if day < 3]
    late = [row for row, day in zip(rows, days, strict=True) if day in (3, 4)]
    weekend = [row for row, day in zip(rows, days, strict=True) if day > 4]
    yield make_object(SHAPE, f"{folder}/mail-1.jsonl.gz", monday, early, ["unreadable_time", "wrong_year"])
    yield make_object(SHAPE, f"{folder}/mail-2.jsonl", monday, late, ["cut_off_line", "no_text", "address_not_masked"])
    yield make_object(SHAPE, f"{folder}/weekend.csv", monday, weekend, ["too_many_columns"])
    if week in CUT_OFF_WEEKS:
        yield cut_off_object(SHAPE, f"{folder}/broken-cut-off.jsonl.gz", monday)
    if week in EMPTY_WEEKS:
        yield empty_object(f"{folder}/broken-empty.jsonl", monday)
    if week in RESENT_WEEKS:  # the exporter sends some rows again: they must not become records twice
        yield make_object(SHAPE, f"{folder}/resent.jsonl", monday, rows[:8])


def to_row(email: Email) -> Row:
    """What is uploaded of an e-mail: everything but its label."""
    return {
        "message_id": email.message_id,
        "received_at": email.received_at.isoformat(),
        "subject": email.subject,
        "body": email.body,
        "sender_domain": email.sender_domain,
        "has_html": "yes" if email.has_html else "no",
        "body_characters": email.body_characters,
    }
