"""SSH to a machine that breaks off, says nothing, or refuses: what becomes of the command, and what is told.

The server is paramiko's, over a pair of sockets.
"""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from io import StringIO

import paramiko
import pytest
from paramiko.common import cMSG_CHANNEL_CLOSE, cMSG_CHANNEL_EOF

from runbook_lib import pki, ssh
from runbook_lib.errors import HostError, KeyRefused
from runbook_lib.ssh import Address, Completed, Host

HOST_KEY, OUR_KEY = pki.make_ssh_key(), pki.make_ssh_key()
Command = Callable[["Sshd", paramiko.Channel], None]


def key_of(text: str) -> paramiko.Ed25519Key:
    return paramiko.Ed25519Key.from_private_key(StringIO(text))


def saying(out: bytes, errors: bytes = b"", status: int = 0) -> Command:
    def command(_sshd: Sshd, channel: paramiko.Channel) -> None:
        channel.sendall(out)
        channel.sendall_stderr(errors)
        channel.send_exit_status(status)
        channel.shutdown_write()
        channel.close()

    return command


class Sshd(paramiko.ServerInterface):
    """A machine. `command`: what it does for any command; `on_key`: what it does when it is shown a key that it does not know."""

    def __init__(self) -> None:
        self.command: Command = saying(b"")
        self.on_key: Callable[[int], None] = lambda number: None
        self.shown, self.known = 0, key_of(OUR_KEY)
        self.channels: list[paramiko.Channel] = []
        self.ended = threading.Event()
        self.transports: list[paramiko.Transport] = []
        self.wire = socket.socket()

    def host(self, private_key: str | None = OUR_KEY) -> Host:
        return Host(Address("greg-1", "10.0.0.1", "admin", (pki.ssh_public_key(HOST_KEY),)), private_key, dial=self.dial)

    def dial(self, _at: Address, _seconds: float) -> socket.socket:
        ours, self.wire = socket.socketpair()
        transport = paramiko.Transport(self.wire)
        transport.add_server_key(key_of(HOST_KEY))
        transport.start_server(threading.Event(), self)
        self.transports.append(transport)
        return ours

    def hang_up(self) -> None:
        self.wire.shutdown(socket.SHUT_RDWR)

    def get_allowed_auths(self, username: str) -> str:
        return "publickey"

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        if key == self.known:
            return paramiko.AUTH_SUCCESSFUL
        self.shown += 1
        self.on_key(self.shown)
        return paramiko.AUTH_FAILED

    def check_channel_request(self, kind: str, chanid: int) -> int:
        return paramiko.OPEN_SUCCEEDED

    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        self.channels.append(channel)
        threading.Thread(target=self.serve, args=(channel,), daemon=True).start()
        return True

    def serve(self, channel: paramiko.Channel) -> None:
        while channel.recv(65536):  # the input begins after the answer to the request
            pass
        self.command(self, channel)


@pytest.fixture
def sshd() -> Iterator[Sshd]:
    sshd = Sshd()
    yield sshd
    sshd.ended.set()
    for transport in sshd.transports:
        transport.close()


def breaks_off(sshd: Sshd, channel: paramiko.Channel) -> None:
    channel.sendall(b'{"progress": 1}\n{"progr')
    sshd.hang_up()


def test_a_command_says_how_it_ended_and_its_lines_come_one_by_one(sshd: Sshd) -> None:
    lines: list[str] = []
    sshd.command = saying(b"one\n\xff two\nthree", b"why\n", 3)
    assert sshd.host().run("x", b"input", lines.append) == Completed(3, "one\n\ufffd two\nthree", "why\n")
    assert lines == ["one", "\ufffd two"], "only whole lines"


def test_a_connection_that_breaks_in_the_middle_of_a_line_is_a_lost_host(sshd: Sshd) -> None:
    messages: list[object] = []
    sshd.command = breaks_off
    with pytest.raises(HostError, match="lost greg-1 while it ran a command: the connection broke"):
        sshd.host().run("x", on_line=lambda line: messages.append(json.loads(line)))
    assert messages == [{"progress": 1}]


def test_a_command_that_was_killed_is_no_lost_host(sshd: Sshd) -> None:
    """A signal ends it without an exit status; its connection stays."""

    def killed(_sshd: Sshd, channel: paramiko.Channel) -> None:
        channel.shutdown_write()
        channel.close()

    sshd.command = killed
    assert sshd.host().run("x").rc == -1


def test_a_command_whose_output_cannot_be_used_leaves_no_channel_open(sshd: Sshd) -> None:
    sshd.command = lambda _sshd, channel: channel.sendall(b"no JSON\n")
    with pytest.raises(ValueError, match="Expecting value"):
        sshd.host().run("x", on_line=json.loads)
    assert sshd.channels[0].status_event.wait(30), "the machine was not told that its channel is closed"


