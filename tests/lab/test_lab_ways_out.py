"""Ways in and out of a network: route tables, Elastic IPs and NAT gateways, as seen by real machines."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from tests.support.lab_fixtures import Box, LabClient, Net, eventually


def refused(call, **parameters) -> str:
    with pytest.raises(ClientError) as caught:
        call(**parameters)
    return caught.value.response["Error"]["Code"]


OUT, SHUT = ["200", "403"], ["000", "000"]


def beyond(box: Box) -> list[str]:
    """What package proxy and API, which wants a signature, answer to the machine. A packet that is dropped has two seconds to be answered."""
    lab = box.client.lab
    ask = "curl -s -m 2 -o /dev/null -w '%{http_code} '"
    return box.run(f"{ask} {lab.proxy}/statistics; {ask} {lab.endpoint}/", check=False).split()


@pytest.fixture(scope="module")
def net(lab: LabClient) -> Net:
    """A VPC of 256 addresses whose first 128 are the machines' subnet; the rest is free."""
    prefix = lab.net().prefix.rsplit(".", 1)  # a number that no other module has
    network = f"{prefix[0]}.{int(prefix[1]) + 40}"
    vpc = lab.ec2.create_vpc(CidrBlock=f"{network}.0/24")["Vpc"]["VpcId"]
    subnet = lab.ec2.create_subnet(VpcId=vpc, CidrBlock=f"{network}.0/25")["Subnet"]["SubnetId"]
    group = lab.group(vpc, "ssh")
    lab.allow(group, 22)
    return Net(vpc, subnet, group, network)


def table(lab: LabClient, net: Net, subnet: str, **target: str) -> str:
    made = lab.ec2.create_route_table(VpcId=net.vpc)["RouteTable"]["RouteTableId"]
    lab.ec2.create_route(RouteTableId=made, DestinationCidrBlock="0.0.0.0/0", **target)
    lab.ec2.associate_route_table(RouteTableId=made, SubnetId=subnet)
    return made


def state(lab: LabClient, nat: str) -> str:
    return str(lab.ec2.describe_nat_gateways(NatGatewayIds=[nat])["NatGateways"][0]["State"])


def held(lab: LabClient, nat: str, code: str, call: Callable[..., object], **parameters: str) -> bool:
    """Whether the NAT gateway that goes still held what the call would take away, which was then refused so; else it was gone already."""
    try:
        call(**parameters)
    except ClientError as refusal:
        assert refusal.response["Error"]["Code"] == code
        return True
    assert state(lab, nat) == "deleted", "not before it is gone"
    return False


def test_a_machine_without_a_route_gets_nowhere_and_a_nat_gateway_lets_it_out_until_it_goes(lab: LabClient, net: Net, launch) -> None:
    box = launch(10)
    assert beyond(box) == SHUT

    address = lab.ec2.allocate_address(Domain="vpc")["AllocationId"]
    small = lab.ec2.create_subnet(VpcId=net.vpc, CidrBlock=net.address(192) + "/28")["Subnet"]["SubnetId"]
    assert refused(lab.ec2.create_nat_gateway, SubnetId=small, AllocationId=address) == "Gateway.NotAttached"
    loose = lab.ec2.create_internet_gateway()["InternetGateway"]["InternetGatewayId"]
    main = lab.ec2.describe_route_tables(Filters=[{"Name": "vpc-id", "Values": [net.vpc]}])["RouteTables"][0]["RouteTableId"]
    assert refused(lab.ec2.create_route, RouteTableId=main, DestinationCidrBlock="0.0.0.0/0", GatewayId=loose) == "InvalidParameterValue"
    lab.ec2.delete_internet_gateway(InternetGatewayId=loose)
    gateway = lab.internet(net.vpc)
    assert beyond(box) == SHUT, "a machine without a public address does not get out through an internet gateway"

    made = lab.ec2.create_nat_gateway(SubnetId=small, AllocationId=address)["NatGateway"]
    nat = made["NatGatewayId"]
    assert made["State"] == "pending"
    routes = table(lab, net, net.subnet, NatGatewayId=nat)
    eventually(lambda: beyond(box) == OUT, "the NAT gateway to let it out")
    assert refused(lab.ec2.associate_route_table, RouteTableId=main, SubnetId=net.subnet) == "Resource.AlreadyAssociated"

    assert refused(lab.ec2.release_address, AllocationId=address) == "AuthFailure"
    [found] = lab.ec2.describe_addresses(AllocationIds=[address])["Addresses"]
    assert refused(lab.ec2.disassociate_address, AssociationId=found["AssociationId"]) == "AuthFailure"
    assert refused(lab.ec2.detach_internet_gateway, InternetGatewayId=gateway, VpcId=net.vpc) == "DependencyViolation"
    assert refused(lab.ec2.delete_subnet, SubnetId=small) == "DependencyViolation"

    lab.ec2.delete_nat_gateway(NatGatewayId=nat)
    address_held = held(lab, nat, "AuthFailure", lab.ec2.release_address, AllocationId=address)
    subnet_held = held(lab, nat, "DependencyViolation", lab.ec2.delete_subnet, SubnetId=small)
    eventually(lambda: state(lab, nat) == "deleted", "the NAT gateway to go")
    eventually(lambda: beyond(box) == SHUT, "the way out to close")
    if subnet_held:
        [was] = lab.ec2.describe_nat_gateways(NatGatewayIds=[nat])["NatGateways"][0]["NatGatewayAddresses"]
        there = lab.ec2.create_network_interface(SubnetId=small, PrivateIpAddress=was["PrivateIp"])["NetworkInterface"]
        lab.ec2.delete_network_interface(NetworkInterfaceId=there["NetworkInterfaceId"])
        lab.ec2.delete_subnet(SubnetId=small)
    [route] = [r for r in lab.ec2.describe_route_tables(RouteTableIds=[routes])["RouteTables"][0]["Routes"] if r["DestinationCidrBlock"] == "0.0.0.0/0"]
    assert route["State"] == "blackhole"
    if address_held:
        eventually(lambda: not held(lab, nat, "AuthFailure", lab.ec2.release_address, AllocationId=address), "the address to be free")


