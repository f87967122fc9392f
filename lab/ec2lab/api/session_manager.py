"""Systems Manager's Session Manager: which machines are managed, sessions by AWS-StartSSHSession, and the agent's end of their data channels.

A session leads to a port of the real machine, from inside of it: no security group is asked. A machine is Online while it runs, a process named
amazon-ssm-agent runs in it, and the role of its instance profile allows what AWS asks for (user guide, "Create a custom IAM role for Session Manager").
The messages are those of AWS's agent, release 3.3 (aws/amazon-ssm-agent, agent/session), as its client expects them (aws/session-manager-plugin).
The request for a data channel must be signed, as that client signs it from release 1.2.764 on, the oldest that AWS supports, by who has the right to it.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import logging
import os
import secrets
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from fnmatch import fnmatchcase
from http import HTTPStatus
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from moto.core import DEFAULT_ACCOUNT_ID as ACCOUNT
from moto.core.responses import ActionResult
from moto.core.utils import utcnow
from moto.ec2.exceptions import EC2ClientError
from moto.ec2.responses.iam_instance_profiles import IamInstanceProfiles
from moto.ec2.responses.instances import InstanceResponse
from moto.iam.models import iam_backends
from moto.ssm.exceptions import SSMException
from moto.ssm.responses import SimpleSystemManagerResponse
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.sync.server import Server, ServerConnection, serve
from werkzeug.test import EnvironBuilder

from ec2lab.api import authorization, credentials, signatures
from ec2lab.api.patches import corrects
from ec2lab.api.policies import Question
from ec2lab.machines.hypervisor import Hypervisor
from ec2lab.paths import REGION, SESSION_PORT

log = logging.getLogger("sessions")
DOCUMENT, AGENT_VERSION = "AWS-StartSSHSession", "3.3.0.0"
NEEDED = (
    "ssm:UpdateInstanceInformation",
    *(f"ssmmessages:{verb}{channel}Channel" for verb in ("Create", "Open") for channel in ("Control", "Data")),
)
KNOWN_AFTER = 2.0  # seconds until EC2 knows a new profile (IAM user guide: "Changes that I make are not always immediately visible")
HEADER = struct.Struct(">I32sIQqQ8s8s32sII")
OUTPUT, HANDSHAKE_REQUEST, HANDSHAKE_RESPONSE, HANDSHAKE_COMPLETE, FLAG = 1, 5, 6, 7, 10
SYN, SYN_AND_FIN = 1, 3
TERMINATE = (2).to_bytes(4, "big")  # a payload of the type FLAG
PIECE = 1024
RESEND_AFTER, LAST_WORDS, RESUMED_WITHIN = 0.2, 2.0, 60.0  # seconds
CLONE_NEWNET = 0x40000000

_lab: Hypervisor  # set by open_channels(); one lab per process
_sessions: dict[str, AgentSession] = {}
_seen: set[str] = set()  # instances that were Online once


def open_channels(hypervisor: Hypervisor) -> Server:
    """Return the server of the data channels, which listens and does not serve yet."""
    global _lab
    _lab = hypervisor
    return serve(_channel, str(hypervisor.lab.gateway), SESSION_PORT, process_request=admitted, compression=None, ping_interval=None, logger=log)


def admitted(websocket: ServerConnection, request: Request) -> Response | None:
    """Return None for a request that is signed by who may open this session's data channel, and the refusal of any other."""
    question = Question("ssmmessages:OpenDataChannel", f"arn:aws:ssm:{REGION}:{ACCOUNT}:session/{_session_in(request)}")
    environ = EnvironBuilder(path=request.path, headers=[*request.headers.raw_items()]).get_environ() | {"RAW_URI": request.path}
    try:
        owner = signatures.signer_of(environ, credentials.find, "ssmmessages").owner
    except signatures.Unverified as refusal:
        return websocket.respond(HTTPStatus.FORBIDDEN, str(refusal))
    if not authorization.permits(owner, question):
        return websocket.respond(HTTPStatus.FORBIDDEN, f"not authorized to perform: {question}")
    return None


def _channel(websocket: ServerConnection) -> None:
    """One connection of a client: its first message, text, must carry the session's token, which is good for one connection."""
    session = _sessions.get(_session_in(websocket.request)) if websocket.request else None
    with suppress(ConnectionClosed, TimeoutError, ValueError):
        hello = json.loads(websocket.recv(timeout=10))
        token, version = hello.get("TokenValue"), hello.get("MessageSchemaVersion")
        if session is not None and token == session.token and version == "1.0" and hello.get("RequestId") and hello.get("ClientId"):
            session.token = ""
            session.serve(websocket)
    websocket.close()


