"""Duplicates are found exactly once, whatever is killed, and only what is similar enough is linked."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from include.ingestion import duplicates
from include.ingestion.duplicates import SLOTS, link_duplicates, signatures
from include.lake import Lake, Store, StoreConfig, keys
from include.lake.groups import linked_path
from include.project import Project
from tests.include.conftest import ProjectFactory
from tests.include.processes import CRASHED, crash_at, race, run

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
WORDS = [
    f"{a}{b}{c}" for a in ("lo", "mi", "ra", "tu") for b in ("ker", "san", "vel", "dop") for c in ("a", "in", "os")
]


def text(seed: int, words: int = 60) -> str:
    """A text that resembles no other."""
    generator = np.random.default_rng(seed)
    return " ".join(f"{WORDS[i]}{j}" for i, j in zip(generator.integers(0, len(WORDS), words),
                                                    generator.integers(0, 50, words), strict=True))  # fmt: skip


def like(original: str, changed_words: int) -> str:
    """The text with so many of its words replaced."""
    words = original.split()
    for place in range(changed_words):
        words[7 * place + 3] = f"changed{place}"
    return " ".join(words)


def add(lake: Lake, project: Project, batch: int, texts: dict[str, str], *, revision: int = 1) -> None:
    """Records as commit leaves them: ``{source id: text}``, in the order of their rows."""
    rows = []
    for number, (source_id, content) in enumerate(texts.items()):
        one = keys.record_id(project.name, source_id)
        rows.append(
            {
                "project": project.name,
                "shard": keys.shard(one),
                "record_id": one,
                "revision": revision,
                "content_hash": keys.content_hash({"text": content}),
                "fields_json": keys.canonical_json({"text": content}),
                "key": "a.jsonl",
                "row_number": number,
                "ingest_batch": batch,
            }
        )
    lake.append("records", rows, app_id=f"ingest/{project.name}/{batch}")


def linked(lake: Lake, project: Project) -> dict[str, tuple[str, str, bool]]:
    """Source id → kind, the source id it duplicates, whether the group is named by that record's content."""
    known = {keys.record_id(project.name, name): name for name in "abcdefgh"}
    rows = lake.read("duplicates", project.name, newest=False)
    assert rows.height == rows.unique(["record_id", "content_hash"]).height
    contents = dict(lake.read("records", project.name, columns=["record_id", "content_hash"]).iter_rows())
    return {
        known[row["record_id"]]: (
            row["kind"],
            known[row["duplicate_of"]],
            contents[row["duplicate_of"]] == row["group_id"],
        )
        for row in rows.to_dicts()
    }


@pytest.fixture
def project(make_project: ProjectFactory) -> Project:
    return make_project(duplicates={"near": "link"})


def test_equal_and_similar_texts_are_linked_to_the_first_within_and_across_batches(lake: Lake, project: Project):
    one, other = text(1), text(2)
    add(lake, project, 1, {"a": one, "b": one, "c": like(one, 1), "d": other})
    assert link_duplicates(project, lake, [1], now=NOW) == {"batches": [1], "exact": 1, "near": 1}
    add(lake, project, 2, {"e": other, "f": like(other, 1), "g": text(3), "h": like(one, 1)})
    assert link_duplicates(project, lake, [2], now=NOW) == {"batches": [2], "exact": 2, "near": 1}
    assert linked(lake, project) == {
        "b": ("exact", "a", True),
        "c": ("near", "a", True),
        "e": ("exact", "d", True),
        "f": ("near", "d", True),
        "h": ("exact", "c", False),  # equal to c, in the group of a
    }
    row = lake.read("duplicates", project.name).filter(pl.col("kind") == "near").row(0, named=True)
    assert 0.85 <= row["similarity"] < 1
    assert row["method"].startswith("rminhash-2 128 seed 17")
    assert (row["linked_at"], row["shard"]) == (NOW, row["record_id"][0])


