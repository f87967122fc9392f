"""SSH to the machines: pinned host keys only, one connection kept per host, hosts in parallel.

There is no trust on first use: a host whose key was not read from its console before is refused (design, decision 4).
"""

from __future__ import annotations

import socket
import sys
import threading
from base64 import b64decode
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from runbook_lib.errors import HostError, KeyRefused, RunbookError, WrongHostKey
from runbook_lib.waiting import wait_until

if TYPE_CHECKING:
    from runbook_lib.webclient.transport import Connect, Connected


@contextmanager
def _not_imported(name: str) -> Iterator[None]:
    """Let the module not be found during the block."""
    there = {name: sys.modules[name]} if name in sys.modules else {}
    sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[name]
        sys.modules.update(there)


# paramiko needs invoke for `Match exec` in an ssh_config only, which nobody reads here, and invoke takes longer to import than paramiko itself
with _not_imported("invoke"):
    import paramiko

T = TypeVar("T")
KEEPALIVE = 20  # seconds between two keepalive messages
OWN_KEYS = ("id_ed25519", "id_ecdsa", "id_rsa")  # files in ~/.ssh, in the order of OpenSSH
ATTEMPT = 5.0  # seconds that a machine has for an answer while it is waited for: a longer attempt would go on after the machine is there
UNANSWERED = 60  # seconds that sent data may stay unacknowledged before the connection counts as broken


PORT_SECONDS = 2.0  # a security group drops packets silently, so a port without an answer for this long counts as silent


@dataclass(frozen=True)
class Completed:
    """The result of a remote command that ended: exit status and output."""

    rc: int
    stdout: str
    stderr: str

    @property
    def succeeded(self) -> bool:
        return self.rc == 0


@dataclass(frozen=True)
class Address:
    """How to reach a host. `host_keys` are lines with the type and the base64 key, as the console showed them.

    `via`: the name of the host to connect through, empty where it is reached directly.
    """

    name: str
    address: str
    user: str
    host_keys: tuple[str, ...]
    port: int = 22
    via: str = ""


Dial = Callable[[Address, float], socket.socket]


