"""Another pack in the place of a running node's: what goes before, when the new one is proven, and how the old one comes back.

The agent keeps the old home beside the new one and leaves a mark in the new one (`converge/agent/homes.py`). The mark goes when the node
serves, the old home when the chapter is verified. A node that carries the mark and does not serve gets its old home back. Both lie on the
node, so that a run which is killed is continued by any other.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress

from runbook_lib.changes import Change, Pending, Plan
from runbook_lib.converge.agent.archives import STAMP
from runbook_lib.converge.agent.homes import PREVIOUS, UNPROVEN
from runbook_lib.converge.archive import Archive
from runbook_lib.errors import HostError
from runbook_lib.operations import startup
from runbook_lib.roles import carbon
from runbook_lib.roles.carbon_settings import home_of
from runbook_lib.roles.context import Context
from runbook_lib.session import VERSION_FILE
from runbook_lib.ssh import Fleet, Host
from runbook_lib.topology.databases import databases_of

DUMP, PROOF = "dump", "new pack"  # stages, as plans name them
BACK = """set -eu
[ -d {old} ] || {{ echo "there is no {old} any more"; exit 3; }}
systemctl stop {unit}
rm -rf {failed}
mv {home} {failed}
mv {old} {home}
rm -rf {failed}
systemctl enable {unit}
"""


def replaced_by(plan: Plan) -> set[str]:
    """Return the names of the hosts on which this plan puts another archive in the place of a program's home."""
    homes = {(name, one.key) for name, stages in plan.wish.items() for stage in stages for one in stage.resources if isinstance(one, Archive) and one.home}
    return {p.host for p in plan.pending if p.change.verb == "replace" and (p.host, p.change.key) in homes}


def dumps_due(ctx: Context, plan: Plan) -> tuple[Pending, ...]:
    """Return the databases that go to S3, as one backup, before a replacement: another version may change what it finds there."""
    if not replaced_by(plan) & ctx.booted:
        return ()
    db = ctx.topology.db.name
    return tuple(
        Pending(db, DUMP, Change(f"database {database.name}", "dump", "into S3, before the pack is replaced: the new one may change what it finds"))
        for database in databases_of(ctx.spec.pattern)
    )


def running(fleet: Fleet, ctx: Context) -> tuple[str, str] | None:
    """Return what the product's own bin/version.txt says and the SHA-256 of its pack, from the first booted node that answers; None where none does."""
    home = shlex.quote(home_of(ctx.spec))
    for name in _serving(ctx):
        with suppress(HostError):
            said = fleet[name].run(f"sudo -n sh -c 'cd {home} && cat {STAMP} && {{ [ ! -e {VERSION_FILE} ] || cat {VERSION_FILE}; }}'", timeout=60)
            if said.succeeded:
                sha256, *version = said.stdout.split()
                return " ".join(version), sha256
    return None


def proofs_due(names: Collection[str]) -> tuple[Pending, ...]:
    """Return what is left of a replacement that was cut short: these nodes have the new pack and were not seen serving since."""
    summary = "it is in place and was not seen serving: otherwise the old home comes back"
    return tuple(Pending(name, PROOF, Change("the new pack", "watch", summary)) for name in sorted(names))


def unproven(fleet: Fleet, ctx: Context, names: Collection[str]) -> set[str]:
    """Return which of these nodes have a new pack and were not seen serving since."""
    mark = shlex.quote(f"{home_of(ctx.spec)}/{UNPROVEN}")
    there = fleet.each(lambda host: host.run(f"sudo -n test -e {mark}").succeeded, names)
    return {name for name, has in there.items() if has}


def _serving(ctx: Context) -> list[str]:
    return [node.name for node in ctx.topology.wso2_nodes if node.name in ctx.booted]


def prove(fleet: Fleet, ctx: Context, names: Sequence[str]) -> None:
    """Take the mark off these nodes, which serve."""
    mark = shlex.quote(f"{home_of(ctx.spec)}/{UNPROVEN}")
    fleet.each(lambda host: host.run(f"sudo -n rm -f {mark}"), names)


def roll_back(fleet: Fleet, ctx: Context, names: Collection[str], tell: Callable[[str, str], object]) -> None:
    """Give these nodes their old homes back, start them and wait until they serve; `tell` gets a node and a line of progress.

    Raises HostError when a node has no old home any more, or does not serve with it either.
    """
    home = home_of(ctx.spec)
    script = BACK.format(home=home, old=home + PREVIOUS, failed=f"{home}.failed", unit=carbon.UNIT)

    def back(host: Host) -> None:
        tell(host.name, "does not serve with the new pack: the old home comes back")
        done = host.run("sudo -n sh", script.encode(), timeout=ctx.spec.timeouts.stop + startup.SILENCE)
        if done.rc:
            words = done.stderr.strip() or done.stdout.strip()
            raise HostError(f"the old home of {host.name} cannot be put back: {words}", f"{host.name}: {home}{PREVIOUS}", "look at the node's disk")
        startup.start(fleet, ctx, host.name, "start")

    fleet.each(back, sorted(names))


def old_homes(fleet: Fleet, ctx: Context) -> dict[str, int]:
    """Return by node name the size in MiB of the home that was replaced, for the nodes that still have one."""
    old = shlex.quote(home_of(ctx.spec) + PREVIOUS)
    said = fleet.each(lambda host: host.run(f"sudo -n sh -c '[ ! -d {old} ] || du -sm {old}'").stdout, _serving(ctx))
    return {name: int(text.split()[0]) for name, text in said.items() if text.strip()}


def remove_old_homes(fleet: Fleet, ctx: Context, there: Mapping[str, int]) -> None:
    """Remove the homes that were replaced from these nodes."""
    old = shlex.quote(home_of(ctx.spec) + PREVIOUS)
    fleet.each(lambda host: host.run(f"sudo -n rm -rf {old}", timeout=300), list(there))
