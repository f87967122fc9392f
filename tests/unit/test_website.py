"""The site: every link leads somewhere on it, nothing is loaded from elsewhere, and what is searched is found."""

from __future__ import annotations

import json
import re
from pathlib import Path

import nbformat
import pytest

from runbook_lib.errors import RunbookError
from runbook_lib.journal import Journal
from runbook_lib.vault import redactor
from runbook_lib.website import build_site

SECRET = "site-secret-0123456789"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "runs" / "demo" / "20260101T000000Z"
    journal = Journal(folder, {"deployment": "demo", "pattern": "greg-separated", "expect": "separated"})
    journal.write("05_configure_nginx", "chapter")
    journal.verdict("07_verify_sso_separation", "separated", True)
    for name in ("05_configure_nginx", "07_verify_sso_separation"):
        cells = [
            nbformat.v4.new_markdown_cell("# Title\n\n[next](07_verify_sso_separation.ipynb) [gone](99_tear_down.ipynb)"),
            nbformat.v4.new_code_cell("1", outputs=[nbformat.v4.new_output("stream", text=f"stickiness {SECRET}")], execution_count=1),
        ]
        nbformat.write(nbformat.v4.new_notebook(cells=cells), folder / f"{name}.ipynb")
    journal.finish()
    return folder


def test_every_link_leads_somewhere_on_the_site(run: Path, tmp_path: Path) -> None:
    site = build_site([run], tmp_path / "site")
    pages = list(site.rglob("*.html"))
    assert len(pages) == 5
    for page in pages:
        links = re.findall(r'<a\b[^>]*?href="([^"]+)"', page.read_text())
        assert links
        for link in links:
            target = link.partition("#")[0]
            assert not target or (page.parent / target).resolve().is_file(), f"{page.name}: {link}"


def test_no_page_loads_anything_from_elsewhere(run: Path, tmp_path: Path) -> None:
    for page in build_site([run], tmp_path / "site").rglob("*.html"):
        text = page.read_text()
        assert not re.search(r"<(script|link|img|iframe)\b[^>]*\b(src|href)=[\"']?(https?:)?//", text, re.IGNORECASE)
        assert not re.search(r"url\([\"']?https?:|@import|\bimport\(|from [\"']https?:", text)


def test_the_search_knows_chapters_and_parameters(run: Path, tmp_path: Path) -> None:
    text = (build_site([run], tmp_path / "site") / "index.html").read_text()
    index = json.JSONDecoder().raw_decode(text[text.index("const INDEX = ") + len("const INDEX = ") :])[0]
    found = {word: [e["href"] for e in index if word in e["text"]] for word in ("stickiness", "publisher_allow_cidr")}
    assert "demo/05_configure_nginx.html" in found["stickiness"]
    assert found["publisher_allow_cidr"] == ["parameters.html"]


def test_no_secret_reaches_the_site(run: Path, tmp_path: Path) -> None:
    redactor.add("site-test", SECRET)
    for page in build_site([run], tmp_path / "site").rglob("*.html"):
        assert SECRET not in page.read_text(), page.name


def test_without_executed_chapters_it_says_what_to_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNBOOK_RUNS", str(tmp_path))
    with pytest.raises(RunbookError, match="no executed chapters"):
        build_site([], tmp_path / "site")