def _session_in(request: Request) -> str:
    return request.path.partition("?")[0].rpartition("/")[2]


# --- messages


def pack(kind: str, sequence: int, payload: bytes, payload_type: int = 0, flags: int = 0) -> bytes:
    """Return a message as it is sent: a header, then the payload. The header's length leaves out its last field."""
    message_id = uuid4().bytes
    head = (HEADER.size - 4, kind.encode().ljust(32), 1, int(time.time() * 1000), sequence, flags, message_id[8:], message_id[:8])
    return HEADER.pack(*head, hashlib.sha256(payload).digest(), payload_type, len(payload)) + payload


def unpack(data: bytes) -> tuple[str, int, int, bytes, UUID]:
    """Return kind, number, type of payload, payload and id. Raises ValueError for what an agent would not take."""
    if len(data) < HEADER.size:
        raise ValueError("a message without a whole header")
    length, kind, _, created, sequence, _, low, high, digest, payload_type, size = HEADER.unpack_from(data)
    payload = data[length + 4 :]
    if not created or not kind.strip() or len(payload) != size or hashlib.sha256(payload).digest() != digest:
        raise ValueError(f"a message of {len(data)} bytes that is not valid")
    return kind.strip(b" \0").decode(), sequence, payload_type, payload, UUID(bytes=high + low)


class AgentSession:
    """The agent's end of one session. Stream messages are acknowledged, put in order, and sent again until they are acknowledged."""

    def __init__(self, instance_id: str, port: int):
        self.id, self.instance_id, self.number = f"lab-{secrets.token_hex(9)}", instance_id, port
        self.token = secrets.token_urlsafe(32)
        self._websocket: ServerConnection | None = None
        self._expected, self._early = 0, dict[int, tuple[int, bytes]]()
        self._next, self._unacknowledged = 0, dict[int, tuple[bytes, float]]()
        self._sending = threading.Lock()
        self._complete = False  # the handshake
        self._port: socket.socket | None = None
        self._over = threading.Event()

    def serve(self, websocket: ServerConnection) -> None:
        """Talk with the client until it goes or the session ends. When it goes, it may resume the session within a minute."""
        self._websocket = websocket
        try:
            if self._next == 0:
                parameters = {"SessionType": "Port", "Properties": {"portNumber": str(self.number)}}
                request = {"AgentVersion": AGENT_VERSION, "RequestedClientActions": [{"ActionType": "SessionType", "ActionParameters": parameters}]}
                self._stream(json.dumps(request).encode(), HANDSHAKE_REQUEST)
            while not self._over.is_set():
                with suppress(TimeoutError):
                    data = websocket.recv(timeout=RESEND_AFTER)
                    if isinstance(data, bytes):
                        self._take(data)
                self._send_again()
        except (ConnectionClosed, ValueError) as problem:
            log.info("%s: the client's connection ended: %s", self.id, problem)
        if self._websocket is websocket:  # not resumed already
            self._websocket = None
        threading.Timer(RESUMED_WITHIN, self._end_unless_resumed).start()

    def _end_unless_resumed(self) -> None:
        if self._websocket is None:
            self.end()

    def _take(self, data: bytes) -> None:
        kind, sequence, payload_type, payload, message_id = unpack(data)
        if kind == "acknowledge":
            with self._sending:
                self._unacknowledged.pop(json.loads(payload)["AcknowledgedMessageSequenceNumber"], None)
        elif kind == "input_stream_data":
            if sequence == self._expected and not self._use(payload_type, payload):
                return  # not acknowledged: the client sends it again
            self._acknowledge(kind, sequence, message_id)
            if sequence > self._expected:
                self._early[sequence] = payload_type, payload
            elif sequence == self._expected:
                self._expected += 1
                while (early := self._early.pop(self._expected, None)) is not None:
                    self._use(*early)
                    self._expected += 1

    def _acknowledge(self, kind: str, sequence: int, message_id: UUID) -> None:
        content = {"AcknowledgedMessageType": kind, "AcknowledgedMessageId": str(message_id), "AcknowledgedMessageSequenceNumber": sequence}
        self._send(pack("acknowledge", 0, json.dumps(content | {"IsSequentialMessage": True}).encode(), flags=SYN_AND_FIN))

    def _use(self, payload_type: int, payload: bytes) -> bool:
        """Act on a payload; return False where the agent is not ready for it."""
        if payload_type == HANDSHAKE_RESPONSE:
            failed = [action for action in json.loads(payload)["ProcessedClientActions"] if action["ActionStatus"] != 1]
            if failed:
                self.end(f"{failed[0]['ActionType']} failed on client")
            else:
                self._stream(json.dumps({"HandshakeTimeToComplete": 1, "CustomerMessage": ""}).encode(), HANDSHAKE_COMPLETE)
                self._complete = True
                threading.Thread(target=self._pump, name=self.id, daemon=True).start()
        elif payload_type == OUTPUT and self._complete:  # before, it is lost
            if self._port is None:
                return False
            with suppress(OSError):  # the pump sees the end as well
                self._port.sendall(payload)
        elif payload_type == FLAG and payload == TERMINATE:
            self.end()
        return True

    def _pump(self) -> None:
        """Connect to the machine's port and send what it says, until it ends."""
        try:
            self._port = _dial(_lab.lab.namespace(self.instance_id), self.number)
        except OSError as problem:
            self.end(f"Unable to connect to specified port: {problem.strerror}")
            return
        with suppress(OSError):
            while data := self._port.recv(PIECE):
                self._stream(data, OUTPUT)
        deadline = time.monotonic() + LAST_WORDS
        while self._unacknowledged and time.monotonic() < deadline:
            self._over.wait(0.01)
        self.end()

    def _stream(self, payload: bytes, payload_type: int) -> None:
        with self._sending:
            data = pack("output_stream_data", self._next, payload, payload_type, SYN if self._next == 0 else 0)
            self._unacknowledged[self._next] = data, time.monotonic()
            self._next += 1
        self._send(data)

    def _send_again(self) -> None:
        with self._sending:
            oldest = next(iter(self._unacknowledged.items()), None)
            if oldest is None or time.monotonic() - oldest[1][1] < RESEND_AFTER:
                return
            self._unacknowledged[oldest[0]] = oldest[1][0], time.monotonic()
        self._send(oldest[1][0])

    def _send(self, data: bytes) -> None:
        websocket = self._websocket
        if websocket is not None:
            with suppress(ConnectionClosed):
                websocket.send(data)

    def end(self, output: str = "") -> None:
        """End the session: the client is told, the port closed. Safe to repeat."""
        if self._over.is_set():
            return
        self._over.set()
        _sessions.pop(self.id, None)
        content = {"MessageId": str(uuid4()), "CreatedDate": utcnow().isoformat(), "DestinationId": self.instance_id, "SessionId": self.id}
        content |= {"Output": output, "MessageType": "channel_closed"}
        self._send(pack("channel_closed", 0, json.dumps(content | {"SchemaVersion": 1}).encode(), flags=SYN_AND_FIN))
        if self._port is not None:
            with suppress(OSError):
                self._port.shutdown(socket.SHUT_RDWR)
            self._port.close()


