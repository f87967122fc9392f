"""The book: every link leads somewhere in it, nothing is loaded from elsewhere, what is searched is found, and a learner finds no solution."""

from __future__ import annotations

import html
import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest

from runbook_lib.chapters.exercises.table import exercises
from runbook_lib.check import Check
from runbook_lib.errors import ParamsError, RunbookError
from runbook_lib.evidence import report
from runbook_lib.evidence.journal import Journal
from runbook_lib.headless.book import source
from runbook_lib.headless.book.builder import MARK, build_book
from runbook_lib.headless.book.course import course_pages
from runbook_lib.headless.book.reference import reference_page
from runbook_lib.headless.book.runs import chosen
from runbook_lib.headless.book.slides import slides_of
from runbook_lib.notebook.error_card import error_card
from runbook_lib.redaction import redactor
from runbook_lib.spec.loader import load_spec
from tests.conftest import ROOT

SECRET = "book-secret-0123456789"
PNG = b"\x89PNG\r\n\x1a\nnobody looks into it"
EXAMPLE = ROOT / "docs" / "example"
LEAKING = {"click": "leak: in the Publisher", "path": "held: refused", "side-door": "leak: a session", "again": "leak: signed in"}
REPAIRED = {"click": "held: a password is asked for", "path": "held: refused", "side-door": "held: 404", "again": "leak: signed in"}


def proven(folder: Path, name: str, pattern: str, verdict: str, outcomes: dict[str, str], pictures: bool = True) -> Path:
    """A run of chapter 07 that came to a verdict."""
    run = folder / "runs" / name / "20260101T000000Z"
    journal = Journal(run, {"deployment": name, "pattern": pattern, "hardening": "full", "expect": verdict})
    for id_, observed in outcomes.items():
        kind, state = "limit" if id_ == "again" else "attempt", observed.partition(":")[0]
        row = Check(f"sso.{id_}", f"The attempt {id_}", "pass", "as known", observed, "from outside", "07_verify_sso_separation", kind, state)
        journal.checked("07_verify_sso_separation", [row])
    kind = {"separated": "separated", "not decided": "undecided"}.get(verdict, "leak")
    journal.verdict("07_verify_sso_separation", kind, verdict, True)
    if pictures:
        journal.screenshot("07_verify_sso_separation", "a-user-opens-the-publisher", "A user opens the Publisher", PNG, f"what {name} shows to {SECRET}")
    chapter(run / "07_verify_sso_separation.ipynb", "# 07 Verify\n\n[00](00_start_here.ipynb) [gone](98_gone.ipynb)\n\n## The verdict\n\nIt says so.")
    report.finish(journal)
    return run


def chapter(path: Path, prose: str, **data: str) -> None:
    """An executed chapter: prose, and a cell that showed `data` (HTML) and said the secret."""
    outputs = [nbformat.v4.new_output("display_data", data={"text/html": text, "text/plain": "as text"}) for text in data.values()]
    outputs.append(nbformat.v4.new_output("stream", text=f"stickiness {SECRET}"))
    cells = [nbformat.v4.new_markdown_cell(prose), nbformat.v4.new_code_cell("1", outputs=outputs, execution_count=1)]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)


def beginning(text: str) -> str:
    """The first words of a text of an exercise as a page shows them: without marks, up to the first placeholder."""
    return " ".join(re.sub(r"<.*", "", text, flags=re.DOTALL).replace("`", "").replace("*", "").split())[:50]


