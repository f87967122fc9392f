"""The client of Session Manager: its messages, and what it does when the other side loses, repeats, refuses or ends."""

from __future__ import annotations

import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
import yaml
from botocore.credentials import Credentials
from websockets.exceptions import ConnectionClosed
from websockets.protocol import State
from websockets.sync.server import ServerConnection, serve

from runbook_lib.aws import session_manager
from runbook_lib.aws.session_manager import AgentMessage, unpack
from runbook_lib.errors import CloudError, HostError
from runbook_lib.spec.sections import CloudSpec

MESSAGES = yaml.safe_load(Path(__file__).with_name("session_messages.yaml").read_text())
ID = UUID("dd01e56b-ff48-483e-a508-b5f073f31b16")


@pytest.mark.parametrize("row", MESSAGES, ids=[row["it"] for row in MESSAGES])
def test_a_message_is_as_aws_s_client_writes_it(row: dict[str, Any]) -> None:
    message = AgentMessage(row["kind"], row["sequence"], row["payload"].encode(), row["payload_type"], row["flags"], ID, 1503434274948)
    assert message.pack().hex() == row["bytes"]
    assert unpack(bytes.fromhex(row["bytes"])) == message


@pytest.mark.parametrize("cut", [0, 40, 119, 130])
def test_a_message_that_is_not_whole_is_refused(cut: int) -> None:
    with pytest.raises(ValueError, match="message"):
        unpack(bytes.fromhex(MESSAGES[0]["bytes"])[:cut])


def test_a_message_whose_payload_was_changed_is_refused() -> None:
    with pytest.raises(ValueError, match="not the one that was sent"):
        unpack(bytes.fromhex(MESSAGES[0]["bytes"])[:-1] + b"!")


class Agent:
    """An agent at the other end of a websocket that does what `play` says; `heard` are the client's messages."""

    def __init__(self, websocket: ServerConnection):
        self.websocket, self.hello, self.numbers = websocket, json.loads(websocket.recv(30)), iter(range(1000))
        self.heard: list[AgentMessage] = []
        self.had: set[int] = set()

    def send(self, payload: bytes, payload_type: int = 1, number: int | None = None) -> AgentMessage:
        message = AgentMessage("output_stream_data", next(self.numbers) if number is None else number, payload, payload_type)
        self.websocket.send(message.pack())
        return message

    def hear(self) -> AgentMessage:
        message = unpack(self.websocket.recv(30))  # type: ignore[arg-type]
        self.heard.append(message)
        return message

    def hear_input(self, acknowledge: bool = True) -> AgentMessage:
        """The next message of input that was not acknowledged before: on a busy machine the client sends one again."""
        while True:
            message = self.hear()
            if message.kind == "input_stream_data":
                if acknowledge:
                    self.websocket.send(session_manager.acknowledgement(message).pack())
                if message.sequence not in self.had:
                    self.had |= {message.sequence} if acknowledge else set()
                    return message

    def shake(self) -> dict[str, Any]:
        """The handshake of a session to a port; returns the client's answer."""
        action = {"ActionType": "SessionType", "ActionParameters": {"SessionType": "Port", "Properties": {"portNumber": "22"}}}
        self.send(json.dumps({"AgentVersion": "3.3.0.0", "RequestedClientActions": [action]}).encode(), 5)
        answer = json.loads(self.hear_input().payload)
        self.send(b'{"HandshakeTimeToComplete":1,"CustomerMessage":""}', 7)
        return dict(answer)

    def close(self, output: str = "") -> None:
        self.websocket.send(AgentMessage("channel_closed", 0, json.dumps({"Output": output}).encode(), flags=3).pack())


class Service:
    """Stands for the calls of SSM; `ended` are the sessions that were terminated."""

    about = "a test"

    def __init__(self, url: str, refusal: str = ""):
        self.url, self.refusal, self.ended = url, refusal, list[str]()
        self.session, self.cloud, self.terminated = self, CloudSpec(region="us-east-1"), threading.Event()

    def client(self, name: str) -> Service:
        return self

    def get_config_variable(self, name: str) -> None:
        return None

    def get_credentials(self) -> Credentials:
        return Credentials("AKIAIOSFODNN7EXAMPLE", "a secret key", "a session's token")

    def start_session(self, Target: str, DocumentName: str, Parameters: dict[str, list[str]]) -> dict[str, str]:
        if self.refusal:
            error = CloudError("refused", "ssm:start_session")
            error.code = self.refusal
            raise error
        assert (DocumentName, Parameters) == ("AWS-StartSSHSession", {"portNumber": ["22"]})
        return {"SessionId": f"session-of-{Target}", "TokenValue": "the token", "StreamUrl": self.url}

    def terminate_session(self, SessionId: str) -> None:
        self.ended.append(SessionId)
        self.terminated.set()


