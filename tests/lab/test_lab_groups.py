"""Security groups: what they let through, seen from outside and from machine to machine."""

from __future__ import annotations

import socket

import pytest
from botocore.exceptions import ClientError

from tests.support.lab_fixtures import eventually

SERVER = """\
import socket, threading, time
def tcp(port):
    s = socket.create_server(('', port)); 
    while True:
        c, _ = s.accept(); c.sendall(b'here'); c.close()
def udp(port):
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(('', port))
    while True:
        _, peer = s.recvfrom(10); s.sendto(b'here', peer)
for port in (8001, 8002, 8003): threading.Thread(target=tcp, args=(port,)).start()
udp(8001)
"""
START = f"cat > server.py <<'END'\n{SERVER}END\nsetsid python3 server.py >/dev/null 2>&1 </dev/null & echo"
WITHIN = 60.0  # seconds for what is one on an idle machine: no test may fail for its neighbours' work


@pytest.fixture(scope="module")
def server(lab, net):
    """A machine that answers on 8001 to 8003 (tcp) and 8001 (udp), in a group of its own beside the SSH group."""
    group = lab.group(net.vpc, "server")
    box = lab.launch(net, 10, SecurityGroupIds=[net.group, group])
    box.run(START)
    box.group = group
    yield box
    box.terminate()
    box.gone()


@pytest.fixture(scope="module")
def client(lab, net):
    """Another machine of the network, member of the group `clients`."""
    group = lab.group(net.vpc, "clients")
    box = lab.launch(net, 11, SecurityGroupIds=[net.group, group])
    box.run("true")
    box.group = group
    yield box
    box.terminate()
    box.gone()


def open_from_here(address: str, port: int) -> bool:
    try:
        with socket.create_connection((address, port), timeout=0.3) as peer:
            return peer.recv(4) == b"here"
    except OSError:
        return False


def answers(address: str, port: int) -> bool:
    try:
        with socket.create_connection((address, port), timeout=0.3):
            return True
    except OSError:
        return False


