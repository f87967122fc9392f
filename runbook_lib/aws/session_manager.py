"""A TCP connection to a machine through AWS Systems Manager Session Manager, as a socket: no port of the machine need be open for it.

StartSession with AWS's document AWS-StartSSHSession returns a websocket's URL and a token. Over the websocket, client and SSM Agent send each other
binary messages, which are numbered, acknowledged, and sent again until they are. The agent connects to the port from inside of the machine.
Source of every fact about messages: aws/session-manager-plugin (src/message, src/datachannel) and aws/amazon-ssm-agent (agent/session), release
3.3 of the agent; about the signature of the request for the websocket, src/communicator of the plugin's release 1.2.764, the oldest that AWS supports.
What of it is left out: ResumeSession (a websocket that breaks is a connection that broke) and encryption with a KMS key.
"""

from __future__ import annotations

import hashlib
import json
import socket
import ssl
import struct
import threading
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any
from uuid import UUID, uuid4

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException
from websockets.protocol import State
from websockets.sync.client import ClientConnection
from websockets.sync.client import connect as open_websocket

from runbook_lib.aws.client import Api, Aws
from runbook_lib.errors import CloudError, HostError

DOCUMENT = "AWS-StartSSHSession"  # type Port, parameter portNumber
SIGNED_FOR = "ssmmessages"  # the service that the websocket belongs to
RIGHT = "ssmmessages:OpenDataChannel"
CLIENT_VERSION = "1.2.0.0"  # of AWS's plugin as its source has it: the agent looks at it for port forwarding with several connections only
HEADER = struct.Struct(">I32sIQqQ8s8s32sII")  # all big endian; the two halves of the id are swapped
HEADER_LENGTH = HEADER.size - 4  # as the field says it: without the length of the payload
OUTPUT, HANDSHAKE_REQUEST, HANDSHAKE_RESPONSE, HANDSHAKE_COMPLETE = 1, 5, 6, 7  # types of payload
SUCCESS, UNSUPPORTED = 1, 3  # of an action that the agent asks for
ACKNOWLEDGEMENT_FLAGS = 3  # SYN and FIN: a sequence of its own
PIECE = 1024  # bytes of payload in one message, as AWS's client and agent send them
WINDOW = 64  # messages that may be unacknowledged
RESEND_AFTER = 0.3  # seconds; the agent acknowledges nothing until it is connected to the port
UNANSWERED = 60.0  # seconds without an acknowledgement after which the connection counts as broken, as for a direct one (ssh.py)
CLOSING = 1.0  # seconds for the websocket's own end: all bytes have come by then, and who reads them is kept waiting as long
ONLINE = "see in Systems Manager, Fleet Manager, whether the machine is Online: it needs the instance profile, the SSM Agent, and a way out to port 443"


@dataclass(frozen=True)
class AgentMessage:
    """One message of a data channel. `created` is in milliseconds since 1970; of `flags`, bit 0 is SYN and bit 1 FIN."""

    kind: str
    sequence: int
    payload: bytes
    payload_type: int = 0
    flags: int = 0
    id: UUID = field(default_factory=uuid4)
    created: int = field(default_factory=lambda: int(time.time() * 1000))

    def pack(self) -> bytes:
        """Return the message as it is sent."""
        head = (HEADER_LENGTH, self.kind.encode().ljust(32), 1, self.created, self.sequence, self.flags, self.id.bytes[8:], self.id.bytes[:8])
        return HEADER.pack(*head, hashlib.sha256(self.payload).digest(), self.payload_type, len(self.payload)) + self.payload


def unpack(data: bytes) -> AgentMessage:
    """Return the message that `data` holds. Raises ValueError when it is cut short or its payload is not the one of its digest."""
    if len(data) < HEADER.size:
        raise ValueError(f"a message of {len(data)} bytes has no whole header")
    length, kind, _, created, sequence, flags, low, high, digest, payload_type, size = HEADER.unpack_from(data)
    payload = data[length + 4 :]
    if len(payload) != size or (payload and hashlib.sha256(payload).digest() != digest):
        raise ValueError(f"a message's payload of {len(payload)} bytes is not the one that was sent")
    return AgentMessage(kind.strip(b" \0").decode(), sequence, payload, payload_type, flags, UUID(bytes=high + low), created)


def acknowledgement(of: AgentMessage) -> AgentMessage:
    """Return the message by which the sender of `of` learns that it has arrived."""
    content = {
        "AcknowledgedMessageType": of.kind,
        "AcknowledgedMessageId": str(of.id),
        "AcknowledgedMessageSequenceNumber": of.sequence,
        "IsSequentialMessage": True,
    }
    return AgentMessage("acknowledge", 0, json.dumps(content).encode(), flags=ACKNOWLEDGEMENT_FLAGS)


