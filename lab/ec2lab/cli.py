"""The command line of the lab: `ec2lab up` and so on."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any, NoReturn

from ec2lab import lifecycle, status
from ec2lab.api.pace import CONSOLE
from ec2lab.errors import LabError
from ec2lab.machines.image import DEFAULT, RECIPES, parse_names
from ec2lab.paths import DEFAULT_RANGE, find_lab


class LabParser(argparse.ArgumentParser):
    """A parser that exits with 1 on a wrong option, as every failure of this command line does; argparse exits with 2."""

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(1, f"{self.prog}: {message}\n")


class CommandLine:
    """A parser with the lab's verbs. A program that embeds the lab adds its own with `add`."""

    def __init__(self, prog: str):
        self._common = LabParser(add_help=False)
        self._common.add_argument("--name", help="which lab (default: $EC2LAB_NAME or lab)")
        self._common.add_argument("--range", help=f"its address range (default {DEFAULT_RANGE})")
        self._common.add_argument("--yes", action="store_true", help="install missing Debian packages without asking")
        self.parser = LabParser(prog=prog, description="EC2 on one's own machine, with real machines.")
        self._verbs: Any = self.parser.add_subparsers(dest="verb", required=True, metavar="VERB")
        up = self.add("up", "bring the lab up (again: does nothing)")
        up.add_argument("--allow", action="append", default=[], metavar="HOST", help="let machines reach HOST through the proxy (HTTPS)")
        slow = "what is made is invisible for 2 s, calls are throttled at AWS's rates, consoles are empty for SECONDS (90)"
        up.add_argument("--as-slow-as-aws", nargs="?", type=float, const=CONSOLE, metavar="SECONDS", help=slow)
        wide = "a default VPC, subnets of any addresses (no way into those outside of the range), other regions without machines"
        up.add_argument("--any-network", action="store_true", help=wide)
        up.add_argument("--images", default="", metavar="NAME,...", help=f"systems of its machines: {', '.join(RECIPES)} (default {DEFAULT})")
        self.add("down", "take the lab away: machines, disks, networks, everything")
        self.add("status", "machines, states, addresses, groups, memory").add_argument("--json", action="store_true")
        self.add("env", "print export lines for any AWS client")

    def add(self, name: str, text: str) -> LabParser:
        made: LabParser = self._verbs.add_parser(name, help=text, description=text, parents=[self._common])
        return made

    def add_for_machine(self, name: str, text: str, names: str) -> None:
        """Add a verb that takes a machine and then a command to run there. `names`: what the machine may be named by, for the help."""
        made = self.add(name, text)
        made.add_argument("machine", help=names)
        made.add_argument("command", nargs=argparse.REMAINDER, help="run this instead of a shell")


def main(argv: list[str] | None = None) -> int:
    """Return the exit status: 0, 1 after an error, or that of the command run by `shell`."""
    line = CommandLine("ec2lab")
    line.add_for_machine("shell", "open root's shell on a machine, without SSH", "an instance id, an address or the tag Name")
    args = line.parser.parse_args(argv)
    try:
        lab = find_lab(args.name, args.range)
        if args.verb == "up":
            names = parse_names(args.images) if args.images else ()
            lifecycle.up(lab, tuple(args.allow), args.yes, images=names, pace=args.as_slow_as_aws, any_network=args.any_network)
        elif args.verb == "down":
            lifecycle.down(lab)
        elif args.verb == "status":
            found = status.status(lab)
            print(json.dumps(found, indent=2) if args.json else status.status_table(found))
        elif args.verb == "env":
            print(status.exports(lab))
        else:
            instance = status.find_instance(lab, args.machine)
            return status.open_shell(lab, instance["InstanceId"], [word for word in args.command if word != "--"])
    except LabError as problem:
        print(problem, file=sys.stderr)
        return 1
    return 0
