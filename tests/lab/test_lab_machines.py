"""The machines: real boot, real keys, real power."""

from __future__ import annotations

import os
import shlex
import socket
from pathlib import Path

import paramiko
import pytest
from botocore.exceptions import ClientError
from ec2lab.status import memory_mb

from tests.support.lab_fixtures import Box, eventually

UNIT = """\
#cloud-config
write_files:
- path: /etc/systemd/system/witness.service
  content: |
    [Service]
    Type=oneshot
    RemainAfterExit=yes
    ExecStart=/bin/sh -c 'echo start >> /var/witness'
    ExecStop=/bin/sh -c 'sleep 2; echo orderly >> /var/witness'
    [Install]
    WantedBy=multi-user.target
runcmd:
- [sh, -c, "echo once >> /var/user-data"]
- [systemctl, enable, --now, witness]
"""


@pytest.fixture(scope="module")
def box(lab, net):
    """A machine that several tests look at without changing its power."""
    box = lab.launch(net, 10, UserData=UNIT)
    yield box.booted()
    box.terminate()
    box.gone()


def test_ssh_works_with_the_host_key_from_the_console_and_a_strict_policy(box):
    assert box.run("id -un").strip() == "admin"


def test_a_host_with_another_key_is_refused(box):
    kind, text, *_ = next(line for line in box.host_keys() if line.startswith("ssh-ed25519")).split()
    forged = text[:-8] + ("AAAAAAAA" if not text.endswith("AAAAAAAA") else "BBBBBBBB")
    with pytest.raises(paramiko.BadHostKeyException):
        box.connect(host_keys=[f"{kind} {forged}"])


def test_a_user_with_another_key_is_refused(box):
    with pytest.raises(paramiko.AuthenticationException):
        box.connect(key=paramiko.RSAKey.generate(2048))


def test_the_machine_is_a_healthy_debian_12_with_passwordless_sudo(box):
    assert box.run("systemctl is-system-running --wait").strip() == "running"
    assert 'VERSION_ID="12"' in box.run("cat /etc/os-release")
    assert box.run("sudo id -u").strip() == "0"  # without a word of 'unable to resolve host'
    assert box.run("cloud-init status").strip() == "status: done"


def test_the_machine_knows_its_own_name_and_address(box):
    dashed = box.address.replace(".", "-")
    assert box.run("hostname").strip() == f"ip-{dashed}"
    assert box.run("hostname --fqdn").strip() == f"ip-{dashed}.ec2.internal"
    assert f"{box.address}/24" in box.run("ip -brief address show eth0")


def test_no_two_machines_share_host_keys_or_identity(box, launch):
    other = launch(11).booted()
    assert not {line.split()[1] for line in box.host_keys()} & {line.split()[1] for line in other.host_keys()}
    assert box.run("cat /etc/machine-id") != other.run("cat /etc/machine-id")


def test_a_new_machine_takes_its_address_over_from_the_one_before(lab, box, launch):
    """Who knew the old one must not send to it for half a minute: such a wait was once in every second proof of separation."""
    known = "ip neighbour show {} | grep -o 'lladdr [^ ]*' || true"
    old = launch(12).booted()
    assert old.describe()["NetworkInterfaces"][0]["MacAddress"] in box.run(f"ping -c1 {old.address} >/dev/null; {known.format(old.address)}")
    old.terminate()
    old.gone()

    new = launch(12)
    mac = new.describe()["NetworkInterfaces"][0]["MacAddress"]
    assert mac != old.describe()["NetworkInterfaces"][0]["MacAddress"]
    eventually(lambda: mac in box.run(known.format(new.address)), "the neighbour knows the new machine, without a packet to it")


def test_the_shared_image_holds_no_keys_and_no_identity(lab):
    from ec2lab.machines.image import wanted

    tree = wanted().tree
    assert not list(tree.glob("etc/ssh/ssh_host_*"))
    assert (tree / "etc/machine-id").read_text() == ""
    assert not list(tree.glob("home/*"))


def test_the_machine_cannot_change_its_own_firewall_but_its_network_settings(box):
    assert "not permitted" in box.run("sudo ip link set eth0 down", check=False).lower()
    assert box.run("sudo sysctl -w net.ipv4.tcp_retries2=6").strip().endswith("= 6")