class Host:
    """One machine. It connects at first use, and again when the connection is broken.

    It authenticates with `private_key`, or without one with the operator's own keys from the SSH agent or ~/.ssh, as for a
    bastion, which belongs to the operator. `via` is the host to connect through; `dial` makes the connection in another way, and is
    given the address and the timeout; `timeout` is in seconds, for connecting.
    """

    def __init__(self, at: Address, private_key: str | None, via: Host | None = None, timeout: float = 20.0, dial: Dial | None = None):
        self.name, self.at, self.via, self.timeout, self._dial = at.name, at, via, timeout, dial
        self._key = paramiko.Ed25519Key.from_private_key(StringIO(private_key)) if private_key else None
        self._transport: paramiko.Transport | None = None
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"Host({self.name}, {self.at.address})"

    def transport(self, seconds: float | None = None) -> paramiko.Transport:
        """Return the open connection. Raises HostError when the host does not answer or refuses the key, WrongHostKey when it has another one.

        `seconds`: how long the host may take to answer at all, `timeout` when not given.
        """
        with self._lock:
            if self._transport is None or not self._transport.is_active():
                self._transport = self._connect(seconds or self.timeout)
            return self._transport

    def _connect(self, seconds: float) -> paramiko.Transport:
        where = f"{self.name} ({self.at.user}@{self.at.address}:{self.at.port})"
        try:
            if self._dial is not None:
                wire = self._dial(self.at, self.timeout)
            elif self.via is None:
                wire = socket.create_connection((self.at.address, self.at.port), timeout=seconds)
                wire.settimeout(self.timeout)
                wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux only; without it, a host that lost power is waited for 15 minutes
                    wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNANSWERED * 1000)
            else:
                wire = self.via.tunnel(self.at.address, self.at.port, seconds)  # type: ignore[assignment]
        except OSError as error:
            raise HostError(
                f"{self.name} does not answer: {error}", where, "look at the machine's state in chapter 01 and at its security group for port 22"
            ) from error
        transport = paramiko.Transport(wire)
        transport.set_keepalive(KEEPALIVE)
        transport.banner_timeout = self.timeout
        pinned = dict(line.split()[:2] for line in self.at.host_keys)
        transport.get_security_options().key_types = [
            kind for kind in transport.get_security_options().key_types if kind in pinned or (kind.startswith("rsa-sha2") and "ssh-rsa" in pinned)
        ]
        try:
            transport.start_client(timeout=self.timeout)
            found = transport.get_remote_server_key()
            if b64decode(pinned.get(found.get_name(), "")) != found.asbytes():
                raise WrongHostKey(
                    f"{self.name} shows another host key ({found.fingerprint}) than its console did",
                    where,
                    "if the machine was replaced, run chapter 01 again: it reads the new machine's console; if it was not, somebody sits in between",
                )
            self._sign_in(transport, where)
        except RunbookError:
            transport.close()
            raise
        except (paramiko.SSHException, EOFError, OSError) as error:
            transport.close()
            raise HostError(f"no SSH session with {self.name}: {error}", where, "try again; then look at sshd in the console output") from error
        return transport

    def _sign_in(self, transport: paramiko.Transport, where: str) -> None:
        """Authenticate the user. Raises KeyRefused when the host refuses the deployment's key, HostError when it accepts none of the own ones or goes away."""
        for key in [self._key] if self._key else own_keys():
            answered = threading.Event()
            transport.auth_publickey(self.at.user, key, answered)  # without an event it raises one exception for a refusal and for no answer
            in_time = answered.wait(self.timeout)
            if transport.is_authenticated():
                return
            if not in_time or not transport.is_active():
                step = "try again; then look at sshd in the console output"
                if not self._key:
                    step = "sshd takes only a few keys (MaxAuthTries): leave those that it knows in ssh-agent (ssh-add -l, ssh-add -d); else try again"
                raise HostError(f"{self.name} {'gave no answer' if transport.is_active() else 'closed the connection'} while signing in", where, step)
        if self._key:
            raise KeyRefused(f"{self.name} refuses the deployment's key for {self.at.user}", where, "look into the console output for cloud-init's lines")
        raise HostError(
            f"{self.name} accepts none of your own SSH keys for {self.at.user}", where, f"see that `ssh {self.at.user}@{self.at.address}` works, with ssh-agent"
        )

    def run(self, command: str, stdin: bytes = b"", on_line: Callable[[str], None] | None = None, timeout: float = 900.0) -> Completed:
        """Run one command and return its result, whatever its exit status. Raises HostError when the connection is lost.

        `on_line` is called with each whole line of stdout as it arrives. `timeout` is the longest silence in seconds, not the longest duration.
        """
        transport: paramiko.Transport | None = None
        try:
            with self._session() as channel:
                transport = channel.get_transport()
                channel.settimeout(timeout)
                channel.exec_command(command)
                writer = threading.Thread(target=_feed, args=(channel, stdin), daemon=True)
                errors: list[bytes] = []
                reader = threading.Thread(target=_drain, args=(channel, errors), daemon=True)
                writer.start()
                reader.start()
                out: list[str] = []
                for line in channel.makefile("rb", -1):
                    out.append(line.decode(errors="replace"))
                    if on_line and line.endswith(b"\n"):  # else the connection broke, or the command was killed, in the middle of it
                        on_line(out[-1].rstrip("\n"))
                rc = channel.recv_exit_status()
                if rc == -1 and not transport.is_active():
                    raise EOFError("the connection broke")
                reader.join(self.timeout)
        except (TimeoutError, paramiko.SSHException, EOFError, OSError) as error:
            self._drop(transport)
            raise HostError(
                f"lost {self.name} while it ran a command: {str(error) or type(error).__name__}", f"{self.name}: {command[:80]}", "run the step again"
            ) from error
        return Completed(rc, "".join(out), b"".join(errors).decode(errors="replace"))

    def _session(self) -> paramiko.Channel:
        """Return a new session. When the kept connection is dead, as after a restart of the machine, it is opened on a new connection."""
        while True:
            kept, transport = self._transport, self.transport()
            try:
                return transport.open_session(timeout=self.timeout)
            except (paramiko.SSHException, EOFError, OSError):
                self._drop(transport)
                if transport is not kept:
                    raise

    def tunnel(self, address: str, port: int, seconds: float | None = None) -> paramiko.Channel:
        """Return a connection from this host to `address:port`, to be used as a socket. It shows what a machine inside the VPC can reach.

        Raises ConnectionRefusedError when the port is closed, ConnectionError when sshd reports another failure, and TimeoutError
        when there is no answer within `seconds`.
        """
        try:
            return self.transport().open_channel("direct-tcpip", (address, port), ("127.0.0.1", 0), timeout=seconds or self.timeout)
        except paramiko.ChannelException as error:
            refused = "refused" in (error.text or "").lower()  # the word that sshd uses
            kind: type[OSError] = ConnectionRefusedError if refused else ConnectionError
            raise kind(f"{self.name} cannot connect to {address}:{port}: {error.text}") from error
        except paramiko.SSHException as error:
            raise TimeoutError(f"{self.name} got no connection to {address}:{port}: {error}") from error

    def with_key(self, private_key: str) -> Host:
        """Return the same machine, reached in the same way, to be signed in to with another key."""
        return Host(self.at, private_key, self.via, self.timeout, self._dial)

    def close(self) -> None:
        self._drop(self._transport)

    def _drop(self, transport: paramiko.Transport | None) -> None:
        """Close a connection, and no other: a thread that comes late to a dead one must not close the new one, which others work on already."""
        if transport is None:
            return
        with self._lock:
            if self._transport is transport:
                self._transport = None
        transport.close()


