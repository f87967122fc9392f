"""A daemon that is killed: the next `up` goes on with its machines and its state."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import boto3
import pytest
from ec2lab import cleanup
from ec2lab.lifecycle import client, down, up
from ec2lab.paths import find_lab

from tests.support.lab_fixtures import LabClient, eventually, require_lab_machine

BOOT_ID = "cat /proc/sys/kernel/random/boot_id /proc/1/stat | cut -d ' ' -f 1,22"


@pytest.fixture(scope="module")
def lab() -> Iterator[LabClient]:
    """A lab of its own: what is killed here must not be what other tests have standing."""
    require_lab_machine()
    own = find_lab("killed", "10.217.0.0/16")
    down(own, say=lambda text: None)
    up(own, say=lambda text: None)
    yield LabClient(own)
    down(own, say=lambda text: None)


def kill(lab) -> None:
    [pid] = cleanup.daemons(lab)
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: not cleanup.daemons(lab), "the daemon to be gone")


def test_a_killed_daemon_s_machines_run_on_under_the_next_one(lab, net):
    boxes = [lab.launch(net, 20).wait("running"), lab.launch(net, 21).wait("running")]
    spare = lab.launch(net, 22).wait("running")
    lab.ec2.stop_instances(InstanceIds=[spare.id], SkipOsShutdown=True)
    spare.wait("stopped")
    lab.ec2.create_tags(Resources=[boxes[0].id], Tags=[{"Key": "Name", "Value": "kept"}])
    lab.ssm.put_parameter(Name="/kept", Value="a secret", Type="SecureString")
    lab.s3.create_bucket(Bucket="kept-things")
    lab.s3.put_object(Bucket="kept-things", Key="big", Body=b"x" * 3_000_000)
    lab.ec2.import_key_pair(KeyName="brought", PublicKeyMaterial=f"{lab.key.get_name()} {lab.key.get_base64()}".encode())
    session = lab.sts.get_session_token()["Credentials"]
    began = [box.run(BOOT_ID) for box in boxes]
    before = lab.ec2.describe_instances()["Reservations"]

    kill(lab.lab)
    said: list[str] = []
    up(lab.lab, say=said.append)

    assert "is up again" in said[0] and len(said) == 1
    eventually(lambda: [box.state for box in boxes] == ["running", "running"], "the machines to be taken over")
    assert lab.ec2.describe_instances()["Reservations"] == before
    assert [box.run(BOOT_ID) for box in boxes] == began
    assert lab.ssm.get_parameter(Name="/kept", WithDecryption=True)["Parameter"]["Value"] == "a secret"
    assert lab.s3.get_object(Bucket="kept-things", Key="big")["Body"].read() == b"x" * 3_000_000
    signed_in = {"aws_access_key_id": session["AccessKeyId"], "aws_secret_access_key": session["SecretAccessKey"], "aws_session_token": session["SessionToken"]}
    assert boto3.client("sts", "us-east-1", endpoint_url=lab.lab.endpoint, **signed_in).get_caller_identity()["Account"]
    assert oct((lab.lab.state_file).stat().st_mode & 0o777) == "0o600"

    brought = lab.launch(net, 24, KeyName="brought")
    assert brought.run("echo in").strip() == "in", "what was brought before is of use after"
    lab.revoke(net.group, 22)
    eventually(lambda: not reaches(boxes[0]), "the group to hold again")
    lab.allow(net.group, 22)
    lab.ec2.reboot_instances(InstanceIds=[boxes[0].id])
    eventually(lambda: len((now := boxes[0].run(BOOT_ID, check=False)).split()) == 3 and now != began[0], "a reboot of a machine that was taken over")
    lab.ec2.start_instances(InstanceIds=[spare.id])
    spare.wait("running")
    assert spare.run("echo in").strip() == "in"
    for box in (*boxes, spare, brought):
        box.terminate()
    for box in (*boxes, spare, brought):
        box.gone()
    assert not list(lab.lab.disks.glob("i-*"))


def reaches(box) -> bool:
    import socket

    try:
        socket.create_connection((box.address, 22), timeout=0.5).close()
    except OSError:
        return False
    return True


def test_what_ended_while_no_daemon_ran_is_stopped_and_what_no_instance_knows_is_removed(lab, net):
    box = lab.launch(net, 23).booted()
    kill(lab.lab)
    for pid in cleanup.supervisors(lab.lab):
        os.kill(pid, signal.SIGKILL)
    orphan = lab.lab.disks / "i-00000000000000bad"
    orphan.mkdir()
    up(lab.lab, say=lambda text: None)
    box.wait("stopped")
    assert not orphan.exists()
    lab.ec2.start_instances(InstanceIds=[box.id])
    assert box.wait("running").run("echo again").strip() == "again"
    box.terminate()
    box.gone()


def test_a_state_that_cannot_be_read_makes_a_new_lab_and_says_so(any_lab):
    kill(any_lab)
    any_lab.state_file.write_bytes(b"not a state")
    said: list[str] = []
    up(any_lab, say=said.append)
    assert "cannot be taken over" in said[0] and any("cleaned up" in line for line in said)
    assert not client(any_lab, "ec2").describe_vpcs()["Vpcs"]


@pytest.mark.full
def test_down_after_a_kill_leaves_nothing(any_lab):
    kill(any_lab)
    down(any_lab, say=lambda text: None)
    assert not cleanup.find(any_lab)
    up(any_lab, say=lambda text: None)
