"""The address from which this machine reaches the deployment: the only range that SSH is opened to."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Sequence

from runbook_lib.errors import CloudError
from runbook_lib.spec.sections import CloudSpec

WHO_AM_I = "https://checkip.amazonaws.com"


def operator_cidr(cloud: CloudSpec) -> str:
    """Return the CIDR of the parameters; for `auto` this machine's own address as the machines will see it, /32.

    With `connect_via: private` that is the source address of the route to the network, otherwise the address that AWS's
    service reports. Raises CloudError.
    """
    if cloud.operator_cidr != "auto":
        return cloud.operator_cidr
    address = _public_address() if cloud.connect_via in ("public", "session-manager") else _source_towards(cloud.network)
    return f"{address}/32"


def known_before_launch(cloud: CloudSpec) -> bool:
    """Return whether `operator_cidr` is the same before there is a network as afterwards: a route to that may come with it."""
    return cloud.operator_cidr != "auto" or cloud.connect_via in ("public", "session-manager")


def refuse_shut_out(operator: str, allowed: Sequence[str], cloud: CloudSpec) -> None:
    """Raise CloudError when no range of `allowed`, publisher_allow_cidr, has a part of the operator's range.

    The chapters that open the Publisher from here, 05 and 07, could then only fail, after everything was built. Behind a bastion nothing is
    known of where requests come from: the range is that of the bastion's SSH.
    """
    range_ = ipaddress.IPv4Network(operator)
    if cloud.connect_via == "bastion" or any(range_.overlaps(ipaddress.IPv4Network(each)) for each in allowed):
        return
    raise CloudError(
        f"this machine ({operator}) may not open the Publisher, which chapters 05 and 07 do from here to verify it",
        f"publisher_allow_cidr = {', '.join(allowed)}",
        f"add {operator} to publisher_allow_cidr, or run the chapters from where the Publisher may be opened",
    )


def _source_towards(network: str) -> str:
    """Return the source address of the route to a network. Connecting a UDP socket sends nothing, but makes the kernel choose the route."""
    target = str(ipaddress.IPv4Network(network)[10])
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect((target, 9))
            return str(probe.getsockname()[0])
    except OSError as error:
        raise CloudError(
            f"no route to {network} from here: {error.strerror}",
            "cloud.connect_via: private",
            "the lab must be up, or a VPN to the network; else connect_via: public, or give cloud.operator_cidr",
        ) from None


def _public_address() -> str:
    import httpx2  # here, because most deployments are reached by private addresses

    step = "give cloud.operator_cidr yourself: the public address of this machine, /32"
    try:
        answer = httpx2.get(WHO_AM_I, timeout=10).raise_for_status().text.strip()
        return str(ipaddress.IPv4Address(answer))
    except httpx2.HTTPError as error:
        raise CloudError(f"cannot find out this machine's public address: {error}", WHO_AM_I, step) from None
    except ValueError:
        raise CloudError("the answer is not an IPv4 address", WHO_AM_I, step) from None
