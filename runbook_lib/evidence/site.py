"""A static site from executed chapters: nbconvert renders them, `site.html.j2` has the other pages. It can be read from `file://`."""

from __future__ import annotations

import html
import re
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment

from runbook_lib.errors import RunbookError
from runbook_lib.evidence import continuity, provenance
from runbook_lib.evidence import journal as journals
from runbook_lib.evidence import runs as runs_
from runbook_lib.evidence.comparison import KINDS, RunProof, finding
from runbook_lib.evidence.report import svg_of
from runbook_lib.spec.chapters import CHAPTERS, chapters_of
from runbook_lib.spec.model import Spec
from runbook_lib.spec.patterns import PATTERNS, STORIES

TEMPLATE = files(__package__) / "site.html.j2"
STYLE = files("runbook_lib") / "style.css"
FOREIGN = re.compile(r"<(script|link)\b[^>]*\b(src|href)=[\"']?https?:[^>]*>(\s*</script>)?", re.IGNORECASE)
MERMAID = re.compile(r'<script type="module">(?:(?!</script>).)*mermaid.*?</script>', re.DOTALL)  # fetched from a CDN


@dataclass(frozen=True)
class Page:
    """One page of the site: its relative address, its title, and the words for the search."""

    href: str
    title: str
    text: str


def build_site(runs: Sequence[Path], out: Path) -> Path:
    """Render the executed chapters of `runs` below `out` and return `out`. Whatever was in `out` is removed.

    Chapters that a run did not execute are taken from the deployment's earlier runs. Without `runs`: of each deployment the newest run that
    executed a chapter.
    Raises RunbookError when there is no executed chapter to show.
    """
    chosen = [run.resolve() for run in runs] or list(_newest())
    if not any(continuity.notebooks(run) for run in chosen):
        raise RunbookError("there are no executed chapters to make a site of", str(runs_.runs_folder()),
                           "run a pattern first: ./runbook run params/greg-separated.lab.yaml")  # fmt: skip
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    pages = [page for run in chosen for page in _run_pages(run, out)]
    sides = sides_of([continuity.proof_run(run) or run for run in chosen])
    proof = _write(out, "proof", "The proof", **proof_facts(sides)) if sides else None
    _copy_pictures(sides, out)
    pages += [*([proof] if proof else []), _write(out, "parameters", "Parameters: every key", keys=Spec.reference())]
    _write(out, "index", "The WSO2 cluster runbook", pages=[vars(page) for page in pages], proof=proof, sections=list(map(_section, chosen)), two=_both(sides))
    return out


def _newest() -> Iterable[Path]:
    """Yield, for each deployment, the newest of the runs with executed chapters."""
    for folder in sorted(runs_.runs_folder().glob("*/")):
        runs = [run for run in sorted(folder.glob("2*T*Z*")) if any(run.glob("*.ipynb"))]
        if runs:
            yield runs[-1]


def _run_pages(run: Path, out: Path) -> Iterable[Page]:
    """Write the pages of one run (its chapters and its report) and yield each."""
    folder = out / run.parent.name
    folder.mkdir(exist_ok=True)
    there = continuity.notebooks(run)
    for _, notebook in sorted(there.items()):
        body = _render(notebook, set(there))
        (folder / f"{notebook.stem}.html").write_text(body, encoding="utf-8")
        title = CHAPTERS[notebook.stem].title if notebook.stem in CHAPTERS else notebook.stem
        yield Page(f"{folder.name}/{notebook.stem}.html", f"{folder.name}: {notebook.stem[:2]} {title}", _words(body))
    if (run / "report.html").exists():
        report = (run / "report.html").read_text(encoding="utf-8")
        (folder / "report.html").write_text(report, encoding="utf-8")
        yield Page(f"{folder.name}/report.html", f"{folder.name}: report", _words(report))


# Of nbconvert's page: links that are told by more than colour, and words with a contrast of 4.5 to their ground.
LEGIBLE = (
    "a{text-decoration:underline!important}.jp-InputPrompt,.jp-OutputPrompt{color:#595959!important;opacity:1!important}"
    ".highlight .c1,.highlight .c{color:#2f6b6b!important}"
)


