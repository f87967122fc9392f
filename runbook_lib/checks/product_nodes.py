"""Checks of the product's nodes and of the registry database that they share."""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from runbook_lib import pki
from runbook_lib.check import Check, CheckTable, Status, answered
from runbook_lib.checks import membership, node_report
from runbook_lib.checks.secrets import user_store
from runbook_lib.converge import edits
from runbook_lib.errors import RunbookError
from runbook_lib.launch.secrets import ADMIN_PASSWORD
from runbook_lib.operations import registry, startup
from runbook_lib.roles import carbon, greg
from runbook_lib.roles.context import Context
from runbook_lib.ssh import Host, through
from runbook_lib.webclient.client import Client

if TYPE_CHECKING:
    from runbook_lib.session import Session


ADMIN = "admin"  # user-mgt.xml's AdminUser, as shipped (facts 1.5)
BRIEFLY = 20  # seconds
HTTPS_PORT = 9443  # there is no port offset because each node has a host of its own (facts 1.1)


def verify_nodes(deployment: Session, chapter: str, quiet: bool = False) -> CheckTable:
    """Return the checks of all product nodes, as rows of `chapter`.

    Per node: it is started and responds on 9443; its mounts, service providers, listeners and certificate are as expected.
    For all: every first boot is recorded, the registry has no duplicate rows, no start-up lock and no outdated settings
    (facts 1.11, 2.4, golden run 2, 7), and each tier takes the administrator's password.

    `quiet`: nobody signs in, because the product writes that into its log, and a node that does not answer is waited for `BRIEFLY`.
    """
    d = deployment
    context, hosts = d.context(), d.fleet()
    rows = CheckTable()

    def serves(host: Host) -> tuple[bool, str]:
        try:
            return True, _short(startup.start(hosts, context, host.name, "watch", seconds=BRIEFLY if quiet else None, row=1).line)
        except RunbookError as error:
            return False, error.what.splitlines()[0]

    for name, (ok, seen) in hosts.each(serves, [n.name for n in d.topology.wso2_nodes]).items():
        rows.append(answered(f"node-serves-{name}", f"{name} is started and answers on 9443", ok, "started and answering", seen, name, chapter))
    rows += running(d, context, chapter)
    missing = [n.name for n in d.topology.wso2_nodes if n.name not in context.booted]
    seen = f"not recorded: {', '.join(missing)}" if missing else "all recorded"
    rows.append(answered("first-boots", "Every first boot was seen complete", not missing, "all recorded", seen, "EC2 tags", chapter))
    database = hosts[d.topology.db.name]
    twice = registry.duplicates(database)
    seen = ", ".join(twice[:3]) or "none"
    rows.append(answered("registry-duplicates", "No registry resource stands twice at one path", not twice, "none", seen, database.name, chapter))
    locked = registry.is_locked(database)
    seen = f"locked, and every start waits: {registry.how_to_free(database.name)}" if locked else "unlocked"
    rows.append(answered("registry-lock", "No node left its start-up lock behind", not locked, "unlocked", seen, database.name, chapter))
    if not missing and not quiet:
        rows += _administrator(d, context, chapter)
    if d.spec.design.product == "greg" and not missing:
        rows.append(_frozen_settings(context, database, chapter))
    return rows


def _administrator(d: Session, context: Context, chapter: str) -> list[Check]:
    """Return for each tier the check that its nodes take the administrator's password that the parameters mean.

    The product reads the one in its files at the first boot only; later its user store decides (facts 1.5). Workers are not asked: their
    administration services are shut (facts 3.7).
    """
    found, password, product = [], context.secrets[ADMIN_PASSWORD], d.spec.design.product
    for tier in d.topology.tiers:
        nodes = {node.name: node for node in d.topology.tier(tier) if node.role != "as-worker"}
        said = d.fleet().each(lambda host, nodes=nodes: signs_in(host, nodes[host.name].address, password, product), list(nodes))  # type: ignore[misc]
        status: Status = "fail" if user_store.WRONG_PASSWORD in said.values() else "pass" if set(said.values()) == {200} else "undecided"
        words = {None: "no answer", user_store.WRONG_PASSWORD: "refuses it"}
        seen = "; ".join(f"{name}: {words.get(code, f'status {code}')}" for name, code in said.items())
        if status == "fail":
            seen += (
                f"; the user database has another password than {ADMIN_PASSWORD} in Parameter Store, and the product reads its files' at the first boot "
                "only: change it in the console (Configure > Users and Roles), or put the old value back, then run this chapter again"
            )
        title = f"The nodes of the tier {tier} take the administrator's password"
        found.append(Check(f"administrator-{tier}", title, status, "status 200", seen, user_store.SERVICES[product].path, chapter))
    return found


