"""Slides for a lecture, made of the pages of the chapters that verify. Which part is a slide follows from rules and not from marks in the notebook.

A heading begins a slide, with its prose and its code; what a cell showed is a slide of its own below the same heading. reveal.js, which nbconvert
would load from elsewhere, is not used: the few lines of script in `slides.html.j2` turn the pages, and without a script all slides stand below each other.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lxml import etree, html

from runbook_lib.errors import RunbookError
from runbook_lib.headless.book.pages import PAGES

LECTURES = ("06_verify_as_cluster", "07_verify_sso_separation")


@dataclass(frozen=True)
class Slide:
    """One slide: the title above it, the anchor that it had in the chapter ("" where it goes on), and its content as HTML."""

    title: str
    anchor: str
    content: str


def slides_of(page: str) -> list[Slide]:
    """Return the slides of a chapter's page as Sphinx made it. Raises RunbookError when the page is none of a chapter."""
    tops: Any = html.fromstring(page).xpath("//article//section[h1]")
    if not tops:
        raise RunbookError("this page has no chapter to make slides of", "section with h1", "the theme was changed: see runbook_lib/headless/book/slides.py")
    return list(_slides(tops[0]))


def _slides(section: Any) -> Iterator[Slide]:
    """Yield the slides of a section, then those of the sections in it."""
    heading = section.xpath("h1|h2|h3|h4")[0]
    title = heading.text_content().strip().removesuffix("#")
    text: list[str] = []
    shown: list[str] = []
    for part in section:
        if part is heading or part.tag == "section" or not isinstance(part.tag, str):
            continue
        outputs = part.xpath(".//div[contains(@class, 'cell_output')]")
        shown += [_markup(output) for output in outputs]
        for output in outputs:
            output.getparent().remove(output)
        text.append(_markup(part))
    yield Slide(title, section.get("id", ""), "".join(text))
    yield from (Slide(title, "", output) for output in shown)
    for inner in section.xpath("section"):
        yield from _slides(inner)


def _markup(part: Any) -> str:
    """Return an element as HTML, without the text that follows it."""
    alone = deepcopy(part)
    alone.tail = None
    return str(etree.tostring(alone, method="html", encoding="unicode"))


def write_slides(book: Path, folder: str) -> list[Path]:
    """Write the slides of a run's chapters beside their pages in the finished book, and return their files. `folder`: the run's."""
    made = []
    for name in LECTURES:
        chapter = book / folder / f"{name}.html"
        if chapter.is_file():
            slides = slides_of(chapter.read_text(encoding="utf-8"))
            path = chapter.with_suffix(".slides.html")
            path.write_text(PAGES.get_template("slides.html.j2").render(slides=slides, run=folder, chapter=chapter.name), encoding="utf-8")
            made.append(path)
    return made