@pytest.fixture(scope="module")
def book(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A book of two real runs and of two that were made here, with slides. Whatever Sphinx warns of is an error."""
    folder = tmp_path_factory.mktemp("book")
    redactor.add("book-test", SECRET)
    runs = [proven(folder, "mended", "greg-separated", "separated", REPAIRED), proven(folder, "open", "greg-single", "leaks (2 ways)", LEAKING)]
    with pytest.raises(ParamsError) as caught:
        load_spec("params/greg-separated.lab.yaml", {"cloud.disk_gb": 5})
    style = "<style>.rb-table { color: red }</style>"
    chapter(runs[0] / "05_configure_nginx.ipynb", "# 05 Nginx\n\n## Parameters\n\nHere.", card=error_card(caught.value), style=style)
    yield build_book([*runs, EXAMPLE / "greg-separated", EXAMPLE / "as-cluster"], folder / "out", slides=True, strict=True)


@pytest.mark.slow
class TestTheBook:
    def test_every_link_and_every_anchor_leads_somewhere_in_it(self, book: Path) -> None:
        pages = {path: path.read_text(encoding="utf-8") for path in book.rglob("*.html") if "_static" not in path.parts}
        assert len(pages) > 50
        anchors = {path: set(re.findall(r'\bid="([^"]+)"', text)) for path, text in pages.items()}
        lost = []
        for path, text in pages.items():
            for link in map(html.unescape, re.findall(r'<(?:a|link|script|img)\b[^>]*?\b(?:href|src)="([^"]+)"', text)):
                if re.match(r"[a-z]+:", link):
                    continue
                target, _, anchor = link.partition("#")
                where = Path(os.path.normpath(path.parent / target.partition("?")[0])) if target else path
                found = where.is_file() and where.is_relative_to(book)
                if not found or (anchor and where in anchors and anchor not in anchors[where]):
                    lost.append(f"{path.relative_to(book)}: {link}")
        assert lost == []

    def test_nothing_is_loaded_from_elsewhere(self, book: Path) -> None:
        for path in book.rglob("*"):
            if path.suffix == ".html":
                text = path.read_text(encoding="utf-8")
                assert not re.search(r"<(script|link|img|iframe|source|video|audio|object|embed)\b[^>]*\b(src|href|data)=[\"']?(https?:)?//", text, re.I), path
                assert not re.search(r"\bimport\(|from [\"']https?:|requirejs|mathjax", text, re.I), path
            if path.suffix in (".html", ".css"):
                assert not re.search(r"url\([\"']?(https?:)?//|@import [\"']?(url\()?[\"']?(https?:)?//", path.read_text(encoding="utf-8")), path

    def test_the_search_knows_chapters_parameters_and_what_cells_showed(self, book: Path) -> None:
        text = (book / "searchindex.js").read_text(encoding="utf-8")
        index = json.loads(text[text.index("{") : text.rindex("}") + 1])

        def found(word: str) -> set[str]:
            hits = index["terms"].get(word, [])
            return {index["docnames"][number] for number in ([hits] if isinstance(hits, int) else hits)}

        assert {"mended/05_configure_nginx", "mended/07_verify_sso_separation"} <= found("sticki")
        assert "docs/parameters" in found("publisher_allow_cidr")
        assert "greg-separated/02_install_mysql" in found("wso2_bps_db")  # a cell of a table

    def test_no_secret_and_no_path_of_this_machine_is_in_it(self, book: Path) -> None:
        for path in book.rglob("*"):
            if path.suffix in (".html", ".js", ".svg", ".json", ".txt"):
                text = path.read_text(encoding="utf-8")
                assert SECRET not in text and str(book.parent) not in text and f"{ROOT}/" not in text, path

    def test_each_run_has_its_banner_its_statements_its_chapters_and_its_report(self, book: Path) -> None:
        front, page = ((book / name).read_text(encoding="utf-8") for name in ("index.html", "greg-separated/01_launch_ec2.html"))
        assert "REHEARSAL: the endpoint" in front and "System: ✔ SEPARATED" in front and "System: ✘ LEAKS (2 ways)" in front
        assert "REHEARSAL: the endpoint" in page and "<strong>5 of 5 chapters" not in page
        for name in ("greg-separated", "as-cluster"):
            run = (book / name / "index.html").read_text(encoding="utf-8")
            assert 'href="report.html"' in run and "01_launch_ec2.html" in run and "topology" in run
        assert (book / "as-cluster/report.html").read_bytes() == (EXAMPLE / "as-cluster/report.html").read_bytes()

    def test_leak_and_repair_stand_side_by_side_with_the_rows_that_differ_and_both_pictures(self, book: Path) -> None:
        page = (book / "proof.html").read_text(encoding="utf-8")
        assert page.index("✘ leak: ") < page.index("✔ repair: ")
        assert page.index("System: ✘ LEAKS (2 ways)") < page.index("System: ✔ SEPARATED")
        rows = re.findall(r"<tr><td[^>]*>The attempt ([\w-]+)</td><td[^>]*>([^<]*)</td><td[^>]*>([^<]*)</td>", page)
        assert ("click", "✘ leak: in the Publisher", "✔ held: a password is asked for") in rows
        assert ("again", "△ open: leak: signed in", "△ open: leak: signed in") in rows
        assert "1 that both deployments made came out alike" in page
        sources = re.findall(r'<img src="([^"]+screenshots[^"]+)"', page)
        assert sources == [f"{name}/screenshots/a-user-opens-the-publisher.png" for name in ("open", "mended")]
        assert all((book / source).read_bytes() == PNG for source in sources)

    def test_a_cards_links_lead_to_the_key_in_the_reference_and_to_the_section(self, book: Path) -> None:
        page = (book / "mended/05_configure_nginx.html").read_text(encoding="utf-8")
        assert 'href="../docs/parameters.html#cloud.disk_gb"' in page and 'href="#parameters"' in page
        assert 'id="cloud.disk_gb"' in (book / "docs/parameters.html").read_text(encoding="utf-8")
        assert ".rb-table { color: red }" not in page  # the style sheet is the book's own

    def test_a_learner_finds_no_hint_and_no_solution(self, book: Path) -> None:
        text = html.unescape(re.sub(r"<[^>]+>", "", "".join(path.read_text(encoding="utf-8") for path in (book / "course").glob("*.html"))))
        words = " ".join(text.split())
        for row in exercises().values():
            assert f"{row.id}: {row.title}" in words and beginning(row.story) in words, row.id
            for told in (*row.hints, row.solution.why, row.usually, row.teaches):
                assert beginning(told) not in words, row.id

    def test_slides_begin_with_headings_and_outputs_have_one_each(self, book: Path) -> None:
        chapter = book / "as-cluster/06_verify_as_cluster.html"
        slides = slides_of(chapter.read_text(encoding="utf-8"))
        assert slides[0].title.startswith("06 Verify") and "Cell" not in slides[0].title
        assert all("cell_output" not in slide.content for slide in slides if slide.anchor)
        assert sum("cell_output" in slide.content for slide in slides) == chapter.read_text(encoding="utf-8").count("cell_output docutils")
        page = chapter.with_suffix(".slides.html").read_text(encoding="utf-8")
        assert page.count('<section class="slide') == len(slides) > 10
        assert not (book / "as-cluster/01_launch_ec2.slides.html").exists()
        assert "06_verify_as_cluster.slides.html" in (book / "as-cluster/index.html").read_text(encoding="utf-8")


def test_the_instructor_has_hints_solution_and_what_usually_goes_wrong_of_every_exercise() -> None:
    pages = course_pages(instructor=True)
    for row in exercises().values():
        page = pages[f"course/{row.part}.md"]
        assert f"## {row.id}: {row.title}" in page
        mine = " ".join(page[page.index(f"## {row.id}:") :].split()).replace("\\<", "<")
        for told in (*row.hints, row.solution.why, row.usually):
            words = re.sub(r"<[^>]*>.*", "", " ".join(told.split()))  # up to the first placeholder
            assert words[:60] in mine, f"{row.id}: {told}"
        prose = re.sub(r"```yaml.*?```", "", page, flags=re.DOTALL)
        assert "<user>" not in prose and "<home>" not in prose
        assert f"[{row.id}]({row.part}.md#exercise-{row.id})" in pages["course/index.md"]


def test_the_instructors_guide_names_exercises_that_there_are() -> None:
    named = set(re.findall(r"`([a-z]+-\d{1,2})`", (ROOT / "docs/teaching.md").read_text(encoding="utf-8")))
    assert len(named) > 20
    assert named - set(exercises()) == set()


def test_the_reference_has_every_function_that_a_chapter_calls() -> None:
    page = reference_page()
    cells = [cell for path in (ROOT / "notebooks").glob("*.ipynb") for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]
    called = {name for cell in cells for name in re.findall(r"\b(deployment\.[\w.]+|open_deployment|choose_\w+|show_\w+)\(", "".join(cell["source"]))}
    assert len(called) > 25
    assert {name for name in called if f"### {name}(" not in page} == set()


def proof_page(folder: Path, runs: list[Path]) -> str:
    """The source of the proof's page of a book of these runs."""
    source.write_source(folder / "source", chosen(runs), "learner", False)
    return (folder / "source" / "proof.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("pattern", "verdict", "outcomes", "words"),
    [
        ("greg-single", "leaks (2 ways)", LEAKING, "No run here found a separated deployment"),
        ("greg-separated", "separated", REPAIRED, "No run here found a leak"),
    ],
)
def test_with_one_side_alone_the_page_shows_it_and_says_what_is_missing(
    tmp_path: Path, pattern: str, verdict: str, outcomes: dict[str, str], words: str
) -> None:
    page = proof_page(tmp_path, [proven(tmp_path, "alone", pattern, verdict, outcomes, pictures=False)])
    assert words in page and "no browser was installed" in page
    assert all(f"The attempt {id_}" in page for id_ in outcomes)


def test_a_proof_that_is_not_decided_is_on_neither_side(tmp_path: Path) -> None:
    page = proof_page(tmp_path, [proven(tmp_path, "open-question", "greg-single", "not decided", {"click": "undecided: no answer"})])
    assert '<div class="side ' not in page and "NOT DECIDED" in page


def test_two_runs_of_one_deployment_have_pages_of_their_own(tmp_path: Path) -> None:
    run = proven(tmp_path, "twice", "greg-separated", "separated", REPAIRED)
    again = run.with_name("20260102T000000Z")
    shutil.copytree(run, again)
    assert [each.name for each in chosen([run, again])] == ["twice", "twice-20260102T000000Z"]
    assert chosen([proven(tmp_path, "docs", "greg-separated", "separated", REPAIRED)])[0].name == "docs-20260101T000000Z"  # a folder of the book


def test_links_of_documents_lead_to_pages_and_files_and_what_leads_nowhere_keeps_its_words(tmp_path: Path) -> None:
    folder = tmp_path / "source"
    source.write_source(folder, chosen([EXAMPLE / "greg-separated"]), "learner", False)
    readme, comparison = ((folder / name).read_text(encoding="utf-8") for name in ("README.md", "docs/performance.md"))
    assert "(greg-separated/01_launch_ec2.ipynb)" in readme and "(notebooks/00_start_here.ipynb)" in readme and "(index.md)" in readme
    assert "(docs/design.md)" in readme and (folder / "docs/iam/operator.json").is_file() and (folder / "docs/walk.png").is_file()
    assert "](../benchmarks" not in comparison


def test_a_workspace_without_documents_has_a_book_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "ROOT", tmp_path)
    source.write_source(tmp_path / "source", chosen([EXAMPLE / "as-cluster"]), "learner", False)
    front = (tmp_path / "source" / "index.md").read_text(encoding="utf-8")
    assert "as-cluster/index" in front and "docs/parameters.md" in front and "README.md" not in front


