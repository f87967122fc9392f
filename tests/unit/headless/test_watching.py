"""A watch without machines: what a pass decides, whom it tells when, what it keeps, what Prometheus reads, which options are refused."""

from __future__ import annotations

import errno
import json
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from runbook_lib import pki
from runbook_lib.aws.s3.backup_store import BackupStore
from runbook_lib.changes import Change, Pending
from runbook_lib.check import Check
from runbook_lib.checks.running_out import Level, certificate, support
from runbook_lib.errors import CloudError, DataLost, HostError, RunbookError, WrongHostKey
from runbook_lib.files import write_whole
from runbook_lib.headless import cli
from runbook_lib.headless.watch import command, look, messages, metrics, record
from runbook_lib.headless.watch.look import BUSY, DRIFT, ERROR, FAILED, OK, UNREACHABLE, Deviation, Look, Pass, in_a_line, watched
from runbook_lib.headless.watch.record import STILL
from runbook_lib.launch.cloud import Cloud
from runbook_lib.redaction import redactor
from runbook_lib.session import Session
from runbook_lib.spec.chapters import chapters_of
from runbook_lib.spec.loader import load_spec
from runbook_lib.spec.model import Spec
from runbook_lib.ssh import Fleet
from tests.support.listeners import mail_listener, web_listener
from tests.support.prometheus_text import parsed

pytest_plugins = ["tests.support.aws_endpoint"]
GREG, AS = "params/greg-separated.lab.yaml", "params/as-cluster.lab.yaml"
NAMED = {"d": DRIFT, "e": DRIFT, "f": FAILED, "u": UNREACHABLE, "x": ERROR}


def seen(letters: str) -> Look:
    """A look by letters: d and e drift, f a failed check, u unreachable, b busy."""
    found = Look(busy="somebody, since then" if "b" in letters else "", checks=7)
    for letter in letters.replace("b", ""):
        found.add(NAMED[letter], letter, f"{letter} is not well")
    return found


LOOKS = {  # looks one after the other (the last one stays): the state, the findings that are told
    "": (OK, ""),
    "d": (DRIFT, "d"),
    "f": (FAILED, "f"),
    "u": (UNREACHABLE, "u"),
    "d,": (OK, ""),
    "u,": (OK, ""),
    "u,,d": (OK, ""),
    "de,d": (DRIFT, "d"),
    "d,e": (OK, ""),
    "df": (DRIFT, "df"),
    "uf": (UNREACHABLE, "uf"),
    "b": (BUSY, ""),
    "d,b": (BUSY, ""),
    "db": (BUSY, ""),
}