def _render(notebook: Path, there: set[str]) -> str:
    """Return a chapter as one HTML page that loads nothing from elsewhere; its links point to pages of the site. `there`: the chapters it has."""
    import nbformat
    from nbconvert import HTMLExporter

    book = nbformat.read(notebook, as_version=4)
    title = notebook.stem.replace("_", " ")
    body, _ = HTMLExporter(template_name="lab").from_notebook_node(book, {"metadata": {"name": title}})
    body = MERMAID.sub("", FOREIGN.sub("", body))
    body = re.sub(r'href="(\w+)\.ipynb"', lambda m: f'href="{m[1]}.html"' if m[1] in there else 'href="../index.html"', body)
    body = re.sub(r'href="\.\./docs/parameters\.md(#[\w.]+)?"', lambda m: f'href="../parameters.html{m[1] or ""}"', body)
    body = re.sub(r'href="\.\./docs/[^"]*"', 'href="../index.html"', body)
    banner = html.escape(provenance.banner(provenance.of_run(runs_.read(notebook.parent))))
    home = f'<header style="padding:.5em 2em"><strong>{banner}</strong> (run {notebook.parent.name})<br><a href="../index.html">All chapters</a></header>'
    light = '<body data-jp-theme-light="true"'  # nbconvert's page is light whatever the reader's scheme; a chapter's own colours follow this
    body = body.replace("</head>", f"<style>{LEGIBLE}</style></head>", 1)
    return journals.redact(re.sub(r"<body([^>]*>)", lambda m: light + m[1] + home, body, count=1))


def _words(page: str) -> str:
    """Return the distinct words of a page for the search, without tags, styles and pictures."""
    page = re.sub(r"<(script|style|svg)\b.*?</\1>", " ", page, flags=re.DOTALL | re.IGNORECASE)
    page = re.sub(r"<[^>]+>", " ", page)
    return " ".join(sorted(set(html.unescape(page).lower().split())))[:40_000]


def _write(out: Path, name: str, title: str, **facts: Any) -> Page:
    """Write the template's page `name` with `facts` as its variables, and return it."""
    template = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(TEMPLATE.read_text(encoding="utf-8"))
    text = journals.redact(template.render(page=name, title=title, sheet=STYLE.read_text(encoding="utf-8"), **facts))
    (out / f"{name}.html").write_text(text, encoding="utf-8")
    return Page(f"{name}.html", title, _words(text))


def _section(run: Path) -> dict[str, Any]:
    """Return the variables of one deployment's section: the result of its run, its picture, and its executed chapters in order."""
    result = runs_.summarise(runs_.read(run)) | continuity.covered(run)
    pattern, there = str(result["pattern"]), continuity.notebooks(run)
    chapters = [chapter for chapter in chapters_of(pattern) if chapter.name in there] if pattern in STORIES else []
    if proof := continuity.proven(run):
        result["statement"], result["proof_run"] = proof[0].as_dict(), proof[1]
    result["banner"] = provenance.banner(result["provenance"])
    report = (run / "report.html").exists()
    return {**result, "name": run.parent.name, "story": STORIES.get(pattern), "picture": svg_of(run), "executed": chapters, "report": report}


def sides_of(runs: Sequence[Path]) -> list[RunProof]:
    """Return the results of the runs that made a proof, leaks first, and within a kind the simplest pattern first."""
    found = [side for run in runs if (side := finding(run)) and side.pattern in PATTERNS]
    order = list(PATTERNS)
    return sorted(found, key=lambda side: (side.kind == "separated", order.index(side.pattern), side.hardening != "full"))


def _both(sides: Sequence[RunProof]) -> bool:
    return {side.kind for side in sides}.issuperset(KINDS)


def proof_facts(sides: Sequence[RunProof]) -> dict[str, Any]:
    """Return the variables of the proof's page: the first result of each kind (`shown`), then every result's verdict (`sides`).

    `rows`: one row per result shown, of the attempts that ended differently (with a single result: of all attempts). `alike`: how many
    attempts that both made ended alike; `alone`: titles of the ways that have no meaning in the other deployment; `limits`: the limits of
    the product that are open: the title, and a cell per result shown.
    """
    shown = [side for kind in KINDS for side in [one for one in sides if one.kind == kind][:1]]
    attempts = [side.of_kind("attempt") for side in shown]
    ids = [id for id in (attempts[0] if attempts else ()) if all(id in each for each in attempts)]
    rows = [[each[id] for each in attempts] for id in ids]
    differ = [row for row in rows if len({one["state"] for one in row}) == len(shown)]
    limits = [side.of_kind("limit") for side in shown]
    return {
        "sides": sides,
        "shown": shown,
        "lacking": [kind for kind in KINDS if all(side.kind != kind for side in shown)],
        "titles": {picture.id: picture.title for side in shown for picture in side.pictures},
        "rows": differ,
        "alike": len(rows) - len(differ),
        "alone": [row["title"] for each in attempts for id, row in each.items() if row["state"] == "leak" and id not in ids],
        "limits": [(row["title"], [each.get(id) for each in limits]) for each in limits[:1] for id, row in each.items()],
    }


def _copy_pictures(sides: Sequence[RunProof], out: Path) -> None:
    for side in sides:
        for picture in side.pictures:
            target = out / side.deployment / "screenshots" / picture.path.name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(picture.path, target)
