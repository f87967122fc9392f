"""Replace passwords, keys and certificates while the cluster serves; prove the new in use and the old refused.

1. New values are declared in Parameter Store beside the old ones, and become the values there (`aws/rotation.py`).
2. The chapters bring them to the machines as they bring any change: one node of a role at a time, out of Nginx meanwhile, each at most once.
3. `finish` brings what needed every node first, proves, and only then forgets the old values.

A run goes the same way: chapter 01 promotes, the chapters converge, and chapter 05 finishes. So a rotation that was killed anywhere ends by the
next run, or by the same command, in one value.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from runbook_lib.aws import rotation
from runbook_lib.changes import Change, Pending, Plan
from runbook_lib.chapters.base import announce, announced, banner
from runbook_lib.check import CheckTable
from runbook_lib.converge import engine
from runbook_lib.errors import ChecksFailed, RunbookError
from runbook_lib.launch import secrets
from runbook_lib.launch.secrets import ROTATED, SSH_KEY
from runbook_lib.operations import rolling_restart, rotated, startup
from runbook_lib.operations.lost_database import refuse_lost_data
from runbook_lib.roles.context import Context
from runbook_lib.session import Unknown
from runbook_lib.spec.chapters import chapters_of
from runbook_lib.tables import Table, counted

if TYPE_CHECKING:
    from runbook_lib.session import Session

EVERY = "all"
STAGE = "rotation"


@dataclass(frozen=True)
class Rotated:
    """A rotation that ended: what was replaced, which nodes were restarted for it, and the rows that prove it."""

    what: tuple[str, ...]
    restarted: tuple[str, ...]
    checks: CheckTable

    def table(self) -> Table:
        """Return it as a table: a row for each thing, with what was seen of its new and of its old value."""
        seen = {check.id: f"{check.mark[0]}: {check.observed}" for check in self.checks}
        rows = [(name, ROTATED[name], seen.get(f"rotated-{name}-in-use", ""), seen.get(f"rotated-{name}-refused", "")) for name in self.what]
        note = f"restarted, each once: {', '.join(self.restarted)}" if self.restarted else "no node was restarted"
        return Table(("Rotated", "What it is", "New value in use", "Old value refused"), rows, f"{counted(len(self.what), 'secret')} rotated", note)

    def _repr_html_(self) -> str:
        return self.table()._repr_html_()

    def __str__(self) -> str:
        return str(self.table())

    __repr__ = __str__


def chosen(what: Sequence[str]) -> tuple[str, ...]:
    """Return the rows of `ROTATED` that are named, in their order; all for `all`. Raises RunbookError for an unknown name, with the nearest, and for none."""
    for name in what:
        if name not in (*ROTATED, EVERY):
            near = difflib.get_close_matches(name, (*ROTATED, EVERY), 1, 0.4)
            hint = f"did you mean {near[0]}? " if near else ""
            raise RunbookError(f"{name!r} cannot be rotated", "rotate", f"{hint}there is: {', '.join(ROTATED)}, and {EVERY}")
    if not what:
        raise RunbookError("nothing is named that is to be rotated", "rotate", f"there is: {', '.join(ROTATED)}, and {EVERY}")
    return tuple(name for name in ROTATED if name in what or EVERY in what)


def rotate(d: Any, what: Sequence[str]) -> Rotated:
    """Replace what is named, and what an earlier rotation began; return what was done and proven. `d`: a Deployment, whose module imports this one.

    Something that is half rotated is not replaced once more: that rotation is finished. Raises RunbookError for an unknown name, and where the
    deployment is not as its parameters say: nothing was touched then. Raises ChecksFailed where a proof fails: the old values stay known, and the
    same command, or a run, goes on.
    """
    names = chosen(what)
    announce(banner(d))
    with announced(), d.writing(), d.journal.attempt(d.nginx.name, "rotate"):
        _refuse_unfit(d)
        _begin(d, names)
        if plan := d.launch.plan():
            d.launch.apply(plan)
        nodes = d.product
        plan = nodes.plan()
        restarted = tuple(sorted(rolling_restart.restarted_by(plan)))
        nodes.apply(plan)
        under_way = things(d, d.vault.names())
        done = Rotated(under_way, restarted, finish(d))
        if plan:
            nodes.verify()
        return done


def things(d: Session, stored: Iterable[str]) -> tuple[str, ...]:
    """Return the rows of `ROTATED` of which a rotation is under way, by the names in the vault. The certificates that an authority signs go with it."""
    names = set(rotation.unfinished(stored))
    tell = {what: (rotation.CA,) if what == "ca" else secrets.names_of(d.topology, what) for what in ROTATED}
    return tuple(what for what in ROTATED if names.intersection(tell[what]))


def _refuse_unfit(d: Any) -> None:
    """Raise RunbookError where a machine is missing, data is lost, or something else is to be changed: a rotation would bring that too."""
    context = d.context()
    if out_of_reach := d.out_of_reach():
        words = "; ".join(f"{name}: {why}" for name, why in out_of_reach.items())
        raise RunbookError(f"nothing was rotated: {words}", d.spec.deployment, "./runbook run PARAMS first")
    refuse_lost_data(d, context)
    waiting = [node.name for node in d.topology.wso2_nodes if node.name not in context.booted]
    if waiting:
        raise RunbookError(f"nothing was rotated: {', '.join(waiting)} never booted", d.spec.deployment, "./runbook run PARAMS first")
    if things(d, context.secrets):
        return  # what is to be changed belongs to a rotation that was begun
    for chapter in chapters_of(d.spec.pattern):
        if chapter.converges and (plan := getattr(d, chapter.attribute).plan()):
            raise RunbookError(f"nothing was rotated: there is something else to change\n{plan}", chapter.name, "./runbook run PARAMS first, then rotate")


def _begin(d: Session, names: Sequence[str]) -> None:
    """Declare new values for what is not under way already, and give the machines the SSH key."""
    stored = d.vault.read_all()
    rotation.drop_half_an_authority(d.vault, stored)
    under_way = rotation.unfinished(stored)
    new = secrets.successors(d.topology, stored, [name for name in names if name != "ca" or rotation.CA not in under_way])
    rotation.declare(d.vault, {name: value for name, value in new.items() if name not in under_way})
    for name in rotation.declared(d.vault.names()):
        rotate_ssh_key(d) if name == SSH_KEY else rotation.promote(d.vault, name)


def rotate_ssh_key(d: Session) -> None:
    """Let the declared SSH key in on every machine, beside the old one, and sign in with it from then on. EC2's key pair is chapter 01's."""
    rotated.admit(d.fleet(), d.cloud.login_user, d.vault.get(SSH_KEY), d.vault.get(rotation.ROTATING + SSH_KEY))
    rotation.promote(d.vault, SSH_KEY)
    d.close()


def due(d: Session, stored: Iterable[str]) -> tuple[Pending, ...]:
    """Return what is left of a rotation when the chapters have brought the new values, as chapter 05 shows it in its plan. `stored`: names in the vault."""
    summary = "its rotation was begun: prove that the old value is refused, then forget it"
    return tuple(Pending(d.topology.lbs[0].name, STAGE, Change(what, "rotate", summary)) for what in things(d, stored))


def finish(d: Any) -> CheckTable:
    """Bring every rotation that was begun to its end: return the rows that prove it, none where none was begun.

    Raises ChecksFailed when one did not pass; the old values are kept then.
    """
    if rotation.ROTATING + SSH_KEY in d.vault.names():
        rotate_ssh_key(d)
        d.cloud.apply()
    ctx = d.context()
    under_way, rows = things(d, ctx.secrets), CheckTable()
    if not under_way:
        rotation.forget(d.vault, ctx.former)
        return rows
    old, settled = ctx.former, replace(ctx, secrets=Unknown(rotation.without_old(ctx.secrets)), former={})
    if SSH_KEY in old:
        rotated.expel(d.fleet(), d.cloud.login_user, old[SSH_KEY], ctx.secrets[SSH_KEY])
    _settle(d, d.mysql, settled)
    database = f"tls/{d.topology.db.name}"
    rotation.forget(d.vault, [database])  # from here on chapter 02 keeps the new certificate: the nodes may soon trust no other
    _settle(d, d.product, settled)
    _settle(d, d.nginx, settled)
    from runbook_lib.checks.secrets.rotation import proofs  # here, because it brings a client of the databases along

    for what in under_way:
        rows += proofs(d, what, old, settled.secrets)
    d.journal.checked(d.nginx.name, rows)
    if failed := rows.failed():
        words = "; ".join(f"{check.title} ({check.id}): {check.observed}" for check in failed)
        error = ChecksFailed(f"a rotation is not proven, and the old values stay known: {words}", d.spec.deployment, "the same command again goes on with it")
        error.table = rows
        raise error
    rotation.forget(d.vault, old)
    return rows


def _settle(d: Any, chapter: Any, ctx: Context) -> None:
    """Bring a chapter's machines to the state in which nothing of an old value is left."""
    fleet, names = d.fleet(), {node.name for node in chapter.nodes()}
    wish = {node.name: stages for node in chapter.nodes() for stages in [chapter.wish_of(node, ctx)]}
    plan: Plan = engine.plan(fleet, wish, chapter.title)
    if not plan:
        return
    products = names <= {node.name for node in d.topology.wso2_nodes}
    batches = rolling_restart.batches(d, ctx, plan) if products else None

    def served(some: Sequence[str]) -> None:
        if products:
            startup.wait_ready(fleet, ctx, some)

    d.journal.changed(chapter.name, engine.apply(fleet, plan, batches=batches, gate=served))
