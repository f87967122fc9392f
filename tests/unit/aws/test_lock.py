"""One writer at a time: who holds the lock, how it ends, and that of many only one gets it."""

from __future__ import annotations

import dataclasses
import datetime
import getpass
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from runbook_lib.aws import lock as lock_module
from runbook_lib.aws.lock import Lock, holder
from runbook_lib.aws.parameter_store import Vault
from runbook_lib.errors import CloudError, LockHeld, Stopped
from runbook_lib.launch.cloud import Cloud

pytest_plugins = ["tests.support.aws_endpoint"]


@pytest.fixture
def vault(make_cloud: Callable[..., Cloud]) -> Vault:
    return make_cloud().vault


PAST = "2026-01-01T08:03:00Z"


def store(vault: Vault, name: str = "lock", **changes: object) -> None:
    """A lock as another process would have left it, or a mark of this name."""
    base = Lock(vault, "somebody@else")._new("t0ken", "2026-01-01T08:00:00Z")
    held = dataclasses.replace(base, machine="another machine", pid=1, started="1")
    vault.put(name, json.dumps(dataclasses.asdict(dataclasses.replace(held, **changes))), secure=False)  # type: ignore[arg-type]


def test_it_is_held_inside_the_block_and_free_after_it(vault: Vault) -> None:
    with Lock(vault, "anna"):
        found = holder(vault)
        assert found and found.owner == "anna" and not found.expired
    assert holder(vault) is None


def test_it_is_free_after_the_block_although_a_look_was_too_early_for_it(vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    with Lock(vault, "anna"):
        monkeypatch.setattr(lock_module, "holder", lambda vault, name="lock": None)
    assert holder(vault) is None


def test_it_is_free_after_an_error_too(vault: Vault) -> None:
    with pytest.raises(ValueError, match="boom"), Lock(vault, "anna"):
        raise ValueError("boom")
    assert holder(vault) is None


def test_the_second_is_refused_with_the_owner_and_since_when(vault: Vault) -> None:
    store(vault, owner="berta@office", since="2026-01-01T08:00:00Z")
    with pytest.raises(LockHeld) as caught, Lock(vault, "anna"):
        pass
    assert "berta@office" in caught.value.what and "2026-01-01T08:00:00Z" in caught.value.what
    assert vault.prefix + "lock" in (caught.value.where or "")
    assert (found := holder(vault)) and found.owner == "berta@office"


def test_the_same_owner_may_hold_it_inside_itself(vault: Vault) -> None:
    with Lock(vault, "anna"):
        with Lock(vault, "anna"):
            pass
        assert holder(vault) is not None
    assert holder(vault) is None


def test_an_expired_lock_is_taken_over(vault: Vault) -> None:
    store(vault, until=PAST)
    with Lock(vault, "anna"):
        assert (found := holder(vault)) and found.owner == "anna"
    assert vault.names() == ()


# Left by those who were killed while they took the lock over, and while they took that mark over.
MARKS = {"lock-taken-over-t0ken": {"token": "m4rk", "until": PAST}, "lock-taken-over-m4rk": {"token": "m0re", "until": PAST}}


@pytest.mark.parametrize("left", range(3))
def test_of_many_that_find_it_expired_exactly_one_gets_it(vault: Vault, left: int) -> None:
    store(vault, until=PAST)
    for name in list(MARKS)[:left]:
        store(vault, name, **MARKS[name])
    inside, most, all_tried = [0], [0], threading.Barrier(8)
    guard = threading.Lock()

    def attempt(number: int) -> str:
        try:
            with Lock(Vault(vault.ssm, vault.deployment), f"worker-{number}"):
                with guard:
                    inside[0] += 1
                    most[0] = max(most[0], inside[0])
                all_tried.wait(30)
                with guard:
                    inside[0] -= 1
                return "had it"
        except LockHeld:
            all_tried.wait(30)
            return "refused"

    with ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(attempt, range(8)))
    assert outcomes.count("had it") == 1 and most[0] == 1
    assert vault.names() == ()


def test_who_takes_it_over_now_is_named_with_the_end_of_its_own_time(vault: Vault) -> None:
    store(vault, until=PAST)
    store(vault, "lock-taken-over-t0ken", token="m4rk", owner="berta")
    with pytest.raises(LockHeld, match="berta has been working") as caught, Lock(vault, "anna"):
        pass
    assert PAST not in str(caught.value)
    assert vault.names() == ("lock", "lock-taken-over-t0ken")


@pytest.mark.parametrize("expired", [False, True])
def test_what_was_created_although_the_answer_was_lost_is_its_own(vault: Vault, monkeypatch: pytest.MonkeyPatch, expired: bool) -> None:
    def repeated(*arguments: object, **options: object) -> bool:
        create(*arguments, **options)  # type: ignore[arg-type]
        return False

    if expired:
        store(vault, until=PAST)
    create = vault.create
    monkeypatch.setattr(vault, "create", repeated)
    with Lock(vault, "anna") as lock:
        before = holder(vault)
        lock.minutes = 20
        assert lock.refresh()
        after = holder(vault)
        assert before and after and before.owner == "anna" and after.until > before.until
    assert vault.names() == ()


