"""What a rotation does to machines: database passwords at each node's turn, another SSH key beside the old one and then instead of it.

An account is a name at an address, so every node signs in by accounts of its own. They get the new password while their node is out of
Nginx and about to restart: nobody waits for a connection that is refused meanwhile, with any database server.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from runbook_lib import pki
from runbook_lib.converge import engine
from runbook_lib.converge.engine import Stage
from runbook_lib.errors import HostError
from runbook_lib.operations import rolling_restart
from runbook_lib.roles import mysql
from runbook_lib.roles.context import Context
from runbook_lib.ssh import Fleet, Host

if TYPE_CHECKING:
    from runbook_lib.session import Session

# For root's sh. cloud-init gives root the key too, behind a command that refuses: lines are copied with what stands before the key.
ADMIT = """set -eu
for file in ~{user}/.ssh/authorized_keys ~root/.ssh/authorized_keys; do
  [ -f "$file" ] && grep -qF '{old}' "$file" || continue
  grep -qF '{new}' "$file" || grep -F '{old}' "$file" | sed 's|{old}|{new}|' >> "$file"
done
"""
# The new key must be there before the old one goes. `retired_keys`: user data that once brought the old key does not bring it again.
EXPEL = """set -eu
grep -qF '{new}' ~{user}/.ssh/authorized_keys
for file in ~{user}/.ssh/authorized_keys ~root/.ssh/authorized_keys; do
  [ -f "$file" ] && grep -qF '{old}' "$file" || continue
  cp -p "$file" "$file.runbook"
  grep -vF '{old}' "$file" > "$file.runbook" || [ $? -eq 1 ]
  mv "$file.runbook" "$file"
done
noted=~{user}/.ssh/retired_keys
grep -qsxF '{line}' "$noted" || echo '{line}' >> "$noted"
"""


def at_its_turn(deployment: Session, ctx: Context, batches: Iterable[Sequence[str]]) -> Iterator[Sequence[str]]:
    """Yield the batches of a rolling change; before each, its nodes' accounts get the passwords that are being rotated.

    Where a tier's key is replaced, Nginx trusts both certificates before the first node shows the new one.
    """
    if any(name.startswith("tier-key/") for name in ctx.former) and ctx.booted:
        rolling_restart.take_out(deployment, ())
    for batch in batches:
        if any(name.startswith("db/") for name in ctx.former):
            give_passwords(deployment, ctx, batch)
        yield batch


def give_passwords(deployment: Session, ctx: Context, names: Iterable[str]) -> None:
    """Give the database accounts of these nodes the passwords of Parameter Store."""
    db, fleet = deployment.topology.db, deployment.fleet()
    accounts = tuple(account for name in names for account in mysql.accounts_of(deployment.topology.node(name), ctx))
    if accounts:
        engine.apply(fleet, engine.plan(fleet, {db.name: (Stage("accounts", accounts),)}, "Database accounts"))


def admit(fleet: Fleet, user: str, old: str, new: str) -> None:
    """Let the key `new` in on all machines, beside `old`. Raises HostError where it does not get in then, and `old` stays."""
    _edit(fleet, ADMIT, user, old, new)

    def sign_in(host: Host) -> None:
        other = host.with_key(new)
        try:
            other.transport()
        finally:
            other.close()

    fleet.each(sign_in)


def expel(fleet: Fleet, user: str, old: str, new: str) -> None:
    """Take the key `old` from all machines, which know `new`."""
    _edit(fleet, EXPEL, user, old, new)


def _edit(fleet: Fleet, script: str, user: str, old: str, new: str) -> None:
    lines = pki.ssh_public_key(old).strip(), pki.ssh_public_key(new).strip()
    text = script.format(user=user, old=lines[0].split()[1], new=lines[1].split()[1], line=lines[0]).encode()

    def edit(host: Host) -> None:
        done = host.run("sudo -n bash", text, timeout=60)
        if done.rc:
            step = "look at authorized_keys there; ./runbook rotate PARAMS ssh-key goes on with it"
            raise HostError(f"the keys of {host.name} could not be changed: {done.stderr.strip()}", host.name, step)

    fleet.each(edit)
