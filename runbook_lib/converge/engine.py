"""Plan and apply: compare hosts with their desired state, and change what differs.

A plan probes all resources of a host with one remote command and changes nothing. `apply` probes again, refuses when the hosts
changed since the plan, and then runs one command for each stage that has changes, and another to probe the stages after it. A stage
is a group of resources that must be applied before the next group is probed (an archive before its files are edited).
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from runbook_lib.changes import Event, Pending, Plan, Progress, Result
from runbook_lib.converge import agent
from runbook_lib.converge.archive import Archive, Fresh
from runbook_lib.converge.resources import Fact, Resource, Unit, Wire
from runbook_lib.errors import HostError, PlanOvertaken, RunbookError, Stopped
from runbook_lib.redaction import redactor
from runbook_lib.ssh import Fleet, Host


@dataclass(frozen=True)
class Stage:
    """Resources that are applied together, in this order."""

    name: str
    resources: tuple[Resource, ...]


Wish = Mapping[str, Sequence[Stage]]  # by node name
Found = dict[str, list[list[Fact]]]  # by node name, per stage


def ask(host: Host, verb: str, wires: Sequence[Wire], on_progress: Callable[[dict], None] | None = None, timeout: float = 900.0) -> dict:
    """Run the agent once on the host and return its last message.

    `verb` is "probe" or "apply", `timeout` the seconds of silence allowed; `on_progress` is called with each progress message.
    Raises HostError with the host's own message when the agent failed.
    """
    request = json.dumps({"verb": verb, "resources": list(wires)}).encode()
    last: dict = {}

    def on_line(line: str) -> None:
        nonlocal last
        if line.startswith("{"):
            last = json.loads(line)
            if on_progress and "progress" in last:
                on_progress(last)

    done = host.run(agent.COMMAND, agent.program(wire["kind"] for wire in wires) + request, on_line, timeout)
    if "failed" in last or done.rc or not ({"facts", "applied"} & last.keys()):
        words = last.get("failed") or done.stderr.strip()[-2000:] or f"the agent ended with {done.rc} and said nothing"
        raise HostError(redactor.redact(words), f"{host.name}, while it was to {verb} {len(wires)} resources", _advice(words))
    return last


def _advice(words: str) -> str:
    """Return the next step for the user, chosen by the host's message."""
    table = (
        ("No space left", "free space on the host or launch it with a larger disk (cloud.disk_gb), then run the step again"),
        ("cannot fetch", "check the URL and that the machines may reach it (security group, proxy), then run the step again"),
        ("S3 refused (403", "the URL has the operator's rights: ask for s3:PutObject and s3:GetObject on that bucket (docs/iam/operator.json)"),
        ("its manifest says", "restore an earlier backup: --at with an earlier time (./runbook backups PARAMS lists them)"),
        ("has sha256", "the archive at the URL is not the one the parameters name: correct product.sha256 or java.sha256, or the URL"),
        ("which the product brought", "put it back; or terminate the machine and run again from chapter 01: it is made anew"),
        ("Unable to locate package", "the distribution of cloud.image has no such package: choose another name in the parameters"),
        (
            "Packages need to be removed but remove is disabled",
            "a package of the parameters would take the place of installed ones: name what is installed (database.package), or choose another deployment",
        ),
        ("Access denied for user 'root'", "let root in over the socket again: ALTER USER root@localhost IDENTIFIED VIA unix_socket (MySQL: WITH auth_socket)"),
        ("a password is required", "the login user needs passwordless sudo, as the cloud images give it"),
    )
    return next((advice for sign, advice in table if sign in words), "correct what the host says and run the step again: it goes on where it stopped")


def _probe(host: Host, stages: Sequence[Stage]) -> list[list[Fact]]:
    """Return the facts by stage, from one run of the agent."""
    resources = [resource for stage in stages for resource in stage.resources]
    facts = ask(host, "probe", [r.question() for r in resources], timeout=120)["facts"] if resources else []
    found, at = [], 0
    for stage in stages:
        found.append(facts[at : at + len(stage.resources)])
        at += len(stage.resources)
    return found