def test_a_holder_of_this_machine_that_was_killed_is_not_waited_for(vault: Vault) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        here = {"machine": lock_module._machine(), "pid": process.pid, "started": lock_module._started(process.pid)}
        store(vault, **here)
        with pytest.raises(LockHeld), Lock(vault, "anna"):
            pass
        process.kill()
        process.wait()
    with Lock(vault, "anna"):
        assert (found := holder(vault)) and found.owner == "anna"


def test_a_process_that_got_the_pid_of_a_dead_holder_does_not_keep_the_lock(vault: Vault) -> None:
    store(vault, machine=lock_module._machine(), pid=os.getpid(), started="1")
    with Lock(vault, "anna"):
        found = holder(vault)
        assert found is not None and found.owner == "anna"


def test_a_holder_whose_start_may_not_be_read_lives_as_long_as_its_number_does(vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    def of_somebody_else(pid: int, signal: int) -> None:
        raise PermissionError

    store(vault, machine=lock_module._machine(), pid=os.getpid(), started="1")
    monkeypatch.setattr(lock_module, "_started", lambda pid: "")  # as with hidepid=2
    with pytest.raises(LockHeld), Lock(vault, "anna"):
        pass
    monkeypatch.setattr(os, "kill", of_somebody_else)
    with pytest.raises(LockHeld), Lock(vault, "anna"):
        pass


def test_a_process_number_of_another_container_of_this_machine_says_nothing(vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as other:
        other.setattr(os, "readlink", lambda path: "pid:[4026530000]")
        there = lock_module._machine()
    store(vault, machine=there, pid=2**22 + 1)  # above the kernel's highest
    with pytest.raises(LockHeld), Lock(vault, "anna"):
        pass


def test_two_processes_of_one_number_in_two_containers_are_two_owners_though_people_read_the_same(vault: Vault) -> None:
    code = "import os; os.getpid = lambda: 1; from runbook_lib.aws.lock import owner_here; print(owner_here())"
    one, other = (subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.strip() for _ in range(2))
    with Lock(vault, one), pytest.raises(LockHeld) as caught, Lock(Vault(vault.ssm, vault.deployment), other):
        pass
    assert f"{getpass.getuser()}@{socket.gethostname()} (process 1) has been working on" in caught.value.what


def test_a_live_holder_pushes_the_end_out(vault: Vault) -> None:
    with Lock(vault, "anna", minutes=0.5) as lock:
        before = holder(vault)
        lock.minutes = 5
        assert lock.refresh()
        after = holder(vault)
        assert before and after and after.until > before.until and after.since == before.since


def test_a_lock_that_was_taken_away_is_neither_refreshed_nor_released(vault: Vault) -> None:
    with Lock(vault, "anna") as lock:
        store(vault, owner="berta")
        assert not lock.refresh()
    assert (found := holder(vault)) and found.owner == "berta"


@pytest.mark.parametrize("nested", [False, True])
def test_a_holder_whose_lock_was_taken_over_is_stopped_and_told_by_whom(vault: Vault, nested: bool) -> None:
    lost = threading.Event()
    if nested:  # in a kernel: the run that started it holds the lock
        store(vault, owner="anna")
    with pytest.raises(LockHeld, match=r"taken over by berta.*stopped before packages"), Lock(vault, "anna", minutes=0.01, lost=lost.set):
        store(vault, owner="berta", token="another")
        assert lost.wait(30)
        raise Stopped("stopped before packages on db-1, as asked", "db-1")
    assert (found := holder(vault)) and found.owner == "berta"


def test_a_lock_that_a_tear_down_removed_stops_nobody_and_stays_away(vault: Vault) -> None:
    with Lock(vault, "anna") as lock:
        vault.delete_all()
        assert lock.refresh()
        assert holder(vault) is None


def test_a_clock_that_aws_still_accepts_does_not_end_a_lock_that_is_renewed(vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    now, ahead = lock_module._now, datetime.timedelta(minutes=5)
    with Lock(vault, "anna") as lock:
        since_renewal = datetime.timedelta(minutes=2 * lock.minutes / lock_module.RENEWALS)  # one renewal failed
        monkeypatch.setattr(lock_module, "_now", lambda: now() + ahead + since_renewal)
        assert (found := holder(vault)) and not found.expired


def test_waiting_gets_it_when_it_is_released(vault: Vault) -> None:
    held, go = threading.Event(), threading.Event()

    def hold() -> None:
        with Lock(Vault(vault.ssm, vault.deployment), "berta"):
            held.set()
            go.wait(30)

    thread = threading.Thread(target=hold)
    thread.start()
    assert held.wait(30)
    threading.Timer(0.2, go.set).start()
    with Lock(vault, "anna", wait=30):
        assert (found := holder(vault)) and found.owner == "anna"
    thread.join()


def test_something_else_under_the_locks_name_is_told(vault: Vault) -> None:
    vault.put("lock", "do not touch", secure=False)
    with pytest.raises(CloudError, match="not one of the runbook's"), Lock(vault, "anna"):
        pass
