"""Chapters 06 and 07: nothing is configured, everything is asked of the running system, from outside and from within."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from . import ui
from .beside import SideBySide, side_by_side
from .board import leave_word
from .checks import CheckTable
from .checks.browser import Shots, prove_in_browser
from .checks.crawl import crawl
from .checks.scene import Scene, scene_of
from .checks.sso import Proof, prove
from .errors import ChecksFailed
from .work import Verbs


class Sso(Verbs):
    """Chapter 07: whether Store and Publisher are separate."""

    name = "07_verify_sso_separation"

    @contextmanager
    def scene(self) -> Iterator[Scene]:
        """The deployment as the proof sees it, with a machine in the subnet that nothing trusts for as long as it takes."""
        d = self.deployment
        with d.writing():
            d.fleet()  # every machine of the design runs: where one does not there is nothing to prove, and nothing is made
            d.cloud.launch_probe()
            try:
                d.fleet().wait_for_ssh(["probe-1"], d.spec.timeouts.ssh)
                yield scene_of(d)
            finally:
                d.cloud.terminate_probe()

    def prove(self, agreed: bool = False) -> Proof:
        """Make every attempt of the matrix; look at `.verdict`. Test users live only meanwhile; on AWS `agreed` must say yes to them."""
        with self.deployment.journal.attempt(self.name, "prove"), self.scene() as scene:
            proof = prove(scene, agreed=agreed)
        self.deployment.journal.checked(self.name, proof.checks)
        self.deployment.journal.verdict(self.name, proof.verdict, proof.as_expected)
        for outcome in proof.outcomes:
            self.deployment.journal.write(self.name, "attempt", key=f"sso.{outcome.attempt.id}", **outcome.as_evidence())
        for title, lines in proof.exchanges.items():
            self.deployment.journal.write(self.name, "exchange", key=title, lines=list(lines))
        return proof

    def browser(self, agreed: bool = False) -> Shots:
        """What a person sees, as screenshots; says so where no browser is installed."""
        d = self.deployment
        with d.journal.attempt(self.name, "browser"), d.writing():
            shots = prove_in_browser(scene_of(d), agreed=agreed)
        for shot in shots:
            d.journal.screenshot(self.name, shot.title, shot.png, shot.caption)
        d.journal.checked(self.name, shots.checks)
        return shots

    def walk_pages(self, agreed: bool = False) -> CheckTable:
        """What the users' own pages ask for and Nginx refuses, one row per user and application; says so where no browser is installed.

        ChecksFailed when a request was refused, or when a walk could not tell.
        """
        d = self.deployment
        with d.journal.attempt(self.name, "walk_pages"), d.writing():
            checks = crawl(scene_of(d), agreed=agreed)
            d.journal.checked(self.name, checks)
            if wrong := [f"{check.title}: {check.observed}" for check in checks if check.status in ("fail", "undecided")]:
                ui.show(checks)
                step = "a path that your users need belongs in parameter `also_allow`: add it, run chapter 05, then this one again"
                raise ChecksFailed("; ".join(wrong), f"{d.spec.deployment}, chapter 07", step)
        return checks

    def beside(self) -> SideBySide:
        """What a person saw in this run, and in the newest run kept here that came out the other way."""
        return side_by_side(self.deployment.journal.folder)

    def works(self, agreed: bool = False) -> CheckTable:
        """That what is kept apart still works together: an asset of the Publisher is seen in the Store, each tier is one cluster."""
        from .checks.cluster import verify_membership
        from .checks.publishing import verify_published

        d = self.deployment
        with d.journal.attempt(self.name, "works"), d.writing():
            checks = CheckTable([*verify_published(scene_of(d), agreed=agreed), *verify_membership(d)])
        d.journal.checked(self.name, checks)
        return checks.raise_if_failed()

    def verify(self, proof: Proof | None = None) -> CheckTable:
        """The proof's table; ChecksFailed unless it found what the parameters expect (`expect: leak | separated`)."""
        found = proof or self.prove()
        leave_word(self.deployment, self.name, found.as_expected)
        with self.deployment.journal.attempt(self.name, "verify"):
            if not found.as_expected:
                ui.show(found)
                rows = [f"{check.title}: {check.observed}" for check in found.checks.failed()]
                ways = "; ".join(found.ways or found.open_questions or rows)
                raise ChecksFailed(
                    f"expected {found.scene.expect}, found: {found.verdict}: {ways}",
                    f"{self.deployment.spec.deployment}, chapter 07",
                    "each row of the table names its setting; correct it in chapter 04 or 05 and prove again",
                )
        return found.checks


class Cluster(Verbs):
    """Chapter 06, and the drill of chapter 07: membership, balance, and what a power cut costs."""

    name = "06_verify_as_cluster"

    def checks(self) -> CheckTable:
        from .checks.cluster import verify_cluster

        return verify_cluster(self.deployment)

    def failover(self, **options: Any) -> Any:
        """Cut a node's power under a steady stream of requests, restore it, count what was lost. ChecksFailed when a GET failed."""
        from .checks.failover import drill

        d = self.deployment
        chapter = self.name if d.spec.design.product == "as" else Sso.name
        with d.writing(), d.journal.attempt(chapter, "failover"):
            found = drill(d, **options)
        d.journal.checked(chapter, found.checks)
        failed = [f"{check.title}: {check.observed}" for check in found.checks if check.status == "fail"]
        if failed:
            ui.show(found)
            step = "chapter 05 says which timeouts and retries of Nginx carry a drill; look at the chart for the second in which it happened"
            raise ChecksFailed("; ".join(failed), f"{d.spec.deployment}, drill {found.kind}", step)
        return found

    def drill(self, kind: str = "power-cut") -> Any:
        """`failover` where the parameters ask for drills; else how to ask."""
        if self.deployment.spec.drill:
            return self.failover(kind=kind)
        return "no drill asked for: `drill: true` or `drill: {rate: 20}` in the params file, or overrides = {'drill': True} above"
