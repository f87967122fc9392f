"""Checks of what every machine has: what sshd really does and how far the role's service is confined (`roles.machine`), and a clock that is right."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable
from typing import TYPE_CHECKING

from runbook_lib.check import Check, Status, answered
from runbook_lib.roles import machine
from runbook_lib.topology.model import Node

if TYPE_CHECKING:
    from runbook_lib.session import Session

MOST_EXPOSED = 4.0  # of 10 points of systemd-analyze security; 9.6 is a service without any confinement
# sshd's own answer (sshd -T): its settings after every file and default. A setting of SSHD that begins with - shows as the names that are left.
WEAK = re.compile(r"sha1|sha2-nistp|group14-|group-exchange|umac-64|hmac-sha2-(256|512)(,|$)|arcfour|cbc|3des|ecdsa|ssh-rsa|rsa-sha2")
SPOKEN = {"false": "no", "true": "yes"}
ASK = (
    'sshd -T 2>&1; echo "--"; for one in "$@"; do systemd-analyze security --no-pager "$one" 2>&1 | tail -n 1; done; echo "--"; '
    "if systemd-detect-virt --quiet --container; then echo container; exit; fi; set --; "  # a machine that was just launched has half a minute for it
    'while [ "$(timedatectl show -p NTPSynchronized --value)" = no ] && [ $# -lt 30 ]; do set -- "$@" again; sleep 1; done; '
    "timedatectl show -p NTPSynchronized --value 2>&1"
)


def verify_machines(deployment: Session, nodes: Iterable[Node], services: tuple[str, ...], chapter: str) -> list[Check]:
    """Return rows per node: sshd is as planned; each of `services` is exposed by at most `MOST_EXPOSED` points; a time server sets the clock."""
    command = f"sudo -n sh -c {shlex.quote(ASK)} sh {' '.join(services)}"
    said = deployment.fleet().each(lambda host: host.run(command, timeout=120).stdout, [node.name for node in nodes])
    found: list[Check] = []
    for name, text in said.items():
        sshd, _, rest = text.partition("--\n")
        exposed, _, told = rest.partition("--\n")
        wrong = sshd_differences(sshd)
        title = f"{name}: sshd offers nothing weak and no way in by password"
        found.append(answered(f"machine-sshd-{name}", title, not wrong, "as planned", "; ".join(wrong[:4]) or "as planned", name, chapter))
        if services:
            points = {service: exposure(exposed, service) for service in services}
            seen = ", ".join(f"{service} {'unknown' if value is None else value}" for service, value in points.items())
            confined = all(value is not None and value <= MOST_EXPOSED for value in points.values())
            title = f"{name}: its service has few rights (systemd-analyze security)"
            found.append(answered(f"machine-confined-{name}", title, confined, f"at most {MOST_EXPOSED} of 10", seen, name, chapter))
        found += clock(name, told.strip(), chapter)
    return found


def clock(name: str, told: str, chapter: str) -> list[Check]:
    """Return the row of a machine's clock, none for a container, such as a machine of the lab: its clock is its host's.

    An assertion is valid for 5 minutes (facts 8.12), and a node's index takes what is newer than the newest that it has (facts 1.4): what a node
    whose clock is behind writes is not listed by the others. No role installs a time server's client: the cloud images of Debian and Ubuntu run one.
    """
    if told == "container":
        return []
    status: Status = "pass" if told == "yes" else "fail" if told == "no" else "undecided"
    why = "not synchronized: `chronyc tracking` or `timedatectl timesync-status` there says why; every machine in EC2 reaches the time server 169.254.169.123"
    seen = {"yes": "synchronized", "no": why}.get(told, f"timedatectl does not say: {told or 'no answer'}")
    return [Check(f"machine-clock-{name}", f"{name}: a time server sets its clock", status, "synchronized", seen, name, chapter)]


def sshd_differences(text: str) -> list[str]:
    """Return where the answer of `sshd -T` differs from the plan, as `setting value`.

    OpenSSH 10.6 answers with names as in its manual instead of in lower case, and with `false` where it was told `no`.
    """
    settings = {name.lower(): value for name, _, value in (line.partition(" ") for line in text.splitlines()) if value}
    found = []
    for line in machine.SSHD.splitlines():
        name, _, value = line.partition(" ")
        if not name or name == "#":
            continue
        there = settings.get(name.lower(), "absent")
        wrong = there == "absent" or WEAK.search(there) if value.startswith("-") else SPOKEN.get(there, there).lower() != value.lower()
        if wrong:
            found.append(f"{name} {there}")
    return found


def exposure(text: str, service: str) -> float | None:
    """Return the exposure of a service in points from 0 to 10, as `systemd-analyze security` ends; None when it does not say."""
    found = re.search(rf"exposure level for {re.escape(service)}: ([\d.]+)", text)
    return float(found[1]) if found else None