def connect(aws: Aws, name: str, instance_id: str, port: int, timeout: float) -> socket.socket:
    """Return a socket whose other end is `port` of the machine, which errors call `name`. Closing it ends the session.

    `timeout` is in seconds, for each step until the machine's agent is ready. Raises HostError when the machine is not Online, its agent does
    not answer, or the session's settings cannot be met; CloudError when AWS refuses the call.
    """
    ssm = aws.client("ssm")
    try:
        session = ssm.start_session(Target=instance_id, DocumentName=DOCUMENT, Parameters={"portNumber": [str(port)]})
    except CloudError as error:
        if error.code == "TargetNotConnected":
            raise HostError(f"Session Manager has no connection to {name}", f"{instance_id} at {aws.about}", ONLINE) from None
        raise
    where = f"{name} ({instance_id}), session {session['SessionId']}"
    with ExitStack() as opened:
        try:
            websocket = opened.enter_context(_websocket(aws, session["StreamUrl"], timeout))
            if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux only; a send that the network has lost would hold up the look at what is unacknowledged
                websocket.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(UNANSWERED * 1000))
            token = {"MessageSchemaVersion": "1.0", "RequestId": str(uuid4()), "TokenValue": session["TokenValue"], "ClientId": str(uuid4())}
            websocket.send(json.dumps(token | {"ClientVersion": CLIENT_VERSION}))
        except (OSError, WebSocketException) as error:
            _terminate(ssm, session["SessionId"])
            if isinstance(error, InvalidStatus) and error.response.status_code in (401, 403):
                step = f"ask for the permission {RIGHT} on sessions; docs/iam/operator.json is a policy with all that are needed"
                raise CloudError(f"the session's data channel to {name} is refused: {error}", session["StreamUrl"], step) from None
            step = "is port 443 of this address open from here, and a proxy named in https_proxy if one is needed?"
            raise HostError(f"the session's data channel to {name} cannot be opened: {error}", session["StreamUrl"], step) from None
        opened.callback(_terminate, ssm, session["SessionId"])
        return DataChannel(websocket, opened.pop_all(), where).open(timeout)


def _websocket(aws: Aws, url: str, timeout: float) -> ClientConnection:
    """Return a connection to the websocket, not entered yet. AWS's own setting of a company's CA counts, as for its other clients."""
    authority, secured = aws.session.get_config_variable("ca_bundle"), url.startswith("wss:")
    options: dict[str, Any] = {"ssl": ssl.create_default_context(cafile=authority)} if secured and authority else {}
    options |= {"open_timeout": timeout, "close_timeout": CLOSING, "proxy": True if secured else None}
    return open_websocket(url, compression=None, ping_interval=None, additional_headers=_signature(aws, url), **options)


def _signature(aws: Aws, url: str) -> dict[str, str]:
    """Return the headers that sign the request for the websocket; none for a URL that is signed itself."""
    keys = aws.session.get_credentials()
    if keys is None or "X-Amz-" in url:
        return {}
    request = AWSRequest("GET", "http" + url.removeprefix("ws"))
    SigV4Auth(keys.get_frozen_credentials(), SIGNED_FOR, aws.cloud.region).add_auth(request)
    return dict(request.headers)


def _terminate(ssm: Api, session_id: str) -> None:
    with suppress(CloudError):  # a session without a client ends by itself after a while
        ssm.terminate_session(SessionId=session_id)