def _compare(host: str, stage: Stage, facts: Sequence[Fact]) -> list[tuple[Pending, Resource, Fact]]:
    differing = ((resource, fact, resource.change(fact)) for resource, fact in zip(stage.resources, facts, strict=True))
    return [(Pending(host, stage.name, change), resource, fact) for resource, fact, change in differing if change]


def _differing(host: str, stages: Sequence[Stage], found: Sequence[Sequence[Fact]]) -> list[Pending]:
    """Return the changes of all stages that follow from these facts.

    What lies in a tree that an archive is about to replace is compared with the new tree: everything there will be written anew.
    A running unit of a later stage is compared as if the files that it watches had been changed: their change restarts it.
    """
    pending: list[Pending] = []
    replacing: list[Fresh] = []
    changing: list[str] = []
    for stage, facts in zip(stages, found, strict=True):
        for fresh in replacing:
            facts = [resource.foreseen(fact, fresh) for resource, fact in zip(stage.resources, facts, strict=True)]
        facts = [one.after(fact, changing) if isinstance(one, Unit) else fact for one, fact in zip(stage.resources, facts, strict=True)]
        due = _compare(host, stage, facts)
        pending += [p for p, _, _ in due]
        changing += [path for _, resource, _ in due if (path := getattr(resource, "path", ""))]
        trees = [one.fresh(fact) for one, fact in zip(stage.resources, facts, strict=True) if isinstance(one, Archive)]
        replacing += [tree for tree in trees if tree]
    return pending


def plan(fleet: Fleet, wish: Wish, title: str = "plan") -> Plan:
    """Probe the hosts of `wish` in parallel and return what would change. Nothing is changed."""
    return _plan_and_facts(fleet, wish, title)[0]


def _plan_and_facts(fleet: Fleet, wish: Wish, title: str) -> tuple[Plan, Found]:
    """Return the plan and the facts that it was made from."""
    began = time.monotonic()
    found = fleet.each(lambda host: _probe(host, wish[host.name]), wish)
    pending = [p for name in wish for p in _differing(name, wish[name], found[name])]
    return Plan(title, wish, tuple(pending), time.monotonic() - began), found


def apply(
    fleet: Fleet,
    planned: Plan,
    progress: Progress | None = None,
    stop: threading.Event | None = None,
    batches: Iterable[Sequence[str]] | None = None,
    gate: Callable[[Sequence[str]], None] | None = None,
) -> Result:
    """Apply the changes of the plan and return what was changed.

    `progress` is called with each event. When `stop` is set, each host ends before its next stage. `batches` of host names are
    applied one after the other (a rolling change); without them all hosts are applied at once. After each batch that changed
    anything, `gate` is called with its hosts and must return when they serve again.
    Raises PlanOvertaken when a fresh probe differs from the plan: nothing was changed, and its `fresh` is the present plan.
    Raises RunbookError, before anything is changed, when the plan has what cannot be applied (the verb "refuse").
    Raises HostError when a host fails, and Stopped when it was stopped or this process interrupted: what was applied stays (listed
    in the error's `changed`), and another run continues. The hosts that were begun are noted in `planned.begun`.
    """
    began = time.monotonic()
    fresh, found = _plan_and_facts(fleet, planned.wish, planned.title)
    if fresh.pending != planned.pending:
        error = PlanOvertaken(
            f"{planned.title}: the hosts have changed since this plan was made", f"{_overtaken(planned, fresh)}", "look at the fresh plan and apply that one"
        )
        error.fresh = fresh
        raise error
    _refuse(fresh)
    concerned = {p.host for p in fresh.pending}
    changed: dict[str, list[Pending]] = {name: [] for name in concerned}
    try:
        _in_batches(fleet, planned, found, changed, progress, stop, batches, gate)
    except (RunbookError, KeyboardInterrupt) as error:
        ended = error if isinstance(error, RunbookError) else Stopped(f"{planned.title}: interrupted", ", ".join(concerned))
        ended.changed = _in_order(fresh.wish, changed)
        raise ended from None
    return Result(planned.title, _in_order(fresh.wish, changed), tuple(planned.wish), time.monotonic() - began)


