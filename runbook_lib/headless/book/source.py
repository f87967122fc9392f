"""The source of the book: pages in Markdown, executed chapters, the repository's documents, and what they show."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Literal

from runbook_lib.chapters.exercises.table import PARTS
from runbook_lib.evidence.comparison import proof_facts, sides_of
from runbook_lib.evidence.journal import redact
from runbook_lib.files import ROOT
from runbook_lib.headless.book import chapters, slides
from runbook_lib.headless.book.course import course_pages
from runbook_lib.headless.book.links import Links
from runbook_lib.headless.book.pages import PAGES
from runbook_lib.headless.book.reference import reference_page
from runbook_lib.headless.book.runs import BookRun
from runbook_lib.headless.book.sphinx_settings import TITLE
from runbook_lib.spec.model import Spec
from runbook_lib.spec.reference import as_markdown

Edition = Literal["learner", "instructor"]
# The documents of the repository by the caption that they stand below; those that are not named stand below the last one.
REFERENCE = (
    "docs/parameters.md",
    "docs/command-line.md",
    "docs/checks.md",
    "docs/notebook-api.md",
    "docs/wso2-facts.md",
    "docs/golden-run.md",
    "docs/iam/README.md",
)
COURSE = ("course/index.md", "docs/glossary.md", "docs/teaching.md")
DOCUMENTS = ("README.md", "docs/design.md", "docs/decisions/index.md", "docs/security.md", "docs/systems.md", "docs/lab.md", "docs/practice.md")
AT_THE_TOP = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "lab/README.md")
DECISIONS = "docs/decisions"


def write_source(source: Path, runs: Sequence[BookRun], edition: Edition, with_slides: bool) -> str:
    """Write the whole source of a book of these runs below `source` and return the book's title."""
    title = TITLE if edition == "learner" else f"{TITLE}: instructor's edition"
    documents = _documents() | course_pages(edition == "instructor")
    executed = {name for run in runs for name in run.notebooks}
    bare = {f"notebooks/{path.name}": path for path in sorted((ROOT / "notebooks").glob("*.ipynb")) if path.stem not in executed}
    links = _links(source, documents, runs, bare)
    for page, text in documents.items():
        _write(source / page, links.in_markdown(text, page))
    for page, path in bare.items():
        _write(source / page, chapters.page_of(path, page, links))
    for run in runs:
        _write_run(source, run, links, with_slides)
    proof = _write_proof(source, runs)
    contents = {
        "Runs": [*(f"{run.name}/index" for run in runs), *(["proof"] if proof else [])],
        "Course": [page for page in COURSE if page in documents],
        "Reference": [page for page in REFERENCE if page in documents],
        "Chapters without a run": list(bare),
        "Documents": _rest(documents),
    }
    front = PAGES.get_template("index.md.j2").render(title=title, runs=runs, proof=proof, contents=contents, course=COURSE[0] in documents)
    _write(source / "index.md", front)
    for sheet in (files("runbook_lib") / "style.css", *(files(__package__) / "templates" / name for name in ("book.css", "slides.css"))):
        _write(source / "_static" / sheet.name, sheet.read_text(encoding="utf-8"))
    (source / "_extra").mkdir(exist_ok=True)
    return title


def _links(source: Path, documents: Iterable[str], runs: Sequence[BookRun], bare: Iterable[str]) -> Links:
    """Return where links lead: a chapter is the page of the first run that executed it, else the chapter without a run."""
    pages: dict[str, tuple[str, ...]] = {}
    for page in (*(f"{run.name}/{name}.ipynb" for run in runs for name in run.notebooks), *bare):
        pages[Path(page).stem] = (*pages.get(Path(page).stem, ()), page)
    every = frozenset([*documents, *(page for found in pages.values() for page in found), "index.md", "proof.md"])
    instead = {"docs/example/README.md": "index.md"} | {f"exercises/{part}.ipynb": page for part in PARTS if (page := f"course/{part}.md") in every}
    return Links(source, ROOT, every, pages, instead)


def _rest(documents: Iterable[str]) -> list[str]:
    """Return the documents that stand below no other caption, those of `DOCUMENTS` first. Decisions and the course have contents of their own."""
    rest = [page for page in documents if page not in (*COURSE, *REFERENCE, *DOCUMENTS) and not page.startswith((f"{DECISIONS}/", "course/"))]
    return [*(page for page in DOCUMENTS if page in documents), *rest]


def _write(path: Path, text: str) -> None:
    """Write a page of the source without the values of secrets and without this machine's paths."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(redact(text), encoding="utf-8")


def _documents() -> dict[str, str]:
    """Return the documents of the repository, as far as there are any here, and the pages that are made from the code, by their path."""
    docs = ROOT / "docs"
    paths = [ROOT / name for name in AT_THE_TOP] + [path for path in sorted(docs.rglob("*.md")) if "example" not in path.relative_to(docs).parts]
    found = {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in paths if path.is_file()}
    if "README.md" in found:  # the front page of the book has its title
        found["README.md"] = f"# About this project\n{found['README.md'].partition(chr(10))[2]}"
    found["docs/parameters.md"] = as_markdown(Spec.reference())
    found["docs/notebook-api.md"] = reference_page()
    if any(page.startswith(f"{DECISIONS}/") for page in found):
        found[f"{DECISIONS}/index.md"] = "# Decisions\n\n```{toctree}\n:glob:\n\n0*\n```\n"
    return found


def _write_run(source: Path, run: BookRun, links: Links, with_slides: bool) -> None:
    """Write a run's page, its chapters, its picture and its report."""
    folder = source / run.name
    for name, path in sorted(run.notebooks.items()):
        page = f"{run.name}/{name}.ipynb"
        _write(folder / f"{name}.ipynb", chapters.page_of(path, page, links, f"{run.banner} (run {path.parent.name})"))
    if run.picture:
        _write(folder / "topology.svg", run.picture)
    if run.report:
        _write(source / "_extra" / run.name / "report.html", run.report.read_text(encoding="utf-8"))
    shown = [name for name in sorted(run.notebooks) if with_slides and name in slides.LECTURES]
    _write(folder / "index.md", PAGES.get_template("run.md.j2").render(run=run, pages=sorted(run.notebooks), slides=shown))


def _write_proof(source: Path, runs: Sequence[BookRun]) -> bool:
    """Write the page of the proof with the screenshots of its runs, and return whether there is one."""
    sides = sides_of([run.folder for run in runs])
    homes = {run.proof: run.name for run in runs}
    for side in sides:
        for picture in side.pictures:
            target = source / "_extra" / homes[side.folder] / "screenshots" / picture.path.name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(picture.path, target)
    if sides:
        _write(source / "proof.md", PAGES.get_template("proof.md.j2").render(homes=homes, **proof_facts(sides)))
    return bool(sides)
