"""The site: every link leads somewhere on it, nothing is loaded from elsewhere, and what is searched is found."""

from __future__ import annotations

import json
import re
from pathlib import Path

import nbformat
import pytest

from runbook_lib.check import Check
from runbook_lib.errors import ParamsError, RunbookError
from runbook_lib.evidence import report
from runbook_lib.evidence.journal import Journal
from runbook_lib.evidence.site import build_site
from runbook_lib.notebook.error_card import error_card
from runbook_lib.redaction import redactor
from runbook_lib.spec.loader import load_spec

SECRET = "site-secret-0123456789"

pytestmark = pytest.mark.slow  # nbconvert


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "runs" / "demo" / "20260101T000000Z"
    journal = Journal(folder, {"deployment": "demo", "pattern": "greg-separated", "expect": "separated"})
    journal.write("05_configure_nginx", "chapter")
    journal.verdict("07_verify_sso_separation", "separated", "separated", True)
    for name in ("05_configure_nginx", "07_verify_sso_separation"):
        cells = [
            nbformat.v4.new_markdown_cell("# Title\n\n[next](07_verify_sso_separation.ipynb) [gone](99_tear_down.ipynb)"),
            nbformat.v4.new_code_cell("1", outputs=[nbformat.v4.new_output("stream", text=f"stickiness {SECRET}")], execution_count=1),
        ]
        nbformat.write(nbformat.v4.new_notebook(cells=cells), folder / f"{name}.ipynb")
    report.finish(journal)
    return folder


def test_every_link_leads_somewhere_on_the_site(run: Path, tmp_path: Path) -> None:
    site = build_site([run], tmp_path / "site")
    pages = list(site.rglob("*.html"))
    assert len(pages) == 6
    for page in pages:
        links = re.findall(r'<a\b[^>]*?href="([^"]+)"', page.read_text())
        assert links
        for link in links:
            target = link.partition("#")[0]
            assert not target or (page.parent / target).resolve().is_file(), f"{page.name}: {link}"


def test_the_index_shows_each_pattern_as_its_run_drew_it(run: Path, tmp_path: Path) -> None:
    (run / "topology.svg").write_text("<svg><title>six machines</title></svg>")
    index = (build_site([run], tmp_path / "site") / "index.html").read_text()
    assert '<figure class="rb-picture"><svg><title>six machines</title></svg></figure>' in index
    assert "Pattern <strong>greg-separated</strong>" in index


def test_the_reference_says_what_is_required_and_shows_defaults_as_a_params_file_has_them(run: Path, tmp_path: Path) -> None:
    page = (build_site([run], tmp_path / "site") / "parameters.html").read_text()
    cells = {key: default for key, default in re.findall(r'<td id="([\w.]+)"[^>]*>[^<]*</td><td[^>]*>[^<]*</td><td[^>]*>([^<]*)</td>', page)}
    assert (cells["deployment"], cells["clustering"], cells["publisher_allow_cidr"], cells["hosts"]) == ("required", "true", "[0.0.0.0/0]", "")
    assert "<h1>" in page


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


PNG = b"\x89PNG\r\n\x1a\nnobody looks into it"


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
    nbformat.write(
        nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# 07 Verify\n[00](00_start_here.ipynb)")]), run / "07_verify_sso_separation.ipynb"
    )
    report.finish(journal)
    return run


LEAKING = {"click": "leak: in the Publisher", "path": "held: refused", "side-door": "leak: a session", "again": "leak: signed in"}
REPAIRED = {"click": "held: a password is asked for", "path": "held: refused", "side-door": "held: 404", "again": "leak: signed in"}


def test_leak_and_repair_stand_side_by_side_with_the_rows_that_differ_and_both_pictures(tmp_path: Path) -> None:
    redactor.add("site-test", SECRET)
    runs = [proven(tmp_path, "mended", "greg-separated", "separated", REPAIRED), proven(tmp_path, "open", "greg-single", "leaks (2 ways)", LEAKING)]
    site = build_site(runs, tmp_path / "site")
    page = (site / "proof.html").read_text()
    assert page.index("✘ leak: ") < page.index("✔ repair: ")
    assert page.index("System: ✘ LEAKS (2 ways)") < page.index("System: ✔ SEPARATED")
    rows = re.findall(r"<tr><td[^>]*>The attempt ([\w-]+)</td><td[^>]*>([^<]*)</td><td[^>]*>([^<]*)</td>", page)
    assert rows[:-1] == [
        ("click", "✘ leak: in the Publisher", "✔ held: a password is asked for"),
        ("side-door", "✘ leak: a session", "✔ held: 404"),
    ]
    assert "2 attempts came out otherwise; 1 that both deployments made came out alike" in page
    assert "2 of 3 attempts got through; 1 of 1 limit of the product open" in page  # the verdict's number: a limit is counted apart
    assert "0 of 3 attempts got through; 1 of 1 limit of the product open" in page
    assert "<tr><td>The attempt again</td><td>△ open: leak: signed in</td><td>△ open: leak: signed in</td></tr>" in page
    sources = re.findall(r'<img src="([^"]+)"', page)
    assert sources == ["open/screenshots/a-user-opens-the-publisher.png", "mended/screenshots/a-user-opens-the-publisher.png"]
    assert all((site / source).read_bytes() == PNG for source in sources)
    assert SECRET not in page
    assert str(tmp_path) not in page
    assert '<a href="proof.html">The proof: leak and repair side by side</a>' in (site / "index.html").read_text()


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
    site = build_site([proven(tmp_path, "alone", pattern, verdict, outcomes, pictures=False)], tmp_path / "site")
    page = (site / "proof.html").read_text()
    assert words in page
    assert all(f"The attempt {id_}" in page for id_ in outcomes)
    assert "No browser was installed" in page
    assert "side by side" not in (site / "index.html").read_text()


def test_a_proof_that_is_not_decided_is_on_neither_side(tmp_path: Path) -> None:
    site = build_site([proven(tmp_path, "open-question", "greg-single", "not decided", {"click": "undecided: no answer"})], tmp_path / "site")
    page = (site / "proof.html").read_text()
    assert '<div class="side ' not in page
    assert "not decided" in page


def test_a_cards_links_lead_to_the_key_on_the_sites_reference(run: Path, tmp_path: Path) -> None:
    with pytest.raises(ParamsError) as caught:
        load_spec("params/greg-separated.lab.yaml", {"cloud.disk_gb": 5})
    output = nbformat.v4.new_output("display_data", data={"text/html": error_card(caught.value)})
    cells = [nbformat.v4.new_markdown_cell("## Parameters"), nbformat.v4.new_code_cell("1", outputs=[output])]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), run / "05_configure_nginx.ipynb")
    site = build_site([run], tmp_path / "site")
    page = (site / "demo" / "05_configure_nginx.html").read_text()
    assert 'href="../parameters.html#cloud.disk_gb"' in page
    assert 'id="cloud.disk_gb"' in (site / "parameters.html").read_text()
    assert 'href="#Parameters"' in page
    assert 'id="Parameters"' in page