def _refuse(fresh: Plan) -> None:
    if refused := [p for p in fresh.pending if p.change.verb == "refuse"]:
        what = "; ".join(f"{p.change.key}: {p.change.summary}" for p in refused)
        where = ", ".join(dict.fromkeys(p.host for p in refused))
        raise RunbookError(f"{fresh.title}: nothing was changed. {what}", where, "do what it says, then plan and apply again")


def _in_order(wish: Wish, changed: Mapping[str, Sequence[Pending]]) -> tuple[Pending, ...]:
    return tuple(p for name in wish for p in changed.get(name, ()))


def _in_batches(
    fleet: Fleet,
    planned: Plan,
    found: Found,
    changed: Mapping[str, list[Pending]],
    progress: Progress | None,
    stop: threading.Event | None,
    batches: Iterable[Sequence[str]] | None,
    gate: Callable[[Sequence[str]], None] | None,
) -> None:
    """Apply the hosts that `changed` has a list for, and add each change to that list when it is done.

    The facts in `found` are used for the first batch that has changes. Later batches are probed again, because time has passed and
    an earlier batch may have changed what they see.
    """
    for batch in batches if batches is not None else [list(planned.wish)]:
        due = [name for name in batch if name in changed]
        planned.begun.update(due)
        fleet.each(lambda host: _apply_host(host, planned.wish[host.name], found.get(host.name), changed[host.name], progress, stop), due)
        if due:
            found.clear()
            if gate:
                gate(due)


def _overtaken(planned: Plan, fresh: Plan) -> str:
    before, now = {(p.host, p.change.key) for p in planned.pending}, {(p.host, p.change.key) for p in fresh.pending}
    moved = sorted(before ^ now) or sorted({(p.host, p.change.key) for p in fresh.pending if p not in planned.pending})
    return "; ".join(f"{host}: {key}" for host, key in moved[:5]) + (" …" if len(moved) > 5 else "")


def _apply_host(
    host: Host, stages: Sequence[Stage], found: list[list[Fact]] | None, changed: list[Pending], progress: Progress | None, stop: threading.Event | None
) -> None:
    """Apply the stages in order; each is compared with facts taken after the stage before it. What was done is added to `changed`.

    Raises HostError when a stage fails or when the host still differs after the last stage, Stopped when `stop` was set.
    """
    facts = found or _probe(host, stages)
    for index, stage in enumerate(stages):
        due = _compare(host.name, stage, facts[index])
        if not due:
            continue
        if stop and stop.is_set():
            raise Stopped(f"stopped before {stage.name} on {host.name}, as asked", host.name)

        def tell(message: dict, stage: Stage = stage) -> None:
            if progress:
                progress(Event(host.name, stage.name, redactor.redact(message["doing"]), message["progress"], message["of"]))

        ask(host, "apply", [resource.order(fact) for _, resource, fact in due], tell)
        changed += [p for p, _, _ in due]
        if progress:
            progress(Event(host.name, stage.name, f"{stage.name} done", len(due), len(due)))
        facts = facts[: index + 1] + _probe(host, stages[index + 1 :])
    if changed and (left := _differing(host.name, stages, _probe(host, stages))):
        names = ", ".join(f"{p.change.key} ({p.change.verb}: {p.change.summary})" for p in left[:4])
        step = "another hand, or a resource at odds with itself: look at the plan"
        raise HostError(f"{host.name} still differs after the apply: {names}", host.name, step)