def _feed(channel: paramiko.Channel, data: bytes) -> None:
    try:
        channel.sendall(data)
        with channel.lock:  # paramiko's own shutdown_write lets go of it before it sends, and sshd ends a connection on which the channel's end comes first
            if (end := channel._send_eof()) is not None:  # type: ignore[attr-defined]
                channel.transport._send_user_message(end)  # type: ignore[union-attr]
    except OSError:  # the command ended without reading its input; its exit status says why
        pass


def _drain(channel: paramiko.Channel, into: list[bytes]) -> None:
    with suppress(OSError):
        while True:
            with suppress(TimeoutError):  # a command may say nothing here until it fails; the end of the channel ends this
                if not (data := channel.recv_stderr(65536)):
                    return
                into.append(data)


@dataclass
class Fleet:
    """The hosts of a deployment by node name."""

    hosts: dict[str, Host] = field(default_factory=dict)
    workers: int = 32

    def __getitem__(self, name: str) -> Host:
        """Return a host. Raises HostError for one that is not among these, because its machine, or what leads to it, does not run."""
        if name not in self.hosts:
            raise HostError(f"not running, or out of reach: {name}", name, "run chapter 01: it launches and starts machines")
        return self.hosts[name]

    def each(self, work: Callable[[Host], T], names: Iterable[str] | None = None) -> dict[str, T]:
        """Call `work` for the named hosts, or for all, in parallel and return the results by name.

        When calls fail, the first error is raised after all have ended. A RunbookError names the other hosts that failed.
        """
        chosen = [self[name] for name in (names if names is not None else self.hosts)]
        if not chosen:
            return {}
        results: dict[str, T] = {}
        failures: dict[str, BaseException] = {}
        with ThreadPoolExecutor(max_workers=min(self.workers, len(chosen))) as pool:
            futures = {host.name: pool.submit(work, host) for host in chosen}
            for name, future in futures.items():
                try:
                    results[name] = future.result()
                except Exception as error:
                    failures[name] = error
        if failures:
            first = next(iter(failures.values()))
            if len(failures) > 1 and isinstance(first, RunbookError):
                others = ", ".join(list(failures)[1:])
                raise type(first)(f"{first.what} (failed as well: {others})", first.where, first.next_step) from first
            raise first
        return results

    def wait_for_ssh(self, names: Iterable[str], seconds: float = 300.0, refuse: Callable[[str], None] = lambda name: None) -> None:
        """Wait until each of these hosts accepts an SSH connection. Raises HostError with the last reason after `seconds`, WrongHostKey at once.

        `refuse` is called with a host's name after each try that failed, and raises where no further one can succeed.
        """

        def may_pass(error: BaseException) -> bool:
            return isinstance(error, HostError) and not isinstance(error, WrongHostKey)

        def connect(host: Host) -> paramiko.Transport:
            try:
                return host.transport(ATTEMPT)
            except HostError as error:
                if may_pass(error):
                    refuse(host.name)
                raise

        def until_there(host: Host) -> None:
            try:
                wait_until(lambda: connect(host), seconds, pause=0.25, longest=2.0, enough=lambda transport: True, again_after=may_pass)
            except HostError as error:
                if may_pass(error):
                    error.what += f"; waited {seconds:.0f} s for SSH"
                raise

        self.each(until_there, names)

    def close(self) -> None:
        for host in self.hosts.values():
            host.close()


