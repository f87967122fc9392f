"""Session Manager: which machines are managed, and a session's way to a machine that no security group lets anybody into."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import paramiko
import pytest
from botocore.exceptions import ClientError
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection

from runbook_lib.aws import session_manager
from runbook_lib.aws.client import Aws
from runbook_lib.errors import HostError
from runbook_lib.launch.instance_profile import ACTIONS
from runbook_lib.spec.sections import CloudSpec
from tests.support import ssm_agent
from tests.support.instance_profiles import launched, profile
from tests.support.lab_fixtures import Box, LabClient, Net, eventually

USER_DATA = (
    "#cloud-config\nruncmd:\n- curl -fsS --connect-timeout 2 --retry 60 --retry-delay 1 --retry-all-errors -o /tmp/agent.deb {url} && dpkg -i /tmp/agent.deb\n"
)


@pytest.fixture(scope="module")
def boxes(lab: LabClient, net: Net, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Box]]:
    """Machines with agents and without a way in: `managed`, one with a profile that allows too little, and one with none."""
    shut = lab.group(net.vpc, "shut")
    lab.internet(net.vpc)
    agent = ssm_agent.published(lab, tmp_path_factory.mktemp("agent"))
    common = {"SecurityGroupIds": [shut], "UserData": USER_DATA.format(**agent)}
    made = {
        "managed": launched(lab, net, 31, **common, IamInstanceProfile={"Arn": profile(lab, "sessions", ACTIONS)}),
        "little": launched(lab, net, 32, **common, IamInstanceProfile={"Arn": profile(lab, "little", ACTIONS[:-1])}),
        "none": launched(lab, net, 33, **common),
    }
    for box in made.values():
        lab.elastic_ip(box)  # the way to the agent's package, which the machine tries until it is there
    yield made
    for box in made.values():
        box.terminate()
    for box in made.values():
        box.gone()


@pytest.fixture(scope="module")
def aws(lab: LabClient) -> Aws:
    return Aws(CloudSpec(aws_config=str(lab.aws_config)))


def pings(lab: LabClient) -> dict[str, str]:
    return {item["InstanceId"]: item["PingStatus"] for item in lab.ssm.describe_instance_information()["InstanceInformationList"]}


@pytest.fixture(scope="module")
def managed(lab: LabClient, boxes: dict[str, Box]) -> Box:
    box = boxes["managed"]
    eventually(lambda: pings(lab).get(box.id) == "Online", "the agent is Online", 120)
    eventually(lambda: lab.ec2.describe_instance_status(InstanceIds=[box.id])["InstanceStatuses"][0]["InstanceStatus"]["Status"] == "ok", "sshd listens")
    return box


def refusal(call: Callable[..., Any], **options: Any) -> str:
    with pytest.raises(ClientError) as caught:
        call(**options)
    return str(caught.value.response["Error"]["Code"])


def test_a_machine_is_online_only_with_an_agent_and_a_profile_that_allows_what_it_does(lab: LabClient, boxes: dict[str, Box], managed: Box) -> None:
    for other in ("little", "none"):
        eventually(lambda box=boxes[other]: "finished at" in box.console(), f"cloud-init of {other} is through, and so its agent is there", 120)
    assert pings(lab) == {managed.id: "Online"}
    assert refusal(lab.ssm.start_session, Target=boxes["none"].id, DocumentName=session_manager.DOCUMENT) == "TargetNotConnected"
    assert refusal(lab.ssm.start_session, Target=managed.id, DocumentName="AWS-StartInteractiveCommand") == "InvalidDocument"


def signed_in(box: Box, wire: socket.socket) -> paramiko.Transport:
    """An SSH connection over `wire`, to the host key of the console."""
    transport = paramiko.Transport(wire)
    transport.start_client(timeout=20)
    key = transport.get_remote_server_key()
    assert f"{key.get_name()} {key.get_base64()}" in [" ".join(line.split()[:2]) for line in box.host_keys()]
    transport.auth_publickey("admin", box.key)
    return transport


def said(transport: paramiko.Transport, command: str, given: bytes = b"") -> bytes:
    channel = transport.open_session()
    channel.exec_command(command)
    channel.sendall(given)
    channel.shutdown_write()
    return channel.makefile("rb").read()


def test_a_session_leads_to_sshd_where_a_direct_connection_leads_nowhere(managed: Box, aws: Aws) -> None:
    with pytest.raises(TimeoutError):
        socket.create_connection((managed.address, 22), timeout=2)
    transport = signed_in(managed, session_manager.connect(aws, "managed", managed.id, 22, 20))
    assert said(transport, "echo $SSH_CONNECTION").split()[0] in (b"127.0.0.1", b"::1")
    data = os.urandom(1 << 20)
    assert said(transport, "cat", data) == data
    transport.close()


def test_a_session_to_a_port_where_nobody_listens_says_so(managed: Box, aws: Aws) -> None:
    wire = session_manager.connect(aws, "managed", managed.id, 2222, 20)
    assert wire.recv(1) == b""


def test_the_end_of_one_side_is_the_end_of_the_other(lab: LabClient, managed: Box, aws: Aws) -> None:
    transport = signed_in(managed, session_manager.connect(aws, "managed", managed.id, 22, 20))
    count = "ss -Htn state established 'sport = :22' | wc -l"
    other = signed_in(managed, session_manager.connect(aws, "managed", managed.id, 22, 20))
    assert eventually(lambda: int(said(other, count)) == 2, "sshd to see both and no earlier one")
    transport.close()
    eventually(lambda: int(said(other, count)) == 1, "sshd sees the first go")
    other.close()


def test_a_data_channel_without_the_session_s_token_is_closed(lab: LabClient, managed: Box, aws: Aws, monkeypatch: pytest.MonkeyPatch) -> None:
    client, real = aws.client("ssm"), aws.client("ssm").start_session
    monkeypatch.setattr(client, "start_session", lambda **options: {**real(**options), "TokenValue": "guessed"}, raising=False)
    with pytest.raises(HostError, match="data channel"):
        session_manager.connect(aws, "managed", managed.id, 22, 30)


def hello(websocket: ClientConnection, token: str) -> None:
    websocket.send(json.dumps({"MessageSchemaVersion": "1.0", "RequestId": "a-request-of-a-test", "TokenValue": token, "ClientId": "a-test"}))


def test_a_session_is_resumed_where_it_was_with_a_new_token(lab: LabClient, managed: Box, aws: Aws) -> None:
    session = lab.ssm.start_session(Target=managed.id, DocumentName=session_manager.DOCUMENT, Parameters={"portNumber": ["22"]})
    with session_manager._websocket(aws, session["StreamUrl"], 30) as first:
        hello(first, session["TokenValue"])
        asked = session_manager.unpack(first.recv(30))
    again = lab.ssm.resume_session(SessionId=session["SessionId"])
    with session_manager._websocket(aws, again["StreamUrl"], 30) as second:
        hello(second, again["TokenValue"])
        assert session_manager.unpack(second.recv(30)) == asked, "what was not acknowledged is sent again"
    with session_manager._websocket(aws, session["StreamUrl"], 30) as third, pytest.raises(ConnectionClosed):
        hello(third, session["TokenValue"])
        third.recv(30)
    lab.ssm.terminate_session(SessionId=session["SessionId"])
    assert refusal(lab.ssm.resume_session, SessionId=session["SessionId"]) == "DoesNotExistException"


def test_aws_s_own_client_reaches_the_machine_as_well(lab: LabClient, managed: Box, tmp_path: Path) -> None:
    plugin = shutil.which("session-manager-plugin")
    if not plugin:
        pytest.skip("AWS's session-manager-plugin is not installed: the lab's side of the protocol is tried with our own client only")
    request = {"Target": managed.id, "DocumentName": session_manager.DOCUMENT, "Parameters": {"portNumber": ["22"]}}
    session = lab.ssm.start_session(**request)
    answer = {key: session[key] for key in ("SessionId", "TokenValue", "StreamUrl")}
    ours, theirs = socket.socketpair()
    environment = {**os.environ, "AWS_ACCESS_KEY_ID": lab.key_of_lab.id, "AWS_SECRET_ACCESS_KEY": lab.key_of_lab.secret, "HOME": str(tmp_path)}
    command = [plugin, json.dumps(answer), "us-east-1", "StartSession", "", json.dumps(request), lab.lab.endpoint]
    client = subprocess.Popen(command, stdin=theirs, stdout=theirs, env=environment)
    theirs.close()
    transport = signed_in(managed, ours)  # the lines that the plugin prints first, an SSH client skips
    assert said(transport, "echo hello") == b"hello\n"
    data = os.urandom(1 << 16)
    assert said(transport, "cat", data) == data
    transport.close()
    client.kill()
    client.wait()


def test_an_agent_that_ends_is_a_connection_lost(lab: LabClient, managed: Box, aws: Aws) -> None:
    transport = signed_in(managed, session_manager.connect(aws, "managed", managed.id, 22, 20))
    said(transport, "sudo systemctl stop amazon-ssm-agent")
    assert eventually(lambda: pings(lab).get(managed.id), "still shown") == "ConnectionLost"
    with pytest.raises(HostError, match="no connection to") as told:
        session_manager.connect(aws, "managed", managed.id, 22, 30)
    assert "Online" in (told.value.next_step or "")
    transport.close()
