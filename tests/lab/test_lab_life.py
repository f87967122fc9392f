"""Up and down, again and again, and after every kind of death; two labs at once; refusals with the way out."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from ec2lab import cleanup, cli, lifecycle, prerequisites
from ec2lab.errors import LabError
from ec2lab.machines import cgroups, image
from ec2lab.network import links
from ec2lab.paths import find_lab

from runbook_lib.aws.host_keys import Pinned, keys_in
from tests.conftest import ROOT
from tests.support.lab_fixtures import LabClient, eventually, require_lab_machine

NAME, RANGE = "life", "10.215.0.0/16"
ROOTS: set[str] = set()  # names under which nspawn locks the machines of these tests


def runbook(*words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([sys.executable, "-m", "runbook_cli", "lab", *words], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 or not check, done.stderr
    return done


@pytest.fixture
def other():
    """A second lab, beside whatever else is up, that is certainly gone afterwards."""
    require_lab_machine()
    lab = find_lab(NAME, RANGE)
    lifecycle.down(lab, say=lambda text: None)
    yield lab
    lifecycle.down(lab, say=lambda text: None)


def with_machines(lab, count: int = 2) -> LabClient:
    client = LabClient(lab)
    vpc = client.ec2.create_vpc(CidrBlock="10.215.7.0/24")["Vpc"]["VpcId"]
    subnet = client.ec2.create_subnet(VpcId=vpc, CidrBlock="10.215.7.0/24")["Subnet"]["SubnetId"]
    for number in range(count):
        node = f"store-{number + 1}"
        named = {"Name": f"walk/{node}", "runbook:node": node, "runbook:deployment": "walk"}
        named["runbook:hosts"] = f"s{number}.test w{number}.test"
        tags = [{"Key": key, "Value": value} for key, value in named.items()]
        client.ec2.run_instances(
            **{"ImageId": client.image, "MinCount": 1, "MaxCount": 1, "InstanceType": "t3.small"},
            **{"SubnetId": subnet, "KeyName": client.key_name, "PrivateIpAddress": f"10.215.7.{10 + number}"},
            TagSpecifications=[{"ResourceType": "instance", "Tags": tags}],
        )
    eventually(lambda: len(states(lab)) == count and set(states(lab)) == {"running"}, "machines running")
    ROOTS.update(f"inode-{root.stat().st_dev}:{root.stat().st_ino}" for root in lab.disks.glob("i-*/root"))
    return client


def states(lab) -> list[str]:
    return [each["state"] for each in json.loads(runbook("status", "--json", "--name", lab.name).stdout)["machines"]]


def everything_of(name: str) -> list[str]:
    """Whatever on this machine bears the lab's name or addresses, found without the lab's own code."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        if re.search(rf"ec2lab.daemon {name} |/ec2lab/{name}/|ec-{name}\.", words):
            found.append(f"process {words}")
    tables = {
        "mount": Path("/proc/self/mounts").read_text(),
        "link": subprocess.check_output(["ip", "-o", "link"], text=True),
        "address": subprocess.check_output(["ip", "-o", "address"], text=True),
        "route": subprocess.check_output(["ip", "route"], text=True),
        "namespace": subprocess.check_output(["ip", "netns", "list"], text=True),
        "table": subprocess.check_output(["nft", "list", "tables"], text=True),
    }
    mine = rf"ec-{name}\b|ec2lab_{name}\b|/ec2lab/{name}/|\b10\.215\.|\bec0ad7"
    found += [f"{kind}: {line}" for kind, text in tables.items() for line in text.splitlines() if re.search(mine, line)]
    for place in ("/run/ec2lab", "/run/netns", "/var/lib/ec2lab", "/run/systemd/nspawn/propagate"):
        found += [str(path) for path in Path(place).glob(f"*{name}*")]
    locks = Path("/run/systemd/nspawn/locks")
    found += [str(lock) for lock in locks.glob("inode-*") if lock.name in ROOTS]
    for root in cgroups.hierarchies():
        found += [str(path) for path in root.glob(f"**/ec2lab-{name}*")]
    return found