def _dial(namespace: str, port: int) -> socket.socket:
    """Return a connection to a port of a machine, made inside of its network namespace. A thread that enters one cannot serve anything else, so it ends."""
    made: list[socket.socket | OSError] = []

    def work() -> None:
        try:
            entry = os.open(Path("/run/netns", namespace), os.O_RDONLY)
            entered = ctypes.CDLL(None, use_errno=True).setns(entry, CLONE_NEWNET)
            os.close(entry)
            if entered != 0:
                raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
            made.append(socket.create_connection(("127.0.0.1", port), timeout=5))
        except OSError as problem:
            made.append(problem)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    if isinstance(made[0], OSError):
        raise made[0]
    made[0].settimeout(None)
    return made[0]


# --- which machines are managed


def _role_allows(instance: Any) -> bool:
    """Return whether the role of the instance's profile has an Allow, and no Deny, for all that the agent does. Resources and conditions are not looked at."""
    association = instance.ec2_backend.iam_instance_profile_associations.get(instance.id)
    statements = [one for role in (association.iam_instance_profile.roles if association else ()) for one in _statements(role)]

    def named(effect: str, action: str) -> bool:
        return any(one["Effect"] == effect and any(fnmatchcase(action, pattern) for pattern in _listed(one.get("Action"))) for one in statements)

    return all(named("Allow", action) and not named("Deny", action) for action in NEEDED)


