"""What ends with a node's disk: what people put into the product's home, which no run brings back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from runbook_lib.changes import Change
from runbook_lib.converge.agent import homes
from runbook_lib.converge.archive import Archive, Home
from runbook_lib.converge.engine import Stage, ask
from runbook_lib.converge.resources import Fact
from runbook_lib.errors import HostError
from runbook_lib.operations.deploy_archive import FOLDERS
from runbook_lib.roles.appserver import DEPLOYMENT
from runbook_lib.ssh import Host
from runbook_lib.tables import counted

KEY, LOSE = "own files", "lose"  # as a plan names them, and its verb
PROBE_SECONDS = 60.0  # of silence
BROUGHT_BACK = tuple((f"{DEPLOYMENT}/{folder}/", ending) for ending, folder in FOLDERS.items())


def lost_with(host: Host, stages: Sequence[Stage], deployed_elsewhere: bool) -> Change | None:
    """Return what a node's home holds that neither its pack nor these stages put there; None for nothing. A node that does not answer may hold anything.

    `deployed_elsewhere`: archives that were deployed come back from another node.
    """
    [archive] = [one for stage in stages for one in stage.resources if isinstance(one, Archive) and one.home]
    try:
        [fact] = ask(host, "probe", [replace(archive, sha256="").question()], timeout=PROBE_SECONDS)["facts"]
    except HostError as error:
        return unknown(error.what.splitlines()[0])
    if fact["exists"] and not fact["known"]:
        return unknown("nobody noted what its pack brought")
    lines = [f"- {words}" for words in _differences(archive.home, fact, BROUGHT_BACK if deployed_elsewhere else ())]
    return Change(KEY, LOSE, f"{counted(len(lines), 'difference')} from the pack that no run brings back: keep a copy", "\n".join(lines)) if lines else None


def unknown(why: str) -> Change:
    """Return what is said of a node that cannot be asked."""
    return Change(KEY, LOSE, f"what people put into the product's home is not known: {why}")


def _differences(home: Home | None, fact: Fact, brought_back: Sequence[tuple[str, str]]) -> list[str]:
    """Return the paths below a home that differ from its pack, each with the reason where there is one."""
    if home is None or not fact["exists"]:
        return []
    found = homes.decide(fact, home.listing, home.rules())
    own = [path for path in found["carry"] if not any(path.startswith(folder) and path.endswith(ending) for folder, ending in brought_back)]
    return own + [f"{path} (removed)" for path in found["remove"]] + [f"{path} ({why})" for path, why in found["left"]]
