"""A command on a deployment while visitors use it, and what they met."""

from __future__ import annotations

import subprocess
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from runbook_lib.checks.drill.failover import target_of
from runbook_lib.checks.drill.interruption import PATHS
from runbook_lib.checks.drill.load import Sample, Stream
from tests.support.deployments import Deployed

RATE = 100.0  # needs a calm machine: under other load it is late itself, and judges nothing
WARM_SECONDS = 10.0  # of requests before what is measured: nodes have their share by then
ENOUGH = 0.9  # of the requests that were to be made: fewer say nothing


@dataclass(frozen=True)
class Meanwhile:
    """What a command did, and the requests to each public host meanwhile."""

    done: Any
    samples: dict[str, list[Sample]]
    seconds: dict[str, float]

    @property
    def failures(self) -> Counter[tuple[str, str, str]]:
        return Counter((host, sample.node, sample.failure) for host, samples in self.samples.items() for sample in samples if sample.failure)

    def was_served(self, said: object = "") -> None:
        """Assert that no request failed, and that each host got enough of them to say so. `said`: what goes with a failure."""
        assert self.failures == {}, f"{self.failures}\n{said}"
        for host, samples in self.samples.items():
            due = RATE / len(self.samples) * self.seconds[host]
            assert len(samples) >= ENOUGH * due, f"{host}: {len(samples)} of {due:.0f} requests are too few to say anything"

    def nodes(self, host: str) -> set[str]:
        return {sample.node for sample in self.samples[host]}


def under_load(deployed: Deployed, hosts: Sequence[str], what: Callable[[], Any], paths: Mapping[str, str] = PATHS) -> Meanwhile:
    """Do `what` while visitors make 100 requests a second in all, of these hosts' pages."""
    deployment = deployed.open()
    with ExitStack() as stack:
        stack.callback(deployment.close)
        streams = {host: stack.enter_context(Stream(target_of(deployment, host, paths[host]), RATE / len(hosts))) for host in hosts}
        for stream in streams.values():
            stream.until(WARM_SECONDS)
        done = what()
        for stream in streams.values():
            stream.until(stream.now + 2)
    return Meanwhile(done, {host: stream.samples for host, stream in streams.items()}, {host: stream.seconds for host, stream in streams.items()})


def ended(done: subprocess.CompletedProcess[str], status: int = 0) -> str:
    """What a command said, which ended with this status."""
    assert done.returncode == status, f"{done.returncode}\n{done.stdout[-5000:]}\n{done.stderr[-3000:]}"
    return done.stdout