Connect = Callable[[Callable[[Agent], None]], tuple[socket.socket, Service]]


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Starts an agent and connects to it: the socket, and the service that was asked."""
    servers = []

    def make(play: Callable[[Agent], None], timeout: float = 30) -> tuple[socket.socket, Service]:
        def handler(websocket: ServerConnection) -> None:
            with suppress(ConnectionClosed):
                play(Agent(websocket))

        server = serve(handler, "127.0.0.1", 0, compression=None)
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        host, port = server.socket.getsockname()[:2]
        service = Service(f"ws://{host}:{port}/v1/data-channel/x")
        services.append(service)
        wire = session_manager.connect(service, "db-1", "i-1", 22, timeout)  # type: ignore[arg-type]
        wire.settimeout(30)
        return wire, service

    services: list[Service] = []
    make.services = services  # type: ignore[attr-defined]
    yield make
    for server in servers:
        server.shutdown()


def read(wire: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size and (more := wire.recv(size - len(data))):
        data += more
    return data


def echo(agent: Agent) -> None:
    agent.shake()
    while True:
        agent.send(agent.hear_input().payload)


def test_bytes_go_both_ways_in_order(connect: Connect) -> None:
    wire, _ = connect(echo)
    data = bytes(range(256)) * 1000
    threading.Thread(target=wire.sendall, args=(data,), daemon=True).start()
    assert read(wire, len(data)) == data


def pour(agent: Agent) -> None:
    agent.shake()
    agent.hear_input()
    for _ in range(200):
        agent.send(b"0123456789")


def test_what_the_agent_sent_before_it_closed_arrives_whole(connect: Connect) -> None:
    wire, _ = connect(pour)
    wire.sendall(b"x")
    assert read(wire, 2000) == b"0123456789" * 200


def test_an_acknowledgement_that_meets_the_agent_s_close_does_not_hold_up_what_was_sent_before(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    """The close may come between the look at the connection's state and the send, which then waits for an end that this agent does not bring."""
    monkeypatch.setattr(session_manager.ClientConnection, "state", State.OPEN)
    wire, _ = connect(pour)
    wire.sendall(b"x")
    assert read(wire, 2000) == b"0123456789" * 200


def test_the_first_message_is_the_session_s_token_and_the_answer_to_the_handshake_says_success(connect: Connect) -> None:
    seen: list[Any] = []

    def play(agent: Agent) -> None:
        seen.extend([agent.hello, agent.shake()])
        agent.send(agent.hear_input().payload)

    wire, _ = connect(play)
    wire.sendall(b"x")
    assert read(wire, 1) == b"x"
    hello, answer = seen
    assert hello["TokenValue"] == "the token" and hello["MessageSchemaVersion"] == "1.0" and UUID(hello["ClientId"]) and UUID(hello["RequestId"])
    assert [(action["ActionType"], action["ActionStatus"]) for action in answer["ProcessedClientActions"]] == [("SessionType", 1)]


@pytest.mark.parametrize("url", ["wss://ssmmessages.us-east-1.amazonaws.com/v1/data-channel/x-1?role=publish_subscribe", "ws://10.213.0.1:5001/v1/x"])
def test_the_request_for_the_websocket_is_signed_for_its_service_with_the_session_s_token(url: str) -> None:
    headers = session_manager._signature(Service(url), url)  # type: ignore[arg-type]
    scope = r"Credential=AKIAIOSFODNN7EXAMPLE/\d{8}/us-east-1/ssmmessages/aws4_request"
    signed = rf"AWS4-HMAC-SHA256 {scope}, SignedHeaders=host;x-amz-date;x-amz-security-token, Signature=[0-9a-f]{{64}}"
    assert re.fullmatch(signed, headers["Authorization"]) and headers["X-Amz-Security-Token"] == "a session's token"
    assert session_manager._signature(Service(url), f"{url}&X-Amz-Signature=0") == {}, "an address that is signed itself"  # type: ignore[arg-type]


def test_what_is_not_acknowledged_is_sent_again_with_its_number(connect: Connect) -> None:
    done = threading.Event()
    heard: list[AgentMessage] = []

    def play(agent: Agent) -> None:
        agent.shake()
        heard.extend([agent.hear_input(acknowledge=False), agent.hear_input(acknowledge=False), agent.hear_input()])
        done.set()
        agent.hear()

    wire, _ = connect(play)
    wire.sendall(b"not ready yet")
    assert done.wait(30)
    assert len({(message.sequence, message.id, message.payload) for message in heard}) == 1 and heard[0].payload == b"not ready yet"


