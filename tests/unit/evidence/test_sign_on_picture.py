"""The sign-on's picture follows the exchanges of the run: whatever was not sent or answered is not in it, and the step that decides is marked."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from runbook_lib.evidence.pictures.sign_on import WalkRecord, decision_of, draw, lanes_of, sign_on
from runbook_lib.redaction import redactor
from runbook_lib.webclient.response import Exchange
from tests.support.recorded_proof import exchanges_of, recorded

LEAK, HELD = exchanges_of("leak"), exchanges_of("held")
Exchanges = tuple[Exchange, ...]


def drawn(met: Exchanges, kind: str = "leak") -> Any:
    (panel,) = draw([WalkRecord("demo", kind, "A walk", met)]).panels
    return panel


def changed(met: Exchanges, place: int, **fields: Any) -> Exchanges:
    return (*met[:place], replace(met[place], **fields), *met[place + 1 :])


@pytest.mark.parametrize("met", [LEAK, HELD], ids=["leak", "held"])
def test_every_exchange_is_a_request_and_an_answer_in_the_order_of_the_run_in_picture_and_words(met: Exchanges) -> None:
    panel = drawn(met)
    asked = [step for step in panel.steps if re.match(r"\d+ Browser to ", step)]
    assert [int(step.split()[0]) for step in asked] == list(range(1, len(met) + 1))
    assert all(f"{one.method} /{one.url.split('/', 3)[3].split('?')[0].split(';')[0]}" in step for one, step in zip(met, asked, strict=True))
    assert len(panel.steps) == 2 * len(met) + 2, "and a title for each of the two applications"
    assert panel.svg.count('marker-end="url(#to)"') == 2 * len(met)
    at = 0
    for step in panel.steps:  # the alternative text has them all, one after the other
        at = panel.words.index(step, at) + len(step)


def test_the_decisive_step_of_a_leak_is_the_assertion_that_nobody_typed_a_password_for() -> None:
    decided = decision_of(LEAK)
    assert decided and (decided.mark, decided.place, decided.cause) == ("leak", 16, 14)
    panel = drawn(LEAK)
    assert [step for step in panel.steps if "THE LEAK" in step] == [panel.steps[35]] and "✘ THE LEAK: an assertion" in panel.steps[35]
    assert 'class="b leak"' in panel.svg and "CLOSED" not in panel.svg


def test_the_decisive_step_of_the_repair_is_the_form_that_asks_for_a_password() -> None:
    decided = decision_of(HELD)
    assert decided and (decided.mark, decided.place, decided.cause) == ("held", 16, 14)
    panel = drawn(HELD, "separated")
    assert "✔ CLOSED: a password is asked for" in panel.words and 'class="b held"' in panel.svg and "LEAK" not in panel.svg


def test_only_who_answered_has_a_lane() -> None:
    assert [lane.name for lane in lanes_of(LEAK)] == ["Browser", "Nginx", "Store", "Identity provider (store.lab.test)", "Publisher"]
    assert [lane.name for lane in lanes_of(HELD)][3:] == ["Identity provider (store.lab.test)", "Identity provider (publisher.lab.test)", "Publisher"]


# what is changed: the walk, how, the words that then appear, and those that are gone
ASKS_FOR_PUBLISHER = "15 Browser to Identity provider (store.lab.test): POST /samlsso, with the sign-in request (SAMLRequest), "
CHANGES: dict[str, tuple[Exchanges, Callable[[Exchanges], Exchanges], str, str]] = {
    "a request that was not made": (LEAK, lambda met: met[:-1], "", "GET /publisher/pages/gc-landing"),
    "a password that was typed after all": (LEAK, lambda met: changed(met, 15, posted=("username", "password")), "GET /commonauth, with name", "THE LEAK"),
    "an assertion that was not handed out": (LEAK, lambda met: changed(met, 16, offers=()), "", "THE LEAK"),
    "a cookie that did not go along": (LEAK, lambda met: changed(met, 14, sent=()), ASKS_FOR_PUBLISHER + "no", ASKS_FOR_PUBLISHER + "cookie"),
    "Nginx refuses": (LEAK, lambda met: (*met[:11], replace(met[11], location="", by_nginx=True)), "Nginx to Browser: 302, refused by", "Publisher to Browser"),
    "no answer": (HELD, lambda met: changed(met, 16, status=None, note="closed", offers=()), "to Browser: closed", "CLOSED"),
    "another status": (HELD, lambda met: changed(met, 0, status=303), "303, to /store/pages/sso-login", ""),
    "another host to go to": (HELD, lambda met: changed(met, 10, location="https://elsewhere.test/x"), "to elsewhere.test/x", ""),
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGES)
def test_the_picture_changes_with_the_data(name: str) -> None:
    met, change, appears, disappears = CHANGES[name]
    before, after = drawn(met), drawn(change(met))
    assert before.svg != after.svg
    assert appears in after.words and (not appears or appears not in before.words)
    assert not disappears or (disappears in before.words and disappears not in after.words)


def test_the_caption_says_where_to_look_and_why() -> None:
    leak, held = (draw([WalkRecord("demo", "leak", "A walk", met)]).caption[0] for met in (LEAK, HELD))
    assert "look at step 17" in leak and "step 15 brings the cookie commonAuthId along, which step 6 set" in leak
    assert "step 15 goes to publisher.lab.test and brings no commonAuthId along. Step 6 set it on store.lab.test" in held


def test_a_record_of_an_older_version_is_drawn_without_a_mark() -> None:
    old = tuple(replace(one, at="", posted=(), offers=(), by_nginx=False) for one in LEAK)
    panel = drawn(old)
    assert decision_of(old) is None and "THE LEAK" not in panel.words and "SAMLRequest" not in panel.words and 'class="q" x="38"' not in panel.svg
    assert sum(step.split()[0].isdigit() for step in panel.steps) == len(LEAK)


def test_each_of_two_pictures_says_of_what_it_is() -> None:
    page = draw([WalkRecord("a", "leak", "A walk", LEAK), WalkRecord("b", "separated", "A walk", HELD)])._repr_html_()
    assert re.findall(r'aria-label="([^"]*)"><p><strong>([^<]*)</strong></p><img', page) == [("a: A walk", "a: A walk"), ("b: A walk", "b: A walk")]


def heights(svg: str) -> dict[int, float]:
    return {int(number): float(y) for y, number in re.findall(r'<text class="b" x="28" y="([\d.]+)" text-anchor="end">(\d+)</text>', svg)}


def test_leak_and_repair_stand_beside_each_other_with_equal_steps_at_the_same_height(tmp_path: Path) -> None:
    _, leak = recorded(tmp_path, "original", "leak")
    _, repair = recorded(tmp_path, "full", "separated")
    for asked in (leak, repair):
        figure = sign_on(asked, tmp_path)
        assert figure and [panel.title.split(":")[0] for panel in figure.panels] == ["a-original", "a-full"]
        one, other = (heights(panel.svg) for panel in figure.panels)
        assert len(one) == len(LEAK) and len(other) == len(HELD) and all(one[number] == other[number] for number in other)


def test_a_step_that_only_one_of_them_made_leaves_a_gap_in_the_other(tmp_path: Path) -> None:
    walks = [WalkRecord("a", "leak", "A walk", LEAK), WalkRecord("b", "separated", "A walk", HELD[:4] + HELD[5:])]
    one, other = (heights(panel.svg) for panel in draw(walks).panels)
    assert one[4] == other[4] and one[6] == other[5] and one[15] == other[14]


def test_a_run_without_a_counterpart_or_without_the_attempt(tmp_path: Path) -> None:
    _, run = recorded(tmp_path, "original", "leak")
    figure = sign_on(run, tmp_path)
    assert figure and len(figure.panels) == 1
    assert sign_on(run, tmp_path, "no-such-attempt") is None


def test_it_is_an_image_with_the_steps_as_alternative_text_and_neither_markup_nor_secrets_get_in() -> None:
    redactor.add("picture-secret", "s3cr3t-in-a-path")
    met = changed(LEAK, 0, url="https://store.lab.test/store/<b>/s3cr3t-in-a-path")
    page = draw([WalkRecord("<demo>", "leak", "A walk", met)])._repr_html_()
    pictures = [base64.b64decode(data).decode() for data in re.findall(r"data:image/svg\+xml;base64,([\w+/=]+)", page)]
    assert len(pictures) == 1 and "<title>&lt;demo&gt;: A walk</title>" in pictures[0] and 'alt="&lt;demo&gt;: A walk. The browser opens the Store:' in page
    assert all("s3cr3t" not in text and "<b>" not in text and "<demo>" not in text for text in (page, *pictures))
