"""Every name, address and path of a lab, derived from its name and its address range."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from ec2lab.errors import LabError

DEFAULT_NAME = "lab"
DEFAULT_RANGE = "10.213.0.0/16"
API_PORT = 5000
PROXY_PORT = 3128
SESSION_PORT = 5001  # data channels of Session Manager
METADATA_PORT = 5002  # where the machines' questions to 169.254.169.254 are led
REGION = "us-east-1"
CACHE = Path("/var/cache/ec2lab")  # images and packages: shared by all labs, and kept when a lab is removed


@dataclass(frozen=True)
class Lab:
    """One lab. Two labs with different names and ranges share nothing but the cache."""

    name: str = DEFAULT_NAME
    network: IPv4Network = field(default_factory=lambda: IPv4Network(DEFAULT_RANGE))

    @property
    def gateway(self) -> IPv4Address:
        """Return the first address of the range, the only one that the lab's own services listen on."""
        return self.network.network_address + 1

    @property
    def public(self) -> IPv4Network:
        """Return the range of Elastic IPs: the last 256 addresses, which no subnet may have."""
        return IPv4Network((int(self.network.broadcast_address) - 255, 24))

    @property
    def endpoint(self) -> str:
        return f"http://{self.gateway}:{API_PORT}"

    @property
    def proxy(self) -> str:
        return f"http://{self.gateway}:{PROXY_PORT}"

    @property
    def run(self) -> Path:
        return Path("/run/ec2lab") / self.name

    @property
    def lock(self) -> Path:
        return Path("/run/ec2lab") / f"{self.name}.lock"

    @property
    def pid_file(self) -> Path:
        return self.run / "daemon.pid"

    @property
    def pace_file(self) -> Path:
        """Return the file of a lab that is as slow as AWS: the seconds until a console shows something."""
        return self.run / "pace"

    @property
    def any_network_file(self) -> Path:
        """Return the file of a lab that has a default VPC and takes subnets of any addresses."""
        return self.run / "any-network"

    @property
    def trouble_file(self) -> Path:
        """Return the file that says what is not as the API says, as JSON: the reason by machine, or by `subnets`."""
        return self.run / "trouble"

    @property
    def state_file(self) -> Path:
        """Return the file with the API's state, which outlives the daemon."""
        return self.disks / "state"

    @property
    def log(self) -> Path:
        return self.run / "log"

    @property
    def aws_config(self) -> Path:
        return self.run / "aws-config"

    @property
    def disks(self) -> Path:
        return Path("/var/lib/ec2lab") / self.name

    @property
    def bridge(self) -> str:
        """Return the name of the bridge with the gateway address. Each VPC has another bridge of its own."""
        return f"ec-{self.name}"

    def owns_bridge(self, link: str) -> bool:
        """Return whether a link is the lab's bridge or a bridge of one of its VPCs. Names have no hyphen, so another lab's never match."""
        return link == self.bridge or link.startswith(f"{self.bridge}-")

    def vpc_bridge(self, vpc_id: str) -> str:
        prefix = f"{self.bridge}-"
        return prefix + vpc_id[len(prefix) - 15 :]  # an interface's name has 15 characters at most

    @property
    def namespace_prefix(self) -> str:
        return f"ec-{self.name}."

    def namespace(self, instance_id: str) -> str:
        return f"{self.namespace_prefix}{instance_id}"

    @property
    def table(self) -> str:
        """Return the name of the nftables table on the host that isolates the lab's networks."""
        return f"ec2lab_{self.name}"

    @property
    def cgroup(self) -> str:
        return f"ec2lab-{self.name}"


def find_lab(name: str | None = None, network: str | None = None) -> Lab:
    """Return the lab of this name and address range.

    `name` defaults to EC2LAB_NAME or DEFAULT_NAME, `network` to the range that the lab already runs with or DEFAULT_RANGE.
    Raises LabError when the name or the range cannot be used.
    """
    name = name or os.environ.get("EC2LAB_NAME") or DEFAULT_NAME
    if not re.fullmatch(r"[a-z][a-z0-9]{0,6}", name):  # 'ec-' + name + '-' + 4 must fit an interface name (15)
        raise LabError(f"{name!r} cannot be a lab's name", "--name", "use 1 to 7 of a-z and 0-9, beginning with a letter")
    recorded = Path("/run/ec2lab") / name / "range"
    text = network or (recorded.read_text().strip() if recorded.is_file() else DEFAULT_RANGE)
    try:
        parsed = IPv4Network(text)
    except ValueError as problem:
        raise LabError(f"{text!r} is not an address range: {problem}", "--range", "for example --range 10.99.0.0/16") from None
    if not parsed.is_private or parsed.prefixlen > 22:
        raise LabError(f"{text} cannot carry a lab", "--range", "use a private range of /22 or larger, e.g. 10.99.0.0/16")
    return Lab(name, parsed)