def udp_from_here(address: str, port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.settimeout(0.3)
        peer.sendto(b"?", (address, port))
        try:
            return peer.recv(4) == b"here"
        except OSError:
            return False


def open_from(box, address: str, port: int) -> bool:
    return "here" in box.run(f"timeout 1 bash -c 'exec 3<>/dev/tcp/{address}/{port}; cat <&3'", check=False)


def test_what_no_rule_allows_is_dropped_not_refused(server):
    with pytest.raises(TimeoutError):
        socket.create_connection((server.address, 8001), timeout=1)


def test_a_permission_is_in_force_within_a_second_and_so_is_its_revocation(lab, server):
    lab.allow(server.group, 8001)
    eventually(lambda: open_from_here(server.address, 8001), "8001 open", WITHIN)
    assert not open_from_here(server.address, 8002)
    lab.revoke(server.group, 8001)
    eventually(lambda: not open_from_here(server.address, 8001), "8001 closed", WITHIN)


def test_a_range_of_ports_opens_these_and_no_others(lab, server):
    rule = {**lab.permission(8002), "ToPort": 8003}
    lab.ec2.authorize_security_group_ingress(GroupId=server.group, IpPermissions=[rule])
    eventually(lambda: open_from_here(server.address, 8003), "8003 open", WITHIN)
    eventually(lambda: open_from_here(server.address, 8002), "8002 open", WITHIN)
    assert not open_from_here(server.address, 8001)
    lab.ec2.revoke_security_group_ingress(GroupId=server.group, IpPermissions=[rule])


def test_tcp_and_udp_are_told_apart(lab, server):
    lab.allow(server.group, 8001, protocol="udp")
    eventually(lambda: udp_from_here(server.address, 8001), "udp open", WITHIN)
    assert not open_from_here(server.address, 8001)
    lab.revoke(server.group, 8001, protocol="udp")
    eventually(lambda: not udp_from_here(server.address, 8001), "udp closed", WITHIN)


def test_a_range_of_addresses_lets_in_these_and_no_others(lab, server, client):
    lab.allow(server.group, 8001, f"{client.address}/32")
    eventually(lambda: open_from(client, server.address, 8001), "open for the client")
    assert not open_from_here(server.address, 8001)  # this machine comes from the subnet's first address
    lab.revoke(server.group, 8001, f"{client.address}/32")


def test_a_group_as_source_lets_in_its_members_only(lab, server, client):
    lab.allow(server.group, 8001, client.group)
    eventually(lambda: open_from(client, server.address, 8001), "open for members")
    assert not open_from_here(server.address, 8001)


@pytest.mark.parametrize("of", ["instance", "interface"])
def test_leaving_a_group_takes_the_right_away_and_joining_gives_it_back(lab, net, server, client, of):
    nic = client.describe()["NetworkInterfaces"][0]["NetworkInterfaceId"]

    def join(*groups: str) -> None:
        if of == "instance":
            lab.ec2.modify_instance_attribute(InstanceId=client.id, Groups=list(groups))
        else:
            lab.ec2.modify_network_interface_attribute(NetworkInterfaceId=nic, Groups=list(groups))

    join(net.group)
    assert eventually(lambda: not open_from(client, server.address, 8001), "closed for a former member")
    join(net.group, client.group)
    assert eventually(lambda: open_from(client, server.address, 8001), "open for a new member")


def test_a_new_member_of_a_source_group_is_let_in(lab, net, launch, server, client):
    other = launch(12, SecurityGroupIds=[net.group, client.group])
    assert eventually(lambda: open_from(other, server.address, 8001), "open for the new member")


def test_a_permission_with_a_description_is_revoked_without_it_and_refused_twice(lab, net):
    group, other = lab.group(net.vpc, "described"), lab.group(net.vpc, "source")
    rule = lab.permission(8009, other)
    described = {**rule, "UserIdGroupPairs": [{"GroupId": other, "Description": "why"}]}
    lab.ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=[described])
    with pytest.raises(ClientError, match="Duplicate"):
        lab.ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=[rule])
    lab.ec2.revoke_security_group_ingress(GroupId=group, IpPermissions=[rule])
    assert lab.ec2.describe_security_groups(GroupIds=[group])["SecurityGroups"][0]["IpPermissions"] == []
    lab.ec2.delete_security_group(GroupId=other)


def test_ping_needs_a_permission_too(lab, server, client):
    command = f"ping -c 1 -W 1 {server.address} >/dev/null && echo answered"
    assert "answered" not in client.run(command, check=False)
    lab.allow(server.group, -1, protocol="icmp")
    eventually(lambda: "answered" in client.run(command, check=False), "ping")


def test_what_left_by_a_revoked_egress_permission_stays_inside(lab, server, client):
    everything = {"IpProtocol": "-1", "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}
    for group in lab.ec2.describe_instances(InstanceIds=[client.id])["Reservations"][0]["Instances"][0]["SecurityGroups"]:
        lab.ec2.revoke_security_group_egress(GroupId=group["GroupId"], IpPermissions=[everything])
    assert eventually(lambda: not open_from(client, server.address, 8001), "nothing leaves")
    lab.ec2.authorize_security_group_egress(GroupId=client.group, IpPermissions=[everything])
    assert eventually(lambda: open_from(client, server.address, 8001), "everything leaves again")


def test_a_connection_that_was_allowed_goes_on_after_the_revocation(lab, net, server):
    with server.session() as session:
        lab.revoke(net.group, 22)
        eventually(lambda: not answers(server.address, 22), "22 closed for new connections", WITHIN)
        _, out, _ = session.exec_command("echo still")
        assert out.read() == b"still\n"
        lab.allow(net.group, 22)


def test_rules_hold_after_a_restart(lab, server):
    lab.ec2.stop_instances(InstanceIds=[server.id], Force=True, SkipOsShutdown=True)
    server.wait("stopped")
    lab.ec2.start_instances(InstanceIds=[server.id])
    server.run(START)
    assert not open_from_here(server.address, 8001)
    lab.allow(server.group, 8002)
    eventually(lambda: open_from_here(server.address, 8002), "8002 open", WITHIN)