def signs_in(host: Host, address: str, password: str, product: str) -> int | None:
    """Return the status of a question to the user store as the administrator, asked on the node itself (`user_store.sign_in`); None when there is no answer."""
    client = Client({address: address}, None, through(host))
    try:
        return user_store.sign_in(user_store.SERVICES[product], client, f"https://{address}:{HTTPS_PORT}", ADMIN, password)
    except OSError:
        return None


def boot_times(deployment: Session, first_boots: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
    """Return, for each product node, its first boot where `first_boots` has one, and what the log of its present start says with its times.

    Times are UTC as ISO 8601; the log's are converted by the node's own offset.
    """
    d, nodes = deployment, deployment.topology.wso2_nodes
    pattern = shlex.quote(f"{membership.START}|{membership.INTERESTING}")
    command = f"date +%z; sudo -n sh -c {shlex.quote(f'{carbon.log_of_this_start(d.spec)} | grep -E {pattern}')}"
    said = d.fleet().each(lambda host: host.run(command, timeout=60).stdout, [node.name for node in nodes])
    names = {node.address: node.name for node in nodes}
    found = []
    for node in nodes:
        offset, _, log = said[node.name].partition("\n")
        events = [{"at": _utc(when, offset), "what": what, "who": names.get(who, who)} for when, what, who in membership.happened(log)]
        found.append({"name": node.name, "tier": node.tier, "first": first_boots.get(node.name), "events": events})
    return {"deployment": d.spec.deployment, "nodes": found}


def _utc(logged: str, offset: str) -> str:
    """Return a time of the product's log as UTC. `offset`: the node's, as `date +%z` prints it."""
    return datetime.strptime(f"{logged} {offset.strip() or '+0000'}", "%Y-%m-%d %H:%M:%S,%f %z").astimezone(UTC).isoformat(timespec="milliseconds")


def running(d: Session, context: Context, chapter: str, names: Collection[str] | None = None) -> list[Check]:
    """Return the checks of each node's running process, or of those named: its configuration files may have changed since it read them."""
    nodes = {node.name: node for node in d.topology.wso2_nodes if names is None or node.name in names}
    said = d.fleet().each(lambda host: node_report.answer(host.run(node_report.question(nodes[host.name], d.spec), timeout=60).stdout), list(nodes))
    found: list[Check] = []
    for name, node in nodes.items():
        providers = greg.SERVES[node.role] if d.spec.design.product == "greg" else ()
        certificate = pki.certificate_of(context.secrets[f"tier-key/{d.topology.key_of(node.tier or '')}"])
        d.journal.observed(chapter, name, said[name].versions)
        found += node_report.rows(node, said[name], providers, certificate, chapter)
    return found


def _frozen_settings(context: Context, database: Host, chapter: str) -> Check:
    """Return the check that the settings which the first boot copied into the registry match the present parameters (facts 1.11)."""
    wanted = greg.frozen_settings(context)
    there = registry.content(database, greg.FROZEN)
    if there is None:
        wrong = [f"{greg.FROZEN} is not there"]
    else:
        wrong = [f"not {edit.describe()}" for edit in wanted if not _says(there, edit)]
        if wrong:
            wrong.append(f"delete {greg.FROZEN} in the console (Resources, Browse) and restart the Store nodes: they copy the file again")
    title = "The Store's settings, kept in the registry since the first boot, are those of today"
    return answered(
        "registry-frozen-settings", title, not wrong, f"{len(wanted)} settings as in store-tenant.json", "; ".join(wrong) or "they are", database.name, chapter
    )


def _says(content: bytes, edit: edits.Edit) -> bool:
    """Return whether `content` already has this setting; False also when there is no place for it."""
    try:
        return edits.apply(content, (edit,), greg.FROZEN) == content
    except RunbookError:
        return False


def _short(line: str) -> str:
    """Return the log line's time and message without category and thread, or its last 160 characters when it has another form."""
    found = re.search(r"\[(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d).*(WSO2 Carbon started in \d+ sec)", line)
    return f"{found[1]} {found[2]}" if found else line[-160:]
