"""The lab's AWS endpoint: moto's server, with the lab's images, the patches of moto, and one lock around EC2."""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ec2lab import access_key
from ec2lab.access_key import AccessKey
from ec2lab.api.pace import Pace
from ec2lab.machines.hypervisor import Hypervisor
from ec2lab.machines.image import Image
from ec2lab.paths import API_PORT, REGION, Lab

log = logging.getLogger("api")
ACCOUNT = "123456789012"
DEBIAN_NAMES = {"x86_64": "amd64", "arm64": "arm64"}  # of EC2's architectures


def describe_image(image: Image) -> dict[str, Any]:
    """Return the description of the image for DescribeImages, in the form of moto's list of images."""
    owner, name = image.recipe.owner, image.recipe.published.format(DEBIAN_NAMES[image.architecture], image.key)
    return {
        "ami_id": image.ami, "name": name, "description": f"{image.name} ({name})", "owner_id": owner,
        "image_location": f"{owner}/{name}", "public": True, "architecture": image.architecture, "state": "available",
        "platform": None, "image_type": "machine", "hypervisor": "xen", "virtualization_type": "hvm",
        "root_device_name": image.recipe.root_device, "root_device_type": "ebs", "sriov": "simple",
    }  # fmt: skip


def make_servers(lab: Lab, images: Sequence[Image], hypervisor: Hypervisor, scratch: Path) -> tuple[AccessKey, tuple[Any, ...]]:
    """Return the lab's own key, and the listening servers, of the API, of the sessions' data channels and of the metadata, which do not serve yet.

    moto reads its settings when it is imported, so it is imported here.

    `scratch`: a file to write for moto, with the list of images.
    """
    scratch.write_text(json.dumps([describe_image(image) for image in images]))
    os.environ["MOTO_AMIS_PATH"] = str(scratch)
    os.environ["MOTO_EC2_ENABLE_INSTANCE_TYPE_VALIDATION"] = "true"
    os.environ["MOTO_ACCOUNT_ID"] = ACCOUNT  # moto reads an account out of the key's id otherwise
    from moto.ec2.models import ec2_backends
    from moto.server import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
    from moto.ssm.models import ssm_backends
    from werkzeug.serving import make_server as listen

    from ec2lab.api import authorization, credentials, metadata, patches, session_manager, signatures
    from ec2lab.api.patches.launches import tokens
    from ec2lab.api.state import State

    state = State(lab.disks, hypervisor.guard, lambda: {**hypervisor.kept(), "tokens": tokens.seen, "sessions": credentials.sessions, "key": key})
    kept = state.restore()
    key: AccessKey = kept.get("key") or access_key.make()
    hypervisor.ec2 = ec2_backends[ACCOUNT][REGION]
    if kept:
        tokens.seen.update(kept["tokens"])
        credentials.sessions.update(kept["sessions"])
    else:
        _furnish(lab, images, hypervisor.ec2, ssm_backends[ACCOUNT][REGION])
    pace = Pace(float(lab.pace_file.read_text()), tags=lambda name: hypervisor.ec2.tags.get(name, {})) if lab.pace_file.exists() else None
    patches.install(hypervisor, pace)
    credentials.install(key)
    authorization.install()
    hypervisor.keep = state.save
    if kept:
        hypervisor.resume(kept)
        patches.resume()
    state.save()
    _guard_ec2(hypervisor, pace)
    if pace:
        _throttle_ssm(pace)
    signed = signatures.verifying(DomainDispatcherApplication(create_backend_app), credentials.find)
    application = _kept(_without_moto_s_own(signed), state.save)
    server = listen(str(lab.gateway), API_PORT, application, threaded=True, request_handler=MotoRequestHandler)
    server.daemon_threads = True  # type: ignore[attr-defined]
    return key, (server, session_manager.open_channels(hypervisor), metadata.open_metadata(hypervisor))