def test_the_group_of_a_member_is_the_group_of_what_it_resembles(lake: Lake, project: Project):
    """A chain: the last is like the one before it and no longer like the first."""
    one = text(1)
    chain = [like(one, changed) for changed in (0, 2, 4, 6, 8)]
    add(lake, project, 1, dict(zip("abcde", chain, strict=True)))
    link_duplicates(project, lake, [1], now=NOW)
    groups = lake.read("duplicates", project.name)["group_id"].unique().to_list()
    assert groups == [keys.content_hash({"text": one})]
    assert set(linked(lake, project)) == {"b", "c", "d", "e"}


def test_a_changed_content_is_looked_at_again(lake: Lake, project: Project):
    one, other = text(1), text(2)
    add(lake, project, 1, {"a": one, "b": other})
    add(lake, project, 2, {"b": like(one, 1)}, revision=2)
    add(lake, project, 3, {"b": text(3), "c": other}, revision=3)
    assert link_duplicates(project, lake, [1, 2, 3], now=NOW) == {"batches": [1, 2, 3], "exact": 1, "near": 1}
    rows = lake.read("duplicates", project.name)
    of_b = rows.filter(pl.col("record_id") == keys.record_id(project.name, "b"))
    assert of_b["content_hash"].to_list() == [keys.content_hash({"text": like(one, 1)})]  # and not of its last content
    assert rows.height == 2


def test_the_same_content_again_is_no_duplicate_of_itself(lake: Lake, project: Project):
    add(lake, project, 1, {"a": text(1)})
    add(lake, project, 2, {"a": text(1)}, revision=2)  # its metadata changed
    assert link_duplicates(project, lake, [1, 2], now=NOW)["exact"] == 0
    assert lake.read("signatures", project.name, newest=False).height == 1


def test_off_by_default_only_equal_contents_are_linked_and_nothing_is_hashed(
    lake: Lake, make_project: ProjectFactory, monkeypatch: pytest.MonkeyPatch
):
    project = make_project()
    monkeypatch.setattr(duplicates, "signatures", None)
    add(lake, project, 1, {"a": text(1), "b": like(text(1), 1), "c": text(1)})
    assert link_duplicates(project, lake, [1], now=NOW) == {"batches": [1], "exact": 1, "near": 0}
    assert lake.read("signatures", project.name)["band_00"].null_count() == 2


def test_short_texts_are_compared_for_equality_only(lake: Lake, project: Project):
    add(
        lake, project, 1, {"a": "Order 1234 was shipped to you today, 1", "b": "Order 1234 was shipped to you today, 2"}
    )
    assert link_duplicates(project, lake, [1], now=NOW)["near"] == 0
    assert lake.read("signatures", project.name)["method"].null_count() == 2


def test_only_the_named_fields_are_compared(lake: Lake, make_project: ProjectFactory):
    fields = {"text": {"title": "Text"}, "footer": {"title": "Footer", "required": False}}
    project = make_project(source={"fields": fields}, duplicates={"near": "link", "fields": ["text"]})
    texts = duplicates._texts(project, pl.Series([keys.canonical_json({"text": " A\n B\u00a0C ", "footer": "F"})]))
    assert texts.to_list() == ["a b c"]
    both = make_project(source={"fields": fields}, duplicates={"near": "link"})
    rows = pl.Series([keys.canonical_json({"text": "A", "footer": "F"}), keys.canonical_json({"text": "A"})])
    assert duplicates._texts(both, rows).to_list() == ["a f", "a"]
    assert duplicates._method(project) != duplicates._method(both)


def test_batches_that_were_not_linked_before_are_linked_first(lake: Lake, project: Project):
    for batch in (1, 2, 3):
        add(lake, project, batch, {"abc"[batch - 1]: text(1)})
    assert link_duplicates(project, lake, [3], now=NOW) == {"batches": [3], "exact": 1, "near": 0}
    assert linked(lake, project) == {"b": ("exact", "a", True), "c": ("exact", "a", True)}
    assert lake.files.get_json(linked_path(project)) == {"batch": 3}


