"""The program that runs on a host: probes and applies resources. Standard library only, one exec, JSON in and out.

`program(kinds)` puts together the source of the core and of the kinds asked for. It is sent over stdin, never stored on the host and
never on a command line, so that nothing secret appears in a process list. It runs on Python 3.9 and newer (Debian 11, Ubuntu 22.04).
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
    "config_tree": "config_tree",
}  # fmt: skip
NEEDS = {"mysql": ("mysql_backup",)}  # files that a kind's own file builds on

# The remote command: reads the program's length and the program from stdin, then the program reads its input.
COMMAND = 'exec sudo -n python3 -IS -c \'import sys; i = sys.stdin.buffer; exec(compile(i.read(int(i.readline())), "runbook-agent", "exec"))\''


@cache
def _source(name: str) -> str:
    return files(__package__).joinpath(f"{name}.py").read_text()


@cache
def _assemble(modules: tuple[str, ...]) -> bytes:
    parts = [_source("core"), *(_source(name).split("# --- agent ---\n", 1)[1] for name in modules), "main()\n"]
    return "\n".join(parts).encode()


def program(kinds: Iterable[str]) -> bytes:
    """The agent's source for these kinds, with its length in front, ready to be written to COMMAND's stdin."""
    modules = {KINDS[kind] for kind in kinds}
    modules |= {needed for module in modules for needed in NEEDS.get(module, ())}
    source = _assemble(tuple(sorted(modules)))
    return b"%d\n" % len(source) + source
