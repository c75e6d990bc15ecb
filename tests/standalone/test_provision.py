"""Which workspaces the project files ask for."""

from __future__ import annotations

from pathlib import Path

import pytest

from standalone.provision import fingerprint, project_workspaces


def test_a_project_names_its_workspace_or_is_it(tmp_path: Path) -> None:
    (tmp_path / "mails.yaml").write_text("name: mails\nlabeling: {guidelines: x}\n")
    (tmp_path / "notes.yml").write_text("name: notes\nlabeling: {workspace: shared}\n")
    (tmp_path / "more.yaml").write_text("name: more\nlabeling: {workspace: shared}\n")
    (tmp_path / "README.md").write_text("name: readme")
    assert project_workspaces(tmp_path) == {"mails", "shared"}


@pytest.mark.parametrize(
    "content", [b"", b"name: [", b"- a list", b"title: no name", b"name: x\nlabeling: text", b"\xff\xfe\x00"]
)
def test_a_broken_file_costs_only_itself(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "broken.yaml").write_bytes(content)
    (tmp_path / "good.yaml").write_text("name: good\n")
    assert project_workspaces(tmp_path) == {"good"}


def test_the_fingerprint_changes_with_the_files(tmp_path: Path) -> None:
    empty = fingerprint(tmp_path)
    path = tmp_path / "mails.yaml"
    path.write_text("name: mails\n")
    added = fingerprint(tmp_path)
    path.write_text("name: mails\ntitle: edited\n")
    edited = fingerprint(tmp_path)
    path.unlink()
    assert len({empty, added, edited}) == 3
    assert fingerprint(tmp_path) == empty
