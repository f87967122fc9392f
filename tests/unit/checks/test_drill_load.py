"""The stream of requests and the drill's verdict, against a server on loopback that behaves as each test wants."""

from __future__ import annotations

import time
import xml.etree.ElementTree as tree
from dataclasses import replace
from itertools import count

import pytest

from runbook_lib import pki
from runbook_lib.checks.drill import load as stream_module
from runbook_lib.checks.drill.failover import settle, share
from runbook_lib.checks.drill.load import LATE, Stream, Target, Visitor
from runbook_lib.errors import RunbookError
from tests.support.drill_server import HOST, Server, good, result, sample


def test_requests_are_made_at_the_rate_and_each_is_accounted_for(tmp_path):
    with Server(tmp_path, good) as server:
        stream = server.run(40)
    assert [sample.at for sample in sorted(stream.samples, key=lambda s: s.at)] == [n / 50.0 for n in range(len(stream.samples))]
    assert {(sample.node, sample.failure, sample.retried) for sample in stream.samples} == {("one", "", False)}


def test_connections_are_kept(tmp_path):
    with Server(tmp_path, good) as server:
        server.run(60)
        assert server.connections < next(server.numbers)


@pytest.mark.parametrize("status", [404, 500, 502, 504])
def test_an_error_status_is_a_failure(tmp_path, status):
    with Server(tmp_path, lambda number, cookies: (status if number == 9 else 200, [])) as server:
        stream = server.run()
    assert [sample.failure for sample in stream.samples if sample.failure] == [f"status {status}"]


def test_silence_is_a_failure_and_holds_nobody_up(tmp_path, monkeypatch):
    monkeypatch.setattr(stream_module, "ANSWER_SECONDS", 2.0)
    with Server(tmp_path, lambda number, cookies: "silence" if number == 9 else good(number, cookies)) as server:
        stream = server.run()
    failed = [sample for sample in stream.samples if sample.failure]
    assert "no answer within 2 s" in [sample.failure for sample in failed]
    assert len([sample for sample in failed if not sample.doubtful]) <= 1, failed


def test_a_fresh_connection_that_is_hung_up_is_a_failure(tmp_path):
    with Server(tmp_path, lambda number, cookies: None if number >= 4 else good(number, cookies)) as server:
        stream = server.run(5)
    assert all(sample.failure for sample in stream.samples)


def test_a_kept_connection_that_is_hung_up_is_tried_again_and_counted(tmp_path):
    with Server(tmp_path, lambda number, cookies: None if number == 20 else good(number, cookies)) as server:
        stream = server.run(60, visitors=16)  # so many that every request finds a kept connection
    assert [sample.failure for sample in stream.samples if sample.failure] == []
    assert sum(sample.retried for sample in stream.samples) == 1


def test_visitors_keep_their_cookies_and_a_replaced_session_is_a_loss_once(tmp_path):
    fresh = count()

    def behave(number, cookies):
        known = "JSESSIONID=new" in cookies or ("JSESSIONID=" in cookies and number < 20)
        given = [] if known else [("Set-Cookie", f"JSESSIONID={'old' if number < 20 else 'new'}{next(fresh)}; Path=/")]
        return 200, given

    with Server(tmp_path, behave) as server:
        stream = server.run(60, visitors=3)
    lost = [sample.visitor for sample in stream.samples if sample.lost]
    assert sorted(lost) == [0, 1, 2] and stream.holders == 3


def test_a_server_that_is_not_ours_is_no_success(tmp_path):
    with Server(tmp_path, good) as server:
        server.ca = pki.make_ca("another").cert_pem
        with pytest.raises(RunbookError, match=r"4 of 4 visitors got no good answer before the drill: (?s:.*)certificate"):
            server.run(5)


def verdicts(drill):
    return {check.id.removeprefix(f"drill-{drill.kind}-"): check.status for check in drill.checks}


def test_a_drill_without_losses_passes():
    assert verdicts(result([sample(), sample()])) == dict.fromkeys(("rate", "failed", "sessions", "balance"), "pass")


@pytest.mark.parametrize(
    ("drill", "failing"),
    [
        (result([sample(failure="status 502")]), "failed"),
        (result([sample()], balance=None), "balance"),
        (result([sample(node="two"), sample(at=0.5, node="two", lost=True)]), "sessions"),
        (result([sample(lost=True)], kind="nginx-reload"), "sessions"),
        (result([sample(lost=True)], kind="manager-cut"), "sessions"),
    ],
)
def test_each_shortcoming_is_named(drill, failing):
    assert [name for name, status in verdicts(drill).items() if status == "fail"] == [failing]


def test_a_stream_that_was_slower_than_asked_decides_nothing():
    drill = result([sample()], rate=100.0)
    assert verdicts(drill)["rate"] == "undecided" and not drill.checks.ok


BUSY = 1.5  # seconds by which this machine is late itself


@pytest.mark.parametrize(
    ("samples", "kind", "name", "status"),
    [
        ([sample(failure="status 502", late=BUSY)], "power-cut", "failed", "undecided"),
        ([sample(failure="status 502", late=0.1)], "power-cut", "failed", "fail"),
        ([sample(failure="status 502", late=BUSY), sample(failure="status 502")], "power-cut", "failed", "fail"),
        ([sample(lost=True, late=BUSY)], "nginx-reload", "sessions", "undecided"),
        ([sample(lost=True, late=BUSY), sample(lost=True)], "nginx-reload", "sessions", "fail"),
        ([sample(node="two"), sample(at=0.5, node="two", lost=True, late=BUSY)], "power-cut", "sessions", "undecided"),
        ([sample(late=BUSY)], "nginx-reload", "failed", "pass"),
    ],
)
def test_what_is_only_seen_while_this_machine_is_late_itself_decides_nothing(samples, kind, name, status):
    drill = result(samples, kind=kind)
    assert verdicts(drill)[name] == status
    assert ("1.5 s late itself" in str(drill.checks)) == (status == "undecided")