class DataChannel:
    """The client's end of one session: it moves bytes between a pair of sockets and the agent, each byte once and in order."""

    def __init__(self, websocket: ClientConnection, opened: ExitStack, where: str):
        self._websocket, self._opened, self._where = websocket, opened, where  # `opened` ends the session, then the websocket
        self._ours, self._theirs = socket.socketpair()
        self._ready = False  # the agent drops what comes before its handshake is complete, and acknowledges it nevertheless
        self._expected, self._early = 0, dict[int, AgentMessage]()  # of the agent's messages
        self._inbox = SimpleQueue[bytes]()  # so that a caller who does not read never keeps acknowledgements from being taken
        self._next, self._unacknowledged = 0, dict[int, tuple[bytes, float]]()  # of ours: number -> as sent, and when
        self._resent = 0.0
        self._room = threading.Condition()
        self._ended: str | None = None  # why nothing more comes from the agent

    def open(self, timeout: float) -> socket.socket:
        """Return the caller's socket once the agent is ready. Raises HostError when it is not within `timeout` seconds."""
        deadline = time.monotonic() + timeout
        try:
            while not self._ready and self._ended is None and time.monotonic() < deadline:
                self._step()
            if not self._ready:
                why = self._ended or f"it is not ready within {timeout:.0f} s"
                raise HostError(f"the SSM Agent opens no session: {why}", self._where, "see the agent's log on the machine; does sshd run there?")
        except (ConnectionClosed, OSError, ValueError) as error:
            self._finish()
            raise HostError(f"the session's data channel broke: {error}", self._where, "try again") from error
        except HostError:
            self._finish()
            raise
        for work in (self._receive, self._deliver, self._send):
            threading.Thread(target=work, name=self._where, daemon=True).start()
        return self._theirs

    def _receive(self) -> None:
        """Take messages until the agent's side ends."""
        with suppress(ConnectionClosed, OSError, ValueError, HostError):
            while self._ended is None:
                self._step()
        with self._room:
            self._ended = self._ended or "the data channel broke"
            self._room.notify_all()
        self._inbox.put(b"")

    def _deliver(self) -> None:
        """Hand the agent's bytes to the caller, and then the end of the stream."""
        with suppress(OSError):
            while data := self._inbox.get():
                self._ours.sendall(data)
            self._ours.shutdown(socket.SHUT_RDWR)

    def _send(self) -> None:
        """Send the caller's bytes until its socket is closed, or the agent's side has ended; then end the session."""
        with suppress(OSError):
            while data := self._ours.recv(PIECE):
                with suppress(ConnectionClosed):  # what has come is delivered first; its end is the end here
                    self._number(data, OUTPUT)
        self._finish()

    def _finish(self) -> None:
        self._opened.close()
        self._ours.close()

    def _step(self) -> None:
        """Take one message, if one comes soon, and send again what is unacknowledged for too long."""
        try:
            data = self._websocket.recv(timeout=RESEND_AFTER)
            if isinstance(data, bytes):
                self._take(unpack(data))
        except TimeoutError:
            if self._websocket.state is not State.OPEN:  # all that came before was taken; the connection itself may end later
                self._ended = "the agent closed the data channel"
        self._send_again()

    def _take(self, message: AgentMessage) -> None:
        """Act on a message. Other kinds than these (start_publication, pause_publication) ask nothing of a client that sends again until it is answered."""
        if message.kind == "acknowledge":
            with self._room:
                self._unacknowledged.pop(json.loads(message.payload)["AcknowledgedMessageSequenceNumber"], None)
                self._room.notify_all()
        elif message.kind == "channel_closed":
            self._ended = json.loads(message.payload).get("Output") or "the session was closed"
        elif message.kind == "output_stream_data":
            self._say(acknowledgement(message).pack())
            if message.sequence >= self._expected:
                self._early[message.sequence] = message
            while following := self._early.pop(self._expected, None):
                self._expected += 1
                self._use(following)

    def _use(self, message: AgentMessage) -> None:
        if message.payload_type == OUTPUT:
            self._inbox.put(message.payload)
        elif message.payload_type == HANDSHAKE_REQUEST:
            self._agree(json.loads(message.payload)["RequestedClientActions"])
        elif message.payload_type == HANDSHAKE_COMPLETE:
            self._ready = True

    def _agree(self, actions: list[dict[str, Any]]) -> None:
        """Answer the agent's handshake. Raises HostError for what the agent asks and this client cannot."""
        names = [action["ActionType"] for action in actions]
        refused = [name for name in names if name != "SessionType"]
        done = [{"ActionType": name, "ActionStatus": UNSUPPORTED if name in refused else SUCCESS} for name in names]
        answer = {"ClientVersion": CLIENT_VERSION, "ProcessedClientActions": done, "Errors": [f"Unsupported action {name}" for name in refused]}
        self._number(json.dumps(answer).encode(), HANDSHAKE_RESPONSE)
        if refused:
            step = "take the KMS key out of the account's Session Manager preferences (SSH encrypts by itself), or use another cloud.connect_via"
            raise HostError(f"the session asks for what this client cannot: {', '.join(refused)}", self._where, step)

    def _number(self, payload: bytes, payload_type: int) -> None:
        """Send the payload as the next message, as soon as there is room for one."""
        with self._room:
            self._room.wait_for(lambda: len(self._unacknowledged) < WINDOW or self._ended is not None)
            data = AgentMessage("input_stream_data", self._next, payload, payload_type).pack()
            self._unacknowledged[self._next] = data, time.monotonic()
            self._next += 1
        self._websocket.send(data)

    def _send_again(self) -> None:
        """Send the oldest unacknowledged message again. Raises TimeoutError when it was never acknowledged."""
        now = time.monotonic()
        with self._room:
            data, since = next(iter(self._unacknowledged.values()), (b"", now))
        if now - since > UNANSWERED:
            raise TimeoutError(f"nothing acknowledged for {UNANSWERED:.0f} s")
        if now - max(since, self._resent) > RESEND_AFTER:
            self._resent = now
            self._say(data)

    def _say(self, data: bytes) -> None:
        """Send what nobody waits for, unless the agent has closed: that would wait for the connection's end, with messages still to be taken."""
        if self._websocket.state is State.OPEN:
            with suppress(ConnectionClosed):
                self._websocket.send(data)
