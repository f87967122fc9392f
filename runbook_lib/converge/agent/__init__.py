"""The program that runs on a host and probes or applies resources. It uses only the standard library.

Request and answers are JSON. What a probe does not need is not imported, because on a host that needs no change the imports took half of the
program's time. `program(kinds)` assembles the source of the core and of the kinds needed.
It is sent on stdin; it is neither stored on the host nor part of a command line, so that no secret appears in a process list. It runs on
Python 3.9 and newer (Debian 11, Ubuntu 22.04).
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from importlib.resources import files

# Which file of this package implements which kind of resource.
KINDS = {
    "file": "files", "edited": "files", "directory": "files", "absent": "files",
    "package": "system", "user": "system", "unit": "system", "exec": "system",
    "archive": "archives",
    "keystore": "keystores", "truststore": "keystores",
    "mysql": "mysql",
    "parcel": "parcel",
    "updates": "updates",
    "config_tree": "config_tree",
}  # fmt: skip
# further files that a file of KINDS needs
NEEDS = {"mysql": ("mysql_backup", "transfer"), "archives": ("homes", "transfer"), "parcel": ("homes", "transfer"), "updates": ("system",)}

# The remote command. It reads the program's length and the program from stdin and runs it; the program reads the request from the same stdin.
COMMAND = 'exec sudo -n python3 -IS -c \'import sys; i = sys.stdin.buffer; exec(compile(i.read(int(i.readline())), "runbook-agent", "exec"))\''


@cache
def _source(name: str) -> str:
    return files(__package__).joinpath(f"{name}.py").read_text()


@cache
def _assemble(modules: tuple[str, ...]) -> bytes:
    parts = [_source("core"), *(_source(name).split("# --- agent ---\n", 1)[1] for name in modules), "main()\n"]
    return "\n".join(parts).encode()


def program(kinds: Iterable[str]) -> bytes:
    """Return the agent's source for these kinds, preceded by its length, to be written to the stdin of COMMAND."""
    modules = {KINDS[kind] for kind in kinds}
    modules |= {needed for module in modules for needed in NEEDS.get(module, ())}
    source = _assemble(tuple(sorted(modules)))
    return b"%d\n" % len(source) + source
