"""Which page is it? Each row of `sso_pages.yaml` is an answer and the page it must be taken for."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from runbook_lib.checks.sso.attempts import matrix
from runbook_lib.checks.sso.pages import Catalogue
from runbook_lib.webclient.response import Answer

CASES = yaml.safe_load(Path(__file__).with_name("sso_pages.yaml").read_text())
WORDS = {"store": "store.test", "publisher": "publisher.test", "evil": "evil.example", "user": "alice"}


def answer(case: dict) -> Answer:
    headers = [("Location", case["location"])] if "location" in case else []
    return Answer(case["status"], case["url"], headers, case.get("body", ""), [], 0.0)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_a_page_is_known_by_what_only_it_has(case: dict) -> None:
    hops = tuple(answer(hop) for hop in case.get("hops", ()))
    assert matrix()[1].recognise(answer(case), hops, WORDS).page == case["page"]


def test_every_page_of_the_catalogue_has_an_example() -> None:
    assert {page.name for page in matrix()[1].pages} <= {case["page"] for case in CASES}


def test_a_condition_that_nobody_understands_is_refused() -> None:
    with pytest.raises(ValueError, match="statsu"):
        Catalogue({"x": {"says": "x", "means": "x", "statsu": 200}})


def test_what_is_shown_of_an_address_ends_before_its_query() -> None:
    case = {"status": 302, "url": "https://store.test/samlsso", "location": "https://store.test/commonauth?sessionDataKey=secret"}
    assert "secret" not in str(matrix()[1].recognise(answer(case), (), WORDS))
