"""Whether the machines let us in: SSH with the pinned key, sudo, the name they believe to have."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runbook_lib.check import Check, CheckTable
from runbook_lib.errors import HostError
from runbook_lib.ssh import Host

if TYPE_CHECKING:
    from runbook_lib.session import Session


def verify_ssh(deployment: Session) -> CheckTable:
    """One row per machine, asked in parallel."""

    def ask(host: Host) -> str:
        try:
            done = host.run("sudo -n hostname", timeout=20)
            return done.stdout.strip() if done.succeeded else f"exit {done.rc}: {done.stderr.strip()[-200:]}"
        except HostError as error:
            return error.what

    answers = deployment.fleet().each(ask)
    return CheckTable(
        Check(
            f"ssh-{name}", f"{name} lets us in by its pinned host key", "pass" if answers[name] == name else "fail", name, answers[name], name, "01_launch_ec2"
        )
        for name in answers
    )
