"""Puts the book's source together and lets Sphinx render it. The result can be read from `file://`."""

from __future__ import annotations

import io
import os
import re
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from runbook_lib.errors import RunbookError
from runbook_lib.headless.book import slides as slides_
from runbook_lib.headless.book.runs import chosen
from runbook_lib.headless.book.source import Edition, write_source
from runbook_lib.headless.book.sphinx_settings import settings

MARK = ".runbook-book"  # a folder with this file in it is a book of ours, which a new one may replace


def build_book(runs: Sequence[Path], out: Path, edition: Edition = "learner", slides: bool = False, strict: bool = False) -> Path:
    """Make the book of `runs` (without any: of each deployment the newest run) in the folder `out`, and return `out`.

    `edition`: with `instructor` the exercises have hints, solutions and what usually goes wrong; `slides`: with pages for a lecture beside the
    chapters that verify; `strict`: whatever Sphinx warns of is an error. A book that is in `out` already is replaced once the new one is whole.
    Raises RunbookError when there is no executed chapter, when `out` holds something else, and when Sphinx fails or is not installed.
    """
    taken = chosen(runs)
    _refuse_other(out)
    out = out.resolve()
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as folder:
        source, made = Path(folder, "source"), Path(folder, "book")
        title = write_source(source, taken, edition, slides)
        _render(source, made, Path(folder, "doctrees"), title, strict)
        _repair(made)
        for run in taken if slides else ():
            slides_.write_slides(made, run.name)
        (made / MARK).write_text(f"{title}\n", encoding="utf-8")
        if out.exists():
            shutil.rmtree(out)
        os.replace(made, out)
    return out


# What a screen reader misses in the theme's pages, and what is there instead.
REPAIRS = (
    ('<summary><span class="toctree-toggle"', '<summary aria-label="the pages below"><span class="toctree-toggle"'),
    ('<div id="pst-primary-sidebar" class', '<div id="pst-primary-sidebar" role="navigation" aria-label="the book" class'),
    ('<div class="output text_html">', '<div class="output text_html" tabindex="0">'),  # wide tables scroll: with the keyboard as well
)


def _repair(book: Path) -> None:
    """Replace in every page what hinders people who do not see it or have no mouse, and remove what only Sphinx needs."""
    for path in book.rglob("*.html"):
        text = path.read_text(encoding="utf-8")
        for old, new in REPAIRS:
            text = text.replace(old, new)
        path.write_text(text, encoding="utf-8")
    for left in (".doctrees", ".buildinfo", "objects.inv", "_sources"):
        path = book / left
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def _refuse_other(out: Path) -> None:
    """Raise RunbookError unless `out` is absent, an empty folder, or a book that was made here."""
    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not (out / MARK).is_file())):
        raise RunbookError("there is something else, which the book would replace", str(out), "name another folder with --out, or remove this one yourself")


def _render(source: Path, out: Path, cache: Path, title: str, strict: bool) -> None:
    """Let Sphinx make the HTML. Raises RunbookError when it fails, and with `strict` when it warns."""
    try:
        from sphinx.application import Sphinx
        from sphinx.errors import SphinxError
        from sphinx.util.docutils import docutils_namespace, patch_docutils
    except ImportError as error:
        raise RunbookError("the book needs Sphinx", str(error), "pip install 'wso2-cluster-runbook[book]'; ./runbook installs it by itself") from error
    warnings = io.StringIO()
    try:
        with patch_docutils(str(source)), docutils_namespace():
            app = Sphinx(source, None, out, cache, "html", settings(title), status=None, warning=warnings, freshenv=True)
            app.build()
    except SphinxError as error:
        raise RunbookError(f"Sphinx could not make the book: {error}", str(source), "correct the document that it names") from error
    said = re.sub(r"\x1b\[[\d;]*m", "", warnings.getvalue()).replace(f"{source}/", "").strip()  # without its colours
    if strict and said:
        raise RunbookError("Sphinx warns", said, "correct these documents")
