"""The board says who is at work: others, while their lock holds; never oneself."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from runbook_lib.aws.lock import Lock
from runbook_lib.chapters.status_board import OPEN, Board, _at_work
from runbook_lib.launch.cloud import Cloud
from runbook_lib.spec.chapters import CHAPTERS
from runbook_lib.tables import Link

pytest_plugins = ["tests.support.aws_endpoint"]


@pytest.fixture
def deployment(make_cloud: Callable[..., Cloud]) -> Any:
    return SimpleNamespace(vault=make_cloud().vault, owner="me@here (process 1)")


def test_somebody_elses_lock_is_named_with_its_beginning(deployment: Any) -> None:
    assert _at_work(deployment) == ""
    with Lock(deployment.vault, "ann@there (process 2)"):
        assert _at_work(deployment).startswith("△ at work: ann@there (process 2), since 20")
    assert _at_work(deployment) == ""


def test_ones_own_lock_and_one_that_ran_out_need_no_word(deployment: Any) -> None:
    with Lock(deployment.vault, deployment.owner):
        assert _at_work(deployment) == ""
    with Lock(deployment.vault, "ann@there (process 2)", minutes=-1.0):
        assert _at_work(deployment) == ""


def test_words_and_markup_of_the_board_say_the_same(deployment: Any) -> None:
    chapter = CHAPTERS["05_configure_nginx"]
    link = Link(f"{chapter.name}.ipynb", chapter.name, chapter.title)
    board = Board(
        "demo",
        "greg-single",
        [("lb-1", "10.0.0.10", "t3.micro", "●", "")],
        [(link, OPEN, "", "")],
        chapter,
        1,
        "",
        "△ at work: ann",
        public={"lb-1": "203.0.113.9"},
    )
    for text in (str(board), board._repr_html_()):
        assert "1 of 1 machines run; next: 05_configure_nginx (Configure Nginx)" in text
        assert "△ at work: ann" in text
        assert "public address: lb-1 203.0.113.9" in text
    assert '<a href="05_configure_nginx.ipynb">05_configure_nginx</a> Configure Nginx</td>' in board._repr_html_()
