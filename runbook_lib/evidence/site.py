"""A static site from executed chapters: nbconvert renders them, this puts them into order. Reads well from `file://`."""

from __future__ import annotations

import html
import json
import re
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from runbook_lib.errors import RunbookError
from runbook_lib.evidence import journal as journals
from runbook_lib.evidence import runs as runs_
from runbook_lib.evidence.report import svg_of
from runbook_lib.evidence.site_proof import proof_body, proof_words
from runbook_lib.spec.chapters import CHAPTERS, chapters_of
from runbook_lib.spec.model import Spec
from runbook_lib.spec.patterns import STORIES
from runbook_lib.tables import html_table

STYLE = files("runbook_lib") / "style.css"
FOREIGN = re.compile(r"<(script|link)\b[^>]*\b(src|href)=[\"']?https?:[^>]*>(\s*</script>)?", re.IGNORECASE)
MERMAID = re.compile(r'<script type="module">(?:(?!</script>).)*mermaid.*?</script>', re.DOTALL)  # fetched from a CDN
GLOSSARY = {
    "assertion": "the identity provider's signed word that somebody signed in; the browser carries it to an application",
    "allow-list": "the requests that a browser needs of a host; everything else is refused",
    "drift": "what differs on a machine from what the parameters say, whoever changed it",
    "first boot": "a node's first start on empty databases; nodes take it one after the other",
    "hardening": "how many of the measures that separate Store and Publisher are in place",
    "identity provider": "the part of the product that asks for the password and tells the applications who signed in",
    "manager, worker": "Application Server: one node deploys and carries the console, the others serve",
    "plan": "the difference between the machines and the wish; looking at it changes nothing",
    "practice pack": "the lab's stand-in for a WSO2 product: same files, same behaviour where a cluster touches it",
    "probe": "a small machine that belongs to no trusted group, to try what a stranger in the network could reach",
    "route cookie": "Nginx's own cookie, by which a browser stays on one node",
    "Store, Publisher": "the two applications of Governance Registry: everybody looks things up in the one, a few put them in by the other",
    "tier": "the nodes that stand in for each other: all Store nodes, all Publisher nodes",
}
WORDS = "<p>Keys are dotted here, as <code>--set</code> and <code>overrides</code> take them; in a params file they are nested.</p>"
SEARCH = """
const field = document.getElementById('search'), found = document.getElementById('found');
field.addEventListener('input', () => {
  const words = field.value.toLowerCase().split(/\\s+/).filter(Boolean);
  const hits = words.length ? INDEX.filter(e => words.every(w => e.text.includes(w))) : [];
  found.replaceChildren(...hits.slice(0, 30).map(e => {
    const item = document.createElement('li'), link = document.createElement('a');
    link.href = e.href; link.textContent = e.title; item.append(link); return item;
  }));
  if (words.length && !hits.length) found.append('Nothing has all of these words.');
});
"""


@dataclass(frozen=True)
class Page:
    """One page of the site: where it lies, what it is called, what can be found on it."""

    href: str
    title: str
    text: str


def build_site(runs: Sequence[Path], out: Path) -> Path:
    """Render the executed chapters of `runs` (default: the newest run with notebooks of each deployment) below `out`.

    Raises RunbookError when there is no executed chapter to show.
    """
    chosen = [run.resolve() for run in runs] or list(_newest())
    if not any(any(run.glob("*.ipynb")) for run in chosen):
        raise RunbookError("there are no executed chapters to make a site of", str(runs_.runs_folder()),
                           "run a pattern first: ./runbook run params/greg-separated.lab.yaml")  # fmt: skip
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    pages = [page for run in chosen for page in _run_pages(run, out)]
    proof = _proof(chosen, out)
    pages += [*proof, _parameters(out)]
    _index(chosen, pages, out, proof)
    return out


def _newest() -> Iterable[Path]:
    """Of each deployment the newest of the runs that executed the most chapters."""
    for folder in sorted(runs_.runs_folder().glob("*/")):
        runs = [run for run in sorted(folder.glob("2*T*Z*")) if any(run.glob("*.ipynb"))]
        if runs:
            yield max(runs, key=lambda run: (len(list(run.glob("*.ipynb"))), run.name))


def _run_pages(run: Path, out: Path) -> Iterable[Page]:
    """The chapters of one run, and its report."""
    folder = out / run.parent.name
    folder.mkdir(exist_ok=True)
    for notebook in sorted(run.glob("*.ipynb")):
        body, text = _render(notebook)
        (folder / f"{notebook.stem}.html").write_text(body, encoding="utf-8")
        title = CHAPTERS[notebook.stem].title if notebook.stem in CHAPTERS else notebook.stem
        yield Page(f"{folder.name}/{notebook.stem}.html", f"{folder.name}: {notebook.stem[:2]} {title}", text)
    if (run / "report.html").exists():
        report = (run / "report.html").read_text(encoding="utf-8")
        (folder / "report.html").write_text(report, encoding="utf-8")
        yield Page(f"{folder.name}/report.html", f"{folder.name}: report", _words(report))


