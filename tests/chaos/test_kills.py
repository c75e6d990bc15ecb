"""A short chaos run: 30 kills while 30 objects land. ``make chaos`` is the long one."""

from pathlib import Path

from tests.chaos.run import run

KILLS = 30
OBJECTS = 30


def test_with_tasks_workers_and_server_killed_every_row_lands_once(tmp_path: Path):
    report = run(tmp_path, kills=KILLS, objects=OBJECTS, seed=3, per_wave=10)
    assert report["faults"]["total"] == KILLS
    assert report["objects"] == OBJECTS
    assert {"task", "worker", "s3"} <= set(report["faults"])
    assert report["rows"]["records"] > 300
    assert report["rows"]["quarantine"] > 30
    assert report["losses"] == dict.fromkeys(report["losses"], 0)
    assert [name for name, holds in report["invariants"].items() if not holds] == []