def test_what_a_command_says_of_its_failure_after_a_long_silence_is_kept(sshd: Sshd, monkeypatch: pytest.MonkeyPatch) -> None:
    read, silence = paramiko.Channel.recv_stderr, iter([TimeoutError(), TimeoutError()])

    def recv_stderr(channel: paramiko.Channel, amount: int) -> bytes:
        if error := next(silence, None):
            raise error
        return read(channel, amount)

    monkeypatch.setattr(paramiko.Channel, "recv_stderr", recv_stderr)
    sshd.command = saying(b"working\n", b"no memory left\n", 1)
    assert sshd.host().run("x") == Completed(1, "working\n", "no memory left\n")


def test_a_key_that_is_refused_is_told_from_a_connection_that_was_closed(sshd: Sshd) -> None:
    other = pki.make_ssh_key()
    with pytest.raises(KeyRefused, match="greg-1 refuses the deployment's key for admin"):
        sshd.host(other).transport()
    sshd.on_key = lambda number: sshd.hang_up()
    with pytest.raises(HostError, match="greg-1 closed the connection while signing in") as caught:
        sshd.host(other).transport()
    assert not isinstance(caught.value, KeyRefused)


def test_a_machine_that_gives_no_answer_to_a_key_has_not_refused_it(sshd: Sshd, monkeypatch: pytest.MonkeyPatch) -> None:
    host = sshd.host(None)

    def own_keys() -> list[paramiko.PKey]:
        host.timeout = 0.1  # from here on: the handshake may take longer
        return [key_of(pki.make_ssh_key())]

    monkeypatch.setattr(ssh, "own_keys", own_keys)
    sshd.on_key = lambda number: sshd.ended.wait(60) and None
    with pytest.raises(HostError, match="greg-1 gave no answer while signing in"):
        host.transport()


@pytest.mark.parametrize(
    ("takes", "says", "step"), [(2, "closed the connection while signing in", "MaxAuthTries"), (9, "accepts none of your own SSH keys", "ssh-agent")]
)
def test_own_keys_are_tried_one_by_one_until_the_machine_takes_no_more(sshd: Sshd, monkeypatch: pytest.MonkeyPatch, takes: int, says: str, step: str) -> None:
    keys = [key_of(pki.make_ssh_key()) for _ in range(3)]
    monkeypatch.setattr(ssh, "own_keys", lambda: keys)
    sshd.on_key = lambda number: sshd.hang_up() if number == takes else None
    with pytest.raises(HostError, match=f"greg-1 {says}") as caught:
        sshd.host(None).transport()
    assert step in (caught.value.next_step or "") and sshd.shown == min(takes, 3)
    sshd.on_key = lambda number: None
    keys.append(sshd.known)
    assert sshd.host(None).run("x").succeeded


def test_a_thread_that_comes_late_to_a_dead_connection_leaves_the_new_one_to_who_works_on_it(sshd: Sshd) -> None:
    host, at_work, late_is_through = sshd.host(), threading.Event(), threading.Event()

    def one_that_takes_long(_sshd: Sshd, channel: paramiko.Channel) -> None:
        sshd.command = saying(b"late")
        at_work.set()
        assert late_is_through.wait(20)
        saying(b"early")(_sshd, channel)

    def dead(**_: object) -> paramiko.Channel:
        if threading.current_thread().name == "late":
            assert at_work.wait(20)
        raise paramiko.SSHException("no answer")

    said: dict[str, str] = {}

    def work() -> None:
        said[threading.current_thread().name] = host.run("true").stdout
        late_is_through.set()

    sshd.command = one_that_takes_long
    host.transport().open_session = dead  # type: ignore[method-assign]
    threads = [threading.Thread(target=work, name=name) for name in ("late", "early")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert said == {"late": "late", "early": "early"}


def test_the_end_of_a_commands_input_is_not_overtaken_by_the_end_of_its_channel() -> None:
    """sshd disconnects at a message for a channel that has been closed; a command that is quick may end at any moment."""
    sent, channel = [], paramiko.Channel(0)
    closing = threading.Thread(target=channel._handle_close, args=(None,))

    class Transport:
        def get_log_channel(self) -> str:
            return "test"

        def _unlink_channel(self, number: int) -> None:
            pass

        def _sanitize_packet_size(self, size: int) -> int:
            return size

        def _send_user_message(self, message: paramiko.Message) -> None:
            kind = message.asbytes()[:1]
            if kind == cMSG_CHANNEL_EOF and not sent and not closing.ident:
                closing.start()
                closing.join(0.3)
            sent.append(kind)

    channel._set_transport(Transport())
    channel._set_remote_channel(0, 1000, 1000)
    ssh._feed(channel, b"")
    closing.join(5)
    assert sent == [cMSG_CHANNEL_EOF, cMSG_CHANNEL_CLOSE]
