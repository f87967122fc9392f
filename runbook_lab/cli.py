"""`./runbook lab ...`: arguments in, words out; the work is elsewhere."""

from __future__ import annotations

import argparse
import json
import sys

from runbook_lab import browser, lifecycle, visit
from runbook_lab.layout import DEFAULT_RANGE, find_lab
from runbook_lib.errors import RunbookError
from runbook_lib.headless.cli import Parser


def parser() -> Parser:
    common = Parser(add_help=False)
    common.add_argument("--name", help="which lab (default: $RUNBOOK_LAB or lab)")
    common.add_argument("--range", help=f"its address range (default {DEFAULT_RANGE})")
    common.add_argument("--yes", action="store_true", help="install missing Debian packages without asking")
    top = Parser(prog="runbook lab", description="EC2 on one's own machine, with real machines.")
    verbs = top.add_subparsers(dest="verb", required=True, metavar="up|down|status|env|ssh|hosts|browser")

    def verb(name: str, text: str) -> Parser:
        return verbs.add_parser(name, help=text, description=text, parents=[common])

    verb("up", "bring the lab up (again: does nothing)").add_argument(
        "--allow", action="append", default=[], metavar="HOST", help="let machines reach HOST through the proxy (HTTPS)"
    )
    verb("down", "take the lab away: machines, disks, networks, everything")
    verb("status", "machines, states, addresses, groups, memory").add_argument("--json", action="store_true")
    verb("env", "print export lines for any AWS client")
    ssh = verb("ssh", "open a shell on a machine")
    ssh.add_argument("node", help="store-1, deployment/store-1, an instance id or an address")
    ssh.add_argument("command", nargs=argparse.REMAINDER, help="run this instead of a shell")
    verb("hosts", "print lines for /etc/hosts: the deployments' names")
    verb("browser", "open Chromium with those names and the deployments' CAs").add_argument("url", nargs="?")
    return top


def main(argv: list[str] | None = None) -> int:
    """Returns the exit status: 0, or 1 after an error, or that of the command run by `ssh`."""
    args = parser().parse_args(argv)
    try:
        lab = find_lab(args.name, args.range)
        if args.verb == "up":
            lifecycle.up(lab, tuple(args.allow), args.yes)
        elif args.verb == "down":
            lifecycle.down(lab)
        elif args.verb == "status":
            status = visit.status(lab)
            print(json.dumps(status, indent=2) if args.json else visit.status_table(status))
        elif args.verb == "env":
            print(visit.exports(lab))
        elif args.verb == "ssh":
            return visit.ssh(lab, args.node, [word for word in args.command if word != "--"])
        elif args.verb == "hosts":
            print("\n".join(f"{address}\t{name}" for name, address in visit.hosts(lab).items()))
        elif args.verb == "browser":
            return browser.open_browser(lab, args.url)
    except RunbookError as problem:
        print(problem, file=sys.stderr)
        return 1
    return 0
