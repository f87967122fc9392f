"""RunInstances: what of a request is refused, and what a new instance is."""

from __future__ import annotations

import base64
from collections.abc import Callable
from ipaddress import IPv4Address
from typing import Any

from moto.core.responses import ActionResult
from moto.ec2.exceptions import EC2ClientError, InvalidLaunchTemplateIdNotFound
from moto.ec2.models.instance_types import INSTANCE_TYPES
from moto.ec2.models.instances import InstanceBackend
from moto.ec2.responses.instances import InstanceResponse

from ec2lab.api.client_tokens import SeenTokens
from ec2lab.api.patches import corrects, lab
from ec2lab.paths import REGION

tokens = SeenTokens()


@corrects(InstanceResponse, "run_instances")
def run_instances(original: Callable[..., Any], self: Any) -> Any:
    """Refuse unknown images, keys and addresses, create one reservation per ClientToken, and start a machine for each instance."""
    token, asked = self._get_param("ClientToken"), dict(self.params)
    if (reservation := tokens.recall(token, asked)) is not None:
        return ActionResult(reservation)
    _add_template(self)
    _refuse_unknown(self)
    _refuse_numbers_and_addresses(self, _subnet(self))
    _refuse_user_data(self._get_param("UserData"))
    self.error_on_dryrun()
    self.params["MinCount"] = self._get_param("MaxCount", 1)  # launch as many as requested; moto launches the minimum
    self.params["BlockDeviceMappings"] = _disks(self)
    result = original(self)
    reservation = result.result
    for instance in reservation.instances:
        _tag_interface(self, instance.nics[0])
    tokens.note(token, asked, reservation)
    return result


@corrects(InstanceBackend, "run_instances")
def make_instances(original: Callable[..., Any], self: Any, image_id: str | None, *rest: Any, **more: Any) -> Any:
    """Start a machine for each instance, whoever makes it: a fleet and a spot request make instances, too."""
    template = more.get("launch_template")
    image = image_id or (self._get_template_from_args(template).image_id if template else None)
    if self.region_name != REGION:
        raise EC2ClientError("OptInRequired", f"The lab has machines in the region {REGION} only.")
    if image not in lab().images:
        raise EC2ClientError("InvalidAMIID.NotFound", f"The image id '[{image}]' does not exist")
    reservation = original(self, image, *rest, **more)
    for instance in reservation.instances:
        _settle(self, instance, more.get("nics") or [])
        lab().launch(instance)
    return reservation


def _add_template(self: Any) -> None:
    """Take from the launch template what the request leaves out (API reference, RunInstances: the request wins); moto takes some of it, and no image."""
    if not (template := self._get_param("LaunchTemplate")):
        return
    ec2, template_id = self.ec2_backend, template.get("LaunchTemplateId")
    if template_id and template_id not in ec2.launch_templates:
        raise InvalidLaunchTemplateIdNotFound(template_id)
    data = ec2._get_template_from_args(template).data
    own_network = any(self._get_param(name) for name in ("SubnetId", "NetworkInterfaces", "SecurityGroupIds", "PrivateIpAddress"))
    for name, value in data.items():
        if name == "TagSpecifications":
            self.params[name] = [*value, *self._get_param(name, [])]
        elif not (name == "NetworkInterfaces" and own_network):
            self.params.setdefault(name, str(value) if name == "UserData" else value)


def _refuse_unknown(self: Any) -> None:
    ec2, image, key = self.ec2_backend, self._get_param("ImageId"), self._get_param("KeyName")
    if not image:
        raise EC2ClientError("MissingParameter", "The request must contain the parameter ImageId")
    if not str(image).startswith("ami-"):
        raise EC2ClientError("InvalidAMIID.Malformed", f'Invalid id: "{image}" (expecting "ami-...")')
    if image not in ec2.amis:
        raise EC2ClientError("InvalidAMIID.NotFound", f"The image id '[{image}]' does not exist")
    if ec2.amis[image].state != "available":
        raise EC2ClientError("InvalidAMIID.Unavailable", f"The image id '[{image}]' is no longer available")
    if key and key not in ec2.key_pairs:
        raise EC2ClientError("InvalidKeyPair.NotFound", f"The key pair '{key}' does not exist")


def _subnet(self: Any) -> Any:
    """Return the subnet of the request: its own, that of its interface's description, or that of an interface which exists."""
    ec2, nics = self.ec2_backend, self._get_param("NetworkInterfaces", [])
    for nic in nics:
        if "NetworkInterfaceId" in nic:
            existing = ec2.get_network_interface(nic["NetworkInterfaceId"])
            if existing.instance is not None:
                raise EC2ClientError("InvalidNetworkInterface.InUse", f"Interface: [{existing.id}] in use.")
            return existing.subnet
    subnet_id = self._get_param("SubnetId") or next((nic["SubnetId"] for nic in nics if "SubnetId" in nic), None)
    if subnet_id:
        return ec2.get_subnet(subnet_id)
    subnet = _default_subnet(ec2, self._get_param("Placement.AvailabilityZone") or f"{self.region}a")
    for nic in nics:
        nic["SubnetId"] = subnet.id
    if not nics:
        self.params["SubnetId"] = subnet.id
    return subnet