def test_without_new_batches_the_ledger_says_what_is_left(lake: Lake, project: Project):
    assert link_duplicates(project, lake, [], now=NOW) == {"batches": [], "exact": 0, "near": 0}
    add(lake, project, 1, {"a": text(1), "b": text(1)})
    lake.append("objects", [{"project": project.name, "key": "a.jsonl", "ingest_batch": 1}], app_id="o")
    link_duplicates(project, lake, [], now=NOW)
    assert linked(lake, project) == {"b": ("exact", "a", True)}


def test_a_batch_without_records_is_passed(lake: Lake, project: Project):
    assert link_duplicates(project, lake, [1], now=NOW)["exact"] == 0
    assert lake.files.get_json(linked_path(project)) == {"batch": 1}
    assert lake.version("signatures") == -1


def add_two_batches(lake: Lake, project: Project) -> None:
    one, other = text(1), text(2)
    add(lake, project, 1, {"a": one, "b": one, "c": like(one, 1), "d": other})
    add(lake, project, 2, {"e": other, "f": like(other, 1), "g": like(one, 2), "h": like(one, 1)})


EXPECTED = {"b": "exact", "c": "near", "e": "exact", "f": "near", "g": "near", "h": "exact"}


def link_and_die(project: Project, config: StoreConfig, bucket: str, prefix: str, call: int, when: str) -> None:
    crash_at(call, when, [(Store, "create"), (Store, "swap"), (Lake, "append")])
    link_duplicates(project, Lake(config, bucket, prefix), [1, 2], now=NOW)


@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_at_any_write_and_run_again_everything_is_linked_once(
    s3_config: StoreConfig, lake: Lake, project: Project, when: str
):
    writes = 7  # of each batch: signatures, duplicates, mark; the first mark is a swap that creates
    for call in range(writes + 1):
        mine = Lake(s3_config, lake.files.bucket, f"{lake.files.prefix}/{call}")
        add_two_batches(mine, project)
        code = run(link_and_die, project, s3_config, mine.files.bucket, mine.files.prefix, call, when)
        assert code == (CRASHED if call < writes else 0), f"write {call}"
        assert link_duplicates(project, mine, [1, 2], now=NOW) == {"batches": [1, 2], "exact": 3, "near": 3}
        assert {name: kind for name, (kind, _, _) in linked(mine, project).items()} == EXPECTED
        assert mine.read("signatures", project.name, newest=False).height == 5


def test_killed_between_its_appends_it_goes_on_with_what_it_had_found(
    lake: Lake, project: Project, make_project: ProjectFactory
):
    """The project file changed in between: the group in the index and the group in the table must be the same."""
    add_two_batches(lake, project)

    class KilledError(Exception):
        pass

    class Dying(Lake):
        def append(self, table: str, *args: Any, **kwargs: Any) -> Any:
            if table == "duplicates":
                raise KilledError
            return super().append(table, *args, **kwargs)

    with pytest.raises(KilledError):
        link_duplicates(project, Dying(lake.config, lake.files.bucket, lake.files.prefix), [1], now=NOW)
    link_duplicates(make_project(duplicates={"near": "link", "threshold": 1.0}), lake, [1], now=NOW)
    assert {name: kind for name, (kind, _, _) in linked(lake, project).items()} == {"b": "exact", "c": "near"}


def link_in_race(barrier: Any, results: Any, project: Project, config: StoreConfig, prefix: str) -> None:
    mine = Lake(config, "lake", prefix)
    mine.files.get("warm-up")
    barrier.wait()
    results.put(link_duplicates(project, mine, [1, 2], now=datetime.now(UTC)))


