"""Images: made from the machines' disks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from moto.ec2.exceptions import EC2ClientError
from moto.ec2.models.amis import AmiBackend
from moto.ec2.responses.amis import AmisResponse

from ec2lab.api.patches import corrects, lab
from ec2lab.api.patches.instances import refuse_state


@corrects(AmisResponse, "create_image")
def create_image(original: Callable[..., Any], self: Any) -> Any:
    """Create an image from the machine's disk; it is `pending` until the disk has been taken."""
    name, instance = self._get_param("Name"), self.ec2_backend.get_instance(self._get_param("InstanceId"))
    refuse_state(instance, () if lab().imaging(instance.id) else ("running", "stopped"), "imaged")
    if any(image.name == name for image in self.ec2_backend.amis.values()):
        raise EC2ClientError("InvalidAMIName.Duplicate", f"AMI name {name} is already in use by another image.")
    result = original(self)
    ami = self.ec2_backend.amis[result.result["ImageId"]]
    source = self.ec2_backend.amis.get(instance.image_id)
    ami.root_device_type = "ebs"
    if source is not None:
        for name in ("root_device_name", "architecture", "boot_mode"):
            setattr(ami, name, getattr(source, name))
    lab().create_image(ami, instance, no_reboot=bool(self._get_param("NoReboot", False)))
    return result


@corrects(AmiBackend, "deregister_image")
def deregister_image(original: Callable[..., Any], self: Any, ami_id: str) -> None:
    original(self, ami_id)
    lab().forget_image(ami_id)


@corrects(AmisResponse, "copy_image")
@corrects(AmisResponse, "register_image")
def no_other_images(original: Callable[..., Any], self: Any) -> Any:
    raise EC2ClientError("UnsupportedOperation", "The lab makes images by CreateImage only.")
