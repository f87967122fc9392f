"""Checks of a cluster: membership from the logs, distribution of requests, sticky sessions, refused administration.

    verify_cluster(deployment)      # chapter 06 for the Application Server; membership and distribution for G-Reg too

When a request has the header X-Runbook-Probe, Nginx names the node that responded in the header X-Served-By.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from runbook_lib.check import Check, CheckTable, Status, answered
from runbook_lib.checks.membership import INTERESTING, START, rows
from runbook_lib.checks.product_nodes import HTTPS_PORT, signs_in
from runbook_lib.checks.secrets.user_store import AS, WORKER, WRONG_PASSWORD
from runbook_lib.errors import HostError
from runbook_lib.launch.secrets import ADMIN_PASSWORD
from runbook_lib.operations.demo_app import NAME
from runbook_lib.operations.demo_app import PATH as PROBE
from runbook_lib.operations.deploy_archive import FOLDERS
from runbook_lib.roles import carbon
from runbook_lib.roles.appserver import DEPLOYMENT
from runbook_lib.ssh import PORT_SECONDS, Host, through
from runbook_lib.webclient.client import Client
from runbook_lib.webclient.response import Answer

if TYPE_CHECKING:
    from runbook_lib.session import Session
    from runbook_lib.topology.model import Node

CHAPTER = {"as": "06_verify_as_cluster", "greg": "07_verify_sso_separation"}
MOST_VISITORS = 200  # a node that none of so many new visitors reached is taken to get no requests
REPEATS = 10
DEMONSTRATION = f"webapps/{NAME}"
SERVICES = (AS.path, *(f"/services/{name}" for name in ("ServerAdmin", "UserProfileMgtService", "LogViewer")))


def verify_cluster(deployment: Session, quiet: bool = False) -> CheckTable:
    """Return every cluster check for the deployment's pattern. Raises `HostError` when the applications of an AS node cannot be listed.

    `quiet`: those of membership and of the applications' files, for which no request is sent.
    """
    product = deployment.topology.spec.design.product
    table = verify_membership(deployment)
    if quiet:
        return CheckTable([*table, *(on_every_worker(deployment, archives(deployment), quiet) if product == "as" else ())])
    front = Front(deployment)
    for key in ("as",) if product == "as" else tuple(deployment.spec.hosts):
        table += spread(front, key, CHAPTER[product])
    if product == "as":
        there = archives(deployment)
        if any(DEMONSTRATION in of_node for of_node in there.values()):
            table += sessions(front)
        table += on_every_worker(deployment, there)
        table += shut(front, deployment)
    return table


def verify_membership(deployment: Session) -> CheckTable:
    """Return the checks of members, coordinator and domain for each tier of two or more nodes; an empty table when clustering is off."""
    d = deployment
    table = CheckTable()
    if not d.spec.clustering:
        return table
    tiers = {tier: d.topology.tier(tier) for tier in d.topology.tiers}
    several = {tier: nodes for tier, nodes in tiers.items() if len(nodes) > 1}
    lines = shlex.quote(f"{START}|{INTERESTING}")
    command = f"sudo sh -c {shlex.quote(f'{carbon.log_of_this_start(d.spec)} | grep -E {lines}')}"
    names = [node.name for nodes in several.values() for node in nodes]
    logs = d.fleet().each(lambda host: host.run(command, timeout=60).stdout, names)
    for tier, nodes in several.items():
        addresses = {node.name: node.address for node in nodes}
        said = {name: logs[name] for name in addresses}
        table += rows(tier, d.topology.domain(tier), addresses, said, CHAPTER[d.spec.design.product])
    return table


class Front:
    """Clients for the public hosts: from outside, and from another host in the subnet."""

    def __init__(self, deployment: Session):
        self._d = deployment
        self._ca = deployment.vault.get("ca.pem")
        found = deployment.public_addresses()
        self._outside = {host: found[deployment.topology.lb_for(host).name] for host in deployment.spec.hosts.values()}

    def visitor(self) -> Client:
        """Return a client without cookies that connects from outside."""
        return Client(self._outside, self._ca)

    def neighbour(self) -> Client:
        """Return a client that connects from the database host, which is in no security group that Nginx or the product trusts."""
        inside = {host: self._d.topology.lb_for(host).address for host in self._d.spec.hosts.values()}
        return Client(inside, self._ca, through(self._d.fleet()[self._d.topology.db.name], PORT_SECONDS))

    def url(self, key: str, target: str) -> str:
        return f"https://{self._d.spec.hosts[key]}{target}"

    def nodes(self, key: str) -> tuple[Node, ...]:
        return self._d.topology.upstream(key)

    def served_by(self, visitor: Client, url: str) -> str:
        """Send one GET and return the name of the node that responded, from the header X-Served-By (empty without it)."""
        return visitor.get(url, headers={"X-Runbook-Probe": "1"}).header("x-served-by")


def spread(front: Front, key: str, chapter: str) -> list[Check]:
    """Return two checks: new visitors reach every node behind the host, and each visitor stays on its node."""
    target = {"as": PROBE, "store": "/store/pages/top-assets", "publisher": "/publisher/"}[key]
    url, wanted = front.url(key, target), {node.name for node in front.nodes(key)}
    met: dict[str, int] = {}
    strays: list[str] = []
    for _ in range(MOST_VISITORS):
        visitor = front.visitor()
        first = front.served_by(visitor, url)
        met[first] = met.get(first, 0) + 1
        if len(met) <= len(wanted) and sum(met.values()) <= REPEATS:
            again = front.served_by(visitor, url)
            strays += [f"{first}, then {again}"] if again != first else []
        if wanted <= set(met) and sum(met.values()) >= REPEATS:
            break
    seen = ", ".join(f"{name or 'unnamed'} {count}" for name, count in sorted(met.items()))
    names, same, elsewhere = ", ".join(sorted(wanted)), "the same node again", "; ".join(strays[:3])
    title = "New visitors are spread over the nodes"
    return [
        answered(f"cluster-spread-{key}", title, set(met) == wanted, names, seen, url, chapter),
        answered(f"cluster-sticky-{key}", "A visitor stays on its node", not strays, same, elsewhere or same, url, chapter),
    ]


def sessions(front: Front) -> list[Check]:
    """Return the check that one visitor of the probe application keeps its node and session, with the counter rising by one.

    It is undecided when the application does not respond.
    """
    url, chapter = front.url("as", PROBE), CHAPTER["as"]
    visitor = front.visitor()
    told = [_probe(visitor.get(url)) for _ in range(REPEATS)]
    title = "A session stays on its node"
    if any(one is None for one in told):
        text = 'the demonstration application does not answer there: deploy it in chapter 03 (war = "probe.war")'
        return [Check("cluster-session-as", title, "undecided", "one session", text, url, chapter)]
    places = {(str(one["node"]), str(one["session"])) for one in told if one}
    counts = [int(str(one["counter"])) for one in told if one]
    steady = len(places) == 1 and counts == list(range(counts[0], counts[0] + REPEATS))
    seen = f"{len(places)} session(s), counter {counts[0]} to {counts[-1]}"
    return [answered("cluster-session-as", title, steady, f"1 session, {REPEATS} requests counted", seen, url, chapter)]


def archives(deployment: Session) -> dict[str, dict[str, str]]:
    """Return the deployed archives per AS node, as SHA-256 by folder and name. Raises `HostError` when a node cannot list them."""
    nodes = [node.name for node in deployment.topology.wso2_nodes]
    folder = f"{carbon.home_of(deployment.spec)}/{DEPLOYMENT}"
    names = " ".join(f"{below}/*{suffix}" for suffix, below in FOLDERS.items())
    script = f'cd {folder} && for file in {names}; do [ ! -f "$file" ] || sha256sum "$file"; done'

    def ask(host: Host) -> dict[str, str]:
        told = host.run(f"sudo -n sh -c {shlex.quote(script)}", timeout=60)
        if not told.succeeded:  # an empty answer would make every worker look complete
            raise HostError(f"the applications cannot be listed: {told.stderr.strip()}", f"{host.name}: {folder}", "run chapter 03, then this one again")
        return {name: digest for digest, name in (line.split(maxsplit=1) for line in told.stdout.splitlines())}

    return deployment.fleet().each(ask, nodes)


def lacking_of(there: Mapping[str, Mapping[str, str]], manager: str, workers: Sequence[str]) -> dict[str, list[str]]:
    """Return, for each worker, the manager's archives that it lacks or has with other content."""
    return {name: [archive for archive, digest in there[manager].items() if there[name].get(archive) != digest] for name in workers}