def test_racing_runs_link_everything_once(lake: Lake, project: Project):
    add_two_batches(lake, project)
    counts = race(2, link_in_race, project, lake.config, lake.files.prefix)
    assert counts == [{"batches": [1, 2], "exact": 3, "near": 3}] * 2
    assert {name: kind for name, (kind, _, _) in linked(lake, project).items()} == EXPECTED
    assert lake.read("signatures", project.name, newest=False).height == 5


def test_signatures_never_change():
    """They are stored: another version or platform that gives other ones must not pass unseen."""
    texts = pl.Series([text(seed) for seed in range(50)] + ["", "short", "12345678", "ä" * 40])
    slots, windows = signatures(texts)
    assert slots.shape == (54, SLOTS)
    assert windows[-4:].tolist() == [0, 0, 1, 73]
    assert hashlib.sha256(slots.tobytes()).hexdigest() == GOLDEN
    alone = [signatures(texts[row : row + 1])[0][0] for row in range(0, 54, 9)]
    assert (np.array(alone) == slots[::9]).all()


GOLDEN = "f79b0c5aa07b541edaa2ff0fda551483dec944afbe4b09579c94ca52419adcd9"


def jaccard(one: str, other: str) -> float:
    sets = [{t.encode()[i : i + 8] for i in range(len(t.encode()) - 7)} for t in (one, other)]
    return len(sets[0] & sets[1]) / len(sets[0] | sets[1])


def pairs(count: int) -> tuple[pl.DataFrame, np.ndarray[Any, Any]]:
    """Originals, then a changed copy of each, signed; and the true similarity of every pair."""
    originals = [text(seed) for seed in range(count)]
    copies = [like(one, seed % 9) for seed, one in enumerate(originals)]
    slots, _ = signatures(pl.Series([*originals, *copies]))
    bands = np.ascontiguousarray(slots).view("<i8")
    frame = pl.DataFrame({name: bands[:, number] for number, name in enumerate(duplicates.BAND_COLUMNS)})
    return frame, np.array([jaccard(one, copy) for one, copy in zip(originals, copies, strict=True)])


def test_similar_pairs_are_found_and_others_are_not():
    count = 900
    frame, truth = pairs(count)
    found = duplicates._similar_pairs(frame, count, 0.85)
    assert {match for _, match, _ in found} <= set(range(count))
    assert all(row - count == match for row, match, _ in found)  # never an unrelated text
    estimates = {row - count: similarity for row, _, similarity in found}
    errors = np.array([estimates[one] - truth[one] for one in estimates])
    assert np.abs(errors).max() < 0.15
    clear, unlike = truth >= 0.93, truth < 0.7
    assert clear.sum() > 50
    assert unlike.sum() > 50
    assert np.mean([one in estimates for one in np.flatnonzero(clear)]) >= 0.99
    assert not [one for one in np.flatnonzero(unlike) if one in estimates]
    assert all(similarity >= 0.85 for similarity in estimates.values())  # a common band alone never links


@given(st.lists(st.text(max_size=120), min_size=1, max_size=8), st.data())
@settings(max_examples=60, deadline=None)
def test_a_signature_depends_on_the_text_alone(texts: list[str], data: st.DataObject):
    slots, _ = signatures(pl.Series(texts, dtype=pl.String))
    order = data.draw(st.permutations(range(len(texts))))
    again, _ = signatures(pl.Series([texts[one] for one in order], dtype=pl.String))
    assert (again == slots[order]).all()


def test_a_wave_of_equal_looking_texts_costs_no_square(lake: Lake, project: Project):
    base = text(1, words=80)
    wave = {f"w{number}": f"{base} {number}" for number in range(3000)}
    add(lake, project, 1, wave)
    counts = link_duplicates(project, lake, [1], now=NOW)
    assert counts["near"] == 2999
    groups = lake.read("duplicates", project.name)["group_id"].unique()
    assert groups.to_list() == [keys.content_hash({"text": f"{base} 0"})]
