"""This machine in the place of a host: the agent runs as an ordinary process here, its fixed paths moved to a test's folder."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from runbook_lib.changes import Plan, Result
from runbook_lib.converge.engine import Stage, apply, plan
from runbook_lib.converge.resources import Resource
from runbook_lib.ssh import Completed, Fleet, Host


@dataclass
class LocalHost:
    """`moved`: paths in the agent's source, and where they are for this test; `env`: what its commands see besides."""

    name: str
    moved: Mapping[str, str]
    env: Mapping[str, str] = field(default_factory=dict)

    def run(self, command: str, stdin: bytes = b"", on_line: Callable[[str], None] | None = None, timeout: float = 60.0) -> Completed:
        length, _, rest = stdin.partition(b"\n")
        source, request = rest[: int(length)].decode(), rest[int(length) :]
        for path, here in self.moved.items():
            source = source.replace(path, here)
        done = subprocess.run(
            [sys.executable, "-IS", "-c", source],
            input=request,
            capture_output=True,
            env={**os.environ, **self.env},
            timeout=timeout,
        )
        for line in done.stdout.decode().splitlines():
            if on_line:
                on_line(line)
        return Completed(done.returncode, done.stdout.decode(), done.stderr.decode())


def fleet_of(host: LocalHost) -> Fleet:
    return Fleet({host.name: host})  # type: ignore[dict-item]


def planned(host: LocalHost, *resources: Resource) -> Plan:
    return plan(fleet_of(host), {host.name: [Stage("test", resources)]}, "test")


def converged(host: LocalHost, *resources: Resource) -> Result:
    return apply(fleet_of(host), planned(host, *resources))


__all__ = ["Host", "LocalHost", "converged", "fleet_of", "planned"]
