"""The chapters read as chapters: short cells, prose between them, nothing stored, nothing of this machine."""

from __future__ import annotations

import itertools
import json
import re
import statistics
from pathlib import Path
from typing import Any

import pytest
from nbconvert.filters import markdown2html

from runbook_lib.chapters import cluster, launch, mysql, nginx, product_nodes, sso
from runbook_lib.chapters.second_day import backups, disaster
from runbook_lib.checks.nginx_faults import faults
from runbook_lib.notebook.words_cell import ENDS
from runbook_lib.spec.chapters import CHAPTERS
from runbook_lib.spec.loader import load_spec
from tests.conftest import ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
VERBS = [kind for module in (backups, cluster, disaster, launch, mysql, nginx, product_nodes, sso) for kind in vars(module).values() if isinstance(kind, type)]
NAMES = {path.stem for path in NOTEBOOKS}
READ_IN_A_MINUTE = 150  # words: slowly, with a look at each table


def cells(path: Path, kind: str) -> list[dict[str, Any]]:
    return [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == kind]


def source(cell: dict[str, Any]) -> str:
    return "".join(cell["source"])


def words(cell: dict[str, Any]) -> int:
    return len(re.findall(r"\w+", source(cell)))


def machine_minutes(chapter: str) -> float | None:
    """How long the machines took at most for a chapter in the runs of docs/example, or None for a chapter that they do not have."""
    runs = [json.loads(path.read_text())["chapters"] for path in (ROOT / "docs" / "example").glob("*/result.json")]
    return max((row["seconds"] / 60 for run in runs for row in run if row["name"] == chapter), default=None)


def test_every_chapter_has_its_notebook() -> None:
    assert set(CHAPTERS) | {"00_start_here", "08_second_day", "10_batch", "99_tear_down"} == NAMES


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
class TestStyle:
    def test_cells_are_short(self, path: Path) -> None:
        lengths = [len(source(cell).splitlines()) for cell in cells(path, "code")]
        assert max(lengths) <= 15
        assert statistics.median(lengths) <= 6

    def test_prose_leads_to_every_code_cell_and_stays_readable(self, path: Path) -> None:
        every = json.loads(path.read_text())["cells"]
        assert every[0]["cell_type"] == "markdown"
        assert source(every[0]).startswith(f"# {'Start here' if path.stem[:2] == '00' else path.stem[:2]}")
        pairs = itertools.pairwise(every)
        assert not any(a["cell_type"] == b["cell_type"] == "code" and "parameters" not in str(a) for a, b in pairs)
        prose = [words(cell) for cell in cells(path, "markdown") if not cell["id"].endswith(ENDS)]  # the Words box is folded, and made from the glossary
        assert 25 <= statistics.median(prose) <= 80
        assert max(prose) <= 130

    def test_it_begins_with_what_one_will_be_able_to_do_and_how_long_it_takes(self, path: Path) -> None:
        goals = source(json.loads(path.read_text())["cells"][1])
        lead, *lines = goals.partition("\n\n")[0].splitlines()
        assert lead == "**What you will be able to do.**" and 2 <= len(lines) <= 4 and all(line.startswith("- ") for line in lines)
        told = re.search(
            r"^\*\*Minutes\*\*: (\d+) to read(?:, (\d+) for the machines \(in the lab\)\.|; no machine has anything to do yet\.)$", goals, re.MULTILINE
        )
        assert told, goals
        read = sum(words(cell) for cell in cells(path, "markdown") if not cell["id"].endswith(ENDS)) / READ_IN_A_MINUTE
        assert abs(int(told[1]) - read) <= 1.5, f"{read:.1f} minutes"
        if (measured := machine_minutes(path.stem)) is not None:
            assert measured / 1.5 <= int(told[2]) <= measured + 1, f"{measured:.1f} minutes in docs/example"

    def test_it_ends_with_three_questions_whose_answers_are_folded(self, path: Path) -> None:
        every = json.loads(path.read_text())["cells"]
        *_, last = [cell for cell in every[:-1] if cell["id"].endswith("-q3")]
        questions = every[every.index(last) - 2 : every.index(last) + 1]
        assert [cell["id"][-3:] for cell in questions] == ["-q1", "-q2", "-q3"]
        assert source(questions[0]).startswith("**Three questions.** ")
        assert all(cell["cell_type"] == "markdown" for cell in every[every.index(last) :]), "nothing is to be run after them"
        for number, cell in enumerate(questions, 1):
            folded = re.search(r"<details>\n<summary>(\d)\. ([^\n]+)</summary>\n\n(.+)\n\n</details>$", source(cell), re.DOTALL)
            assert folded and int(folded[1]) == number and folded[2].endswith("?"), source(cell)
            assert len(folded[3].split()) >= 25, "an answer says why"

    def test_what_is_folded_is_markdown_everywhere(self, path: Path) -> None:
        """A block of HTML ends at a blank line (CommonMark 0.31, section 4.6): what follows is Markdown. In a summary there is none."""
        folded = re.compile(r"^<details>\n(.*?)\n(.*?)^</details>$", re.DOTALL | re.MULTILINE)
        assert sum(source(cell).count("<details") for cell in cells(path, "markdown")) >= 4
        for cell in cells(path, "markdown"):
            assert source(cell).count("<details") == len(folded.findall(source(cell)))
            for head, inside in folded.findall(source(cell)):
                assert re.fullmatch(r"<summary>(?:[^<>`*\[]|</?(?:b|i|code)>)+</summary>", head), head
                assert inside.startswith("\n") and inside.endswith("\n\n")
                assert not re.search(r"<(?!/?(?:b|i|code)>)[a-z/]", re.sub(r"`[^`]*`", "", inside)), "Markdown only"
                page = markdown2html(source(cell))
                assert page.count("<details>") == page.count("</details>") == 1 and ("<p>" in page or "<li>" in page)
                assert "**" not in re.sub(r"<code>.*?</code>", "", page)

    def test_nothing_is_stored(self, path: Path) -> None:
        assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in cells(path, "code"))
        assert set(json.loads(path.read_text())["metadata"]) == {"kernelspec", "language_info"}
        assert json.loads(path.read_text())["metadata"]["kernelspec"]["name"] == "python3"

    def test_parameters_are_a_tagged_cell_with_a_file_that_loads(self, path: Path) -> None:
        tagged = [cell for cell in cells(path, "code") if "parameters" in cell["metadata"].get("tags", [])]
        assert len(tagged) == 1
        values: dict[str, Any] = {}
        exec(source(tagged[0]), values)  # plain assignments: the next line would fail on anything else
        assert re.fullmatch(r"(\w+ = .+\n?)+", source(tagged[0]))
        assert values["overrides"] == {}
        load_spec((path.parent / values["params_file"]).resolve())

    def test_no_shell_no_pip_no_definitions_no_paths_of_this_machine(self, path: Path) -> None:
        code = "\n".join(source(cell) for cell in cells(path, "code"))
        assert not re.search(r"^\s*[!%]|\bpip\b|subprocess|os\.system|^def |^class |get_ipython", code, re.MULTILINE)
        assert not re.search(r"/(work|home|tmp|root|run)/", path.read_text())

    def test_links_between_chapters_lead_somewhere(self, path: Path) -> None:
        linked = set(re.findall(r"\]\((\w+)\.ipynb\)", path.read_text()))
        assert linked <= NAMES

    def test_what_a_chapter_says_to_call_can_be_called(self, path: Path) -> None:
        steps = {chapter.attribute for chapter in CHAPTERS.values()} | {"launch", "backups", "disaster", "product"}
        for step, verb in re.findall(r"deployment\.(\w+)\.(\w+)\(", path.read_text()):
            assert step in steps
            assert any(callable(getattr(kind, verb, None)) for kind in VERBS), f"deployment.{step}.{verb}"

    def test_the_words_of_an_error_that_a_chapter_quotes_are_the_words_of_the_error(self, path: Path) -> None:
        failing = [source(cell).partition("**When it fails.**")[2] for cell in cells(path, "markdown")]
        quoted = {" ".join(words.split()) for text in failing for words in re.findall(r"^(?:- )? ?\*([^*]+)\*", text, re.MULTILINE)}
        assert {words for words in quoted - SYMPTOMS if words not in LIBRARY} == set()

    def test_cells_have_lasting_ids(self, path: Path) -> None:
        ids = [cell["id"] for cell in json.loads(path.read_text())["cells"]]
        assert len(set(ids)) == len(ids)