def on_every_worker(deployment: Session, there: Mapping[str, Mapping[str, str]], quiet: bool = False) -> list[Check]:
    """Return the check that every worker has the manager's archives, byte for byte, and (not when `quiet`) serves the demonstration application."""
    d = deployment
    manager, workers = d.topology.of("as-manager")[0].name, [node.name for node in d.topology.of("as-worker")]
    lacking = lacking_of(there, manager, workers)
    if DEMONSTRATION in there[manager] and not quiet:
        for name, answers in d.fleet().each(lambda host: _answers(d, host), workers).items():
            lacking[name] += [] if answers else [f"no answer at {PROBE}"]
    wrong = [f"{name}: {', '.join(words)}" for name, words in lacking.items() if words]
    observed = "; ".join(wrong) or (", ".join(workers) if there[manager] else "nothing was put on the manager")
    title = "The applications of the manager are on every worker"
    return [answered("cluster-artifact-as", title, not wrong, ", ".join(workers), observed, manager, CHAPTER["as"])]


def _answers(deployment: Session, host: Host) -> bool:
    """Return whether the demonstration application responds on this node, requested from the node itself."""
    address = deployment.topology.node(host.name).address
    try:
        return _probe(Client({address: address}, None, through(host)).get(f"https://{address}:{HTTPS_PORT}{PROBE}")) is not None
    except OSError:
        return False


