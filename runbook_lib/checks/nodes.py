"""Whether the product's nodes serve, and whether what they share is sound."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from .. import boot, registry_state
from ..errors import RunbookError
from ..ssh import Host
from . import Check, CheckTable

if TYPE_CHECKING:
    from ..deployment import Deployment


def verify_nodes(deployment: Deployment, chapter: str) -> CheckTable:
    """Per node: running, started, answering. For all: first boots recorded, no duplicate registry rows, no lock left (facts 2.4, golden run 7)."""
    d = deployment
    context, hosts = d.context(), d.fleet()
    rows = CheckTable()

    def serves(host: Host) -> tuple[bool, str]:
        try:
            return True, _short(boot.start(hosts, context, host.name, "watch").line)
        except RunbookError as error:
            return False, error.what.splitlines()[0]

    for name, (ok, seen) in hosts.each(serves, [n.name for n in d.topology.wso2_nodes]).items():
        rows.append(_row(f"node-serves-{name}", f"{name} is started and answers on 9443", ok, "started and answering", seen, name, chapter))
    missing = [n.name for n in d.topology.wso2_nodes if n.name not in context.booted]
    seen = f"not recorded: {', '.join(missing)}" if missing else "all recorded"
    rows.append(_row("first-boots", "Every first boot was seen complete", not missing, "all recorded", seen, "EC2 tags", chapter))
    database = hosts[d.topology.db.name]
    twice = registry_state.duplicates(database)
    seen = ", ".join(twice[:3]) or "none"
    rows.append(_row("registry-duplicates", "No registry resource stands twice at one path", not twice, "none", seen, database.name, chapter))
    locked = registry_state.is_locked(database)
    seen = "locked" if locked else "unlocked"
    rows.append(_row("registry-lock", "No node left its start-up lock behind", not locked, "unlocked", seen, database.name, chapter))
    return rows


def _row(id: str, title: str, ok: bool, expected: str, observed: str, where: str, chapter: str) -> Check:
    return Check(id, title, "pass" if ok else "fail", expected, observed, where, chapter)


def _short(line: str) -> str:
    """The log line's time and message, without its category and thread."""
    found = re.search(r"\[(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d).*(WSO2 Carbon started in \d+ sec)", line)
    return f"{found[1]} {found[2]}" if found else line[-160:]
