"""What `classroom up` refuses, before anything is changed, and what follows from a learner's number."""

from __future__ import annotations

import socket
from ipaddress import IPv4Network

import pytest

from runbook_cli import main
from runbook_cli.classroom import certificate, request, room
from runbook_lib.errors import RunbookError

LONGEST = "a" + "b" * 30 + "c"


def nobody(name: str) -> str:
    return {"root": "user", "staff": "group"}.get(name, "")


@pytest.mark.parametrize(
    ("learners", "names", "found"),
    [
        (2, None, ["learner1", "learner2"]),
        (1, None, ["learner1"]),
        (None, "ada", ["ada"]),
        (None, "ada, grace", ["ada", "grace"]),
        (2, "ada,grace", ["ada", "grace"]),
        (None, "a,b2,c-3", ["a", "b2", "c-3"]),
        (None, LONGEST, [LONGEST]),
    ],
)
def test_names_that_learners_may_have(learners: int | None, names: str | None, found: list[str]) -> None:
    assert request.names(learners, names, nobody) == found


@pytest.mark.parametrize(
    ("learners", "names", "words"),
    [
        (None, "", "'' cannot be a learner's name"),
        (None, "ada,", "'' cannot be a learner's name"),
        (None, "ada,,grace", "'' cannot be a learner's name"),
        (None, "zoë", "'zoë' cannot be a learner's name"),
        (None, "аda", "'аda' cannot be a learner's name"),  # noqa: RUF001 (a Cyrillic letter that looks like ours)
        (None, "ada lovelace", "'ada lovelace' cannot be a learner's name"),
        (None, "-ada", "'-ada' cannot be a learner's name"),
        (None, "--yes", "'--yes' cannot be a learner's name"),
        (None, "ada-", "'ada-' cannot be a learner's name"),
        (None, "Ada", "'Ada' cannot be a learner's name"),
        (None, "1ada", "'1ada' cannot be a learner's name"),
        (None, "ada_l", "'ada_l' cannot be a learner's name"),
        (None, "../ada", "'../ada' cannot be a learner's name"),
        (None, "ada;id", "'ada;id' cannot be a learner's name"),
        (None, "ada\nroot", "'ada?root' cannot be a learner's name"),
        (None, "ada\x1b[31m", "'ada?[31m' cannot be a learner's name"),
        (None, LONGEST + "d", f"'{LONGEST}d' cannot be a learner's name"),
        (None, "x" * 500, "cannot be a learner's name"),
        (None, "root", "this machine has a user of that name"),
        (None, "staff", "this machine has a group of that name"),
        (None, "instructor", "it is the instructor's login"),
        (None, "ada,grace,ada", "'ada' is there 2 times"),
        (3, "ada,grace", "2 names were given for 3 learners"),
        (0, None, "1 to 99 learners, not 0"),
        (-1, None, "1 to 99 learners, not -1"),
        (100, None, "1 to 99 learners, not 100"),
        (None, ",".join(f"x{number}" for number in range(100)), "at most 99 learners, not 100"),
    ],
)
def test_names_and_numbers_that_are_refused(learners: int | None, names: str | None, words: str) -> None:
    with pytest.raises(RunbookError) as refused:
        request.names(learners, names, nobody)
    assert words in refused.value.what
    assert refused.value.next_step and "\n" not in str(refused.value.what)


def test_users_and_groups_of_this_machine_are_known() -> None:
    assert (request.on_this_machine("root"), request.on_this_machine("no-such-learner")) == ("user", "")


def test_too_many_learners_are_told_how_many_fit() -> None:
    with pytest.raises(RunbookError) as refused:
        request.names(100, None, nobody)
    assert f"memory for {request.fitting()}" in str(refused.value.next_step)


