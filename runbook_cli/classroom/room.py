"""The classroom as data: where it keeps what, and who learns in it. Everything of a learner follows from his number."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

from ec2lab.paths import Lab

RUN = Path("/run/runbook-classroom")  # files of root alone: certificate, logins, database of the hub, logs
HOME = Path("/var/lib/runbook-classroom")  # the learners' homes, and the library that their chapters import
CACHE = Path("/var/cache/runbook/classroom")  # the environment and the proxy: kept when the classroom is removed
INSTRUCTOR = "instructor"
MOST = 99  # learners: a lab's name has room for two digits
FIRST_UID = 57000  # learner 1 is 57001: in Debian's range for people, and no machine of a lab has a user of such a number
DEFAULT_RANGE = "10.160.0.0/12"
LAB_PREFIX = 20  # of a learner's range: 16 networks of 256 addresses, one of them for Elastic IPs
LOOPBACK = IPv4Network("127.77.0.0/24")  # a learner's server listens here, each learner's at an address of his own
MARK = "runbook classroom"  # in /etc/passwd, so that `down` finds the users that `up` made


@dataclass(frozen=True)
class Learner:
    """One learner: the name of login and system user, his number from 1, and the range of addresses of his lab."""

    name: str
    number: int
    network: str

    @property
    def uid(self) -> int:
        return FIRST_UID + self.number

    @property
    def lab(self) -> Lab:
        return Lab(lab_name(self.number), IPv4Network(self.network))

    @property
    def address(self) -> IPv4Address:
        """Return the loopback address of the learner's server."""
        return LOOPBACK.network_address + self.number

    @property
    def sockets(self) -> Path:
        """Return the folder of the kernels' sockets and connection files. A socket's path has 107 characters at most, which the home may take up."""
        return RUN / "kernels" / str(self.number)

    @property
    def home(self) -> Path:
        return HOME / "homes" / self.name

    @property
    def workspace(self) -> Path:
        return self.home / "runbook"


@dataclass(frozen=True)
class Room:
    """A classroom that is up. Ports are of this machine; `memory_mb` and `processes` are what each learner may have, his machines included."""

    learners: tuple[Learner, ...]
    port: int
    hub_port: int
    proxy_port: int
    page_port: int
    memory_mb: int
    processes: int
    hosts: tuple[str, ...]

    def find(self, name: str) -> Learner | None:
        return next((learner for learner in self.learners if learner.name == name), None)

    @property
    def url(self) -> str:
        return f"https://{self.hosts[0]}:{self.port}"

    def write(self, file: Path) -> None:
        file.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")

    @classmethod
    def read(cls, file: Path) -> Room:
        found: Mapping[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        return cls(**{**found, "learners": tuple(Learner(**each) for each in found["learners"]), "hosts": tuple(found["hosts"])})


ROOM = RUN / "room.json"
LOGINS = RUN / "logins.json"  # name: salt and hash of the password
CERTIFICATE, KEY, AUTHORITY = RUN / "certificate.pem", RUN / "key.pem", RUN / "ca.pem"
LOG = RUN / "hub.log"
LIBRARY = HOME / "library"
COMMAND = LIBRARY / "bin" / "runbook"  # the command line, for terminals
ENVIRONMENT = CACHE / "environment"
PROXY = CACHE / "proxy"


def lab_name(number: int) -> str:
    return f"class{number}"


def seats(names: Sequence[str], network: IPv4Network) -> tuple[Learner, ...]:
    """Return the learners of these names, each with the next /20 of `network`."""
    ranges = network.subnets(new_prefix=LAB_PREFIX)
    return tuple(Learner(name, number, str(part)) for number, (name, part) in enumerate(zip(names, ranges, strict=False), 1))
