"""The report: self-contained, complete for a whole run, and readable for one that was cut short."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

from runbook_lib.charts import timings_chart
from runbook_lib.check import Check
from runbook_lib.evidence.journal import Journal
from runbook_lib.evidence.report import render, write_report
from runbook_lib.webclient.response import Exchange


class Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag not in ("script", "link", "iframe")
        self.found += [value or "" for name, value in attrs if name in ("src", "href", "action", "data", "xlink:href")]


def a_run(folder: Path) -> Journal:
    journal = Journal(folder, {"deployment": "demo", "pattern": "greg-separated", "hardening": "full", "expect": "separated"})
    journal.write("", "run", who="me@here", versions={"boto3": "1"}, params="params/x.yaml", machine="Linux")
    journal.keep("topology.svg", "<svg><title>six machines</title></svg>")
    with journal.attempt("02_install_mysql", "apply"):
        journal.write("02_install_mysql", "change", host="db-1", key="file:/etc/x", change="edit: differs", diff="-old\n+new")
    row = Check("sso.click", "open <the> Publisher", "fail", "refused", "200 & in", "from outside")
    journal.checked("07_verify_sso_separation", [row])
    journal.verdict("07_verify_sso_separation", "leak", "leaks (1 way)", False)
    (folder / "02_install_mysql.ipynb").write_text("{}")
    return journal


def test_the_page_loads_nothing_from_anywhere(tmp_path: Path) -> None:
    a_run(tmp_path / "run").screenshot("07_verify_sso_separation", "publisher", "Publisher", b"png")
    links = Links()
    links.feed(render(tmp_path / "run"))
    assert links.found
    assert all(link.startswith(("#", "data:image/png")) for link in links.found)


def test_the_page_tells_all_that_was_found(tmp_path: Path) -> None:
    a_run(tmp_path / "run")
    page = write_report(tmp_path / "run").read_text()
    for words in (
        "System: ✘ LEAKS", "As expected: ✘ NO (expected: separated)", "six machines", "me@here", "boto3 1", "file:/etc/x", "+new",
        "open &lt;the&gt; Publisher", "200 &amp; in", "✘ fail", "sso.click", "02_install_mysql apply",
        "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a",
    ):  # fmt: skip
        assert words in page, words


def test_an_exchange_of_the_journal_is_a_row_with_its_cookies_in_columns_of_their_own(tmp_path: Path) -> None:
    journal = a_run(tmp_path / "run")
    met = [
        Exchange("GET", "https://p/a -> b", 302, "https://s/ [sets x]", ("JSESSIONID",), (), 0.1),
        Exchange("GET", "https://p/", None, "", (), (), 2.0, "closed"),
    ]
    attempt = {"title": "A way", "kind": "attempt", "state": "leak", "who": "no one", "why": "w."}
    for key, hole, told in (("sso.click", True, met), ("sso.other", False, met[:1])):
        journal.write("07_verify_sso_separation", "attempt", key=key, hole=hole, **attempt, requests=[vars(one) for one in told], notes=["told beside it"])
    journal.checked("07_verify_sso_separation", [Check("sso.other", "another", "fail", "refused", "in", "from outside")])
    page = re.sub(r' style="[^"]*"', "", render(tmp_path / "run"))
    assert "<td>1</td><td>GET https://p/a -&gt; b</td><td>302 https://s/ [sets x]</td><td>JSESSIONID</td><td></td>" in page
    assert "<td>2</td><td>GET https://p/</td><td>closed</td><td></td><td></td>" in page
    assert "no one; 1 request, and why" in page and page.count("rb-table") == 1
    assert "GET https://p/a -&gt; b -&gt; 302 https://s/ [sets x]   [with JSESSIONID]\ntold beside it</pre>" in page


def test_a_run_that_ended_at_once_has_a_report_too(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    assert "No check was made." in write_report(tmp_path / "run").read_text()


def test_a_failure_stands_on_the_page_with_its_words(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "run", {"deployment": "demo", "pattern": "as-cluster"})
    journal.write("03_configure_as_nodes", "apply", ok=False, error="disk <full> on as-worker-1")
    assert "disk &lt;full&gt; on as-worker-1" in render(tmp_path / "run")


def test_the_page_serves_light_dark_and_paper(tmp_path: Path) -> None:
    a_run(tmp_path / "run")
    page = render(tmp_path / "run")
    assert "prefers-color-scheme: dark" in page
    assert "@media print" in page


def test_bars_stand_where_their_attempts_were() -> None:
    chart = timings_chart([("02 apply", 0.0, 5.0, True), ("02 verify", 5.0, 5.0, False)])
    assert "10 seconds in all" in chart
    assert 'class="bad"' in chart
    assert "✘ failed" in chart
    assert timings_chart([]) == ""