def _default_subnet(ec2: Any, zone: str) -> Any:
    """Return the subnet of a zone in the default VPC. Raises EC2ClientError where there is none."""
    default = ec2.get_default_vpc()
    if default is None:
        raise EC2ClientError("MissingInput", "No subnets found for the default VPC. Please specify a subnet.")
    subnet = ec2.get_default_subnets().get(zone)
    if subnet is None:
        raise EC2ClientError("InvalidInput", f"No default subnet for availability zone: '{zone}'.")
    return subnet


def _refuse_numbers_and_addresses(self: Any, subnet: Any) -> None:
    _refuse_type_of_another_zone(self.ec2_backend, self._get_param("InstanceType"), subnet.availability_zone)
    nics = self._get_param("NetworkInterfaces", [])
    addresses = [address for address in (self._get_param("PrivateIpAddress"), *(nic.get("PrivateIpAddress") for nic in nics)) if address]
    least, most = int(self._get_param("MinCount", 1)), int(self._get_param("MaxCount", 1))
    if not 1 <= least <= most:
        raise EC2ClientError("InvalidParameterValue", f"Invalid value '{least}' for minCount: it must be from 1 to maxCount, {most}.")
    if addresses and most > 1:
        raise EC2ClientError("InvalidParameterCombination", "The parameter privateIpAddress cannot be used with maxCount over 1.")
    for address in addresses:
        _refuse_address(address, subnet)


def _refuse_address(address: str, subnet: Any) -> None:
    try:
        inside = IPv4Address(address) in subnet.cidr
    except ValueError:
        raise EC2ClientError("InvalidParameterValue", f"Value ({address}) for parameter privateIpAddress is invalid. Invalid IPv4 address.") from None
    if not inside:
        raise EC2ClientError("InvalidParameterValue", f"Address {address} is not in the subnet's range")
    reserved = [*(subnet.cidr.network_address + number for number in range(4)), subnet.cidr.broadcast_address]
    if address in subnet._subnet_ips or IPv4Address(address) in reserved:
        raise EC2ClientError("InvalidIPAddress.InUse", f"Address {address} is in use.")


USER_DATA = 16384  # bytes, before they are encoded ("Run commands when you launch an EC2 instance with user data input")


def _refuse_user_data(encoded: str | None) -> None:
    try:
        raw = base64.b64decode(str(encoded or ""), validate=False)
    except ValueError:
        raise EC2ClientError("InvalidUserData.Malformed", "Invalid BASE64 encoding of user data.") from None
    if len(raw) > USER_DATA:
        raise EC2ClientError("InvalidParameterValue", f"User data is limited to {USER_DATA} bytes")


def _refuse_type_of_another_zone(ec2: Any, instance_type: str, zone: str) -> None:
    """Refuse a type that the zone does not offer ("Error codes for the Amazon EC2 API": Unsupported), by moto's copy of AWS's own table."""
    if instance_type not in INSTANCE_TYPES:
        return  # moto refuses it
    offered = ec2.describe_instance_type_offerings("availability-zone", {"instance-type": [instance_type]})
    if zone not in {offer["Location"] for offer in offered}:
        raise EC2ClientError("Unsupported", f"Your requested instance type ({instance_type}) is not supported in your requested Availability Zone ({zone}).")


ROOT_GB = 8  # of a root disk whose size nobody names


def _disks(self: Any) -> list[dict[str, Any]]:
    """Return the request's disks with the image's own root disk below them (moto makes none, or one at another device); what it names wins.

    They are deleted with the instance unless the request says otherwise.
    """
    image = self.ec2_backend.amis[self._get_param("ImageId")]
    asked = {each.get("DeviceName"): each for each in self._get_param("BlockDeviceMappings", [])}
    root = {"VolumeSize": ROOT_GB, "SnapshotId": image.ebs_snapshot.id}
    named = asked.pop(image.root_device_name, {})
    disks = [{"DeviceName": image.root_device_name, **named, "Ebs": {**root, **named.get("Ebs", {})}}, *asked.values()]
    for disk in disks:
        if "Ebs" in disk:
            disk["Ebs"] = {"DeleteOnTermination": True, **disk["Ebs"]}
    return disks


def _settle(ec2: Any, instance: Any, asked: list[Any]) -> None:
    """Give the instance and its interface the same groups (by default the VPC's default group) and no public address.

    The interface goes with the instance unless the request says otherwise, or it was there before (API reference, InstanceNetworkInterfaceSpecification).
    """
    nic = instance.nics[0]
    groups = list({group.id: group for group in [*instance.security_groups, *nic._group_set]}.values())
    if not groups:
        groups = [ec2.get_security_group_by_name_or_id("default", vpc_id=instance.vpc_id)]
    instance.security_groups = nic._group_set = groups
    nic.public_ip, nic.public_ip_auto_assign = None, False
    first: dict[str, Any] = next(iter(asked), {})
    nic.delete_on_termination = "NetworkInterfaceId" not in first and first.get("DeleteOnTermination", True) is not False


def _tag_interface(self: Any, nic: Any) -> None:
    """Give the interface the tags that the launch gives to interfaces (moto forgets them)."""
    for given in self._get_param("TagSpecifications", []) or []:
        if given.get("ResourceType") == "network-interface":
            self.ec2_backend.create_tags([nic.id], {tag["Key"]: tag["Value"] for tag in given.get("Tags", [])})