def test_up_twice_is_up_once_and_down_leaves_nothing(other):
    assert "is up" in runbook("up", "--name", NAME, "--range", RANGE).stdout
    daemon = cleanup.daemons(other)
    assert "is up" in runbook("up", "--name", NAME).stdout
    assert cleanup.daemons(other) == daemon and len(daemon) == 1
    slow = runbook("up", "--name", NAME, "--as-slow-as-aws", check=False)
    assert slow.returncode == 1 and "not as slow as AWS" in slow.stderr
    with_machines(other)
    assert everything_of(NAME)  # the scan sees a lab when there is one
    runbook("down", "--name", NAME)
    assert everything_of(NAME) == []
    assert "there was no lab" in runbook("down", "--name", NAME).stdout


def test_labs_whose_names_begin_alike_do_not_meet(other):
    longer = find_lab(f"{NAME}2", "10.216.0.0/16")
    lifecycle.up(other, say=lambda text: None)
    try:
        lifecycle.up(longer, say=lambda text: None)
        client = LabClient(longer)
        assert client.launch(client.net()).run("echo reached") == "reached\n"
        lifecycle.down(other, say=lambda text: None)
        assert states(longer) == ["running"]
    finally:
        lifecycle.down(longer, say=lambda text: None)


def test_taking_a_lab_down_leaves_another_alone_that_has_its_range_now(other):
    lifecycle.up(other, say=lambda text: None)
    client = LabClient(other)
    machine = client.launch(client.net())
    assert machine.run("echo reached") == "reached\n"
    assert "there was no lab" in runbook("down", "--name", f"{NAME}2", "--range", RANGE).stdout
    assert machine.run("echo still reached") == "still reached\n"


def test_down_after_the_daemon_was_killed_leaves_nothing(other):
    lifecycle.up(other, say=lambda text: None)
    with_machines(other)
    os.kill(cleanup.daemons(other)[0], signal.SIGKILL)
    eventually(lambda: not cleanup.daemons(other), "the daemon's end")
    assert any("nspawn" in thing for thing in everything_of(NAME))  # machines outlive it
    runbook("down", "--name", NAME)
    assert everything_of(NAME) == []


def test_down_after_daemon_and_supervisors_were_killed_ends_the_orphaned_machines(other):
    lifecycle.up(other, say=lambda text: None)
    with_machines(other)
    for pid in cleanup.daemons(other) + cleanup.supervisors(other):
        os.kill(pid, signal.SIGKILL)
    spaces = [path.name for path in Path("/run/netns").glob(f"ec-{NAME}.*")]
    inits = [pid for space in spaces for pid in links.pids_in(space)]
    assert inits  # the machines live on
    runbook("down", "--name", NAME)
    assert everything_of(NAME) == []
    assert not [pid for pid in inits if Path(f"/proc/{pid}/ns/net").exists() and _alive(pid)]


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_up_after_such_a_death_goes_on_with_the_machine(other):
    lifecycle.up(other, say=lambda text: None)
    with_machines(other, 1)
    os.kill(cleanup.daemons(other)[0], signal.SIGKILL)
    eventually(lambda: not cleanup.daemons(other), "the daemon's end")
    said = runbook("up", "--name", NAME, "--range", RANGE).stdout
    assert "is up again with the machines" in said
    eventually(lambda: states(other) == ["running"], "the machine to be taken over")


def test_two_labs_are_up_at_once_and_do_not_see_each_other(lab, other):
    lifecycle.up(other, say=lambda text: None)
    there = with_machines(other, 1)
    here = {vpc["CidrBlock"] for vpc in lab.ec2.describe_vpcs()["Vpcs"]}
    assert "10.215.7.0/24" not in here
    assert [vpc["CidrBlock"] for vpc in there.ec2.describe_vpcs()["Vpcs"]] == ["10.215.7.0/24"]
    runbook("down", "--name", NAME)
    assert lab.sts.get_caller_identity()["Account"]


