"""The failover drill: counts failed requests and lost sessions during a power cut, a rolling restart or a reload of Nginx.

    drill(deployment)                                   # cut a node of the first host, and restore it
    drill(deployment, rate=20)                          # requests per second; by default `drill.rate` or measured (`ramp.py`)
    drill(deployment, kind="rolling-restart")
    drill(deployment, kind="nginx-reload", seconds=15)
    drill(deployment, kind="manager-cut")               # the manager of an AS cluster; its applications stay available

A steady stream of GET requests over TLS runs meanwhile (`load.py`). A request has failed when it gets an error status
(any but 200 from an AS cluster, which redirects from what nobody deployed), when its connection ends without a response,
or when there is no complete response within 10 s. The product does not
replicate sessions (facts 3.8): visitors of a stopped node lose their session, and they lose the next one when the node
is back and the route cookie sends them to it again. The drill counts the two losses separately.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runbook_lib.checks.drill.load import Sample, Stream, Target
from runbook_lib.checks.drill.ramp import measured
from runbook_lib.checks.drill.result import Drill
from runbook_lib.errors import CloudError, RunbookError
from runbook_lib.notebook import display
from runbook_lib.operations import demo_app, startup
from runbook_lib.operations.rolling_restart import left_out, rolling_restart, take_out
from runbook_lib.spec.patterns import ROLE_OF_COUNT
from runbook_lib.tables import counted
from runbook_lib.waiting import wait_until
from runbook_lib.webclient.client import Client

if TYPE_CHECKING:
    from runbook_lib.session import Session
    from runbook_lib.topology.model import Node

# Pages that create a session for every visitor, so that a loss can be seen. The Store's first page creates none for visitors who are not signed in.
PATHS = {"as": demo_app.PATH, "store": "/store/pages/sso-login", "publisher": "/publisher/pages/sso-login"}
CHAPTERS = {"as": "06_verify_as_cluster", "greg": "07_verify_sso_separation"}
NEED_ANOTHER = ("power-cut", "rolling-restart")  # of the nodes behind the host, one that serves meanwhile
FAIR = 0.5  # part of a node's former share of the requests from which the balance counts as restored
WINDOW, ENOUGH = 2.0, 20  # seconds and requests over which a share is taken at least
VISITORS, LEAST, OFTEN = 60, 20, 5  # most and least visitors; each makes a request at least every OFTEN seconds where LEAST allows it


def drill(
    deployment: Session,
    kind: str = "power-cut",
    host: str = "",
    node: str = "",
    path: str = "",
    rate: float | None = None,
    seconds: float = 30.0,
    visitors: int | None = None,
) -> Drill:
    """Run a drill on a public host and return its result.

    `kind`: power-cut, manager-cut, rolling-restart or nginx-reload. `host`: key of the public host (`as`, `store`, …; default:
    the pattern's first). `node`: the node to cut (default: the last behind the host). `path`: the page to request. `rate`:
    requests per second (default: `drill.rate` of the parameters, else a rate that is measured). `seconds`: the least length of
    the stream, which goes on until the node serves again or its time limit is over. `visitors`: 60 by default, fewer at a low rate.
    It begins once every node behind the host serves new visitors, and none loses a session (`settle`); nodes that a drill which was cut
    short left out of Nginx are put back first.
    Raises `RunbookError` for an unknown kind or node, when requests fail before the drill or a node does not serve or run, and when an
    operation of the drill fails.
    """
    if kind not in KINDS:
        raise RunbookError(f"no drill {kind!r}", "kind", f"there is: {', '.join(KINDS)}")
    key = host or deployment.spec.design.hosts[0]
    behind = deployment.topology.upstream(key)
    chosen = next((found for found in behind if found.name == node), behind[-1])
    if node and chosen.name != node:
        raise RunbookError(f"{node} is not behind {key}", "node", f"there is: {', '.join(n.name for n in behind)}")
    fleet = deployment.fleet()  # raises when a machine does not run: `settle` would wait for it in vain
    if out := left_out(deployment):
        startup.wait_ready(fleet, deployment.context(), out)
        take_out(deployment, ())
    target = target_of(deployment, key, path)
    settle(target, [found.name for found in behind], deployment.spec.timeouts.ssh + deployment.spec.timeouts.boot)
    rate = rate or deployment.spec.drill_rate
    ramp = None if rate else measured(target, visitors or VISITORS)
    rate = rate or ramp.rate  # type: ignore[union-attr]
    visitors = visitors or people_for(rate)
    began = _Run(deployment, chosen, behind, seconds)
    with Stream(target, rate, visitors) as stream:
        if ramp:
            stream.mark(ramp.why)
        balance = KINDS[kind](began, stream)
        stream.until(seconds)
    touched = {"power-cut": (chosen,), "rolling-restart": behind}.get(kind, ())
    return Drill(
        kind=kind,
        host=target.host,
        chapter=CHAPTERS[deployment.spec.design.product],
        rate=rate,
        seconds=stream.seconds,
        samples=tuple(stream.samples),
        marks=tuple(stream.marks),
        nodes=tuple(found.name for found in behind),
        touched=tuple(found.name for found in touched),
        visitors=visitors,
        balance=balance,
        holders=stream.holders,
        ramp=ramp,
        homes=stream.homes,
    )


def settle(target: Target, nodes: Sequence[str], seconds: float) -> None:
    """Wait until new visitors are led to every one of these nodes and keep their sessions: what was restarted before is back in Nginx's balance.

    Nginx leaves out a node that failed for a while (`fail_timeout`). Who arrives meanwhile is led home later and loses a session by it, which
    a drill would take for a loss of its own. Raises `RunbookError` when it is not so after `seconds`.
    """

    def lacking() -> str:
        visitors = max(LEAST, 4 * len(nodes))
        with Stream(target, rate=visitors, visitors=visitors) as stream:
            stream.until(WINDOW)
        absent = [name for name in nodes if name not in stream.homes.values()]
        lost = sum(sample.lost for sample in stream.samples)
        return f"no new visitor is led to {', '.join(absent)}" if absent else f"{counted(lost, 'visitor')} lost a session" if lost else ""

    found = wait_until(lacking, seconds, pause=0, enough=lambda reason: not reason)
    if found:
        raise RunbookError(f"before the drill {found}", target.host, "verify the chapters before; then drill again")


def people_for(rate: float) -> int:
    """Return the number of visitors for this rate (requests per second): few enough that each sends a request often and notices a lost session."""
    return min(VISITORS, max(LEAST, round(OFTEN * rate)))


def target_of(deployment: Session, key: str, path: str = "") -> Target:
    """Return the target of a stream: `path` (default: a page of the host's application) on the public host `key`."""
    host, lb = deployment.topology.host(key), deployment.topology.lb_for(key)
    status = 200 if deployment.spec.design.product == "as" else 0
    return Target(host, deployment.public_addresses()[lb.name], path or PATHS.get(key, "/"), deployment.vault.get("ca.pem"), status=status)


def nothing_to_show(deployment: Session, kind: str, path: str = "") -> str:
    """Return why a drill of this kind on the first public host would show nothing, and what to do about it; "" where it would show something."""
    key = deployment.spec.design.hosts[0]
    behind = deployment.topology.upstream(key)
    if kind in NEED_ANOTHER and len(behind) == 1:
        more = ", ".join(
            f"`nodes.{name}: 2`" for name, (_, most, _) in deployment.spec.design.nodes.items() if ROLE_OF_COUNT[name] == behind[0].role and most > 1
        )
        step = f"{more} in the params file gives it one" if more else "this pattern has one only"
        return f"no drill: {behind[0].name} is the only node behind {deployment.topology.host(key)} and has no stand-in, so every request would fail; {step}"
    why = not_there(target_of(deployment, key, path))
    return f'no drill: {why}, or drill with a page of yours, as in deployment.cluster.drill(path="/app/")' if why else ""


def not_there(target: Target) -> str:
    """Return that an AS cluster's page does not answer as one that was deployed, and what to do; "" where it does, or where nobody answers."""
    if not target.status:
        return ""
    try:
        status = Client({target.host: f"{target.address}:{target.port}"}, target.ca).get(target.url).status
    except OSError:
        return ""
    if not target.refuses(status):
        return ""
    return f'{target.url} answers {status}: deploy the demonstration application in chapter 03 (war = "{demo_app.NAME}")'


@dataclass(frozen=True)
class _Run:
    """One drill: the deployment, the node to cut, the nodes behind the public host, the length in seconds."""

    deployment: Session
    node: Node
    behind: Sequence[Node]
    seconds: float

    def power_cut(self, stream: Stream) -> float | None:
        """Cut the node's power and restore it; return the seconds from then until it serves its share again, or None if it does not.

        A quarter of the time passes before the cut, and a quarter without the node. Its boot is followed in the product's log; what it
        may take for its share afterwards is the time that a host and the product may take to boot. Raises `RunbookError` when EC2 does not
        report the instance as stopped or running in time, and `HostError` with the log's words when the product does not start.
        """
        name, patience = self.node.name, self.deployment.spec.timeouts
        stream.until(self.seconds / 4)
        before = list(stream.homes.values()).count(name) / stream.visitors
        restored = self._without_power(stream, name, self.seconds / 2)
        limit = stream.now + patience.ssh + patience.boot
        if not stream.wait(lambda: share(stream.ended_since(restored), name) > 0, limit - stream.now):
            return None
        stream.mark(f"{name} answers again")
        if not stream.wait(lambda: _balanced(stream, name, before), limit - stream.now):
            return None
        at = stream.mark(f"{name} serves its share again")
        stream.until(at + window(stream.rate))
        return at - restored

    def manager_cut(self, stream: Stream) -> None:
        """Cut the manager's power and restore it. The stream uses the workers only, so no request may fail.

        Raises `RunbookError` when there is no manager, or when it does not start again in time.
        """
        name = next((node.name for node in self.deployment.topology.of("as-manager")), "")
        if not name:
            raise RunbookError("there is no manager here", "kind", "this drill is for an Application Server cluster")
        stream.until(self.seconds / 4)
        self._without_power(stream, name, self.seconds * 3 / 4)
        stream.mark(f"{name} serves again")

    def _without_power(self, stream: Stream, name: str, until: float) -> float:
        """Cut the node's power, restore it at `until`, and follow its boot to the end; return when the power was back, in seconds after the stream's start.

        An error or an interrupt before that gives the power back as well, and is raised again.
        """
        d = self.deployment
        d.fleet()[name].close()  # after the cut our SSH session would get no response but look open
        stream.mark(f"power of {name} cut")
        try:
            d.cloud.power_cut(name)
            _state(d, name, "stopped")
            stream.until(until)
            d.cloud.start(name)
        except BaseException:
            display.show(display.Notice(f"the drill ends early: {name} is started again. Should that fail, chapter 01 starts it"))
            seconds = d.spec.timeouts.running
            wait_until(lambda: d.cloud.start(name), seconds, pause=0.5, enough=lambda answer: True, again_after=_still_stopping)
            _state(d, name, "running")
            raise
        restored = stream.mark(f"power of {name} back")
        _state(d, name, "running")
        d.wait_for_ssh([name])
        startup.start(d.fleet(), d.context(), name, "watch")
        return restored

    def rolling_restart(self, stream: Stream) -> None:
        """Restart the nodes in turn, and go on until each serves visitors again: the sessions that are lost on the way home are part of it."""
        names, patience = [node.name for node in self.behind], self.deployment.spec.timeouts
        stream.until(self.seconds / 6)
        rolling_restart(self.deployment, names, stream.mark)
        ended = stream.mark("the last node is back")
        stream.wait(lambda: all(share(stream.ended_since(ended), name) > 0 for name in names), patience.ssh + patience.boot)
        stream.until(stream.now + window(stream.rate))

    def nginx_reload(self, stream: Stream) -> None:
        """Reload Nginx three times, at equal intervals."""
        host = self.deployment.fleet()[self.deployment.topology.lb_for(_key(self.deployment, self.behind)).name]
        for part in (1, 2, 3):
            stream.until(self.seconds * part / 4)
            stream.mark("Nginx reloads")
            host.run("sudo -n systemctl reload nginx", timeout=60)


KINDS: Mapping[str, Callable[[_Run, Stream], float | None]] = {
    "power-cut": _Run.power_cut,
    "manager-cut": _Run.manager_cut,
    "rolling-restart": _Run.rolling_restart,
    "nginx-reload": _Run.nginx_reload,
}


def _key(deployment: Session, behind: Sequence[Node]) -> str:
    """Return the key of the first public host that has exactly these nodes."""
    return next(key for key in deployment.spec.design.hosts if tuple(deployment.topology.upstream(key)) == tuple(behind))


def share(samples: Sequence[Sample], node: str) -> float:
    """Return the share (0 to 1) of the requests that this node served; 0 without requests."""
    return sum(sample.node == node for sample in samples) / len(samples) if samples else 0.0


def window(rate: float) -> float:
    """Return the seconds over which a share is taken: at least WINDOW, and enough for ENOUGH requests."""
    return max(WINDOW, ENOUGH / rate)


def _balanced(stream: Stream, node: str, before: float) -> bool:
    """Return whether the node's share over the last `window` seconds is at least FAIR of `before`; False when it had no share before."""
    return share(stream.ended_since(stream.now - window(stream.rate)), node) >= FAIR * before > 0


def _still_stopping(error: BaseException) -> bool:
    """Return whether EC2 refused to start an instance because it is not stopped yet."""
    return isinstance(error, CloudError) and error.code == "IncorrectInstanceState"


def _state(deployment: Session, node: str, wanted: str) -> None:
    """Wait until the instance has the wanted EC2 state: it cannot be started before it is stopped.

    Raises `RunbookError` when it does not reach the state in time.
    """
    seconds = deployment.spec.timeouts.running
    state = wait_until(lambda: deployment.cloud.instance(node).state, seconds, pause=0.5, enough=lambda state: state == wanted)
    if state != wanted:
        raise RunbookError(f"{node} is not {wanted} after {seconds} s but {state}", "EC2", "look at the machine in the EC2 console")