SYSCALL = "python3 -c 'import ctypes, sys; sys.exit(ctypes.CDLL(None).syscall({}) != 0)'"
FORBIDDEN = {  # to root on a machine
    "this computer's disk": "mknod /tmp/disk b {major} {minor} && dd if=/tmp/disk of=/dev/null count=1",
    "a device of any kind": "mknod /tmp/null c 1 3",
    "this computer's disk, mounted": "mount {device} /mnt",
    "this computer's memory": "dd if=/dev/mem of=/dev/null count=1 || dd if=/proc/kcore of=/dev/null count=1",
    "a module of the kernel": SYSCALL.format('{{"x86_64": 175, "aarch64": 105}}["{architecture}"], b"", 0, b""'),
    "another kernel": SYSCALL.format('{{"x86_64": 246, "aarch64": 104}}["{architecture}"], 0, 0, 0, 0'),
    "the kernel's settings": "sysctl -w kernel.panic=1",
    "the kernel's alarm": "echo h > /proc/sysrq-trigger",
    "the kernel's log": "dmesg",
    "the clock": "date -s @0",
    "swap": "truncate -s 1M /tmp/swap && mkswap /tmp/swap && swapon /tmp/swap",
    "what listens on this computer": "ss -Hltn 'sport = :5000' | grep .",
    "processes of the lab": "pgrep -f ec2lab.[d]aemon",
    "processes of another machine": "pgrep -f {marker}",
    "its network's rules": "nft list ruleset || ip link set eth0 down",
    "the disks of the lab": "ls {disks}",
}


@pytest.mark.parametrize("what", FORBIDDEN)
def test_root_on_a_machine_has_no_way_to(lab, box, neighbour, what):
    disk = Path(f"/dev/{os.readlink('/sys/dev/block/' + _disk()).rsplit('/', 1)[-1]}")
    major, minor = _disk().split(":")
    known = {"major": major, "minor": minor, "device": disk, "architecture": os.uname().machine, "disks": lab.lab.disks, "marker": "neighbour-[m]arker"}
    command = FORBIDDEN[what].format(**known)
    said = box.run(f"sudo sh -c {shlex.quote(command)} && echo GRANTED", check=False)
    assert "GRANTED" not in said, said
    assert "not found" not in said.replace("nft: not found", ""), f"the attempt could not be made: {said}"


def _disk() -> str:
    """The number of the block device that this computer's root lies on, or of its first one."""
    number = os.stat("/").st_dev
    return next((name for name in (f"{os.major(number)}:{os.minor(number)}", *os.listdir("/sys/dev/block")) if Path("/sys/dev/block", name).exists()), "8:0")


@pytest.fixture(scope="module")
def neighbour(lab, net):
    """Another machine, on which something runs."""
    box = lab.launch(net, 13)
    box.booted().run("sudo systemd-run bash -c 'exec -a neighbour-marker sleep 9999'")
    assert box.run("pgrep -f neighbour-[m]arker")
    yield box
    box.terminate()
    box.gone()


def test_a_machine_has_the_capabilities_that_it_needs_and_no_others(box):
    kept = int(box.run("sudo grep CapBnd /proc/1/status").split()[1], 16)
    held = {name for name, number in CAPABILITIES.items() if kept & (1 << number)}
    assert held == {"CAP_SYS_ADMIN", "CAP_SYS_PTRACE", "CAP_NET_BIND_SERVICE"}
    look = "until pgrep -u nobody -x sleep >/dev/null; do sleep 0.1; done; sudo readlink /proc/$(pgrep -u nobody -x sleep)/exe; sudo pkill -u nobody -x sleep"
    assert box.run(f"sudo -u nobody sleep 60 & {look}").split()[0].endswith("/sleep"), "root sees what others run, as on EC2"


# their numbers in linux/capability.h: three that a machine's systemd, its root and its services need, and those that would reach beyond the machine
CAPABILITIES = {
    **{"CAP_NET_BIND_SERVICE": 10, "CAP_SYS_PTRACE": 19, "CAP_SYS_ADMIN": 21},
    **{"CAP_DAC_READ_SEARCH": 2, "CAP_LINUX_IMMUTABLE": 9, "CAP_NET_BROADCAST": 11, "CAP_NET_ADMIN": 12, "CAP_IPC_LOCK": 14, "CAP_SYS_MODULE": 16},
    **{"CAP_SYS_RAWIO": 17, "CAP_SYS_PACCT": 20, "CAP_SYS_TIME": 25, "CAP_SYS_TTY_CONFIG": 26, "CAP_MKNOD": 27, "CAP_LEASE": 28},
    **{"CAP_AUDIT_CONTROL": 30, "CAP_MAC_ADMIN": 33, "CAP_SYSLOG": 34, "CAP_WAKE_ALARM": 35, "CAP_PERFMON": 38, "CAP_BPF": 39},
}


