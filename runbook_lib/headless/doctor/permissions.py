"""Whether the AWS identity may do what the chapters do: a dry run of each right, by `permissions.yaml`. Nothing is changed."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import cache
from importlib.resources import files
from typing import Any

from runbook_lib import pki
from runbook_lib.aws.client import DENIED, Api
from runbook_lib.aws.images import find_image
from runbook_lib.errors import CloudError
from runbook_lib.files import read_table
from runbook_lib.headless.doctor.finding import Finding
from runbook_lib.launch.cloud import Cloud
from runbook_lib.launch.inventory import DEPLOYMENT, by_tag, tag_specification

FIX = "the statements of docs/iam/operator.json that name {action}: attach that policy to this identity (docs/iam/README.md says what to adapt)"


@cache
def table() -> dict[str, Any]:
    """Return the content of `permissions.yaml`."""
    found: dict[str, Any] = read_table(files(__package__) / "permissions.yaml")
    return found


def findings(cloud: Cloud) -> Iterator[Finding]:
    """Yield one finding for each right that is lacking, then one that says how many are there and how many cannot be asked for yet."""
    words, lacking, held, later = _words(cloud), 0, 0, []
    for service, kind in (("ec2", "dry_runs"), ("ssm", "calls")):
        api = cloud.aws.client(service)
        for row in table()[kind]:
            action = f"{service}:{api.client.meta.method_to_api_mapping[row['call']]}"
            request = _filled(row.get("with", {}), words)
            if request is None:
                later.append(action)
                continue
            if kinds := row.get("makes"):
                request["TagSpecifications"] = [tag_specification(each, {DEPLOYMENT: cloud.spec.deployment}) for each in kinds]
            if refusal := _refusal(api, row["call"], request | ({"DryRun": True} if service == "ec2" else {})):
                lacking += 1
                yield Finding(f"right {action}", False, refusal, FIX.format(action=action))
            else:
                held += 1
    wait = f"; {len(later)} can be asked for only when chapter 01 has made what they are about" if later else ""
    yield Finding("rights", not lacking, f"{held} of {held + lacking} that were tried are there{wait}", "see above")


def _refusal(api: Api, call: str, request: Mapping[str, Any]) -> str:
    """Make the call; return AWS's words when it is not permitted, otherwise "". AWS decides about rights before it looks at anything else."""
    try:
        getattr(api, call)(**request)
    except CloudError as error:
        return error.what if error.code in DENIED else ""
    return ""


def _words(cloud: Cloud) -> dict[str, str]:
    """Return what the rows may name, with its value; what there is not has no entry."""
    ec2, spec = cloud.aws.client("ec2"), cloud.spec
    found = {"deployment": spec.deployment, "network": spec.cloud.network, "type": cloud.topology.nodes[0].instance_type, "key_name": "runbook-doctor"}
    found["public_key"] = pki.ssh_public_key(pki.make_ssh_key())
    with suppress(CloudError):  # told by the question for the image
        found["image"] = find_image(spec.cloud.image, spec.cloud.login_user, ec2, cloud.aws.client("ssm")).id
    with suppress(CloudError, StopIteration):  # none yet; or whoever may not look is told by the dry run of looking
        found["instance"] = next(iter(cloud.describe().values())).id
    for name, thing in table()["things"].items():
        if (filters := _filled(thing.get("filter", {}), found)) is None:
            continue
        wanted = [{"Name": key, "Values": [value]} for key, value in filters.items()] or by_tag(spec.deployment)
        parameter = "Filter" if thing["from"] == "describe_nat_gateways" else "Filters"  # EC2's own difference
        with suppress(CloudError, LookupError):
            value = getattr(ec2, thing["from"])(**{parameter: wanted})[thing["in"]][0]
            for step in thing["id"].split("."):
                value = value[int(step) if step.isdigit() else step]
            found[name] = value
    return found


def _filled(value: Any, words: Mapping[str, str]) -> Any:
    """Return a row's value with its words filled in, or None when one of them is missing."""
    if isinstance(value, Mapping | list):
        parts = {key: _filled(one, words) for key, one in (value.items() if isinstance(value, Mapping) else enumerate(value))}
        if any(part is None for part in parts.values()):
            return None
        return parts if isinstance(value, Mapping) else list(parts.values())
    if not isinstance(value, str):
        return value
    missing = [name for name in re.findall(r"{(\w+)}", value) if name not in words]
    return None if missing else value.format(**words)
