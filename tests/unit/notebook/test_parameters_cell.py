"""The params file that was saved is the one that the chapters name; nothing else in them changes."""

from __future__ import annotations

import difflib
import shutil
from pathlib import Path

import nbformat
import pytest

from runbook_lib.chapters.forms import params_form
from runbook_lib.errors import RunbookError
from runbook_lib.notebook.parameters_cell import _old_line, use_in_chapters
from runbook_lib.spec.chapters import NOTEBOOKS, chapters_of


def _line_of(notebook: Path) -> str:
    """The line as it stands in a chapter now."""
    return _old_line(notebook.read_text(), notebook)


@pytest.fixture
def chapters(tmp_path: Path) -> Path:
    """A folder of chapters as they are shipped, with params/ beside it."""
    shutil.copytree(NOTEBOOKS, tmp_path / "notebooks", ignore=shutil.ignore_patterns("kernel-ipc*"))
    (tmp_path / "params").mkdir()
    return tmp_path / "notebooks"


def test_every_chapter_of_the_pattern_and_the_tear_down_name_the_file(chapters: Path) -> None:
    changed = use_in_chapters(chapters.parent / "params" / "mine.yaml", "greg-single", chapters)
    assert changed == (*(chapter.name for chapter in chapters_of("greg-single")), "08_second_day", "99_tear_down")
    assert {_line_of(chapters / f"{name}.ipynb") for name in changed} == {'params_file = "../params/mine.yaml"'}
    assert "mine" not in (chapters / "03_configure_as_nodes.ipynb").read_text()


@pytest.mark.parametrize(("pattern", "names"), [("greg-separated", True), ("greg-single", False), ("as-cluster", False)])
def test_the_chapter_about_batches_names_a_file_that_its_sweep_can_be_made_of(chapters: Path, pattern: str, names: bool) -> None:
    changed = use_in_chapters(chapters.parent / "params" / "mine.yaml", pattern, chapters)
    assert ("10_batch" in changed) == names == ("mine" in _line_of(chapters / "10_batch.ipynb"))


def test_all_else_in_a_chapter_stays_as_it_was(chapters: Path) -> None:
    before = (chapters / "05_configure_nginx.ipynb").read_text()
    use_in_chapters(chapters.parent / "params" / "mine.yaml", "greg-single", chapters)
    after = (chapters / "05_configure_nginx.ipynb").read_text()
    delta = [line for line in difflib.ndiff(before.splitlines(), after.splitlines()) if line[0] in "+-"]
    assert len(delta) == 2
    assert all("params_file = " in line for line in delta)


def test_a_line_that_a_person_wrote_is_replaced_and_the_next_choice_replaces_it_again(chapters: Path) -> None:
    path = chapters / "05_configure_nginx.ipynb"
    book = nbformat.read(path, as_version=4)
    cell = next(cell for cell in book.cells if "parameters" in cell.metadata.get("tags", []))
    cell.source = "params_file = '../params/other.yaml'  # mine\noverrides = {\"nodes.store\": 3}"
    nbformat.write(book, path)
    use_in_chapters(chapters.parent / "params" / "mine.yaml", "greg-single", chapters)
    assert _line_of(path) == 'params_file = "../params/mine.yaml"'
    assert 'overrides = {\\"nodes.store\\": 3}' in path.read_text()
    assert use_in_chapters(chapters.parent / "params" / "mine.yaml", "greg-single", chapters) == ()


def test_when_a_chapter_has_no_such_line_nothing_is_written(chapters: Path) -> None:
    path = chapters / "05_configure_nginx.ipynb"
    path.write_text(path.read_text().replace("params_file = ", "parameter_file = "))
    with pytest.raises(RunbookError, match="no line `params_file") as caught:
        use_in_chapters(chapters.parent / "params" / "mine.yaml", "greg-single", chapters)
    assert caught.value.where == "05_configure_nginx.ipynb"
    assert "mine" not in (chapters / "01_launch_ec2.ipynb").read_text()


@pytest.fixture
def shown(chapters: Path, monkeypatch: pytest.MonkeyPatch) -> params_form.ParamsForm:
    """The form as it is run beside these chapters; it saves into their params/."""
    monkeypatch.chdir(chapters)
    fields = params_form.Fields("params/greg-single.lab.yaml")
    monkeypatch.setattr(params_form, "ROOT", chapters.parent)
    return params_form.ParamsForm(fields, "../params/greg-single.lab.yaml")


def test_save_makes_the_deployments_chapters_and_lists_them_in_order(shown: params_form.ParamsForm, chapters: Path) -> None:
    exemplars = {path: path.read_bytes() for path in chapters.glob("*.ipynb")}
    shown._typed("deployment", "mine")
    shown._save()
    assert shown.params_file == "../params/mine.yaml"
    made = chapters.parent / "work" / "mine" / "notebooks"
    assert _line_of(made / "02_install_mysql.ipynb") == 'params_file = "../../../params/mine.yaml"'
    assert {path: path.read_bytes() for path in chapters.glob("*.ipynb")} == exemplars
    links = [f'<a href="../work/mine/notebooks/{chapter.name}.ipynb">' for chapter in chapters_of("greg-single")]
    places = [shown.saved.value.index(link) for link in links]
    assert places == sorted(places)
    assert shown.saved.value.count("○ to do") == len(links)


def test_save_leaves_the_chapters_alone_when_asked_to(shown: params_form.ParamsForm) -> None:
    shown._typed("deployment", "mine")
    shown.everywhere.value = False
    shown._save()
    assert "params_file = &quot;../params/mine.yaml&quot;" in shown.saved.value
    assert not (Path.cwd().parent / "work").exists()
    assert '<a href="02_install_mysql.ipynb">' in shown.saved.value


def test_until_something_is_saved_the_given_file_is_the_chosen_one(shown: params_form.ParamsForm) -> None:
    assert shown.params_file == "../params/greg-single.lab.yaml"
    assert params_form.choose_params("params/greg-single.lab.yaml").params_file == "params/greg-single.lab.yaml"