def shut(front: Front, deployment: Session) -> list[Check]:
    """Return the checks of who reaches the console and the administration services.

    They are refused on the worker host, on the workers and from the rest of the subnet; the operator reaches the console at the manager host.
    """
    visitor, login = front.visitor(), "/carbon/admin/login.jsp"
    title = "The worker host has no console"
    table = [_refused("cluster-console-worker-host", title, visitor, front.url("as", login))]
    for number, path in enumerate(SERVICES, 1):
        id_, title = f"cluster-services-worker-host-{number}", "The worker host has no administration services"
        table.append(_refused(id_, title, visitor, front.url("as", path)))
    table.append(_console(visitor, front.url("mgt", login)))
    title = "The manager host is shut to the rest of the subnet"
    inside = front.neighbour()
    table.append(_refused("cluster-console-neighbour", title, inside, front.url("mgt", login)))
    password = deployment.vault.get(ADMIN_PASSWORD)
    for node in deployment.topology.of("as-worker"):
        table.append(_refused_by_worker(node, signs_in(deployment.fleet()[node.name], node.address, password, "as")))
    return table


def _refused(id: str, title: str, visitor: Client, url: str) -> Check:
    """Return the check that Nginx refuses a request with a 403 or 404 page of its own; undecided when there is no response."""
    status: Status
    try:
        answer = visitor.request("POST" if "/services/" in url else "GET", url, data=b"")
        nginx = "<center>nginx" in answer.text
        refused = answer.status in (403, 404) and nginx
        status, seen = ("pass" if refused else "fail"), f"{answer.status} {'by Nginx' if nginx else 'by the product'}"
    except OSError as error:
        status, seen = "undecided", str(error)
    return Check(id, title, status, "refused", seen, url, CHAPTER["as"])


def _refused_by_worker(node: Node, code: int | None) -> Check:
    """Return the check that a worker refuses the administrator, by the status of his question to the user store (facts 3.7).

    Only he gets that far: the product refuses everybody else, on a manager too, before it looks whether it is a worker.
    """
    status: Status = "pass" if code == WORKER else "undecided" if code in (None, WRONG_PASSWORD) else "fail"
    seen = {None: "no answer", WORKER: "refused by the product"}.get(code, f"{code} by the product")
    if code == WRONG_PASSWORD:
        seen += ", which does not take the administrator's password in Parameter Store: the check administrator-as of chapter 03 says what to do"
    url = f"https://{node.address}:{HTTPS_PORT}{AS.path}"
    return Check(f"cluster-services-{node.name}", f"{node.name} refuses administration services", status, "refused", seen, url, CHAPTER["as"])


def _console(visitor: Client, url: str) -> Check:
    """Return the check that the URL shows the console's login form."""
    answer = visitor.get(url)
    there = answer.status == 200 and answer.form("password") is not None
    return answered("cluster-console-manager-host", "The manager host shows the console's login", there, "login form",
                "login form" if there else f"{answer.status}", url, CHAPTER["as"])  # fmt: skip


def _probe(answer: Answer) -> dict[str, object] | None:
    """Return what the probe application reports (node, session, counter), or None when the response is not from it."""
    try:
        told = json.loads(answer.text)
    except ValueError:
        return None
    return told if answer.status == 200 and {"node", "session", "counter"} <= set(told) else None
