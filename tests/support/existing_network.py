"""A network that is there before a deployment, and is not the deployment's."""

from __future__ import annotations

from typing import Any


class Account:
    """A VPC as a company has it: two private subnets in two zones behind a NAT gateway, and a public one; and a VPC of somebody else."""

    def __init__(self, ec2: Any):
        self.ec2 = ec2
        self.vpc, self.other_vpc = (ec2.create_vpc(CidrBlock=cidr)["Vpc"]["VpcId"] for cidr in ("10.50.0.0/16", "10.50.0.0/16"))
        self.private, self.second = self.subnet("10.50.1.0/24", "a"), self.subnet("10.50.2.0/24", "b")
        self.nginx = self.subnet("10.50.9.0/24", "a")
        self.stranger = ec2.create_subnet(VpcId=self.other_vpc, CidrBlock="10.50.1.0/24")["Subnet"]["SubnetId"]
        gateway = ec2.create_internet_gateway()["InternetGateway"]["InternetGatewayId"]
        ec2.attach_internet_gateway(InternetGatewayId=gateway, VpcId=self.vpc)
        self.table(self.nginx, GatewayId=gateway)
        address = ec2.allocate_address(Domain="vpc")["AllocationId"]
        nat = ec2.create_nat_gateway(SubnetId=self.nginx, AllocationId=address)["NatGateway"]["NatGatewayId"]
        self.private_table = self.table(self.private, NatGatewayId=nat)
        self.ec2.associate_route_table(RouteTableId=self.private_table, SubnetId=self.second)

    def subnet(self, cidr: str, zone: str) -> str:
        return str(self.ec2.create_subnet(VpcId=self.vpc, CidrBlock=cidr, AvailabilityZone=f"us-east-1{zone}")["Subnet"]["SubnetId"])

    def table(self, subnet: str, **target: str) -> str:
        table = str(self.ec2.create_route_table(VpcId=self.vpc)["RouteTable"]["RouteTableId"])
        self.ec2.create_route(RouteTableId=table, DestinationCidrBlock="0.0.0.0/0", **target)
        self.ec2.associate_route_table(RouteTableId=table, SubnetId=subnet)
        return table

    @property
    def parameters(self) -> dict[str, Any]:
        return {
            "cloud.vpc": self.vpc, "cloud.network": "10.50.0.0/16", "cloud.subnets": {self.private: "10.50.1.0/24"},
            "cloud.nginx_subnet": {self.nginx: "10.50.9.0/24"}, "cloud.connect_via": "public", "cloud.operator_cidr": "198.51.100.7/32",
        }  # fmt: skip

    def fill(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {self.fill(key): self.fill(one) for key, one in value.items()}
        if isinstance(value, list):
            return [self.fill(one) for one in value]
        return value.format(**vars(self)) if isinstance(value, str) else value

    # changes of the account
    def close(self) -> None:
        self.ec2.delete_route(RouteTableId=self.private_table, DestinationCidrBlock="0.0.0.0/0")

    def give_public_addresses(self) -> None:
        self.ec2.modify_subnet_attribute(SubnetId=self.private, MapPublicIpOnLaunch={"Value": True})

    def take_an_address(self) -> None:
        self.ec2.create_network_interface(SubnetId=self.private, PrivateIpAddress="10.50.1.20")