def test_two_ups_at_the_same_moment_make_one_lab(other):
    ups = [
        subprocess.Popen([sys.executable, "-m", "runbook_cli", "lab", "up", "--name", NAME, "--range", RANGE], cwd=ROOT,
                         stdout=subprocess.DEVNULL) for _ in range(2)
    ]  # fmt: skip
    assert [each.wait(120) for each in ups] == [0, 0]
    assert len(cleanup.daemons(other)) == 1


def test_status_hosts_and_env_tell_what_there_is(other):
    lifecycle.up(other, say=lambda text: None)
    with_machines(other)
    status = json.loads(runbook("status", "--json", "--name", NAME).stdout)
    assert (status["lab"], status["range"], status["endpoint"]) == (NAME, RANGE, "http://10.215.0.1:5000")
    first = status["machines"][0]
    assert (first["name"], first["node"], first["state"]) == ("walk/store-1", "store-1", "running")
    assert (first["address"], first["groups"]) == ("10.215.7.10", ["default"])
    assert first["memory_mb"] > 5
    words = runbook("status", "--name", NAME).stdout
    assert "walk/store-2" in words and "10.215.7.11" in words and " MB" in words
    assert runbook("hosts", "--name", NAME).stdout.splitlines() == [
        "10.215.7.10\ts0.test", "10.215.7.10\tw0.test", "10.215.7.11\ts1.test", "10.215.7.11\tw1.test",
    ]  # fmt: skip
    assert "export AWS_ENDPOINT_URL=http://10.215.0.1:5000" in runbook("env", "--name", NAME).stdout.splitlines()


def test_ssh_opens_a_machine_by_console_or_by_the_deployment_s_key(other):
    lifecycle.up(other, say=lambda text: None)
    client = with_machines(other)
    client.ec2.authorize_security_group_ingress(
        GroupId=client.ec2.describe_instances()["Reservations"][0]["Instances"][0]["SecurityGroups"][0]["GroupId"],
        IpPermissions=[client.permission(22)],
    )
    assert runbook("ssh", "--name", NAME, "store-1", "id", "-un").stdout.strip() == "root"  # no key is known yet
    client.ssm.put_parameter(Name="/runbook/walk/ssh-private-key", Value=_openssh(client), Type="SecureString")

    def by_key() -> bool:
        return runbook("ssh", "--name", NAME, "walk/store-1", "id", "-un", check=False).stdout.strip() == "admin"

    eventually(by_key, "SSH with the published key and the console's host keys")
    machine = next(m for m in json.loads(runbook("status", "--json", "--name", NAME).stdout)["machines"] if m["node"] == "store-1")
    output = client.ec2.get_console_output(InstanceId=machine["id"])["Output"]
    for pinned, works in ((keys_in(output), True), (("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI" + "A" * 43,), False)):
        stored = Pinned(machine["id"], pinned).text()
        client.ssm.put_parameter(Name="/runbook/walk/host-keys/store-1", Value=stored, Type="String", Overwrite=True)
        assert by_key() is works, stored
    wrong = runbook("ssh", "--name", NAME, "store-9", check=False)
    assert wrong.returncode == 1 and "walk/store-1" in wrong.stderr


def _openssh(client: LabClient) -> str:
    """The client's key as text; paramiko cannot write Ed25519 keys itself."""
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.from_private_bytes(bytes(client.key._signing_key)[:32])
    return key.private_bytes(form.Encoding.PEM, form.PrivateFormat.OpenSSH, form.NoEncryption()).decode()


def test_a_range_that_is_in_use_is_refused_with_the_way_out(other):
    subprocess.run(["ip", "link", "add", "lifetaken", "type", "bridge"], check=True)
    try:
        subprocess.run(["ip", "address", "add", "10.215.9.1/24", "dev", "lifetaken"], check=True)
        refused = runbook("up", "--name", NAME, "--range", RANGE, check=False)
    finally:
        subprocess.run(["ip", "link", "delete", "lifetaken"], check=True)
    assert refused.returncode == 1
    assert "10.215.9.1/24 on lifetaken" in refused.stderr and "--range" in refused.stderr
    assert everything_of(NAME) == []