def _render(notebook: Path) -> tuple[str, str]:
    """A chapter as one page that loads nothing from elsewhere, and the words on it; links lead to pages of the site."""
    import nbformat
    from nbconvert import HTMLExporter

    book = nbformat.read(notebook, as_version=4)
    title = notebook.stem.replace("_", " ")
    body, _ = HTMLExporter(template_name="lab").from_notebook_node(book, {"metadata": {"name": title}})
    body = MERMAID.sub("", FOREIGN.sub("", body))
    there = {path.stem for path in notebook.parent.glob("*.ipynb")}
    body = re.sub(r'href="(\w+)\.ipynb"', lambda m: f'href="{m[1]}.html"' if m[1] in there else 'href="../index.html"', body)
    body = re.sub(r'href="\.\./docs/parameters\.md(#[\w.]+)?"', lambda m: f'href="../parameters.html{m[1] or ""}"', body)
    body = re.sub(r'href="\.\./docs/[^"]*"', 'href="../index.html"', body)
    home = '<p style="padding:.5em 2em"><a href="../index.html">All chapters</a></p>'
    body = re.sub(r"(<body[^>]*>)", lambda m: m[1] + home, body, count=1)
    return journals.redact(body), _words(body)


def _words(page: str) -> str:
    """What stands on a page, for the search: no tags, no styles, no pictures."""
    page = re.sub(r"<(script|style|svg)\b.*?</\1>", " ", page, flags=re.DOTALL | re.IGNORECASE)
    page = re.sub(r"<[^>]+>", " ", page)
    return " ".join(sorted(set(html.unescape(page).lower().split())))[:40_000]


def _proof(runs: Sequence[Path], out: Path) -> list[Page]:
    """Leak and repair side by side, when a run came to a verdict."""
    body = proof_body(runs, out)
    if not body:
        return []
    page = _page("The proof", body)
    (out / "proof.html").write_text(page, encoding="utf-8")
    return [Page("proof.html", f"The proof: {proof_words(runs)}", _words(page))]


def _parameters(out: Path) -> Page:
    """The reference of the parameters, from the model that reads them."""
    rows = [(r.key, r.description, r.default_words, " ".join(filter(None, [r.allowed, r.unit]))) for r in Spec.reference()]
    table = html_table(("Key", "Meaning", "Default", "Allowed"), rows)
    for key in (row[0] for row in rows):  # where an error's card leads to
        table = table.replace(f'<td style="text-align:left">{key}</td>', f'<td id="{key}" style="text-align:left">{key}</td>', 1)
    page = _page("Parameters", f'<p><a href="index.html">All chapters</a></p><h1>Every parameter</h1>{WORDS}{table}')
    (out / "parameters.html").write_text(page, encoding="utf-8")
    return Page("parameters.html", "Parameters: every key", _words(page))


def _index(runs: Sequence[Path], pages: Sequence[Page], out: Path, proof: Sequence[Page]) -> None:
    compared = "".join(f'<p><strong><a href="{page.href}">{html.escape(page.title)}</a></strong></p>' for page in proof)
    sections = "".join(_section(run) for run in runs)
    terms = "".join(f"<dt>{html.escape(term)}</dt><dd>{html.escape(words)}</dd>" for term, words in GLOSSARY.items())
    index = json.dumps([{"href": p.href, "title": p.title, "text": p.text} for p in pages]).replace("</", "<\\/")
    body = (
        "<h1>The WSO2 cluster runbook</h1><p>Chapters as they were executed, with what they found.</p>"
        '<p><label>Search <input id="search" type="search"></label></p><ul id="found" aria-live="polite"></ul>'
        f'{compared}{sections}<h2>Reference</h2><p><a href="parameters.html">Every parameter</a></p><h2>Glossary</h2><dl>{terms}</dl>'
        f"<script>const INDEX = {index};{SEARCH}</script>"
    )
    (out / "index.html").write_text(_page("The WSO2 cluster runbook", body), encoding="utf-8")


def _section(run: Path) -> str:
    """One deployment: what it is, what was found, its chapters in order, what a person saw."""
    result: dict[str, Any] = runs_.summarise(runs_.read(run))
    name, pattern = run.parent.name, str(result["pattern"])
    verdict = f"; verdict: {result['verdict']} (expected: {result['expect']})" if result["verdict"] else ""
    order = [c.name for c in chapters_of(pattern)] if pattern in STORIES else []
    links = "".join(
        f'<li><a href="{name}/{chapter}.html">{chapter[:2]} {CHAPTERS[chapter].title}</a></li>' for chapter in order if (run / f"{chapter}.ipynb").exists()
    )
    mark = "✔ as expected" if result["ok"] else "✘ not as expected"
    story = f"<p>Pattern <strong>{html.escape(pattern)}</strong>: {html.escape(STORIES[pattern])}.</p>" if pattern in STORIES else ""
    drawn = svg_of(run)
    picture = f'<figure class="rb-picture">{drawn}</figure>' if drawn else ""
    report = f'<p><a href="{name}/report.html">Report</a></p>' if (run / "report.html").exists() else ""
    found = f"<p><strong>{mark}</strong>{html.escape(verdict)}</p>"
    return f'<h2>{html.escape(name)}</h2>{story}{picture}{found}<ol class="chapters">{links}</ol>{report}'


def _page(title: str, body: str) -> str:
    style = "body{font:15px/1.5 system-ui,sans-serif;max-width:64rem;margin:0 auto;padding:1.5rem}:root{color-scheme:light dark}"
    style += ".chapters{list-style:none;padding-left:1.5rem}@media(max-width:48rem){.rb-table{display:block;overflow-x:auto}.rb-table td{min-width:9em}}"
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{html.escape(title)}</title>'
    sheet = f"<style>{style}{STYLE.read_text(encoding='utf-8')}</style>"
    return journals.redact(f'<!doctype html><html lang="en"><head>{head}{sheet}</head><body><main>{body}</main></body></html>')
