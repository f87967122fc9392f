"""Checks that every host accepts SSH: pinned host key, sudo without a password, expected host name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runbook_lib.check import Check, CheckTable
from runbook_lib.errors import HostError
from runbook_lib.ssh import Host

if TYPE_CHECKING:
    from runbook_lib.session import Session


def verify_ssh(deployment: Session) -> CheckTable:
    """Return one check per host, asked in parallel: `sudo -n hostname` must print the host's name."""

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
