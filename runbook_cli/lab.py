"""`./runbook lab …`: the lab's verbs, with the practice packs uploaded to its bucket, and verbs for the deployments in it."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from ec2lab import lifecycle, status
from ec2lab.cli import CommandLine
from ec2lab.errors import LabError
from ec2lab.machines.image import parse_names
from ec2lab.paths import Lab, find_lab
from ec2lab.prerequisites import check_machine, offer
from wso2_practice.build import build

from runbook_cli import browser, machines
from runbook_cli.prerequisites import missing_packages
from runbook_lib.errors import RunbookError

PACK_BUCKET = "runbook-packs"


def main(argv: list[str]) -> int:
    """Return the exit status: 0, 1 after an error, or that of the command run by `ssh` or of the browser."""
    line = CommandLine("runbook lab")
    line.add_for_machine("ssh", "open a shell on a machine", "store-1, deployment/store-1, an instance id or an address")
    line.add("hosts", "print lines for /etc/hosts: the deployments' names")
    line.add("browser", "open Chromium with those names and the deployments' CAs").add_argument("url", nargs="?")
    args = line.parser.parse_args(argv)
    try:
        lab = find_lab(args.name, args.range)
        if args.verb == "up":
            up(lab, tuple(args.allow), args.yes, images=parse_names(args.images) if args.images else (), pace=args.as_slow_as_aws, any_network=args.any_network)
        elif args.verb == "down":
            lifecycle.down(lab)
        elif args.verb == "status":
            found = machines.described(lab)
            print(json.dumps(found, indent=2) if args.json else status.status_table(found))
        elif args.verb == "env":
            print(status.exports(lab))
        elif args.verb == "ssh":
            return machines.ssh(lab, args.machine, [word for word in args.command if word != "--"])
        elif args.verb == "hosts":
            print("\n".join(f"{address}\t{name}" for name, address in machines.hosts(lab).items()))
        else:
            return browser.open_browser(lab, args.url)
    except (LabError, RunbookError) as problem:
        print(problem, file=sys.stderr)
        return 1
    return 0


def up(
    lab: Lab,
    allowed: tuple[str, ...] = (),
    assume_yes: bool = False,
    say: lifecycle.Say = print,
    images: Sequence[str] = (),
    pace: float | None = None,
    any_network: bool = False,
) -> None:
    """Start the lab with the practice packs in the bucket `runbook-packs`. Raises LabError when this machine cannot run it."""

    def packs() -> Mapping[str, Sequence[Path]]:
        try:
            return {PACK_BUCKET: build()}
        except Exception as problem:  # the lab is useful without packs: report it and continue
            say(f"the practice packs could not be built, and the bucket {PACK_BUCKET} is empty: {problem}")
            return {PACK_BUCKET: []}

    check_machine()
    offer(missing_packages(), assume_yes, say)
    lifecycle.up(lab, allowed, assume_yes, say, packs, images, pace, any_network)
