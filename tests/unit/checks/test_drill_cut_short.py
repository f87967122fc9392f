"""A drill that ends early leaves no machine off and no stream running, and the next one puts right what a kill left."""

from __future__ import annotations

import signal
import threading
from types import SimpleNamespace
from typing import Any

import pytest

from runbook_lib.checks.drill import failover
from runbook_lib.checks.drill.interruption import VisitorWatch
from runbook_lib.checks.drill.load import Stream
from runbook_lib.errors import CloudError, HostError, RunbookError
from runbook_lib.waiting import wait_until
from tests.fakes import context_with_keys
from tests.support.drill_server import Server, good


class Power:
    """EC2 with one machine, which is `stopping` for two looks. `ends`: the call at which somebody presses Ctrl-C, or an error."""

    def __init__(self, ends: str, error: BaseException):
        self.state, self.looks, self.ends, self.error = "running", 0, ends, error

    def _call(self, name: str) -> None:
        if name == self.ends:
            self.ends = ""
            raise self.error

    def _look(self) -> None:
        self.looks += 1
        if self.state == "stopping" and self.looks > 2:
            self.state = "stopped"

    def power_cut(self, node: str) -> None:
        self.state = "stopping"
        self._call("power_cut")

    def instance(self, node: str) -> Any:
        self._look()
        self._call("instance")
        return SimpleNamespace(state=self.state)

    def start(self, node: str) -> None:
        self._look()
        if self.state == "stopping":
            refused = CloudError("not in a state from which it can be started")
            refused.code = "IncorrectInstanceState"
            raise refused
        self._call("start")
        self.state = "running"


class Requests:
    """A stream that is given no time."""

    visitors, now = 1, 0.0
    homes = {0: "store-2"}

    def __init__(self, power: Power):
        self.power = power

    def mark(self, text: str) -> float:
        return 0.0

    def until(self, second: float) -> None:
        if self.power.state == "stopped":
            self.power._call("until")


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RunbookError("the endpoint cannot be reached")], ids=["an interrupt", "an error"])
@pytest.mark.parametrize("ends", ["power_cut", "instance", "until", "start"])
def test_a_machine_whose_power_was_cut_runs_again_however_the_drill_ends(monkeypatch: pytest.MonkeyPatch, ends: str, error: BaseException) -> None:
    monkeypatch.setattr(failover, "wait_until", lambda look, seconds, pause, **more: wait_until(look, seconds, pause=0, **more))
    said: list[str] = []
    monkeypatch.setattr(failover.display, "show", lambda notice: said.append(str(notice)))
    power, ctx = Power(ends, error), context_with_keys("greg-separated")
    deployment: Any = SimpleNamespace(cloud=power, spec=ctx.spec, fleet=lambda: {"store-2": SimpleNamespace(close=lambda: None)})
    run = failover._Run(deployment, ctx.topology.node("store-2"), (), 4.0)
    with pytest.raises(type(error)) as caught:
        run.power_cut(Requests(power))  # type: ignore[arg-type]
    assert caught.value is error and power.state == "running" and power.ends == ""
    assert len(said) == 1 and "store-2 is started again" in said[0]


class Begun(Exception):
    """Nothing is in the drill's way any more."""


@pytest.fixture
def before(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What a drill does before it waits for the nodes, in order. The wait itself is not made."""

    def settle(*given: object) -> None:
        raise Begun

    done: list[Any] = []
    monkeypatch.setattr(failover, "target_of", lambda *given: None)
    monkeypatch.setattr(failover, "settle", settle)
    monkeypatch.setattr(failover.startup, "wait_ready", lambda fleet, ctx, names: done.append(("ready", names)))
    monkeypatch.setattr(failover, "take_out", lambda deployment, drained: done.append(("out", drained)))
    return done


@pytest.mark.parametrize(("out", "expected"), [([], []), (["store-2"], [("ready", ["store-2"]), ("out", ())])])
def test_a_node_that_a_rolling_restart_left_out_of_nginx_is_put_back_once_it_serves(
    monkeypatch: pytest.MonkeyPatch, before: list[Any], out: list[str], expected: list[Any]
) -> None:
    monkeypatch.setattr(failover, "left_out", lambda deployment: out)
    ctx = context_with_keys("greg-separated")
    deployment: Any = SimpleNamespace(spec=ctx.spec, topology=ctx.topology, fleet=dict, context=lambda: ctx)
    with pytest.raises(Begun):
        failover.drill(deployment)
    assert before == expected


def test_a_machine_that_is_off_is_told_at_once(before: list[Any]) -> None:
    def fleet() -> None:
        raise HostError("not running: store-2", None, "run chapter 01: it launches and starts machines")

    ctx = context_with_keys("greg-separated")
    deployment: Any = SimpleNamespace(spec=ctx.spec, topology=ctx.topology, fleet=fleet)
    with pytest.raises(HostError, match="not running: store-2"):
        failover.drill(deployment)
    assert before == []


def pressed(number: int, cookies: str) -> Any:
    """Answer as ever; at the third request somebody presses Ctrl-C."""
    if number == 2:
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
    return good(number, cookies)


@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_while_the_first_visitors_arrive_ends_the_stream(tmp_path: Any) -> None:
    with Server(tmp_path, pressed) as server:
        stream = Stream(server.target(), 50.0, 16)
        with pytest.raises(KeyboardInterrupt), stream:
            pass
        stream._thread.join(20)
        assert not stream._thread.is_alive()


@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_while_the_second_host_is_greeted_ends_the_watch_of_the_first(tmp_path: Any) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    with Server(tmp_path / "one", good) as first, Server(tmp_path / "two", pressed) as second:
        watching = VisitorWatch([first.target(), second.target()])
        with pytest.raises(KeyboardInterrupt), watching:
            pass
        (stream,) = watching.streams
        stream._thread.join(20)
        assert not stream._thread.is_alive()