def _statements(role: Any) -> Iterator[dict[str, Any]]:
    for text in [*role.policies.values(), *(policy.document for policy in role.managed_policies.values())]:
        document = json.loads(text) if isinstance(text, str) else text
        yield from document["Statement"] if isinstance(document["Statement"], list) else [document["Statement"]]


def _listed(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else list(value or [])


def _ping(instance: Any) -> str | None:
    """Return the PingStatus of an instance, or None where Systems Manager does not show it."""
    if instance.state != "running":
        return None
    if _lab.agent_runs(instance.id) and _role_allows(instance):
        _seen.add(instance.id)
        return "Online"
    return "ConnectionLost" if instance.id in _seen else None


def _described() -> dict[str, dict[str, Any]]:
    with _lab.guard:
        instances = list(_lab.ec2.all_instances())
    found = ((instance, _ping(instance)) for instance in instances)
    return {
        instance.id: {"InstanceId": instance.id, "PingStatus": ping, "AgentVersion": AGENT_VERSION, "PlatformType": "Linux", "ResourceType": "EC2Instance"}
        for instance, ping in found
        if ping
    }


@corrects(SimpleSystemManagerResponse, "describe_instance_information")
def describe_instance_information(original: Callable[..., Any] | None, self: Any) -> Any:
    """Show the machines whose agents are or were connected, as AWS does none that are stopped. moto has none of these calls."""
    wanted: set[str] | None = None
    for each in self._get_param("Filters", []) or []:
        if each["Key"] != "InstanceIds":
            raise SSMException("InvalidFilterKey", f"The lab knows the filter InstanceIds only, not {each['Key']}")
        wanted = set(each["Values"]) & (set(each["Values"]) if wanted is None else wanted)
    found = [item for id_, item in _described().items() if wanted is None or id_ in wanted]
    return ActionResult({"InstanceInformationList": found})


@corrects(SimpleSystemManagerResponse, "start_session")
def start_session(original: Callable[..., Any] | None, self: Any) -> Any:
    target, document = self._get_param("Target"), self._get_param("DocumentName")
    if document != DOCUMENT:
        raise SSMException("InvalidDocument", f"The lab knows the session document {DOCUMENT} only, not {document}")
    if _described().get(target, {}).get("PingStatus") != "Online":
        raise SSMException("TargetNotConnected", f"{target} is not connected.")
    ports = (self._get_param("Parameters", {}) or {}).get("portNumber", ["22"])
    session = AgentSession(target, int(ports[0]))
    _sessions[session.id] = session
    log.info("%s to port %s of %s", session.id, session.number, target)
    return ActionResult(_answer(session))


@corrects(SimpleSystemManagerResponse, "resume_session")
def resume_session(original: Callable[..., Any] | None, self: Any) -> Any:
    session = _sessions.get(self._get_param("SessionId"))
    if session is None:
        raise SSMException("DoesNotExistException", f"Session {self._get_param('SessionId')} does not exist")
    session.token = secrets.token_urlsafe(32)
    return ActionResult(_answer(session))


@corrects(SimpleSystemManagerResponse, "terminate_session")
def terminate_session(original: Callable[..., Any] | None, self: Any) -> Any:
    session_id = self._get_param("SessionId")
    if session_id in _sessions:
        _sessions[session_id].end()
    return ActionResult({"SessionId": session_id})


def _answer(session: AgentSession) -> dict[str, str]:
    url = f"ws://{_lab.lab.gateway}:{SESSION_PORT}/v1/data-channel/{session.id}?role=publish_subscribe"
    return {"SessionId": session.id, "TokenValue": session.token, "StreamUrl": url}


# --- instance profiles as EC2 sees them


@corrects(InstanceResponse, "run_instances")
@corrects(IamInstanceProfiles, "associate_iam_instance_profile")
def with_a_known_profile(original: Callable[..., Any], self: Any) -> Any:
    """Refuse a profile that does not exist, or not for long enough, as EC2 does (moto answers with IAM's error, and knows it at once)."""
    for key, part in (("Arn", "arn"), ("Name", "name")):
        given = self._get_param(f"IamInstanceProfile.{key}")
        profiles = iam_backends[self.current_account][self.partition].instance_profiles.values()
        known = any(getattr(one, part) == given and (utcnow() - one.create_date).total_seconds() > KNOWN_AFTER for one in profiles)
        if given and not known:
            words = f"Value ({given}) for parameter iamInstanceProfile.{part} is invalid. Invalid IAM Instance Profile {'ARN' if key == 'Arn' else 'name'}"
            raise EC2ClientError("InvalidParameterValue", words)
    return original(self)
