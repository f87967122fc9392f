"""RPO and RTO out of what was written, looked at and marked; and what each shortcoming of a restore looks like."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import count
from typing import Any

import pytest

from runbook_lib.chapters.second_day import disaster
from runbook_lib.checks.drill import data as written
from runbook_lib.checks.drill.outage import Aftermath, Disaster, Moments, Trial, Write
from runbook_lib.errors import RunbookError
from runbook_lib.evidence.pictures import outage
from runbook_lib.headless.arguments import LOSSES
from runbook_lib.waiting import wait_until
from tests.support.drill_server import sample

BUSY = 1.5  # seconds by which this machine is late itself
MOMENTS = Moments(backup_began=5.0, backup_ended=8.0, loss=13.0, restore_began=15.0, restore_ended=60.0)


def name(second: int) -> str:
    return f"drill-0a1b2c-{second:04d}"


def write(second: int, failure: str = "", took: float = 0.2, late: float = 0.0) -> Write:
    return Write(float(second), took, failure, late, name(second))


def look(second: float, failure: str = "", late: float = 0.0, took: float = 0.5) -> Trial:
    return Trial(second, took, failure, late)


WRITES = [*(write(second) for second in range(13)), *(write(second, "HTTP 502") for second in range(13, 62)), write(70)]
LOOKS = [look(2), look(10), *(look(float(second), "no answer") for second in range(14, 62, 4)), look(64), look(66)]
SAMPLES = [*(sample(at) for at in range(13)), *(sample(at, failure="status 502") for at in range(13, 50)), *(sample(at) for at in range(65, 70))]
KEPT = {name(second): "" for second in range(6)}  # the write of second 5 was done while the backup was made


def result(writes: Sequence[Write] = WRITES, looks: Sequence[Trial] = LOOKS, found: Mapping[str, str] = KEPT, samples: Sequence[Any] = SAMPLES,
           guarded: bool = True, **after: Sequence[str]) -> Disaster:  # fmt: skip
    aftermath = Aftermath(found, guarded, **after)
    return Disaster("shop", "database", ("db-1",), "assets", "store.lab.test", samples, writes, looks, MOMENTS, ((13.0, "lost"),), aftermath)


def statuses(drill: Disaster) -> dict[str, str]:
    return {check.id.removeprefix("drill-disaster-"): check.status for check in drill.checks if check.status != "pass"}


FIGURES = [
    ("the newest that survived was done at 5.2 s", KEPT, LOOKS, 7.8, 51.5, 7),
    ("nothing is lost", {name(second): "" for second in range(13)}, LOOKS, 0.8, 51.5, 0),
    ("everything is lost", {}, LOOKS, None, 51.5, 13),
    ("users are never served again", KEPT, LOOKS[:-2], 7.8, None, 7),
    ("served once and not the next time: it is the second return that counts", KEPT, [*LOOKS[:-2], look(62), look(64, "no"), look(66)], 7.8, 53.5, 7),
    ("nobody looked after the loss", KEPT, LOOKS[:2], 7.8, None, 7),
]


@pytest.mark.parametrize(("found", "looks", "rpo", "rto", "lost"), [row[1:] for row in FIGURES], ids=[row[0] for row in FIGURES])
def test_rpo_and_rto_follow_from_samples_and_marks(found: Mapping[str, str], looks: Sequence[Trial], rpo: float | None, rto: float | None, lost: int) -> None:
    figures = result(found=found, looks=looks).figures
    assert (figures["rpo_seconds"], figures["rto_seconds"], figures["written"], figures["lost"]) == (rpo, rto, 13, lost)
    assert figures["survived"] == 13 - lost


def test_a_write_without_an_answer_is_neither_written_nor_lost() -> None:
    writes = [*WRITES[:12], write(12, "no answer"), *WRITES[13:]]
    assert result(writes=writes).figures["written"] == 12
    assert result(writes=[*WRITES[:12], write(12, took=3.0), *WRITES[13:]]).figures["written"] == 12, "its answer came after the loss"


def test_the_first_failure_is_the_first_that_ended_after_the_loss() -> None:
    drill = result(
        samples=[sample(3.0, failure="status 502"), sample(12.9, failure="no answer", took=2.0)], writes=WRITES[:13], looks=[*LOOKS[:2], look(20, "x")]
    )
    assert drill.first_failure == 14.9


SHORTCOMINGS: list[tuple[str, Disaster, dict[str, str]]] = [
    ("none", result(), {}),
    ("one of before the backup is missing", result(found={key: "" for key in KEPT if key != name(3)}), {"kept": "fail"}),
    ("the newest of before the backup is missing", result(found={name(0): ""}), {"kept": "fail", "rpo": "fail"}),
    ("everything is missing", result(found={}), {"kept": "fail", "rpo": "fail"}),
    ("nothing was written before the backup", result(writes=WRITES[5:]), {"kept": "fail"}),
    ("one is half there", result(found={**KEPT, name(2): "not in the Store's list"}), {"whole": "fail"}),
    ("the guard let somebody go on", result(guarded=False), {"guard": "fail"}),
    ("users are never served again", result(looks=LOOKS[:-2]), {"back": "fail", "writes": "pass"}),
    ("nothing can be written again", result(writes=WRITES[:-1]), {"writes": "fail"}),
    ("a run would change something", result(pending=["05_configure_nginx"]), {"again": "fail"}),
    ("a chapter is not verified", result(failing=["02_install_mysql"]), {"verified": "fail"}),
    ("something is left", result(left=[name(0)]), {"removed": "fail"}),
    ("a request failed before the loss", result(samples=[*SAMPLES, sample(2.0, failure="status 502")]), {"visitors": "fail"}),
    ("a request failed after the return", result(samples=[*SAMPLES, sample(68.0, failure="status 502")]), {"visitors": "fail"}),
    ("this machine was late when a request failed", result(samples=[*SAMPLES, sample(68.0, failure="status 502", late=BUSY)]), {"visitors": "undecided"}),
    ("one of two was late", result(samples=[*SAMPLES, sample(2.0, failure="x", late=BUSY), sample(3.0, failure="x")]), {"visitors": "fail"}),
    ("late for a short while around the return", result(looks=[*LOOKS[:-2], look(60, "no answer", BUSY), look(62)]), {}),
    (
        "late for all of the outage",
        result(looks=[*LOOKS[:2], *(look(float(at), "no answer", BUSY) for at in range(14, 62, 4)), look(64)]),
        {"back": "undecided"},
    ),
    ("late, and the only look that worked", result(looks=[*LOOKS[:3], look(64, late=BUSY)]), {"back": "undecided"}),
    ("a late look that failed after the return takes nothing back", result(looks=[*LOOKS, look(68, "no answer", BUSY)]), {}),
]


@pytest.mark.parametrize(("drill", "wrong"), [row[1:] for row in SHORTCOMINGS], ids=[row[0] for row in SHORTCOMINGS])
def test_each_shortcoming_has_its_row_and_what_a_busy_machine_saw_decides_nothing(drill: Disaster, wrong: dict[str, str]) -> None:
    wrong = {key: value for key, value in wrong.items() if value != "pass"}
    found = statuses(drill)
    if drill.back is None:  # then nothing can be said of what was written since
        found.pop("writes")
    assert found == wrong
    assert drill.checks.ok == (not found and drill.back is not None)


def test_the_picture_says_in_words_what_it_shows_and_follows_the_values() -> None:
    words = str(result().figure())
    assert "RPO 7.8 s: 7 of 13 assets are lost" in words and "RTO 51.5 s" in words and "failed from second 13 to second 49" in words
    gone = str(result(found={}, looks=LOOKS[:2]).figure())
    assert "Nothing survived: 13 of 13 assets" in gone and "not served again" in gone
    assert str(outage.draw(result().values())) == words, "the report draws it from the journal's values"
    assert "users sign in and read again" in str(result()) and "the first request fails" in str(result())


class Shelf:
    """Data in memory. `slow`: how often it is asked before it shows what it has; `stubborn`: removals that do nothing."""

    what = "assets"

    def __init__(self, slow: int = 0, stubborn: int = 0, broken: str = ""):
        self.names: dict[str, str] = {}
        self.slow, self.stubborn, self.broken = slow, stubborn, broken

    def write(self, given: str) -> None:
        self.names[given] = ""

    def look(self, given: str) -> None:
        if given not in self.found():
            raise RunbookError("it is not shown")

    def found(self) -> dict[str, str]:
        self.slow -= 1
        if self.slow == 0:
            raise ConnectionRefusedError("nobody listens")
        return {} if self.slow > 0 else {each: self.broken for each in list(self.names)}

    def remove(self) -> None:
        self.stubborn -= 1
        if self.stubborn < 0:
            self.names.clear()


def test_lists_follow_and_are_waited_for() -> None:
    slow, broken = Shelf(slow=3), Shelf(broken="half")
    for shelf in (slow, broken):
        shelf.write("one")
    assert written.settled(slow, ["one"], 5, pause=0) == {"one": ""}
    assert written.settled(broken, ["one"], 0.05, pause=0) == {"one": "half"}, "after the time, what is there then"
    assert written.cleared(broken, 5, pause=0) == []
    stubborn = Shelf(stubborn=10**6)
    stubborn.write("one")
    assert written.cleared(stubborn, 0.05, pause=0) == ["one"]


def test_writer_and_reader_go_on_over_failures_and_an_error_of_ours_ends_the_drill(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(written, "EVERY", 0.01)
    calls = count()

    class Flaky(Shelf):
        def write(self, given: str) -> None:
            if next(calls) % 2:
                raise ConnectionResetError("gone")
            super().write(given)

    ticks = count()
    with written.Observers(Flaky(), "drill-0a1b2c", lambda: next(ticks) / 100, lambda since: BUSY) as observers:
        assert disaster.WINDOW and _until(lambda: len(observers.looks) > 2 and len(observers.writes) > 4)
    assert {one.failure for one in observers.writes} == {"", "ConnectionResetError: gone"} and all(one.doubtful for one in observers.looks)
    assert [one.name for one in observers.writes] == [f"drill-0a1b2c-{number:04d}" for number in range(1, len(observers.writes) + 1)]
    assert observers.anchor == "drill-0a1b2c-0001" and len(observers.written()) < len(observers.writes)

    class Wrong(Shelf):
        def write(self, given: str) -> None:
            raise KeyError(given)

    with pytest.raises(KeyError), written.Observers(Wrong(), "drill-0a1b2c", lambda: 0.0, lambda since: 0.0) as observers:
        assert _until(lambda: not observers.alive)


def _until(reached: Callable[[], bool]) -> bool:
    return bool(wait_until(reached, 10, pause=0.01))


def test_the_command_offers_what_the_drill_can_lose() -> None:
    assert disaster.LOSSES == LOSSES and written.NAME.fullmatch(f"{written.stem()}-0001")
