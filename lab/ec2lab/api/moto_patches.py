"""Corrections of moto where it differs from AWS in ways that matter here, one function each.

`@corrects(Class, "method")` replaces a method of moto; the function receives the original as its first argument. The
functions run under the hypervisor's guard (see server.py).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from ipaddress import IPv4Address, IPv4Network
from typing import Any

from moto.core.exceptions import JsonRESTError
from moto.core.responses import ActionResult
from moto.core.types import Base64EncodedString
from moto.core.utils import utcnow
from moto.ec2.exceptions import DependencyViolationError, EC2ClientError
from moto.ec2.models.amis import AmiBackend
from moto.ec2.models.elastic_block_store import EBSBackend
from moto.ec2.models.elastic_network_interfaces import NetworkInterfaceBackend
from moto.ec2.models.instance_types import INSTANCE_TYPES
from moto.ec2.models.instances import Instance, InstanceBackend
from moto.ec2.models.security_groups import SecurityGroupBackend, SecurityGroupRule
from moto.ec2.models.subnets import SubnetBackend
from moto.ec2.models.vpcs import VPCBackend
from moto.ec2.responses.amis import AmisResponse
from moto.ec2.responses.general import General
from moto.ec2.responses.instances import InstanceResponse
from moto.ec2.responses.security_groups import SecurityGroups
from moto.ec2.responses.subnets import Subnets
from moto.kms.responses import KmsResponse
from moto.servicequotas.models import ServiceQuotasBackend

from ec2lab.api.client_tokens import SeenTokens
from ec2lab.api.pace import Pace
from ec2lab.machines.hypervisor import Hypervisor

_table: list[tuple[type, str, Callable[..., Any]]] = []
_lab: Hypervisor  # set by install(); one lab per process
_pace: Pace | None = None
_tokens = SeenTokens()


def corrects(owner: type, method: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        _table.append((owner, method, function))
        return function

    return register


def install(hypervisor: Hypervisor, pace: Pace | None = None) -> None:
    """Install every correction in this process. `pace`: how slow the lab is, if it is to be as slow as AWS."""
    global _lab, _pace
    _lab, _pace = hypervisor, pace
    for owner, method, function in _table:
        original = getattr(owner, method, None)
        if isinstance(original, property):
            setattr(owner, method, property(_bind(function, original.fget)))
        else:
            setattr(owner, method, _bind(function, original))


def _bind(function: Callable[..., Any], original: Callable[..., Any] | None) -> Callable[..., Any]:
    return lambda self, *arguments, **named: function(original, self, *arguments, **named)


# --- instances


@corrects(InstanceResponse, "run_instances")
def run_instances(original: Callable[..., Any], self: Any) -> Any:
    """Refuse unknown images, keys and addresses, create one reservation per ClientToken, and start a machine for each instance."""
    token = self._get_param("ClientToken")
    if (reservation := _tokens.recall(token, self.params)) is not None:
        return ActionResult(reservation)
    _refuse_unknown(self)
    self.error_on_dryrun()
    self.params["MinCount"] = self._get_param("MaxCount", 1)  # launch as many as requested; moto launches the minimum
    result = original(self)
    reservation = result.result
    for instance in reservation.instances:
        _settle(self.ec2_backend, instance)
        _tag_interface(self, instance.nics[0])
        _lab.launch(instance)
    _tokens.note(token, self.params, reservation)
    return result


ALLOWED = re.compile(r"[a-zA-Z0-9. _\-:/()#,@\[\]+=&;{}!$*]{0,255}")  # descriptions of groups and rules, from EC2's API model


def _refuse_description(text: str, name: str) -> None:
    if not ALLOWED.fullmatch(text):
        raise EC2ClientError(
            "InvalidParameterValue", f"Invalid {name} value: {text}. Valid characters are a-z, A-Z, 0-9, spaces, and ._-:/()#,@[]+=&;{{}}!$*, at most 255"
        )


@corrects(SecurityGroups, "create_security_group")
def create_security_group(original: Callable[..., Any], self: Any) -> Any:
    """Refuse descriptions with characters that EC2 does not accept (moto accepts any)."""
    _refuse_description(str(self._get_param("Description", "") or ""), "security group description")
    return original(self)


@corrects(SecurityGroups, "authorize_security_group_ingress")
def authorize_ingress(original: Callable[..., Any], self: Any) -> Any:
    _refuse_bad_rules(self)
    return original(self)


@corrects(SecurityGroups, "authorize_security_group_egress")
def authorize_egress(original: Callable[..., Any], self: Any) -> Any:
    _refuse_bad_rules(self)
    return original(self)


PROTOCOLS = ("tcp", "udp", "icmp", "icmpv6", "-1", *map(str, range(256)))
WITH_PORTS = ("tcp", "udp", "6", "17")


def _refuse_bad_rules(self: Any) -> None:
    """Refuse what EC2 refuses of a rule (API reference, IpPermission); moto takes any words, and no firewall could be made of them."""
    for permission in self._get_param("IpPermissions", []) or []:
        protocol = str(permission.get("IpProtocol", "-1")).lower()
        if protocol not in PROTOCOLS:
            raise EC2ClientError("InvalidPermission.Malformed", f'Unsupported IP protocol "{protocol}"')
        if protocol in WITH_PORTS:
            _refuse_bad_ports(permission.get("FromPort"), permission.get("ToPort"))
        for kind in ("IpRanges", "Ipv6Ranges", "UserIdGroupPairs", "PrefixListIds"):
            for source in permission.get(kind, []) or []:
                _refuse_description(str(source.get("Description", "") or ""), "rule description")


def _refuse_bad_ports(first: Any, last: Any) -> None:
    if first is None or last is None:
        raise EC2ClientError("InvalidParameterValue", "Invalid value 'Must specify both from and to ports with TCP/UDP.' for portRange.")
    for port in (int(first), int(last)):
        if not 0 <= port <= 65535:
            raise EC2ClientError("InvalidParameterValue", f"Invalid value '{port}' for portRange. Must be between 0 and 65535.")
    if int(first) > int(last):
        raise EC2ClientError("InvalidParameterValue", f"Invalid TCP/UDP port range ({first}:{last})")


def _refuse_unknown(self: Any) -> None:
    ec2, image, key = self.ec2_backend, self._get_param("ImageId"), self._get_param("KeyName")
    if not str(image).startswith("ami-"):
        raise EC2ClientError("InvalidAMIID.Malformed", f'Invalid id: "{image}" (expecting "ami-...")')
    if image not in ec2.amis:
        raise EC2ClientError("InvalidAMIID.NotFound", f"The image id '[{image}]' does not exist")
    if ec2.amis[image].state != "available":
        raise EC2ClientError("InvalidAMIID.Unavailable", f"The image id '[{image}]' is no longer available")
    if key and key not in ec2.key_pairs:
        raise EC2ClientError("InvalidKeyPair.NotFound", f"The key pair '{key}' does not exist")
    nics = self._get_param("NetworkInterfaces", [])
    subnet_id = self._get_param("SubnetId") or next((nic["SubnetId"] for nic in nics if "SubnetId" in nic), None)
    if not subnet_id:
        raise EC2ClientError("MissingInput", "No subnets found for the default VPC. Please specify a subnet.")
    subnet = ec2.get_subnet(subnet_id)
    _refuse_type_of_another_zone(ec2, self._get_param("InstanceType"), subnet.availability_zone)
    addresses = [address for address in (self._get_param("PrivateIpAddress"), *(nic.get("PrivateIpAddress") for nic in nics)) if address]
    least, most = int(self._get_param("MinCount", 1)), int(self._get_param("MaxCount", 1))
    if not 1 <= least <= most:
        raise EC2ClientError("InvalidParameterValue", f"Invalid value '{least}' for minCount: it must be from 1 to maxCount, {most}.")
    if addresses and most > 1:
        raise EC2ClientError("InvalidParameterCombination", "The parameter privateIpAddress cannot be used with maxCount over 1.")
    for address in addresses:
        if IPv4Address(address) not in subnet.cidr:
            raise EC2ClientError("InvalidParameterValue", f"Address {address} is not in the subnet's range")
        reserved = [*list(subnet.cidr)[:4], subnet.cidr.broadcast_address]
        if address in subnet._subnet_ips or IPv4Address(address) in reserved:
            raise EC2ClientError("InvalidIPAddress.InUse", f"Address {address} is in use.")


def _refuse_type_of_another_zone(ec2: Any, instance_type: str, zone: str) -> None:
    """Refuse a type that the zone does not offer ("Error codes for the Amazon EC2 API": Unsupported), by moto's copy of AWS's own table."""
    if instance_type not in INSTANCE_TYPES:
        return  # moto refuses it
    offered = ec2.describe_instance_type_offerings("availability-zone", {"instance-type": [instance_type]})
    if zone not in {offer["Location"] for offer in offered}:
        raise EC2ClientError("Unsupported", f"Your requested instance type ({instance_type}) is not supported in your requested Availability Zone ({zone}).")


def _settle(ec2: Any, instance: Any) -> None:
    """Give the instance and its interface the same groups (by default the VPC's default group) and no public address."""
    nic = instance.nics[0]
    groups = list({group.id: group for group in [*instance.security_groups, *nic._group_set]}.values())
    if not groups:
        groups = [ec2.get_security_group_by_name_or_id("default", vpc_id=instance.vpc_id)]
    instance.security_groups = nic._group_set = groups
    nic.public_ip, nic.public_ip_auto_assign = None, False
    nic.delete_on_termination = True
    for _, device in instance.get_block_device_mapping:
        device.delete_on_termination = True  # moto keeps the devices that no mapping marks for deletion


def _tag_interface(self: Any, nic: Any) -> None:
    """Give the interface the tags that the launch gives to interfaces (moto forgets them)."""
    for given in self._get_param("TagSpecifications", []) or []:
        if given.get("ResourceType") == "network-interface":
            self.ec2_backend.create_tags([nic.id], {tag["Key"]: tag["Value"] for tag in given.get("Tags", [])})


@corrects(EBSBackend, "modify_volume")
def modify_volume(original: Callable[..., Any], self: Any, volume_id: str, target_size: int | None = None, *rest: Any) -> Any:
    """Refuse to make a volume smaller (ModifyVolume in the EC2 API reference); moto does it."""
    volume = self.get_volume(volume_id)
    if target_size is not None and int(target_size) < volume.size:
        raise EC2ClientError("InvalidParameterValue", f"New size cannot be smaller than existing size: {target_size} < {volume.size}")
    return original(self, volume_id, target_size, *rest)


@corrects(InstanceBackend, "modify_instance_security_groups")
def modify_groups(original: Callable[..., Any], self: Any, instance_id: str, group_ids: list[str]) -> Any:
    instance = original(self, instance_id, group_ids)
    instance.nics[0]._group_set = instance.security_groups
    return instance


@corrects(NetworkInterfaceBackend, "modify_network_interface_attribute")
def modify_interface(original: Callable[..., Any], self: Any, eni_id: str, *rest: Any, **more: Any) -> None:
    original(self, eni_id, *rest, **more)
    nic = self.get_network_interface(eni_id)
    if nic.instance:
        nic.instance.security_groups = nic._group_set


@corrects(InstanceBackend, "start_instances")
def start_instances(original: Callable[..., Any], self: Any, instance_ids: list[str]) -> Any:
    instances = self.get_multi_instances_by_id(instance_ids)
    for instance in instances:
        _refuse_state(instance, ("stopped", "running", "pending"), "started")
    before = [(instance, _copy_state(instance)) for instance in instances]
    for instance in instances:
        if instance.state == "stopped":
            _lab.start(instance)
    return before


@corrects(InstanceResponse, "_dot_value_instance_attribute_handler")
def change_user_data(original: Callable[..., Any], self: Any) -> Any:
    """Change the user data of an instance, which must be stopped. It comes decoded here, and moto would decode it once more."""
    given = self._get_param("UserData.Value")
    if not isinstance(given, bytes):
        return original(self)
    self.error_on_dryrun()
    instance = self.ec2_backend.get_instance(self._get_param("InstanceId"))
    _refuse_state(instance, ("stopped",), "given other user data")
    instance.user_data = Base64EncodedString.from_raw_bytes(given)
    return True


@corrects(InstanceResponse, "stop_instances")
def stop_instances(original: Callable[..., Any], self: Any) -> Any:
    """Stop instances; they are `stopping` until the machine is off. `SkipOsShutdown` cuts the power.

    `Force` alone shuts the system down in order, as EC2 does. moto supports neither.
    """
    self.error_on_dryrun()
    instances = self.ec2_backend.get_multi_instances_by_id(self._get_param("InstanceIds", []))
    force = bool(self._get_param("SkipOsShutdown", False))
    for instance in instances:
        _refuse_state(instance, ("running", "stopping", "stopped"), "stopped")
    answer = []
    for instance in instances:
        before = _copy_state(instance)
        if instance.state == "running" or (force and instance.state == "stopping"):
            _lab.stop(instance, force)
        answer.append({"InstanceId": instance.id, "CurrentState": _copy_state(instance), "PreviousState": before})
    return ActionResult({"StoppingInstances": answer})


@corrects(InstanceBackend, "terminate_instances")
def terminate_instances(original: Callable[..., Any], self: Any, instance_ids: list[str]) -> Any:
    instances = self.get_multi_instances_by_id(instance_ids)
    for instance in instances:
        if instance.disable_api_termination is True:
            raise EC2ClientError(
                "OperationNotPermitted",
                f"The instance '{instance.id}' may not be terminated. Modify its 'disableApiTermination' instance attribute and try again.",
            )
    before = [(instance, _copy_state(instance)) for instance in instances]
    for instance in instances:
        if instance.state not in ("terminated", "shutting-down"):
            _lab.terminate(instance)
    return before


@corrects(InstanceBackend, "reboot_instances")
def reboot_instances(original: Callable[..., Any], self: Any, instance_ids: list[str]) -> Any:
    instances = self.get_multi_instances_by_id(instance_ids)
    for instance in instances:
        _refuse_state(instance, ("running",), "rebooted")
    for instance in instances:
        _lab.reboot(instance)
    return instances


def _refuse_state(instance: Any, allowed: tuple[str, ...], verb: str) -> None:
    if instance.state not in allowed:
        raise EC2ClientError("IncorrectInstanceState", f"The instance '{instance.id}' is not in a state from which it can be {verb}.")


def _copy_state(instance: Any) -> dict[str, Any]:
    return {"Code": instance.state_code, "Name": instance.state}


@corrects(Instance, "instance_status")
def instance_status(original: Callable[..., Any], self: Any) -> dict[str, Any]:
    """Return the status `ok` only when the machine listens on port 22, before that `initializing`."""
    status = original(self)
    if status["Status"] != "ok" or _lab.answers(self.id):
        return status
    return {"Details": [{"Name": "reachability", "Status": "initializing"}], "Status": "initializing"}


@corrects(General, "get_console_output")
def get_console_output(original: Callable[..., Any], self: Any) -> Any:
    """Return the machine's own console output, which includes the host keys that cloud-init prints."""
    instance = self.ec2_backend.get_instance(self._get_param("InstanceId"))
    shows = _pace is None or _pace.console_shows(instance.id)
    text = _lab.console(instance.id).decode(errors="replace") if shows else ""
    return ActionResult({"InstanceId": instance.id, "Timestamp": utcnow(), "Output": Base64EncodedString.from_raw_string(text)})


# --- images


@corrects(AmisResponse, "create_image")
def create_image(original: Callable[..., Any], self: Any) -> Any:
    """Create an image from the machine's disk; it is `pending` until the disk has been taken."""
    name, instance = self._get_param("Name"), self.ec2_backend.get_instance(self._get_param("InstanceId"))
    _refuse_state(instance, () if _lab.imaging(instance.id) else ("running", "stopped"), "imaged")
    if any(image.name == name for image in self.ec2_backend.amis.values()):
        raise EC2ClientError("InvalidAMIName.Duplicate", f"AMI name {name} is already in use by another image.")
    result = original(self)
    ami = self.ec2_backend.amis[result.result["ImageId"]]
    source = self.ec2_backend.amis.get(instance.image_id)
    ami.root_device_type = "ebs"
    if source is not None:
        for name in ("root_device_name", "architecture", "boot_mode"):
            setattr(ami, name, getattr(source, name))
    _lab.create_image(ami, instance, no_reboot=bool(self._get_param("NoReboot", False)))
    return result


@corrects(AmiBackend, "deregister_image")
def deregister_image(original: Callable[..., Any], self: Any, ami_id: str) -> None:
    original(self, ami_id)
    _lab.forget_image(ami_id)


@corrects(AmisResponse, "copy_image")
@corrects(AmisResponse, "register_image")
def no_other_images(original: Callable[..., Any], self: Any) -> Any:
    raise EC2ClientError("UnsupportedOperation", "The lab makes images by CreateImage only.")


# --- networks


@corrects(Subnets, "create_subnet")
def create_subnet_somewhere(original: Callable[..., Any], self: Any) -> Any:
    """Choose the first zone where none is asked for; moto takes any, also one that does not offer today's instance types."""
    if not self._get_param("AvailabilityZone") and not self._get_param("AvailabilityZoneId"):
        self.params["AvailabilityZone"] = f"{self.region}a"
    return original(self)


@corrects(SubnetBackend, "create_subnet")
def create_subnet(original: Callable[..., Any], self: Any, vpc_id: str, cidr_block: str, *rest: Any, **more: Any) -> Any:
    """Refuse a subnet outside the lab's range or overlapping one of another VPC, because the host must reach every subnet.

    A range with host bits is taken as its network (API reference, CreateSubnet: "we modify the specified CIDR block to its canonical form").
    """
    try:
        network = IPv4Network(cidr_block, strict=False)
        cidr_block = str(network)
    except ValueError:
        network = None
    if network is not None:
        whole = _lab.lab.network
        if not network.subnet_of(whole) or _lab.lab.gateway in network or network.overlaps(_lab.lab.public):
            raise EC2ClientError(
                "InvalidSubnet.Range",
                f"The CIDR '{cidr_block}' is invalid: this lab has {whole}, and keeps what is around "
                f"{_lab.lab.gateway} and {_lab.lab.public} for itself. Choose another `network` or start the lab with another --range.",
            )
        for other in _all_subnets(self):
            if other.vpc_id != vpc_id and network.overlaps(other.cidr):
                raise EC2ClientError("InvalidSubnet.Conflict", f"The CIDR '{cidr_block}' conflicts with {other.id} of {other.vpc_id}")
    subnet = original(self, vpc_id, cidr_block, *rest, **more)
    subnet.default_for_az = subnet.map_public_ip_on_launch = False
    return subnet


@corrects(VPCBackend, "create_vpc")
def create_vpc(original: Callable[..., Any], self: Any, cidr_block: str, *rest: Any, **more: Any) -> Any:
    """Take a range with host bits as its network, as CreateSubnet does."""
    with suppress(ValueError):
        cidr_block = str(IPv4Network(cidr_block, strict=False))
    return original(self, cidr_block, *rest, **more)


@corrects(SubnetBackend, "delete_subnet")
def delete_subnet(original: Callable[..., Any], self: Any, subnet_id: str) -> Any:
    if any(eni.subnet.id == subnet_id for eni in self.enis.values()):
        raise DependencyViolationError(f"The subnet '{subnet_id}' has dependencies and cannot be deleted.")
    return original(self, subnet_id)


@corrects(VPCBackend, "delete_vpc")
def delete_vpc(original: Callable[..., Any], self: Any, vpc_id: str) -> Any:
    """Refuse to delete a VPC that still has internet gateways or security groups (moto ignores these)."""
    gateways = [gateway for gateway in self.internet_gateways.values() if gateway.vpc and gateway.vpc.id == vpc_id]
    groups = [group for group in self.groups.get(vpc_id, {}).values() if group.name != "default"]
    if gateways or groups:
        raise DependencyViolationError(f"The vpc '{vpc_id}' has dependencies and cannot be deleted.")
    return original(self, vpc_id)


@corrects(SecurityGroupBackend, "delete_security_group")
def delete_security_group(original: Callable[..., Any], self: Any, name: str | None = None, group_id: str | None = None) -> Any:
    """Refuse to delete a group that an interface or a rule of another group uses (moto deletes it)."""
    used_by_nic = any(group.id == group_id for eni in self.enis.values() for group in eni.group_set)
    if group_id and (used_by_nic or group_id in _referenced_groups(self, other_than=group_id)):
        raise DependencyViolationError(f"resource {group_id} has a dependent object")
    return original(self, name, group_id)


@corrects(SecurityGroupRule, "__eq__")
def same_rule(original: Callable[..., Any], self: Any, other: Any) -> bool:
    """Return whether two rules are equal apart from their descriptions (moto compares these when the source is a group)."""
    return isinstance(other, SecurityGroupRule) and _essence(self) == _essence(other)


def _essence(rule: Any) -> tuple[Any, ...]:
    ports = (None, None) if rule.ip_protocol == "-1" else (rule.from_port, rule.to_port)
    return (
        rule.ip_protocol,
        ports,
        rule.cidr_ipv4,
        rule.cidr_ipv6,
        rule.source_group.get("GroupId"),
        rule.prefix_list_id,
    )


def _referenced_groups(ec2: Any, other_than: str) -> Iterator[str]:
    for groups in ec2.groups.values():
        for group in groups.values():
            if group.id != other_than:
                for rule in [*group.ingress_rules, *group.egress_rules]:
                    if rule.source_group:
                        yield rule.source_group["GroupId"]


# --- keys


@corrects(KmsResponse, "create_grant")
@corrects(KmsResponse, "encrypt")
@corrects(KmsResponse, "generate_data_key_without_plaintext")
def try_key(original: Callable[..., Any], self: Any) -> Any:
    """Do nothing in a dry run, and answer as KMS does (API reference, DryRun); moto does it all the same."""
    if not self._get_param("DryRun"):
        return original(self)
    self._validate_key_id(self._get_param("KeyId"))
    raise JsonRESTError("DryRunOperationException", "The request would have succeeded, but the DryRun option is set.")


def _all_subnets(ec2: Any) -> Iterator[Any]:
    for zone in ec2.subnets.values():
        yield from zone.values()


# --- quotas

# those that a launch of ordinary machines meets, raised as in an account that is in use (AWS's defaults: 5 each)
QUOTAS = {"L-1216C47A": 256.0, "L-F678F1CE": 100.0, "L-0263D0A3": 20.0}


@corrects(ServiceQuotasBackend, "get_service_quota")
def get_service_quota(original: Callable[..., Any], self: Any, service_code: str, quota_code: str) -> dict[str, Any]:
    """Return the quotas above (moto knows a few of VPC only)."""
    if quota_code in QUOTAS:
        return {"ServiceCode": service_code, "QuotaCode": quota_code, "Value": QUOTAS[quota_code]}
    return dict(original(self, service_code=service_code, quota_code=quota_code))