def test_the_machine_reaches_its_gateway_services_and_nothing_else(box, lab):
    lab.internet(box.describe()["VpcId"])
    lab.elastic_ip(box)
    assert "401" in box.run("curl -s -o /dev/null -w '%{http_code}' http://169.254.169.254/"), "the instance metadata, to whoever has a token"
    assert "403" in box.run(f"curl -s -o /dev/null -w '%{{http_code}}' {lab.lab.endpoint}/")
    own = [each[4][0] for each in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)]
    elsewhere = {*own, "192.0.2.1"} - {"127.0.0.1", "127.0.1.1"}
    for address in elsewhere:
        assert "000" in box.run(f"curl -s -m 3 -o /dev/null -w '%{{http_code}}' http://{address}:80/", check=False)


def test_user_data_runs_once_in_the_machine_s_life(box):
    assert box.run("cat /var/user-data").split() == ["once"]
    box.run("sudo systemctl reboot", check=False)
    eventually(lambda: box.run("cat /var/witness", check=False).count("start") == 2, "second boot")
    box.booted()
    assert box.run("cat /var/user-data").split() == ["once"]


def test_memory_of_a_machine_is_known(box, lab):
    assert 2 < memory_mb(lab.lab, box.id) < 500


def why(lab, box) -> tuple[str, str]:
    """Why the instance is in its state: EC2's code, and its words where the API was asked."""
    [found] = [each for one in lab.ec2.describe_instances(InstanceIds=[box.id])["Reservations"] for each in one["Instances"]]
    reason = found["StateReason"]
    assert not reason["Code"] or reason["Message"].startswith(f"{reason['Code']}: ")
    return reason["Code"], found["StateTransitionReason"].partition(" (")[0]


def test_an_orderly_stop_shows_stopping_then_stopped_and_keeps_the_disk(lab, launch):
    box = launch(20, UserData=UNIT).booted()
    answer = lab.ec2.stop_instances(InstanceIds=[box.id])["StoppingInstances"][0]
    assert (answer["PreviousState"]["Name"], answer["CurrentState"]["Name"]) == ("running", "stopping")
    box.wait("stopped")
    assert not (lab.lab.disks / box.id / "root/etc").exists()  # unmounted: nothing of it runs
    assert why(lab, box) == ("Client.UserInitiatedShutdown", "User initiated")
    lab.ec2.start_instances(InstanceIds=[box.id])
    box.wait("running")
    assert why(lab, box) == ("", "")
    assert box.run("cat /var/witness").split() == ["start", "orderly", "start"]


def test_user_data_that_was_changed_while_the_machine_was_stopped_is_what_the_next_boot_reads(lab, launch):
    box = launch(22, UserData=UNIT).booted()
    change = {"InstanceId": box.id, "UserData": {"Value": b"#cloud-config\nbootcmd:\n- [sh, -c, 'echo boot >> /var/boots']\n"}}
    with pytest.raises(ClientError, match="IncorrectInstanceState"):
        lab.ec2.modify_instance_attribute(**change)
    lab.ec2.stop_instances(InstanceIds=[box.id])
    box.wait("stopped")
    lab.ec2.modify_instance_attribute(**change)
    lab.ec2.start_instances(InstanceIds=[box.id])
    keys = box.wait("running").booted().run("cat /var/boots /var/user-data /etc/ssh/ssh_host_ed25519_key.pub").split()
    assert keys[:2] == ["boot", "once"] and keys[3] in " ".join(box.host_keys()), "the same instance: nothing of a first boot ran again"


def test_a_power_cut_is_silent_for_peers_runs_nothing_and_keeps_the_disk(lab, launch):
    box = launch(21, UserData=UNIT).booted()
    with socket.create_connection((box.address, 22)) as peer:
        peer.settimeout(5)
        assert peer.recv(100).startswith(b"SSH-")
        lab.ec2.stop_instances(InstanceIds=[box.id], Force=True, SkipOsShutdown=True)
        box.wait("stopped")
        peer.sendall(b"SSH-2.0-peer\r\n")
        peer.settimeout(1.5)
        with pytest.raises(TimeoutError):  # neither a reset nor an end of stream
            peer.recv(1000)
    lab.ec2.start_instances(InstanceIds=[box.id])
    box.wait("running")
    eventually(lambda: box.run("cat /var/witness").split() == ["start", "start"], "the unit's second start")


