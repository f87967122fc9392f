"""axe-core's judgement of a page: what hinders people who do not see it, see it badly, or have no mouse."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any

AXE = files("axe_playwright_python") / "axe.min.js"
WEIGHTY = ("critical", "serious", "moderate")


def hindrances(page: Any, within: str = "html") -> list[str]:
    """What axe finds in the parts of a page that the selector names, a line each; what it calls minor is left out."""
    page.evaluate(AXE.read_text(encoding="utf-8"))
    found = page.evaluate("within => axe.run({include: [[within]]}, {resultTypes: ['violations']})", within)
    return [f"{each['impact']}: {each['id']}: {node['html'][:200]}" for each in found["violations"] if each["impact"] in WEIGHTY for node in each["nodes"]]


def pages_of(book: Path) -> list[Path]:
    """The pages of a book; not the pieces of pages that its theme keeps with its own files."""
    return [path for path in sorted(book.rglob("*.html")) if "_static" not in path.parts]