def own_keys() -> list[paramiko.PKey]:
    """Return the operator's keys: those of the SSH agent, then the files in ~/.ssh that need no passphrase."""
    found: list[paramiko.PKey] = list(paramiko.Agent().get_keys())
    for name in OWN_KEYS:
        with suppress(OSError, TypeError, ValueError, paramiko.SSHException):  # absent, or with a passphrase: the agent has such keys
            found.append(paramiko.PKey.from_path(Path.home() / ".ssh" / name))
    return found


def fleet(addresses: Mapping[str, Address], private_key: str, bastion: Address | None = None, dial: Dial | None = None) -> Fleet:
    """Return the hosts by node name, authenticated with the deployment's key; the bastion is signed in to with the operator's keys.

    A host's `via` is the name of another one that is reached directly, or of the bastion; with `dial`, a host that is reached directly is
    connected to in the way that it does. Every host is known by its own pinned keys.
    """
    direct = {name: Host(at, private_key, dial=dial) for name, at in addresses.items() if not at.via}
    jumps = {**direct, **({bastion.name: Host(bastion, None)} if bastion else {})}
    return Fleet({name: direct.get(name) or Host(at, private_key, jumps[at.via]) for name, at in addresses.items()})


def knock(address: str, port: int, connect: Connect | None) -> str:
    """Connect to a port and return `open`, `refused` or `silent`.

    Without `connect`, the connection is made from this machine and counts as silent after PORT_SECONDS. With it, the connection is
    made by that function, with its own timeout.
    """
    try:
        if connect is None:
            socket.create_connection((address, port), timeout=PORT_SECONDS).close()
        else:
            connect(address, port).close()
    except ConnectionRefusedError:
        return "refused"
    except TimeoutError:
        return "silent"
    return "open"


def as_socket(channel: Connected) -> socket.socket:
    """Return a socket whose other end is `channel`, for what needs a file descriptor, as the module `ssl` does. Closing it closes the channel."""
    ours, theirs = socket.socketpair()

    def pump(receive: Callable[[int], bytes], send: Callable[[bytes], object]) -> None:
        with suppress(OSError):
            while data := receive(65536):
                send(data)
        with suppress(OSError):
            ours.shutdown(socket.SHUT_RDWR)
        with suppress(OSError, EOFError, paramiko.SSHException):  # the connection below it may be gone already
            channel.close()

    for receive, send in ((channel.recv, ours.sendall), (ours.recv, channel.sendall)):
        threading.Thread(target=pump, args=(receive, send), daemon=True).start()
    return theirs


def through(host: Host, seconds: float = 10.0) -> Connect:
    """Return a function that connects to an address and port from `host`, by SSH forwarding, within `seconds`."""
    return lambda address, port: host.tunnel(address, port, seconds)