def _without_moto_s_own(application: Any) -> Any:
    """Return the application without moto's own pages (/moto-api/reset and others) and its metadata service, which knows no machine from another."""

    def guarded(environ: dict[str, Any], start_response: Any) -> Any:
        if environ.get("PATH_INFO", "").lower().lstrip("/").startswith(("moto-api", "latest/meta-data/", "latest/api/")):
            start_response("404 Not Found", [("Content-Length", "0")])
            return [b""]
        return application(environ, start_response)

    return guarded


def _kept(application: Any, save: Callable[[], None]) -> Any:
    """Return the application that saves the state after each call which may change it. EC2's calls do so themselves, under the guard."""

    def saving(environ: dict[str, Any], start_response: Any) -> Any:
        answer = application(environ, start_response)
        operation = environ.get("HTTP_X_AMZ_TARGET", "").rpartition(".")[2]
        reads = environ.get("REQUEST_METHOD") in ("GET", "HEAD") or operation.startswith(("Get", "Describe", "List"))
        if not reads and "/ec2/aws4_request" not in environ.get("HTTP_AUTHORIZATION", ""):
            save()
        return answer

    return saving


def _furnish(lab: Lab, images: Sequence[Image], ec2: Any, ssm: Any) -> None:
    """Make of moto's new account what a new lab has."""
    if not lab.any_network_file.exists():
        _remove_default_vpc(ec2)
    for image in images:
        _publish_image(ssm, image)


def _remove_default_vpc(ec2: Any) -> None:
    """Remove the default VPC, whose addresses are not in the lab's range. AWS accounts without a default VPC exist too."""
    for zone in ec2.subnets.values():
        zone.clear()
    for vpc_id in list(ec2.vpcs):
        ec2.delete_vpc(vpc_id)


def _publish_image(ssm: Any, image: Image) -> None:
    """Make the public parameter that leads to the image, where its publisher has one."""
    from moto.core.utils import utcnow
    from moto.ssm.models import Parameter

    if not image.recipe.parameter:
        return
    name = image.recipe.parameter.format(DEBIAN_NAMES[image.architecture])
    ssm._parameters[name].append(
        Parameter(  # type: ignore[abstract]
            account_id=ACCOUNT,
            name=name,
            value=image.ami,
            parameter_type="String",
            description=None,
            allowed_pattern=None,
            keyid=None,
            last_modified_date=utcnow(),
            version=1,
            data_type="aws:ec2:image",
        )
    )


def _guard_ec2(hypervisor: Hypervisor, pace: Pace | None) -> None:
    """Make every EC2 call run alone under the guard, refuse other regions, and update the machines after a change."""
    from moto.core.responses import ActionResult
    from moto.ec2.exceptions import EC2ClientError
    from moto.ec2.responses import EC2Response

    original = EC2Response.call_action

    def call_action(self: Any) -> Any:
        action = self._get_action()
        reads = action.startswith(("Describe", "Get"))
        with hypervisor.guard:
            if self.region != REGION and not hypervisor.lab.any_network_file.exists():
                refusal = EC2ClientError("OptInRequired", f"The lab has the region {REGION} only.")
                return self.serialized(ActionResult(refusal))
            if pace and (refused := pace.ec2_refusal(action, self.params)):
                return self.serialized(ActionResult(EC2ClientError(*refused)))
            status, headers, body = original(self)
            if pace:
                body = pace.answer(action, self.params, body)
            if not reads:
                log.info("%s %s", action, status)
                hypervisor.keep()
                hypervisor.changed()
            return status, headers, body

    EC2Response.call_action = call_action  # type: ignore[method-assign]


def _throttle_ssm(pace: Pace) -> None:
    """Make Parameter Store refuse what comes faster than AWS takes it."""
    from moto.ssm.responses import SimpleSystemManagerResponse

    original, guard = SimpleSystemManagerResponse.call_action, threading.Lock()

    def call_action(self: Any) -> Any:
        with guard:
            refused = pace.ssm_refusal(self._get_action())
        if refused:
            log.info("%s throttled", self._get_action())
            return 400, {"status": 400}, json.dumps({"__type": refused[0], "message": refused[1]})
        return original(self)

    SimpleSystemManagerResponse.call_action = call_action  # type: ignore[method-assign]