def test_without_executed_chapters_it_says_what_to_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNBOOK_RUNS", str(tmp_path))
    with pytest.raises(RunbookError, match="no executed chapters"):
        build_book([], tmp_path / "book")
    assert not (tmp_path / "book").exists()


@pytest.mark.parametrize("what", ["a folder that is no run", "a file", "nothing"])
def test_a_run_that_is_none_is_one_error(tmp_path: Path, what: str) -> None:
    (tmp_path / "a folder that is no run").mkdir()
    (tmp_path / "a file").touch()
    with pytest.raises(RunbookError, match="this is no run"):
        build_book([tmp_path / what], tmp_path / "book")


@pytest.mark.parametrize("what", ["a file", "a folder with a file"])
def test_what_is_no_book_is_not_replaced(tmp_path: Path, what: str) -> None:
    out = tmp_path / "thesis"
    kept = out if what == "a file" else out / "chapter-1.txt"
    kept.parent.mkdir(exist_ok=True)
    kept.write_text("two years of work")
    with pytest.raises(RunbookError, match="something else"):
        build_book([EXAMPLE / "greg-single"], out)
    assert kept.read_text() == "two years of work"


@pytest.mark.slow
def test_a_book_is_replaced_once_the_new_one_is_whole_and_a_warning_is_an_error_where_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "ROOT", tmp_path / "nowhere")
    out, run = tmp_path / "book", proven(tmp_path, "one", "greg-separated", "separated", REPAIRED, pictures=False)
    out.mkdir()
    (out / MARK).touch()
    (out / "old.html").write_text("the former book")
    chapter(run / "05_configure_nginx.ipynb", "# 05 Nginx\n\n```{no-such-directive}\n```")
    with pytest.raises(RunbookError, match=r"(?s)Sphinx warns.*no-such-directive"):
        build_book([run], out, strict=True)
    assert (out / "old.html").is_file() and [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
    build_book([run], out)
    assert not (out / "old.html").exists() and (out / "one/05_configure_nginx.html").is_file()
