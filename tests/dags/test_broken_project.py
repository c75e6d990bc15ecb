"""A typo in one YAML costs that project only, and people see which field it is."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from include import project as project_module
from tests.dags.conftest import ROOT


@pytest.fixture
def projects_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "projects"
    shutil.copytree(ROOT / "include" / "projects", folder)
    monkeypatch.setattr(project_module, "PROJECTS_DIR", folder)
    return folder


def load(step: str) -> Any:
    from airflow.dag_processing.dagbag import DagBag

    return DagBag(dag_folder=str(ROOT / "dags" / f"{step}.py"))


def test_the_other_projects_keep_their_dags(projects_dir: Path) -> None:
    names = sorted(p.stem for p in projects_dir.glob("*.yaml"))
    broken = projects_dir / f"{names[0]}.yaml"
    broken.write_text(broken.read_text().replace("guidelines:", "guidlines:"))
    bag = load("ingest")
    assert bag.import_errors == {}
    assert sorted(bag.dags) == [f"{name}__ingest" for name in names[1:]]
    (message,) = load("projects").import_errors.values()
    assert f"{names[0]}.yaml: labeling." in message
    assert "guid" in message


def test_without_broken_files_there_is_no_error(projects_dir: Path) -> None:
    assert load("projects").import_errors == {}