def test_a_request_during_which_this_machine_was_late_itself_knows_it(tmp_path, monkeypatch):
    calls, header = count(), Visitor.header

    def held_up(visitor):
        if next(calls) == 20:  # after the 4 arrivals the 17th, due at 0.32 s; it is made in the stream's own loop
            time.sleep(2 * LATE)
        return header(visitor)

    monkeypatch.setattr(Visitor, "header", held_up)
    with Server(tmp_path, good) as server:
        stream = server.run(60)
    assert [one.doubtful for one in stream.samples if one.at == 16 / 50.0] == [True]
    assert not all(one.doubtful for one in stream.samples)


def test_what_failed_is_told_with_its_reasons_and_after_which_event():
    drill = result([sample(0.1), sample(0.7, failure="status 502"), sample(0.8, failure="status 502"), sample(0.9, failure="reset")])
    (row,) = (check for check in drill.checks if check.id.endswith("-failed"))
    assert row.observed == "3: 2 times status 502; 1 times reset; from 0.7 to 0.9 s, after: cut <one>"


def test_a_drill_waits_until_new_visitors_are_led_to_every_node(tmp_path):
    def behave(number, cookies):
        home = "home=two" in cookies or (number > 100 and "home=" not in cookies and number % 2)
        return 200, [("X-Served-By", "two" if home else "one"), ("Set-Cookie", f"home={'two' if home else 'one'}")]

    with Server(tmp_path, behave) as server:
        settle(server.target(), ["one", "two"], 30)
        assert next(server.numbers) > 100
        with pytest.raises(RunbookError, match="before the drill no new visitor is led to three"):
            settle(server.target(), ["one", "two", "three"], 1)


def test_a_session_lost_with_its_node_and_again_on_its_return_is_explained():
    story = [sample(0, "one"), sample(1, "two", lost=True), sample(2, "one", lost=True)]
    drill = result(story, seconds=3.0)
    assert verdicts(drill)["sessions"] == "pass" and drill.lost == 1
    assert (drill.lost_away, drill.lost_home) == (1, 1)
    assert "a second time" in str(drill) and "a second time" in drill._repr_html_()


@pytest.mark.parametrize(
    ("story", "away", "home"),
    [
        ([sample(0, "one"), sample(1, "one")], 0, 0),
        ([sample(0, "one"), sample(1, "two", lost=True)], 1, 0),
        ([sample(0, "one"), sample(1, "one", lost=True)], 0, 1),  # it went and came between two requests
        ([sample(0, "one"), sample(1, "", failure="reset"), sample(2, "two", lost=True), sample(3, "one", lost=True)], 1, 1),
        ([sample(0, "one"), sample(1, "two", lost=True), sample(2, "one", lost=True), sample(3, "two", lost=True)], 1, 1),
        ([sample(0, "one"), sample(0, "two", visitor=1), sample(1, "one", visitor=1, lost=True), sample(1, "two", lost=True)], 2, 0),
    ],
)
def test_losses_are_told_apart_by_where_the_visitor_was_at_home(story, away, home):
    drill = result(sorted(story, key=lambda one: -one.at))  # samples come in the order of their answers, not of their start
    assert (drill.lost_away, drill.lost_home) == (away, home)


def test_a_visitor_who_was_not_heard_of_before_the_cut_is_at_home_where_it_arrived():
    drill = replace(result([sample(9, "two", lost=True)]), homes={0: "one"})
    assert (drill.lost_away, drill.lost_home, verdicts(drill)["sessions"]) == (1, 0, "pass")
    assert verdicts(replace(drill, homes={0: "two"}))["sessions"] == "fail", "nobody's node went: there is no reason"


def test_that_nobody_lost_a_session_says_nothing_where_nobody_had_one():
    drill = replace(result([sample(), sample()]), holders=0)
    assert verdicts(drill)["sessions"] == "undecided" and "0 of 0 who had one" in str(drill)


def test_seconds_show_who_answered_and_what_failed():
    drill = result([sample(0.1), sample(0.2, "two"), sample(1.5, "", failure="status 502")])
    assert drill.per_second() == [{"one": 1, "two": 1}, {"failed": 1}]


def test_the_chart_is_sound_svg_that_names_nodes_and_events_and_hides_no_markup():
    root = tree.fromstring(result([sample(0.1), sample(1.2, "two", failure="x")]).svg())
    text = " ".join(root.itertext())
    assert "cut <one>" in text and "two" in text and "failed" in text


def test_what_ended_lately_is_told_by_when_it_ended_however_long_ago_it_was_due():
    stream = Stream(Target(HOST, "127.0.0.1", "/x", ""))
    stream.samples += [sample(at=1, took=1), sample(at=2, took=7.5), sample(at=9, took=1)]
    assert [one.at for one in stream.ended_since(9.0)] == [9, 2]
    assert [one.at for one in stream.since(9.0)] == [9]


def test_share_is_a_nodes_part_of_the_answers():
    assert share([sample(), sample(node="two"), sample(node="two"), sample(node="two")], "one") == 0.25
    assert share([], "one") == 0.0
