"""Check rows and their table; tables as text and HTML."""

from __future__ import annotations

import pytest

from runbook_lib.check import Check, CheckTable, Status
from runbook_lib.errors import ChecksFailed
from runbook_lib.tables import Table, html_table


def row(status: Status, id_: str = "a-check") -> Check:
    return Check(id_, "A question", status, "yes", "no <b>", "store-1", "05_configure_nginx")


def test_all_passed_is_all_right() -> None:
    table = CheckTable([row("pass"), row("pass", "b")])
    assert table.ok and table.raise_if_failed() is table


@pytest.mark.parametrize("status", ["fail", "skipped", "undecided"])
def test_anything_but_passed_is_not_all_right_and_is_named(status: Status) -> None:
    table = CheckTable([row("pass", "good"), row(status, "the-bad-one")])
    assert not table.ok
    with pytest.raises(ChecksFailed, match=f"the-bad-one \\({status}\\)") as caught:
        table.raise_if_failed()
    assert "good" not in caught.value.what and caught.value.where == "store-1"


def test_no_check_at_all_proves_nothing() -> None:
    assert not CheckTable().ok
    with pytest.raises(ChecksFailed, match="no check was made"):
        CheckTable().raise_if_failed()


def test_html_is_escaped_and_the_status_is_in_words() -> None:
    page = CheckTable([row("fail")])._repr_html_()
    assert "no &lt;b&gt;" in page and "<b>" not in page and "✘ fail" in page
    assert "0 of 1 checks passed" in page and "0 of 1 checks passed" in str(CheckTable([row("fail")]))


def test_tables_align_as_text_and_show_lists_and_truth_in_words() -> None:
    table = Table(("Name", "Value"), [("a", None), ("longer", ["x", "y"]), ("b", True)], "Caption", "Note")
    lines = str(table).splitlines()
    assert lines[0] == "Caption" and lines[-1] == "Note"
    assert lines[4].index("x, y") == lines[1].index("Value")
    assert lines[5].endswith("yes")
    assert html_table(("A",), [("<",)]).count("&lt;") == 1


@pytest.mark.parametrize(
    ("status", "kind", "state", "words", "css"),
    [
        ("pass", "attempt", "leak", "✘ leaks, as expected", "rb-leak"),
        ("fail", "attempt", "leak", "✘ leaks, NOT expected", "rb-leak"),
        ("pass", "browser", "leak", "✘ leaks, as expected", "rb-leak"),
        ("pass", "hygiene", "leak", "✘ missing, as expected", "rb-leak"),
        ("pass", "attempt", "held", "✔ held, as expected", "rb-pass"),
        ("fail", "attempt", "held", "△ held, NOT expected", "rb-fail"),
        ("pass", "limit", "leak", "△ open (limit of the product)", "rb-limit"),
        ("pass", "control", "held", "✔ pass", "rb-pass"),
        ("fail", "control", "leak", "✘ fail", "rb-fail"),
        ("undecided", "attempt", "undecided", "? undecided", "rb-undecided"),
        ("pass", "", "", "✔ pass", "rb-pass"),
    ],
)
def test_a_row_says_what_the_system_does_and_whether_that_is_expected_and_no_leak_is_green(status: Status, kind: str, state: str, words: str, css: str) -> None:
    found = Check("sso.x", "An attempt", status, "x", "y", "outside", "07", kind, state)
    assert found.mark == (words, css)
    page = CheckTable([found])._repr_html_()
    assert f'<tr class="{css}">' in page and words in page
    assert state != "leak" or ("rb-pass" not in page and "✔" not in page)


def test_what_was_skipped_is_counted_apart() -> None:
    assert "1 of 2 checks passed, 1 skipped" in str(CheckTable([row("pass"), row("skipped")]))
