"""Instances: their states are those of the machines, and so is their console."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

from moto.core.responses import ActionResult
from moto.core.types import Base64EncodedString
from moto.core.utils import utcnow
from moto.ec2.exceptions import EC2ClientError, InvalidSecurityGroupNotFoundError
from moto.ec2.models.elastic_block_store import EBSBackend
from moto.ec2.models.elastic_network_interfaces import NetworkInterfaceBackend
from moto.ec2.models.instances import Instance, InstanceBackend
from moto.ec2.responses.general import General
from moto.ec2.responses.instances import InstanceResponse

from ec2lab.api.patches import corrects, lab, pace


@corrects(EBSBackend, "modify_volume")
def modify_volume(original: Callable[..., Any], self: Any, volume_id: str, target_size: int | None = None, *rest: Any) -> Any:
    """Refuse to make a volume smaller (ModifyVolume in the EC2 API reference); moto does it."""
    volume = self.get_volume(volume_id)
    if target_size is not None and int(target_size) < volume.size:
        raise EC2ClientError("InvalidParameterValue", f"New size cannot be smaller than existing size: {target_size} < {volume.size}")
    return original(self, volume_id, target_size, *rest)


WHILE_STOPPED = ("instanceType", "kernel", "ramdisk", "ebsOptimized")  # attributes ("ModifyInstanceAttribute" in the EC2 API reference)


@corrects(InstanceResponse, "modify_instance_attribute")
def modify_attribute(original: Callable[..., Any], self: Any) -> Any:
    """Refuse devices that the instance has not ("Error codes for the Amazon EC2 API"), where moto fails, and another type while it runs."""
    instance = self.ec2_backend.get_instance(self._get_param("InstanceId"))
    for name in WHILE_STOPPED:
        if self._get_param("Attribute") == name or self._get_param(f"{name[0].upper()}{name[1:]}.Value") is not None:
            refuse_state(instance, ("stopped",), f"given another {name}")
    for mapping in self._get_param("BlockDeviceMappings", []):
        if mapping.get("DeviceName") not in instance.block_device_mapping:
            raise EC2ClientError("InvalidInstanceAttributeValue", f"No device is currently mapped at {mapping.get('DeviceName')}")
    return original(self)


@corrects(InstanceBackend, "modify_instance_security_groups")
def modify_groups(original: Callable[..., Any], self: Any, instance_id: str, group_ids: list[str]) -> Any:
    """Refuse groups that there are not, and none at all (moto takes both); the interface is in the same groups."""
    if not group_ids:
        raise EC2ClientError("InvalidParameterCombination", "No attributes specified.")
    _refuse_unknown_groups(self, group_ids)
    instance = original(self, instance_id, list(dict.fromkeys(group_ids)))
    instance.nics[0]._group_set = instance.security_groups
    return instance


@corrects(NetworkInterfaceBackend, "modify_network_interface_attribute")
def modify_interface(original: Callable[..., Any], self: Any, eni_id: str, group_ids: list[str], *rest: Any, **more: Any) -> None:
    _refuse_unknown_groups(self, group_ids)
    original(self, eni_id, list(dict.fromkeys(group_ids)), *rest, **more)
    nic = self.get_network_interface(eni_id)
    if nic.instance:
        nic.instance.security_groups = nic._group_set


def _refuse_unknown_groups(ec2: Any, group_ids: list[str]) -> None:
    if unknown := [group for group in group_ids if ec2.get_security_group_from_id(group) is None]:
        raise InvalidSecurityGroupNotFoundError(unknown[0])


@corrects(InstanceBackend, "start_instances")
def start_instances(original: Callable[..., Any], self: Any, instance_ids: list[str]) -> Any:
    instances = _named(self, instance_ids)
    for instance in instances:
        refuse_state(instance, ("stopped", "running", "pending"), "started")
    before = [(instance, _copy_state(instance)) for instance in instances]
    for instance in instances:
        if instance.state == "stopped":
            lab().start(instance)
    return before


@corrects(InstanceResponse, "_dot_value_instance_attribute_handler")
def change_user_data(original: Callable[..., Any], self: Any) -> Any:
    """Change the user data of an instance, which must be stopped. It comes decoded here, and moto would decode it once more."""
    given = self._get_param("UserData.Value")
    if not isinstance(given, bytes):
        return original(self)
    self.error_on_dryrun()
    instance = self.ec2_backend.get_instance(self._get_param("InstanceId"))
    refuse_state(instance, ("stopped",), "given other user data")
    instance.user_data = Base64EncodedString.from_raw_bytes(given)
    return True


@corrects(InstanceResponse, "stop_instances")
def stop_instances(original: Callable[..., Any], self: Any) -> Any:
    """Stop instances; they are `stopping` until the machine is off. `SkipOsShutdown` cuts the power.

    `Force` alone shuts the system down in order, as EC2 does. moto supports neither.
    """
    self.error_on_dryrun()
    instances = _named(self.ec2_backend, self._get_param("InstanceIds", []))
    force = bool(self._get_param("SkipOsShutdown", False))
    for instance in instances:
        refuse_state(instance, ("running", "stopping", "stopped"), "stopped")
        if _is_on(instance.disable_api_stop):
            _not_permitted(instance, "stopped", "disableApiStop")
    answer = []
    for instance in instances:
        before = _copy_state(instance)
        if instance.state == "running" or (force and instance.state == "stopping"):
            lab().stop(instance, force)
        answer.append({"InstanceId": instance.id, "CurrentState": _copy_state(instance), "PreviousState": before})
    return ActionResult({"StoppingInstances": answer})


@corrects(InstanceResponse, "terminate_instances")
def terminate_some(original: Callable[..., Any], self: Any) -> Any:
    _named(self.ec2_backend, self._get_param("InstanceIds", []))
    return original(self)


@corrects(InstanceBackend, "terminate_instances")
def terminate_instances(original: Callable[..., Any], self: Any, instance_ids: list[str]) -> Any:
    instances = self.get_multi_instances_by_id(instance_ids)
    for instance in instances:
        if _is_on(instance.disable_api_termination):
            _not_permitted(instance, "terminated", "disableApiTermination")
    before = [(instance, _copy_state(instance)) for instance in instances]
    for instance in instances:
        if instance.state not in ("terminated", "shutting-down"):
            lab().terminate(instance)
    return before


@corrects(InstanceBackend, "reboot_instances")
def reboot_instances(original: Callable[..., Any], self: Any, instance_ids: list[str]) -> Any:
    instances = _named(self, instance_ids)
    for instance in instances:
        refuse_state(instance, ("running",), "rebooted")
    for instance in instances:
        lab().reboot(instance)
    return instances


def _named(ec2: Any, instance_ids: list[str]) -> list[Any]:
    """Return the instances of these ids. Raises EC2ClientError for none and for unknown ones."""
    if not instance_ids:
        raise EC2ClientError("InvalidParameterCombination", "No instances specified")
    return list(ec2.get_multi_instances_by_id(instance_ids))


def _is_on(attribute: Any) -> bool:
    """Return whether an attribute is set: ModifyInstanceAttribute gives it as a word, too."""
    return str(attribute).lower() == "true"


def _not_permitted(instance: Any, verb: str, attribute: str) -> NoReturn:
    raise EC2ClientError("OperationNotPermitted", f"The instance '{instance.id}' may not be {verb}. Modify its '{attribute}' instance attribute and try again.")


def refuse_state(instance: Any, allowed: tuple[str, ...], verb: str) -> None:
    if instance.state not in allowed:
        raise EC2ClientError("IncorrectInstanceState", f"The instance '{instance.id}' is not in a state from which it can be {verb}.")


def _copy_state(instance: Any) -> dict[str, Any]:
    return {"Code": instance.state_code, "Name": instance.state}


@corrects(Instance, "instance_status")
def instance_status(original: Callable[..., Any], self: Any) -> dict[str, Any]:
    """Return the status `ok` only when the machine listens on port 22, before that `initializing`."""
    status = original(self)
    if status["Status"] != "ok" or lab().answers(self.id):
        return status
    return {"Details": [{"Name": "reachability", "Status": "initializing"}], "Status": "initializing"}


@corrects(General, "get_console_output")
def get_console_output(original: Callable[..., Any], self: Any) -> Any:
    """Return the machine's own console output, which includes the host keys that cloud-init prints."""
    instance = self.ec2_backend.get_instance(self._get_param("InstanceId"))
    slow = pace()
    shows = slow is None or slow.console_shows(instance.id)
    text = lab().console(instance.id).decode(errors="replace") if shows else ""
    return ActionResult({"InstanceId": instance.id, "Timestamp": utcnow(), "Output": Base64EncodedString.from_raw_string(text)})
