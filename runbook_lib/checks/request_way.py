"""The way of a request: made from outside, and then looked for in Nginx's access log, at the node that answered, and at its database connections.

Nothing is checked here; chapter 05 shows it as a picture.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from runbook_lib.checks.nginx import ENTRY, GUARDED
from runbook_lib.errors import RunbookError
from runbook_lib.roles import nginx
from runbook_lib.spec.front_doors import find, open_doors
from runbook_lib.ssh import Host
from runbook_lib.waiting import wait_until
from runbook_lib.webclient.client import Client
from runbook_lib.webclient.response import Answer, Exchange

if TYPE_CHECKING:
    from runbook_lib.session import Session

LOG = "/var/log/nginx/access.log"
LINES = 400  # of the log's end that are read
TIMES = r"[\d.-]+(?:(?:, | : )[\d.-]+)*"  # one for each node that was tried
# The log format of roles/nginx.conf.j2. A request that was tried on several nodes has several addresses.
LINE = re.compile(
    r'^(?P<client>\S+) (?P<time>\S+) "(?P<method>\S+) (?P<host>[^/ ]+)(?P<path>[^"]*)" (?P<status>\d+) \d+ (?P<seconds>[\d.]+) '
    rf'upstream="(?P<upstream>[^"]*)" (?P<connect>{TIMES}) (?P<response>{TIMES})$'
)
CONNECTIONS = "ss -Htn state established '( dport = :3306 )' | wc -l"


@dataclass(frozen=True)
class Logged:
    """One line of Nginx's access log. `upstream`: the address that it asked, "-" for none; times in seconds, as the log has them."""

    client: str
    time: str
    method: str
    host: str
    path: str
    status: str
    seconds: str
    upstream: str
    connect: str
    response: str


def logged(text: str) -> Iterator[Logged]:
    """Yield the lines of an access log that have the runbook's format."""
    for line in text.splitlines():
        if found := LINE.match(line.strip()):
            yield Logged(**found.groupdict())


def ways(deployment: Session, host: str = "") -> dict[str, Any]:
    """Make three requests at a public host (its key; default: the first) and return what became of each, as values for the picture.

    The first comes without a cookie, the second with the route cookie that the first got, the third asks for what belongs to another host.
    Raises RunbookError for a host that the deployment has not, and when no answer comes.
    """
    d = deployment
    context = d.context()
    key = host or next(iter(d.spec.hosts))
    if key not in d.spec.hosts:
        raise RunbookError(f"no public host {host!r} in {d.spec.deployment}", "host", f"one of {', '.join(d.spec.hosts)}")
    name, lb = d.spec.hosts[key], d.topology.lb_for(d.spec.hosts[key])
    client = Client({name: d.public_addresses()[lb.name]}, context.secrets["ca.pem"])
    names = {node.address: node.name for node in d.topology.wso2_nodes}
    made = []
    for path in (ENTRY[key], ENTRY[key], GUARDED[key][0]):
        answer = _answer(client, f"https://{name}{path}", lb.name)
        line = _line(d.fleet()[lb.name], client.exchanges[-1], path, name)
        asked = [names.get(address.strip().rpartition(":")[0], address) for address in line.upstream.split(",")] if line and line.upstream != "-" else []
        node = answer.header("X-Served-By") or (asked[-1] if asked else "")
        made.append(
            {
                "exchange": vars(client.exchanges[-1]),
                "logged": asdict(line) if line else None,
                "asked": asked,
                "node": node,
                "door": _door(d, key, path) if nginx.guarded(context) else {},
                "database": _database(d, node),
            }
        )
    return {"deployment": d.spec.deployment, "host": name, "nginx": lb.name, "db": d.topology.db.name, "guarded": nginx.guarded(context), "made": made}


def _answer(client: Client, url: str, lb: str) -> Answer:
    try:
        return client.get(url, headers={"X-Runbook-Probe": "1"})
    except OSError as error:
        raise RunbookError(f"no answer to {url}: {error}", lb, "deployment.nginx.verify() says what is wrong with Nginx") from error


def _line(lb: Host, one: Exchange, path: str, host: str) -> Logged | None:
    """Return the newest line of the access log that is of this exchange, or None: by method, host, path and status, and by its time."""
    since = datetime.fromisoformat(one.at) - timedelta(seconds=2)  # the log has whole seconds, and a clock of its own

    def newest() -> Logged | None:
        lines = logged(lb.run(f"sudo -n tail -n {LINES} {shlex.quote(LOG)}", timeout=30).stdout)
        mine = [line for line in lines if (line.method, line.host, line.path, line.status) == (one.method, host, path, str(one.status))]
        return next((line for line in reversed(mine) if datetime.fromisoformat(line.time).astimezone(UTC) >= since), None)

    return wait_until(newest, 3.0, pause=0.3)


def _door(d: Session, key: str, path: str) -> Mapping[str, Any]:
    """Return the row of the front doors that lets a path through; its `path` is empty where none does. Empty for a host that has no such list."""
    if d.spec.design.product != "greg" or d.spec.hardening != "full":
        return {}
    door = find(open_doors(d.spec, key), "GET", path)
    return {"path": door.path, "why": door.why} if door else {"path": "", "why": ""}


def _database(d: Session, node: str) -> int:
    """Return how many connections to the database server the node holds now; 0 for a request that reached no node."""
    if node not in {one.name for one in d.topology.wso2_nodes}:
        return 0
    return int(d.fleet()[node].run(CONNECTIONS, timeout=30).stdout.strip() or 0)