@pytest.mark.parametrize("name", CHAPTERS)
def test_a_chapter_goes_from_status_over_plan_and_apply_to_verify(name: str) -> None:
    code = "\n".join(source(cell) for cell in cells(ROOT / "notebooks" / f"{name}.ipynb", "code"))
    part = CHAPTERS[name].attribute
    steps = ["open_deployment(params_file, overrides)", f"deployment.{part}.verify("]
    if CHAPTERS[name].converges:
        steps[1:1] = [f"deployment.{part}.plan()", f"deployment.{part}.apply(plan)"]
    assert [code.index(step) for step in steps] == sorted(code.index(step) for step in steps)


@pytest.mark.parametrize("path", [p for p in NOTEBOOKS if p.stem != "00_start_here"], ids=lambda path: path.stem)
def test_a_chapter_says_what_to_see_and_what_to_do_when_it_fails(path: Path) -> None:
    prose = "\n".join(source(cell) for cell in cells(path, "markdown"))
    assert "**When it fails.**" in prose or "*What closes it*" in prose


def test_chapter_05_explains_the_faults_that_it_tries_in_their_order_and_by_their_titles() -> None:
    prose = "\n".join(source(cell) for cell in cells(ROOT / "notebooks" / "05_configure_nginx.ipynb", "markdown"))
    explained = re.findall(r"^\*\*(\d+\. .+?)\.\*\*", prose, re.MULTILINE)
    assert explained == [f"{number}. {fault.title}" for number, fault in enumerate(faults(), 1)]


# what is seen in the browser or in a table's numbers, and no error says it in these words
SYMPTOMS = {
    "502", "login begins anew each time", "a member is missing", "all requests on one worker", "the demonstration application does not answer",
}  # fmt: skip
LIBRARY = "\n".join(file.read_text() for kind in ("*.py", "*.yaml") for file in (ROOT / "runbook_lib").rglob(kind))