@pytest.mark.parametrize("looks", LOOKS)
def test_what_two_looks_find_is_told_and_what_is_under_way_is_not(looks: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(look, "AGAIN", 0.01)
    left, made = looks.split(","), []

    def look_at(spec: Spec) -> Look:
        made.append(left.pop(0) if len(left) > 1 else left[0])
        return seen(made[-1])

    found = watched(load_spec(GREG), look_at)
    state, letters = LOOKS[looks]
    assert (found.deployment, found.state) == ("greg-separated", state)
    assert [finding.key[-1] for finding in found.findings if finding.kind != BUSY] == list(letters)
    assert len(made) == 1 or not seen(made[0]).settled, "what is well is looked at once"


ERRORS: dict[str, tuple[RunbookError, str]] = {
    "no answer": (HostError("db-1 does not answer\nmore"), UNREACHABLE),
    "another host key": (WrongHostKey("another key"), FAILED),
    "lost data": (DataLost("empty"), FAILED),
    "refused by the cloud": (CloudError("AccessDenied"), ERROR),
    "no credentials": (CloudError("ExpiredToken"), ERROR),
}


@pytest.mark.parametrize("case", ERRORS)
def test_what_may_succeed_later_is_unreachable_what_the_cloud_refuses_is_an_error_and_the_rest_is_a_failure(case: str) -> None:
    error, kind = ERRORS[case]
    found = Look()
    with found.asking("plan 02"):
        raise error
    [finding] = found.findings.values()
    assert finding.kind == kind and "\n" not in finding.line


def test_a_call_of_the_cloud_that_may_succeed_later_is_unreachable_too() -> None:
    error, found = CloudError("no endpoint"), Look()
    error.transient = True
    with found.asking("open"):
        raise error
    assert [finding.kind for finding in found.findings.values()] == [UNREACHABLE]


def test_a_change_and_a_failed_check_are_a_line_each_and_one_that_was_not_decided_is_a_word_and_no_alarm() -> None:
    redactor.add("admin-password", "correct-horse-battery")
    found = Look()
    for summary in ("is inactive", "is inactive, since now"):  # the same in every pass is what it is, not how it is told
        found.planned(Pending("store-2", "units", Change("unit wso2carbon.service", "start", summary)))
    for status in ("pass", "skipped", "undecided", "fail"):
        found.checked(Check(f"{status}-store-2", "", status, "an answer", "correct-horse-battery\nis wrong", "store-2"))  # type: ignore[arg-type]
    lines = [finding.line for finding in found.findings.values()]
    assert lines[0] == "store-2: start unit wso2carbon.service: is inactive" and found.checks == 4
    assert len(lines) == 2 and "[admin-password] is wrong" in lines[1]
    assert found.unclear == ["undecided-store-2 is undecided: [admin-password] is wrong"]
    told = look.watched(load_spec("params/greg-single.lab.yaml"), lambda spec: Look(unclear=[*found.unclear]))
    assert told.state == look.OK and told.notes == tuple(found.unclear)


def of(letters: str, when: str = "2026-11-26T15:00:00.000Z", **more: Any) -> Pass:
    """A pass that found what the letters say; "b" is busy."""
    findings = {key: Deviation(NAMED.get(key, BUSY), key, f"{key} is not well") for key in letters}
    return Pass("shop", when, look.worst(findings), tuple(findings.values()), 60, 12.5, **more)


HISTORIES = {  # passes an hour apart, "" well: what is told at each
    "only well": ([("", ""), ("", "")]),
    "drift, told once": ([("d", "alarm"), ("d", ""), ("d", ""), ("", "well"), ("", "")]),
    "again and again": ([("d", "alarm"), ("", "well"), ("d", "alarm"), ("", "well")]),
    "something new": ([("d", "alarm"), ("de", "alarm"), ("de", ""), ("e", ""), ("de", "alarm")]),
    "another kind": ([("u", "alarm"), ("f", "alarm"), ("", "well")]),
    "a run repairs it": ([("d", "alarm"), ("b", ""), ("b", ""), ("", "well")]),
    "a run breaks it": ([("", ""), ("b", ""), ("d", "alarm")]),
    "begun while busy": ([("b", ""), ("", ""), ("b", "")]),
    "repeated": ([("d", "alarm"), *[("d", "")] * 4, ("d", "still"), ("d", "")]),
    "repeated, but not during a run": ([("d", "alarm"), *[("d", "")] * 4, ("b", ""), ("d", "still")]),
    "a machine hides what was told": ([("de", "alarm"), ("u", "alarm"), ("u", ""), ("de", ""), ("", "well")]),
    "and a run meanwhile": ([("d", "alarm"), ("u", "alarm"), ("b", ""), ("d", ""), ("e", "alarm"), ("d", "alarm")]),
    "the cloud refuses to be asked": ([("d", "alarm"), ("x", "alarm"), ("d", ""), ("x", "alarm")]),
    "a machine hides one of two": ([("df", "alarm"), ("du", "alarm"), ("df", ""), ("d", ""), ("df", "alarm")]),
}


@pytest.mark.parametrize("history", HISTORIES)
def test_who_listens_is_told_once_for_each_change_and_again_after_a_while(history: str) -> None:
    kept: record.Record = {}
    for hour, (letters, expected) in enumerate(HISTORIES[history]):
        kept = record.noted(kept, of(letters, f"2026-11-26T{hour:02}:00:00.000Z"), GREG)
        what = record.due(kept, "mail", timedelta(hours=5))
        assert what == expected, f"hour {hour}: {letters or 'well'}"
        if what:
            assert "\n" not in record.words_of(kept, "mail", what)
            record.told(kept, "mail")
    assert "webhook" not in kept["told"]


def test_a_record_says_since_when_keeps_what_was_decided_through_a_run_and_does_not_grow() -> None:
    kept: record.Record = {}
    for hour, letters in enumerate(("d", "d", "b")):
        kept = record.noted(kept, of(letters, f"2026-11-26T{hour:02}:00:00.000Z"), GREG)
    assert (kept["newest"]["state"], kept["decided"]["state"], kept["decided"]["since"]) == (BUSY, DRIFT, "2026-11-26T00:00:00.000Z")
    assert kept["decided"]["drifted"] == ["d is not well"] and len(kept["changes"]) == 1
    for number in range(300):
        kept = record.noted(kept, of("d" if number % 2 else ""), GREG)
    larger = record.noted(kept, of(""), GREG)
    assert len(larger["changes"]) == record.KEPT and len(json.dumps(larger)) < 20_000


def test_a_line_says_the_state_the_first_of_it_and_how_many_more_there_are() -> None:
    assert in_a_line(of("")) == OK
    assert in_a_line(of("fd")) == "drift: d is not well; and 1 more finding"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of runs of its own, and nobody to be told."""
    for name in ("RUNBOOK_WEBHOOK", "RUNBOOK_SMTP"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RUNBOOK_RUNS", str(tmp_path / "runs"))
    return tmp_path


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch, here: Path) -> Callable[[str], None]:
    """Sets what every pass finds from now on, by letters."""
    letters = [""]
    monkeypatch.setattr(command, "watched", lambda spec: replace(of(letters[0]), deployment=spec.deployment))

    def now(those: str) -> None:
        letters[0] = those

    return now


@pytest.fixture
def web() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    with web_listener() as listener:
        yield listener


def passes(*options: str, params: Sequence[str] = (GREG,)) -> int:
    return cli.main(["watch", *params, "--quiet", *options])


def test_webhook_and_mail_are_told_what_drifted_in_one_line_and_when_it_is_well_again(
    found: Callable[[str], None], web: tuple[str, list[dict[str, Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    address, heard = web
    monkeypatch.setenv("RUNBOOK_WEBHOOK", f"{address}/token-4711")
    with mail_listener() as (relay, letters):
        monkeypatch.setenv("RUNBOOK_SMTP", relay)
        for those in ("", "df", "df", ""):
            found(those)
            assert passes("--mail", "ops@example.org") == (2 if those else 0)
    assert [one["text"] for one in heard] == [
        "greg-separated: drift: d is not well; and 1 more finding",
        "greg-separated: well again (it was drift: d is not well; and 1 more finding)",
    ]
    assert (heard[0]["drifted"], heard[0]["failed"], heard[0]["ok"], heard[1]["ok"]) == (["d is not well"], ["f is not well"], False, True)
    assert [one["Subject"].strip() for one in letters] == [one["text"] for one in heard] and letters[0]["To"] == "ops@example.org"
    assert f"./runbook plan {GREG}" in letters[0].get_content() and "  f is not well" in letters[0].get_content()


def test_who_could_not_be_told_is_told_by_the_next_pass_and_the_others_only_once(
    found: Callable[[str], None], web: tuple[str, list[dict[str, Any]]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    address, heard = web
    found("d")
    with mail_listener() as (relay, letters):
        monkeypatch.setenv("RUNBOOK_SMTP", relay)
        for path in ("/refuse/token-4711", "/refuse/token-4711", "/token-4711", "/token-4711"):
            monkeypatch.setenv("RUNBOOK_WEBHOOK", address + path)
            passes("--mail", "ops@example.org")
    said = capsys.readouterr()
    assert len(heard) == 3 and len(letters) == 1
    assert said.out.count("the webhook was not told") == 2 and "4711" not in said.out + said.err


def test_a_pass_by_hand_that_tells_nobody_takes_no_alarm_away(
    found: Callable[[str], None], web: tuple[str, list[dict[str, Any]]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found("d")
    passes()
    assert web[1] == [] and "not told" not in capsys.readouterr().out
    monkeypatch.setenv("RUNBOOK_WEBHOOK", web[0])
    found("b")
    passes()
    assert web[1] == [], "a run may be repairing it now"
    found("d")
    passes()
    assert len(web[1]) == 1


STATUSES = {"": 0, "b": 0, "d": 2, "f": 2, "u": 1, "x": 1, "uf": 1, "df": 2, "dx": 2}


@pytest.mark.parametrize("letters", STATUSES)
def test_the_exit_status_is_2_for_drift_and_failures_1_for_what_was_not_seen(found: Callable[[str], None], letters: str) -> None:
    found(letters)
    assert passes() == STATUSES[letters]


def test_one_broken_params_file_is_told_and_does_not_keep_the_others_from_being_watched(
    found: Callable[[str], None], here: Path, web: tuple[str, list[dict[str, Any]]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RUNBOOK_WEBHOOK", web[0])
    broken = here / "mine.yaml"
    broken.write_text("deployment: broken-one\npattern: nonsense\n: [\n")
    assert passes("--json", params=(str(broken), AS, "params/nowhere.yaml")) == 1
    told = json.loads(capsys.readouterr().out)
    assert {one["deployment"]: one["newest"]["state"] for one in told["deployments"]} == {"broken-one": ERROR, "as-cluster": OK, "nowhere": ERROR}
    assert {one["deployment"] for one in web[1]} == {"broken-one", "nowhere"} and not told["ok"]
    assert json.loads((here / "runs/_watch/broken-one/watch.json").read_text()) == told["deployments"][0]


def test_what_nobody_foresaw_with_one_deployment_is_told_and_the_others_are_watched(monkeypatch: pytest.MonkeyPatch, here: Path) -> None:
    def breaks(spec: Spec) -> Pass:
        if spec.deployment == "greg-separated":
            raise ZeroDivisionError("nobody foresaw this")
        return replace(of(""), deployment=spec.deployment)

    monkeypatch.setattr(command, "watched", breaks)
    assert passes(params=(GREG, AS)) == 1
    assert [record.read(name)["newest"]["state"] for name in ("greg-separated", "as-cluster")] == [ERROR, OK]
    assert "ZeroDivisionError" in record.read("greg-separated")["newest"]["line"]


def test_in_the_foreground_a_pass_follows_another_until_it_is_stopped(found: Callable[[str], None], monkeypatch: pytest.MonkeyPatch) -> None:
    stop, made = threading.Event(), []

    def once(self: command.Watcher, say: Any) -> list[record.Record]:
        made.append(1)
        if len(made) == 3:
            stop.set()
        return []

    monkeypatch.setattr(command.Watcher, "once", once)
    command.keep_watching(command.Watcher((GREG,), {}), 0, print, stop)
    assert len(made) == 3


WRONG = {
    "--every soon": ("'soon' is no interval", "--every"),
    "--again soon": ("'soon' is no interval", "--again"),
    "--as cron": ("nothing says how often", "--every 15m"),
    "--every 15m --json": ("does not go with --json", "watch.json"),
    "--foreground": ("goes with --every", "--every 15m --foreground"),
    "--every 15m --foreground --as cron": ("neither --as nor --json", "--foreground"),
    "--every 45m --as cron": ("cannot say every 45m", "30m or 1h"),
    "--metrics /nowhere/runbook.prom": ("no such folder", "textfile.directory"),
    "--metrics runbook.txt": ("end with .prom", "runbook.prom"),
    "--mail nobody": ("no address", "ops@example.org"),
    "--mail ops@": ("no address", "ops@example.org"),
    "--mail @example.org": ("no address", "ops@example.org"),
    "--mail ops@example.org,": ("no address", "ops@example.org"),
}


@pytest.mark.parametrize("options", WRONG)
def test_what_is_wrong_is_one_error_before_anything_is_looked_at(options: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert passes(*options.split()) == 1
    said = capsys.readouterr().err
    assert all(words in said for words in WRONG[options]) and "Traceback" not in said
    assert not (here / "runs").exists()


@pytest.mark.parametrize("other", [GREG, f"./{GREG}", "greg-separated.lab.yaml", "params/greg-separated.aws.yaml"])
def test_a_deployment_is_named_once_whatever_its_file_is_called(other: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert passes(params=(GREG, AS, other)) == 1
    said = capsys.readouterr().err
    assert "of one deployment, greg-separated" in said and f"{GREG} {other}" in said and not (here / "runs").exists()


def test_the_record_of_another_params_file_with_the_same_deployment_is_nobody_elses_well_again(
    found: Callable[[str], None], here: Path, web: tuple[str, list[dict[str, Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUNBOOK_WEBHOOK", web[0])
    other = here / "other.yaml"
    other.write_text(Path(GREG).read_text())
    for letters, params in (("d", str(other)), ("", GREG), ("d", GREG), ("", f"./{GREG}")):
        found(letters)
        passes(params=(params,))
    assert [(one["kind"], one["text"]) for one in web[1]] == [
        ("alarm", "greg-separated: drift: d is not well"),
        ("alarm", "greg-separated: drift: d is not well"),
        ("well", "greg-separated: well again (it was drift: d is not well)"),
    ]


NAMES = [["a-b", "c"], ["a", "b-c"], ["a-b-c"], ["a" * 40, "b" * 40], ["a" * 40, "b" * 39 + "c"], ["a" * 40, "b" * 40, "c"], ["a" * 40]]


def test_no_set_of_deployments_has_the_timer_of_another() -> None:
    found = [command._short(names) for names in NAMES]
    assert len(set(found)) == len(NAMES) and all(re.fullmatch(r"[\w.-]{1,70}", each) for each in found)


@pytest.mark.parametrize("hours, again", [(24.25, STILL), (23.75, STILL), (21.0, "")])
def test_a_reminder_of_every_day_comes_every_day_though_a_pass_of_every_day_begins_some_minutes_earlier(hours: float, again: str) -> None:
    first = record.noted({}, of("d"), GREG)
    record.told(first, "mail")
    then = (datetime.fromisoformat("2026-11-26T15:00:00+00:00") + timedelta(hours=hours)).isoformat()
    assert record.due(record.noted(first, of("d", then), GREG), "mail", timedelta(days=1)) == again


def blocked(here: Path) -> None:
    """A file lies where the records of one deployment would."""
    (here / "runs/_watch").mkdir(parents=True)
    (here / "runs/_watch/greg-separated").write_text("")


def test_a_record_that_cannot_be_written_is_an_error_that_no_pass_tells_and_the_others_are_watched(
    found: Callable[[str], None], here: Path, web: tuple[str, list[dict[str, Any]]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RUNBOOK_WEBHOOK", web[0])
    blocked(here)
    for letters, status in (("d", 2), ("", 1)):
        found(letters)
        assert passes("--metrics", str(here / "x.prom"), params=(GREG, AS)) == status
        said = capsys.readouterr().out
        assert "greg-separated: nobody is told, for the record cannot be written" in said and "watch.json" in said
    assert {one["deployment"] for one in web[1]} == {"as-cluster"} and len(web[1]) == 2
    assert 'runbook_watch_ok{deployment="greg-separated"} 0' in (here / "x.prom").read_text()


def test_a_file_that_a_full_disk_does_not_take_leaves_nothing_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, text: str, encoding: str) -> None:
        path.touch()
        raise OSError(errno.ENOSPC, "No space left on device")

    (tmp_path / "watch.json").write_bytes(b"before")
    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OSError, match="No space"):
        write_whole(tmp_path / "watch.json", "after")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("watch.json", b"before")]


def test_figures_that_cannot_be_written_are_said_after_what_was_found(
    found: Callable[[str], None], here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(metrics, "write_whole", full)
    found("d")
    assert passes("--metrics", str(here / "x.prom")) == 2
    said = capsys.readouterr().out
    assert said.index("d is not well") < said.index("x.prom cannot be written: No space left on device")


def test_a_folder_that_this_user_cannot_write_is_refused_before_anything_is_looked_at(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("os.access", lambda path, mode: False)
    assert passes("--metrics", str(here / "x.prom")) == 1
    assert "cannot be written by this user" in capsys.readouterr().err and not (here / "runs").exists()


def test_an_address_that_no_mail_can_be_made_for_is_said_and_no_end_of_the_pass() -> None:
    assert "no mail was sent" in messages.send(lambda: messages.mail_to("ops@", "subject", "text"))


@pytest.mark.parametrize("address", ["hooks.example.org/T0/token-4711", "ftp://hooks.example.org/token-4711", "https:///token-4711", "http://[token-4711"])
def test_a_webhook_that_is_no_address_is_refused_without_being_shown(
    address: str, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RUNBOOK_WEBHOOK", address)
    assert passes() == 1
    said = capsys.readouterr().err
    assert "$RUNBOOK_WEBHOOK" in said and "4711" not in said


def test_a_timer_has_the_options_and_no_webhook(here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("RUNBOOK_WEBHOOK", "https://hooks.example.org/token-4711")
    words = ["--set", "clustering=false", "--mail", "ops@example.org", "--metrics", str(here / "x.prom"), "--every", "15m"]
    assert cli.main(["watch", GREG, AS, *words]) == 0
    said = capsys.readouterr().out
    assert "runbook-watch-greg-separated_as-cluster.timer" in said and "OnCalendar=*-*-* *:00/15:00" in said and "4711" not in said
    assert f"as-cluster.lab.yaml --set clustering=false --mail ops@example.org --metrics {here}/x.prom --again 1d\n" in said and "nothing was written" in said


def test_a_backup_is_made_every_so_often_by_the_same_timer(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["backup", GREG, "--every", "24h", "--set", "nodes.store=3"]) == 0
    said = capsys.readouterr().out
    assert "runbook-backup-greg-separated.timer" in said and "OnCalendar=*-*-* 00:00:00" in said
    assert "greg-separated.lab.yaml --set nodes.store=3\n" in said
    for options, words in (("--as cron", "nothing says how often"), ("--every 24h --json", "does not go with --json")):
        assert cli.main(["backup", GREG, *options.split()]) == 1
        assert words in capsys.readouterr().err


def levelled(**more: Any) -> record.Record:
    ends = certificate("tls/store.lab.test", command_time())
    disk = Level("disk", "", "", 'db-1:/var/lib/a "disk"\\x', 50.0, 15, 5, "", {"free": 5.5e9, "size": 1e10})
    prices = Level("prices", "", "", "us-east-1", -1.0, 0.0, -1.0, "old", {"days": 694.0})
    backup = Level("backup", "", "", "s3://backups/shop/", 1.0, 0.0, 0.0, "", {"begun": 1795700000.0})
    [system] = support("debian-12")
    return record.noted({}, replace(of("dfe"), levels=(ends, disk, prices, backup, system), **more), GREG)


def command_time() -> Any:
    from datetime import UTC, datetime

    return datetime(2027, 11, 26, 15, tzinfo=UTC)


def test_prometheus_reads_state_counts_and_levels(tmp_path: Path) -> None:
    records = [levelled(), record.noted({}, replace(of("b"), deployment="begun-busy"), AS)]
    file = metrics.writable(str(tmp_path / "runbook.prom"))
    file.write_text("of before")
    metrics.write(file, records)
    samples = parsed(file.read_text())
    shop = frozenset({("deployment", "shop")})
    figures = {name: samples[name][shop] for name in ("runbook_watch_ok", "runbook_watch_drifted", "runbook_watch_failed_checks", "runbook_watch_seconds")}
    assert figures == {"runbook_watch_ok": 0, "runbook_watch_drifted": 2, "runbook_watch_failed_checks": 1, "runbook_watch_seconds": 12.5}
    assert samples["runbook_watch_last_pass_timestamp_seconds"][shop] == 1795705200.0
    assert samples["runbook_certificate_expiry_timestamp_seconds"][shop | {("certificate", "tls/store.lab.test")}] == 1827241200.0
    assert samples["runbook_disk_free_bytes"][shop | {("node", "db-1"), ("mountpoint", '/var/lib/a "disk"\\x')}] == 5.5e9
    assert samples["runbook_backup_timestamp_seconds"][shop] == 1795700000.0
    assert samples["runbook_image_support_end_timestamp_seconds"][shop | {("image", "debian-12")}] == 1845936000.0
    assert samples["runbook_watch_busy"][frozenset({("deployment", "begun-busy")})] == 1
    assert set(samples["runbook_watch_ok"]) == {shop}, "nothing was decided of the other one"
    assert set(samples) == set(metrics.HELP)
    assert file.stat().st_mode & 0o777 == 0o644 and [path.name for path in tmp_path.iterdir()] == ["runbook.prom"]


def test_a_disk_that_a_run_keeps_busy_keeps_its_figures(tmp_path: Path) -> None:
    before = levelled()
    after = record.noted(before, of("b", "2026-11-26T16:00:00.000Z"), GREG)
    one, other = (parsed(metrics.as_text([each])) for each in (before, after))
    assert other["runbook_disk_free_bytes"] == one["runbook_disk_free_bytes"] and other["runbook_watch_drifted"] == one["runbook_watch_drifted"]
    assert set(other["runbook_watch_busy"].values()) == {1}


def test_what_a_machine_that_is_down_hides_keeps_its_figures_until_it_is_seen_again() -> None:
    before = levelled()
    prices = Level("prices", "", "", "us-east-1", -1.0, 0.0, -1.0, "old", {"days": 695.0})
    hidden = record.noted(before, replace(of("u"), levels=(prices,)), GREG)
    assert {level["kind"]: level["measured"] for level in hidden["decided"]["levels"]} == {
        **{level["kind"]: level["measured"] for level in before["decided"]["levels"]},
        "prices": {"days": 695.0},
    }
    assert [level["kind"] for level in record.noted(hidden, replace(of(""), levels=(prices,)), GREG)["decided"]["levels"]] == ["prices"]


def test_one_machine_that_does_not_answer_keeps_no_certificate_and_no_other_disk_from_being_read(make_cloud: Callable[..., Cloud]) -> None:
    cloud = make_cloud()
    spec, topology = cloud.spec, cloud.topology

    def run(name: str) -> Any:
        if name == "greg-1":
            raise HostError("greg-1 does not answer")
        return SimpleNamespace(stdout="Avail Size IFree Inodes Mounted on\n50 100 5 10 /\n")

    hosts = {name: SimpleNamespace(run=lambda *_, name=name, **__: run(name)) for name in ("db-1", "greg-1")}
    states = {"db-1": "running", "greg-1": "running", "lb-1": "stopped"}
    asked: list[set[str]] = []

    def fleet(without: set[str]) -> Any:
        asked.append(without)
        return Fleet(hosts)  # type: ignore[arg-type]

    opened: Any = SimpleNamespace(
        spec=spec, topology=topology, fleet=fleet, out_of_reach=dict,
        instances=lambda: {name: SimpleNamespace(state=state) for name, state in states.items()},
        vault=SimpleNamespace(read_all=lambda: {"ca.pem": pki.make_ca("test").cert_pem}), running=lambda: Session.running(opened),
        cloud=cloud,
    )  # fmt: skip
    for chapter in chapters_of(spec.pattern):
        setattr(opened, chapter.attribute, SimpleNamespace(plan=lambda: SimpleNamespace(pending=()), checks=lambda quiet: ()))
    store = BackupStore(cloud.aws, spec.deployment)
    store.own.s3.put_object(**store.own.bucket, Key=f"{store.new_folder()}/manifest.json", Body=b"{}")
    found = Look()
    look._ask_all(opened, found)
    assert [level.place for level in found.levels] == ["debian-12", "us-east-1", "ca.pem", store.place, "db-1:/"] and asked == [{"lb-1"}]
    assert sorted(finding.key for finding in found.findings.values()) == ["unreachable disks greg-1 HostError", "unreachable disks lb-1 HostError"]