@pytest.mark.parametrize(
    ("learners", "wanted", "total", "available", "limit"),
    [
        (8, None, 24000, 20000, (24000 - request.RESERVE_MB) // 8),
        (1, None, 24000, 20000, request.MOST_MB),
        (2, None, 8000, 6000, (8000 - request.RESERVE_MB) // 2),
        (8, 4000, 24000, 20000, 4000),
        (1, request.LEARNER_MB, 8000, 6000, request.LEARNER_MB),
    ],
)
def test_each_learners_memory(learners: int, wanted: int | None, total: int, available: int, limit: int) -> None:
    assert request.memory(learners, wanted, total, available) == limit


@pytest.mark.parametrize(
    ("learners", "wanted", "available", "words"),
    [
        (8, None, 8000, "8 learners need"),
        (1, None, 1000, "1 learners need"),
        (1, 100, 8000, "100 MB are too little"),
    ],
)
def test_memory_that_is_refused(learners: int, wanted: int | None, available: int, words: str) -> None:
    with pytest.raises(RunbookError, match=words):
        request.memory(learners, wanted, 24000, available)


def test_the_error_says_how_many_learners_fit() -> None:
    with pytest.raises(RunbookError) as refused:
        request.memory(8, None, 24000, request.RESERVE_MB + 3 * request.LEARNER_MB + 10)
    assert "memory for 3 now" in str(refused.value.next_step)


@pytest.mark.parametrize(
    ("text", "learners", "words"),
    [
        ("10.160.0.0/33", 2, "not an address range"),
        ("ten", 2, "not an address range"),
        ("10.160.0.1/16", 2, "not an address range"),
        ("8.8.0.0/16", 2, "not a private range"),
        ("10.160.0.0/21", 1, "room for 0 learners, not 1"),
        ("10.160.0.0/20", 2, "room for 1 learners, not 2"),
        ("10.160.0.0/16", 17, "room for 16 learners, not 17"),
    ],
)
def test_ranges_that_are_refused(text: str, learners: int, words: str) -> None:
    with pytest.raises(RunbookError, match=words):
        request.network(text, learners)


@pytest.mark.parametrize(("text", "learners"), [(None, 99), ("10.168.0.0/16", 16), ("172.16.0.0/12", 99), ("192.168.0.0/16", 8)])
def test_ranges_that_carry_a_classroom(text: str | None, learners: int) -> None:
    assert request.network(text, learners) == IPv4Network(text or room.DEFAULT_RANGE)


def test_a_port_in_use_is_refused() -> None:
    with socket.socket() as held:
        held.bind(("", 0))
        held.listen()
        with pytest.raises(RunbookError, match="cannot be used: Address already in use"):
            request.port(held.getsockname()[1])


@pytest.mark.parametrize("number", [0, -1, 65536])
def test_a_port_that_there_is_not_is_refused(number: int) -> None:
    with pytest.raises(RunbookError, match=f"no port {number}"):
        request.port(number)


@pytest.mark.parametrize("name", ["", "a b", "zoë.test", "-x", "a..b", "x" * 300])
def test_a_host_name_that_no_certificate_can_have_is_refused(name: str) -> None:
    with pytest.raises(RunbookError, match="cannot be this machine's name"):
        request.hosts([name])


def test_no_two_learners_share_a_number_an_address_or_a_network() -> None:
    everybody = room.seats([f"learner{number}" for number in range(1, room.MOST + 1)], IPv4Network(room.DEFAULT_RANGE))
    assert len(everybody) == room.MOST
    for what in (lambda each: each.uid, lambda each: each.address, lambda each: each.lab.name, lambda each: each.home, lambda each: each.sockets):
        assert len({what(each) for each in everybody}) == room.MOST
    networks = [each.lab.network for each in everybody]
    assert not any(one.overlaps(other) for number, one in enumerate(networks) for other in networks[:number])
    assert all(each.address in room.LOOPBACK for each in everybody)


def test_a_kernels_socket_has_a_path_that_the_system_takes() -> None:
    [learner] = room.seats([LONGEST], IPv4Network(room.DEFAULT_RANGE))
    assert len(str(learner.sockets / f"kernel-{'0' * 36}-ipc-5")) <= 107


def test_the_room_is_read_as_it_was_written(tmp_path_factory: pytest.TempPathFactory) -> None:
    file = tmp_path_factory.mktemp("room") / "room.json"
    made = room.Room(room.seats(["ada", "grace"], IPv4Network("10.160.0.0/16")), 8443, 1, 2, 3, 3000, 900, ("vm.test", "192.0.2.4"))
    made.write(file)
    assert room.Room.read(file) == made
    assert made.url == "https://vm.test:8443"


def test_the_certificate_is_for_the_given_name_first_and_for_this_machines_own() -> None:
    found = certificate.hosts(["class.test"])
    assert found[0] == "class.test" and {socket.gethostname(), "localhost", "127.0.0.1"} <= set(found)


@pytest.mark.parametrize("words", [["classroom", "up"], ["classroom", "status"], ["classroom", "down"]])
def test_macos_is_told_in_one_error(words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.platform", "darwin")
    assert main.main(words) == 1
    said = capsys.readouterr().err
    assert said.startswith("the classroom needs Linux, and this is macOS") and "next:" in said


def test_who_is_not_root_and_has_no_sudo_is_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setenv("PATH", "/nowhere")
    assert main.main(["classroom", "up"]) == 1
    said = capsys.readouterr().err
    assert "needs root" in said and "install sudo" in said


@pytest.mark.parametrize("words", [["lab", "up"], ["lab", "down"], ["classroom", "up"], ["classroom", "down"], ["classroom", "status"]])
def test_a_learner_is_told_who_runs_his_lab(words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("RUNBOOK_CLASSROOM", "1")
    assert main.main(words) == 1
    said = capsys.readouterr().err
    assert "your lab is run by the classroom" in said and "next:" in said