@pytest.mark.parametrize("way", ["api", "inside"])
def test_a_reboot_boots_the_same_disk_again(lab, launch, way):
    box = launch(22).booted()
    before = box.run("touch here; cat /proc/sys/kernel/random/boot_id; systemctl show -p UserspaceTimestampMonotonic")
    if way == "api":
        lab.ec2.reboot_instances(InstanceIds=[box.id])
    else:
        box.run("sudo systemctl reboot", check=False)
    again = "ls here >/dev/null && systemctl show -p UserspaceTimestampMonotonic"
    # while it goes down, sshd may still answer when systemd does not any more
    eventually(lambda: (said := box.run(again, check=False)).startswith("Userspace") and said not in before, "the machine after its reboot")
    assert box.state == "running"


def test_a_machine_that_switches_itself_off_is_stopped(lab, launch):
    box = launch(23).booted()
    box.run("sudo systemctl poweroff", check=False)
    box.wait("stopped")
    assert why(lab, box) == ("Client.InstanceInitiatedShutdown", "")
    lab.ec2.start_instances(InstanceIds=[box.id])
    assert box.wait("running").run("echo up").strip() == "up"


def test_terminate_frees_disk_address_and_volumes(lab, net):
    box = lab.launch(net, 24, BlockDeviceMappings=[{"DeviceName": "/dev/xvda", "Ebs": {"VolumeSize": 20}}])
    box.booted()
    box.terminate()
    box.gone()
    assert not (lab.lab.disks / box.id).exists()
    assert not lab.ec2.describe_volumes(Filters=[{"Name": "attachment.instance-id", "Values": [box.id]}])["Volumes"]
    again = lab.launch(net, 24)
    assert again.wait("running").address == box.address
    again.terminate()


def test_a_machine_terminated_while_it_starts_goes(lab, net):
    box = lab.launch(net, 25)
    box.terminate()
    box.gone()
    assert not (lab.lab.disks / box.id).exists()


def test_status_checks_pass_only_once_the_machine_answers(lab, launch):
    box = launch(26)
    waiter = lab.ec2.get_waiter("instance_status_ok")
    waiter.wait(InstanceIds=[box.id], WaiterConfig={"Delay": 1, "MaxAttempts": 300})
    with socket.create_connection((box.address, 22), timeout=5) as peer:
        assert peer.recv(100).startswith(b"SSH-")


def test_networks_do_not_reach_each_other(lab, launch):
    here, there = launch(27).booted(), lab.launch(lab.net(), 27)
    there.booted()
    assert "SSH-" in here.run(f"timeout 20 bash -c 'exec 3<>/dev/tcp/{here.address}/22; head -c 4 <&3'")
    assert here.run(f"timeout 3 bash -c 'exec 3<>/dev/tcp/{there.address}/22' && echo reached", check=False).strip() == ""
    there.terminate()


def _image(lab, box: Box, name: str, **more: object) -> str:
    image = lab.ec2.create_image(InstanceId=box.id, Name=name, **more)["ImageId"]

    def available() -> bool:
        return lab.ec2.describe_images(ImageIds=[image])["Images"][0]["State"] == "available"

    eventually(available, f"image {name}")
    return image


@pytest.mark.parametrize("way", ["stopped", "running", "no reboot"])
def test_an_image_of_a_machine_makes_machines_that_hold_its_disk_under_a_new_identity(lab, launch, way):
    source = launch(30).booted()
    source.run("echo configured | sudo tee /etc/marker")
    if way == "stopped":
        lab.ec2.stop_instances(InstanceIds=[source.id])
        source.wait("stopped")
    image = _image(lab, source, f"of a {way} machine", NoReboot=way == "no reboot")
    copy = launch(31, ImageId=image).booted()
    assert copy.run("cat /etc/marker").strip() == "configured"
    assert copy.run("hostname").strip() == f"ip-{copy.address.replace('.', '-')}"
    assert copy.host_keys()[0].split()[1] != source.host_keys()[0].split()[1]
    copy.run("echo changed | sudo tee /etc/marker")
    if way == "stopped":
        lab.ec2.start_instances(InstanceIds=[source.id])
    source.wait("running")
    assert source.run("cat /etc/marker").strip() == "configured"
    assert copy.run("cat /etc/machine-id") != source.run("cat /etc/machine-id")
    lab.ec2.deregister_image(ImageId=image)


def test_a_deregistered_image_is_freed_once_nothing_lies_on_it(lab, net):
    source = lab.launch(net, 32).booted()
    image = _image(lab, source, "to be freed", NoReboot=True)
    layer = lab.lab.disks / "layers" / image
    copy = lab.launch(net, 33, ImageId=image).booted()
    lab.ec2.deregister_image(ImageId=image)
    assert layer.exists()
    for box in (copy, source):
        box.terminate()
        box.gone()
    eventually(lambda: not layer.exists(), "the layer to go")