def test_messages_that_come_early_or_twice_are_put_in_order_and_acknowledged(connect: Connect) -> None:
    acknowledged: list[int] = []
    done = threading.Event()

    def play(agent: Agent) -> None:
        agent.shake()  # numbers 0 and 1
        for number, payload in ((3, b"c"), (2, b"b"), (3, b"c"), (2, b"b"), (4, b"d")):
            agent.send(payload, number=number)
        while len(acknowledged) < 6:
            message = agent.hear()
            if message.kind == "acknowledge":
                acknowledged.append(json.loads(message.payload)["AcknowledgedMessageSequenceNumber"])
        done.set()
        agent.hear()

    wire, _ = connect(play)
    assert read(wire, 3) == b"bcd"
    assert done.wait(30) and sorted(acknowledged) == [1, 2, 2, 3, 3, 4]


def test_nothing_is_sent_before_the_handshake_is_complete(connect: Connect) -> None:
    """The agent acknowledges such a message, and loses it."""
    kinds: list[str] = []

    def play(agent: Agent) -> None:
        agent.websocket.send(AgentMessage("start_publication", 0, b"").pack())
        agent.shake()
        kinds.extend(message.kind for message in agent.heard)
        agent.send(agent.hear_input().payload)
        agent.hear()

    wire, _ = connect(play)
    wire.sendall(b"first")
    assert read(wire, 5) == b"first"
    assert kinds == ["acknowledge", "input_stream_data"]


def test_the_agent_s_end_is_the_end_of_the_stream_after_all_that_it_sent(connect: Connect) -> None:
    def play(agent: Agent) -> None:
        agent.shake()
        agent.send(b"last words")
        agent.close()
        while True:
            agent.hear()

    wire, service = connect(play)
    assert read(wire, 100) == b"last words"
    wire.close()
    assert service.terminated.wait(30)


def test_closing_the_socket_ends_the_session(connect: Connect) -> None:
    gone = threading.Event()

    def play(agent: Agent) -> None:
        agent.shake()
        try:
            while True:
                agent.hear()
        finally:
            gone.set()

    wire, service = connect(play)
    wire.close()
    assert gone.wait(30) and service.terminated.wait(30) and service.ended == ["session-of-i-1"]


def refuses_kms(agent: Agent) -> None:
    actions = [{"ActionType": name, "ActionParameters": {}} for name in ("SessionType", "KMSEncryption")]
    agent.send(json.dumps({"RequestedClientActions": actions}).encode(), 5)
    agent.hear_input()


def closes_at_once(agent: Agent) -> None:
    agent.close("Unable to connect to specified port: connection refused")
    agent.hear()


@pytest.mark.parametrize(
    ("play", "what", "step"),
    [
        (refuses_kms, "KMSEncryption", "Session Manager preferences"),
        (closes_at_once, "connection refused", "does sshd run"),
        (lambda agent: agent.websocket.recv(30), "not ready within 30 s", "agent's log"),
        (lambda agent: agent.websocket.close(), "data channel", "try again|agent's log"),
        (lambda agent: agent.websocket.send(b"short"), "no whole header", "try again"),
    ],
)
def test_a_session_that_does_not_come_about_is_one_error_and_is_terminated(
    connect: Any, monkeypatch: pytest.MonkeyPatch, play: Callable[[Agent], None], what: str, step: str
) -> None:
    if "30 s" in what:
        monkeypatch.setattr(session_manager, "time", SimpleNamespace(monotonic=partial(next, count(0, 10)), time=time.time))  # ten seconds at each look
    with pytest.raises(HostError, match=what) as told:
        connect(play)
    assert re.search(step, told.value.next_step or "") and "db-1 (i-1), session session-of-i-1" in (told.value.where or "")
    assert connect.services[0].ended == ["session-of-i-1"]


def test_a_data_channel_that_cannot_be_reached_names_its_address() -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        url = f"ws://127.0.0.1:{unused.getsockname()[1]}/"
    service = Service(url)
    with pytest.raises(HostError, match="cannot be opened") as told:
        session_manager.connect(service, "db-1", "i-1", 22, 2)  # type: ignore[arg-type]
    assert told.value.where == url and "443" in (told.value.next_step or "") and service.ended


def test_a_machine_that_is_not_online_may_come_and_a_missing_right_may_not(connect: Connect) -> None:
    with pytest.raises(HostError, match="no connection to db-1") as told:
        session_manager.connect(Service("", "TargetNotConnected"), "db-1", "i-1", 22, 2)  # type: ignore[arg-type]
    assert "instance profile" in (told.value.next_step or "")
    with pytest.raises(CloudError):
        session_manager.connect(Service("", "AccessDeniedException"), "db-1", "i-1", 22, 2)  # type: ignore[arg-type]
