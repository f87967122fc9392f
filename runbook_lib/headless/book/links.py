"""Links of documents and chapters, led to the book's own pages.

A link that leads to nothing of the book keeps its words and is no link any more; a file of the repository that is no page is copied.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

FRONT = "index.md"
IN_MARKDOWN = re.compile(r"\[(?P<label>(?:!\[[^\[\]]*\]\([^()]*\)|[^\[\]])*)\]\((?P<link>[^()\s]+)\)")
IN_HTML = re.compile(r'href="(?P<link>[^"]+)"')
ELSEWHERE = re.compile(r"(?:[a-z]+:|//)", re.IGNORECASE)


@dataclass(frozen=True)
class Links:
    """Where links of the book lead. All paths are relative to the book's source, which is laid out as the repository is.

    `source`: the book's source; `root`: the repository; `pages`: the pages of the book; `chapters`: for each chapter's name its pages, the
    preferred one first; `instead`: the pages that stand for other documents of the repository.
    """

    source: Path
    root: Path
    pages: frozenset[str]
    chapters: Mapping[str, tuple[str, ...]]
    instead: Mapping[str, str]

    def in_markdown(self, text: str, page: str) -> str:
        """Return the Markdown of a page with its links led to pages and files of the book."""

        def led(found: re.Match[str]) -> str:
            label = self.in_markdown(found["label"], page) if "](" in found["label"] else found["label"]
            link = self._led(found["link"], page)
            return f"[{label}]({link})" if link else label

        return IN_MARKDOWN.sub(led, text)

    def in_html(self, text: str, page: str) -> str:
        """Return the HTML of a page with its links led to the book's HTML files; what leads nowhere goes to the front page."""

        def led(found: re.Match[str]) -> str:
            link = self._led(found["link"], page) or os.path.relpath(FRONT, PurePosixPath(page).parent)
            return f'href="{link}"' if ELSEWHERE.match(link) else f'href="{re.sub(r"[.](md|ipynb)(?=#|$)", ".html", link)}"'

        return IN_HTML.sub(led, text)

    def _led(self, link: str, page: str) -> str:
        """Return the link as it is to stand on `page`; "" when it leads to nothing of the book."""
        if ELSEWHERE.match(link):
            return link
        path, _, anchor = link.partition("#")
        target = self._target(path, page) if path else page
        if not target:
            return ""
        # JupyterLab's anchors of headings keep their capitals, those of Sphinx do not; keys of parameters are as they are
        anchor = anchor.lower() if target.endswith(".ipynb") else anchor
        beside = os.path.relpath(target, PurePosixPath(page).parent) if path else ""
        return f"{beside}#{anchor}" if anchor else beside

    def _target(self, path: str, page: str) -> str:
        """Return the page or file that a relative path on `page` means."""
        meant = os.path.normpath(PurePosixPath(page).parent / path)
        if meant in self.pages:
            return meant
        if meant in self.instead:
            return self.instead[meant]
        name = PurePosixPath(meant).stem
        if meant.endswith(".ipynb") and name in self.chapters:
            near = [one for one in self.chapters[name] if PurePosixPath(one).parent.name == PurePosixPath(meant).parent.name]
            return (near or list(self.chapters[name]))[0]
        if not meant.startswith("..") and not meant.endswith((".md", ".ipynb")) and (self.root / meant).is_file():
            copy = self.source / meant
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self.root / meant, copy)
            return meant
        return ""