def test_an_elastic_ip_leads_to_its_machine_and_stays_over_stop_and_start(lab: LabClient, launch) -> None:
    net = lab.net()
    allowed = lab.ec2.allocate_address(Domain="vpc")["AllocationId"]
    box = lab.launch(net, 20)
    try:
        box.host_keys()
        box.wait("running")
        assert refused(lab.ec2.associate_address, AllocationId=allowed, InstanceId=box.id) == "Gateway.NotAttached"
        lab.internet(net.vpc)
        public = lab.elastic_ip(box)
        there = Box(lab, box.id, public, box.key, box.host_keys())
        assert there.run("hostname -I").split() == [box.address], "a machine does not know its public address"
        assert box.describe()["PublicIpAddress"] == public
        eventually(lambda: beyond(box) == OUT, "the public address to let it out")
        lab.ec2.stop_instances(InstanceIds=[box.id])
        box.wait("stopped")
        lab.ec2.start_instances(InstanceIds=[box.id])
        box.wait("running")
        assert box.describe()["PublicIpAddress"] == public
        assert there.run("hostname -I").split() == [box.address]
    finally:
        box.terminate()
        box.gone()
    [address] = lab.ec2.describe_addresses(PublicIps=[public])["Addresses"]
    assert "InstanceId" not in address or not address["InstanceId"], "it is free when its machine has ended"
    lab.ec2.release_address(AllocationId=address["AllocationId"])
    lab.ec2.release_address(AllocationId=allowed)


def test_security_groups_hold_for_public_addresses_too(lab: LabClient) -> None:
    net = lab.net()
    lab.internet(net.vpc)
    box = lab.launch(net, 21)
    try:
        box.host_keys()
        there = Box(lab, box.id, lab.elastic_ip(box), box.key, box.host_keys())
        assert there.run("whoami").strip() == box.run("whoami").strip()
        lab.revoke(net.group, 22)
        lab.allow(net.group, 22, "192.0.2.0/24")
        eventually(lambda: not _answers(there), "the door to close")
        lab.allow(net.group, 22, f"{lab.lab.gateway}/32")  # the address by which machines see who comes to a public address
        eventually(lambda: _answers(there), "the door to open")
    finally:
        box.terminate()
        box.gone()


def _answers(box: Box) -> bool:
    try:
        box.connect().close()
    except OSError:
        return False
    return True


def test_this_machine_comes_from_one_address_whatever_subnet_it_goes_to(lab: LabClient, net: Net, launch) -> None:
    other = lab.ec2.create_subnet(VpcId=net.vpc, CidrBlock=net.address(208) + "/28")["Subnet"]["SubnetId"]
    boxes = [launch(30), launch(215, SubnetId=other)]
    seen = [box.run("echo $SSH_CONNECTION").split()[0] for box in boxes]
    assert seen == [str(lab.lab.gateway)] * 2
    greeting = f"curl -s -m 2 telnet://{boxes[1].address}:22 | head -c 3"
    eventually(lambda: boxes[0].run(greeting, check=False) == "SSH", "the subnets of a network to reach each other")


def test_the_gateway_of_a_network_keeps_its_hardware_address_when_machines_come_and_go(lab: LabClient, net: Net, launch) -> None:
    launch(31).host_keys()
    address = Path("/sys/class/net", lab.lab.vpc_bridge(net.vpc), "address")
    before = address.read_text()
    for host in range(40, 46):
        box = lab.launch(net, host).wait("running")
        assert address.read_text() == before, "a bridge without an address of its own takes the lowest of its ports"
        box.terminate()


def test_no_subnet_takes_the_range_of_public_addresses(lab: LabClient) -> None:
    vpc = lab.ec2.create_vpc(CidrBlock=str(lab.lab.network))["Vpc"]["VpcId"]
    assert refused(lab.ec2.create_subnet, VpcId=vpc, CidrBlock=str(lab.lab.public)) == "InvalidSubnet.Range"