def test_another_range_for_a_lab_that_is_up_is_refused(other):
    lifecycle.up(other, say=lambda text: None)
    refused = runbook("up", "--name", NAME, "--range", "10.216.0.0/16", check=False)
    assert refused.returncode == 1 and RANGE in refused.stderr


@pytest.mark.parametrize(
    "words, expected",
    [
        (["--name", "Not-A-Name"], "cannot be a lab's name"),
        (["--name", NAME, "--range", "10.215.0.0/33"], "not an address range"),
        (["--name", NAME, "--range", "8.8.0.0/16"], "cannot carry a lab"),
        (["--name", NAME, "--range", "10.215.0.0/28"], "cannot carry a lab"),
    ],
)
def test_names_and_ranges_that_cannot_be_are_refused(words, expected):
    refused = runbook("up", *words, check=False)
    assert refused.returncode == 1 and expected in refused.stderr and "next:" in refused.stderr


@pytest.mark.parametrize(
    "patch, expected",
    [
        (("sys.platform", "darwin"), "need Linux"),
        (("os.geteuid", lambda: 1000), "needs root"),
        (("ec2lab.prerequisites._KERNEL", [(lambda: False, "overlayfs", "modprobe")]), "no overlayfs"),
        (
            ("ec2lab.prerequisites._KERNEL", [(lambda: False, "writable control groups", "x")]),
            "no writable control",
        ),
    ],
)
def test_a_machine_that_cannot_carry_a_lab_is_told_why_and_what_to_do(monkeypatch, patch, expected):
    if patch[0] != "os.geteuid":
        monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr(*patch)
    with pytest.raises(LabError) as caught:
        prerequisites.check_machine()
    assert expected in caught.value.what and caught.value.next_step


def test_missing_packages_are_named_and_not_installed_unasked(monkeypatch, capsys):
    monkeypatch.setattr(prerequisites, "check_machine", lambda: None)
    monkeypatch.setattr(prerequisites, "missing_packages", lambda: ["mmdebstrap"])
    installed: list[list[str]] = []
    monkeypatch.setattr(prerequisites, "install", lambda packages, say: installed.append(packages))
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    assert cli.main(["up", "--name", NAME, "--range", RANGE]) == 1
    said = capsys.readouterr().err
    assert "mmdebstrap" in said and "apt-get install" in said and installed == []


def test_two_builders_build_one_image_and_a_killed_build_blocks_nobody(monkeypatch, tmp_path):
    monkeypatch.setattr(image, "CACHE", tmp_path)
    monkeypatch.setattr(image, "_furnish", lambda recipe, tree: None)
    built: list[Path] = []

    def build(recipe: image.Recipe, target: Path) -> None:
        time.sleep(0.2)  # long enough for the second builder to arrive
        target.mkdir(parents=True)
        built.append(target)

    monkeypatch.setattr(image, "_mmdebstrap", build)
    (tmp_path / "images/.building-1/etc").mkdir(parents=True)  # what a killed build left
    builders = [threading.Thread(target=image.ensure, args=(lambda text: None,)) for _ in range(2)]
    for builder in builders:
        builder.start()
    for builder in builders:
        builder.join()
    assert len(built) == 1
    assert image.wanted().tree.is_dir()
    assert not (tmp_path / "images/.building-1").exists()


def test_a_killed_mmdebstrap_leaves_no_process_and_no_mount(tmp_path):
    require_lab_machine()
    code = "from pathlib import Path; from ec2lab.machines import image; image._mmdebstrap(image.RECIPES[image.DEFAULT], Path(__import__('sys').argv[1]))"
    target = tmp_path / "tree"
    builder = subprocess.Popen([sys.executable, "-c", code, str(target)], cwd=ROOT, stderr=subprocess.DEVNULL)
    eventually(lambda: (target / "etc").exists(), "the build's beginning")
    builder.kill()
    builder.wait()

    def users() -> bool:
        commands = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()]
        return any(str(target).encode() in command for command in commands)

    eventually(lambda: not users(), "the end of mmdebstrap")
    assert str(target) not in Path("/proc/self/mounts").read_text()
