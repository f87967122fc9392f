"""Chapters 06 and 07: nothing is configured, everything is asked of the running system, from outside and from within."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from runbook_lib.chapters.base import Verbs
from runbook_lib.chapters.status_board import store_verification
from runbook_lib.check import CheckTable
from runbook_lib.checks.sso.crawl import crawl
from runbook_lib.checks.sso.environment import Scene, scene_of
from runbook_lib.checks.sso.proof import Proof, prove
from runbook_lib.checks.sso.screenshots import Shots, prove_in_browser
from runbook_lib.errors import ChecksFailed
from runbook_lib.evidence.comparison import SideBySide, side_by_side
from runbook_lib.evidence.exchanges import Exchanges, as_tables
from runbook_lib.notebook import display


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
        self.deployment.journal.verdict(self.name, proof.kind, proof.verdict, proof.as_expected)
        for outcome in proof.outcomes:
            self.deployment.journal.write(self.name, "attempt", key=f"sso.{outcome.attempt.id}", **outcome.as_evidence())
        return proof

    def browser(self, agreed: bool = False) -> Shots:
        """What a person sees, as screenshots; says so where no browser is installed."""
        d = self.deployment
        with d.journal.attempt(self.name, "browser"), d.writing():
            shots = prove_in_browser(scene_of(d), agreed=agreed)
        for shot in shots:
            d.journal.screenshot(self.name, shot.id, shot.title, shot.png, shot.caption)
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
                display.show(checks)
                step = "a path that your users need belongs in parameter `also_allow`: add it, run chapter 05, then this one again"
                raise ChecksFailed("; ".join(wrong), f"{d.spec.deployment}, chapter 07", step, self.name)
        return checks

    def beside(self) -> SideBySide:
        """What a person saw in this run, and in the newest run kept here that came out the other way."""
        return side_by_side(self.deployment.journal.folder)

    def exchanges(self, proof: Proof) -> Exchanges:
        """The requests and answers of the product's two holes in this proof, one table each, cookies by name."""
        return as_tables(proof.exchanges)

    def works(self, agreed: bool = False) -> CheckTable:
        """That what is kept apart still works together: an asset of the Publisher is seen in the Store, each tier is one cluster."""
        from runbook_lib.checks.cluster import verify_membership
        from runbook_lib.checks.sso.publishing import verify_published

        d = self.deployment
        with d.journal.attempt(self.name, "works"), d.writing():
            checks = CheckTable([*verify_published(scene_of(d), agreed=agreed), *verify_membership(d)])
        d.journal.checked(self.name, checks)
        return checks.raise_if_failed()

    def verify(self, proof: Proof | None = None) -> CheckTable:
        """The proof's table; ChecksFailed unless it found what the parameters expect (`expect: leak | separated`)."""
        found = proof or self.prove()
        store_verification(self.deployment, self.name, found.as_expected)
        with self.deployment.journal.attempt(self.name, "verify"):
            if not found.as_expected:
                display.show(found)
                rows = [f"{check.title}: {check.observed}" for check in found.checks.failed()]
                ways = "; ".join(found.ways or found.open_questions or rows)
                raise ChecksFailed(
                    f"expected {found.scene.expect}, found: {found.verdict}: {ways}",
                    f"{self.deployment.spec.deployment}, chapter 07",
                    "each row of the table names its setting; correct it in chapter 04 or 05 and prove again",
                    self.name,
                )
        return found.checks
