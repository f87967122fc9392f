"""Work copies keep what a person ran in them, follow their exemplars, and reach what the chapters link to."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from runbook_lib.notebook.work_copies import work_copies
from tests.conftest import ROOT


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    for name in ("notebooks", "exercises", "params", "docs"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("kernel-ipc*"))
    return tmp_path


def copies(workspace: Path, deployment: str = "mine") -> Path:
    return work_copies(workspace / "params" / "greg-single.lab.yaml", deployment, "greg-single", workspace)


def run_in(notebook: Path) -> None:
    """An output, as a run leaves it."""
    book = json.loads(notebook.read_text())
    book["cells"][-2]["outputs"] = [{"output_type": "stream", "name": "stdout", "text": ["seen"]}]
    notebook.write_text(json.dumps(book))


def test_a_copy_keeps_what_was_run_in_it_and_names_the_next_file(workspace: Path) -> None:
    nginx = copies(workspace) / "05_configure_nginx.ipynb"
    run_in(nginx)
    work_copies(workspace / "params" / "greg-separated.lab.yaml", "mine", "greg-separated", workspace)
    assert '"seen"' in nginx.read_text() and "greg-separated.lab.yaml" in nginx.read_text()


def test_a_copy_whose_exemplar_has_changed_is_kept_beside_the_new_one(workspace: Path) -> None:
    nginx = copies(workspace) / "05_configure_nginx.ipynb"
    run_in(nginx)
    exemplar = workspace / "notebooks" / nginx.name
    exemplar.write_text(exemplar.read_text().replace("# 05", "# 05, newer:"))
    copies(workspace)
    (kept,) = nginx.parent.glob("05_configure_nginx.2*.ipynb")
    assert '"seen"' in kept.read_text() and "newer" in nginx.read_text() and '"seen"' not in nginx.read_text()


def test_two_deployments_have_chapters_of_their_own_which_reach_docs_and_params(workspace: Path) -> None:
    mine, yours = copies(workspace), copies(workspace, "yours")
    run_in(mine / "05_configure_nginx.ipynb")
    assert '"seen"' not in (yours / "05_configure_nginx.ipynb").read_text()
    assert (mine / "../docs/parameters.md").is_file() and (mine / "../params/greg-single.lab.yaml").is_file()


def test_the_exercises_lie_beside_the_chapters_and_name_the_same_file(workspace: Path) -> None:
    exercises = copies(workspace).parent / "exercises"
    assert {path.name for path in exercises.glob("*.ipynb")} == {path.name for path in (ROOT / "exercises").glob("*.ipynb")}
    assert all('params_file = \\"../../../params/greg-single.lab.yaml\\"' in path.read_text() for path in exercises.glob("*.ipynb"))


OWN = ["", "no JSON", "[]", "{}", '{"cells": [{}], "metadata": {}}', '{"cells": [], "metadata": {}}']


@pytest.mark.parametrize("folder", ["exercises", "work/mine/exercises", "notebooks", "work/mine/notebooks"])
def test_a_notebook_that_a_learner_made_himself_is_left_alone(workspace: Path, folder: str) -> None:
    copies(workspace)
    own = {workspace / folder / f"Untitled{number}.ipynb": text for number, text in enumerate(OWN)}
    for path, text in own.items():
        path.write_text(text)
    made = work_copies(workspace / "params" / "greg-separated.lab.yaml", "mine", "greg-separated", workspace)
    assert {path: path.read_text() for path in own} == own
    assert all("greg-separated.lab.yaml" in (made / name).read_text() for name in ("05_configure_nginx.ipynb", "../exercises/nginx.ipynb"))


@pytest.mark.parametrize("name", ["notebooks/05_configure_nginx.ipynb", "exercises/nginx.ipynb"])
@pytest.mark.parametrize("change", [lambda _: "", lambda _: "{}", lambda text: text.replace("params_file = ", "parameter_file = ")])
def test_a_copy_that_can_be_given_no_parameters_any_more_is_kept_beside_a_new_one(workspace: Path, name: str, change: Callable[[str], str]) -> None:
    copy = copies(workspace).parent / name
    copy.write_text(lost := change(copy.read_text()))
    copies(workspace)
    (kept,) = copy.parent.glob(f"{copy.stem}.2*.ipynb")
    assert kept.read_text() == lost and "greg-single.lab.yaml" in copy.read_text()


def test_git_does_not_see_a_walk() -> None:
    assert "work/" in (ROOT / ".gitignore").read_text().splitlines()


def test_the_notebook_that_is_open_is_not_changed_behind_its_reader(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = copies(workspace)
    monkeypatch.chdir(folder)
    before = (folder / "00_start_here.ipynb").read_bytes()
    work_copies(workspace / "params" / "as-cluster.lab.yaml", "mine", "as-cluster", workspace)
    assert (folder / "00_start_here.ipynb").read_bytes() == before
    assert "as-cluster.lab.yaml" in (folder / "06_verify_as_cluster.ipynb").read_text()
