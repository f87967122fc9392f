"""Chapter 07: verification that Store and Publisher are separated. Nothing is configured; the running system is tested."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace

from runbook_lib.chapters.base import Verbs
from runbook_lib.chapters.status_board import store_verification
from runbook_lib.check import Check, CheckTable
from runbook_lib.checks.sso.crawl import crawl
from runbook_lib.checks.sso.environment import Scene, refuse_unagreed, scene_of
from runbook_lib.checks.sso.proof import Proof, prove
from runbook_lib.checks.sso.screenshots import Shots, prove_in_browser
from runbook_lib.errors import ChecksFailed
from runbook_lib.evidence.comparison import SideBySide, side_by_side
from runbook_lib.evidence.exchanges import Exchanges, as_tables
from runbook_lib.evidence.pictures import sign_on as pictures
from runbook_lib.evidence.pictures.figure import Figure
from runbook_lib.evidence.pictures.hardening import HardeningMatrix, hardening_matrix
from runbook_lib.notebook import display
from runbook_lib.notebook import progress as progress_
from runbook_lib.redaction import redactor
from runbook_lib.ssh import PORT_SECONDS, Fleet, through
from runbook_lib.webclient.transport import Connected

PROBE_REMOVED = "sso.probe-removed"  # id of the check; as that of the test users it is no part of the verdict
PROBE_NODE = "probe-1"  # the name of the machine that a proof launches (topology/model.py, probe_only)


class Sso(Verbs):
    """Chapter 07: whether Store and Publisher are separated."""

    name = "07_verify_sso_separation"

    @contextmanager
    def scene(self, removed: list[Check]) -> Iterator[Scene]:
        """Yield the deployment for the proof, with a probe machine in the subnet whose security group no rule admits.

        The probe is launched while the first attempts are made, and terminated as soon as none is left that is made from it. An error of its launch is
        raised at the end: the attempts that needed it are undecided. One of its removal is not, for the proof is finished by then: it is a check, in
        the journal and in `removed`.
        """
        d = self.deployment
        with d.writing(), ThreadPoolExecutor(max_workers=1) as beside:  # its one thread ends the probe after it was launched, never before
            scene = scene_of(d)  # raises, before the probe is launched, unless every machine of the design runs
            probe = beside.submit(self._launched_probe)
            ending: list[Future[None]] = []

            def end() -> None:
                if not ending:
                    ending.append(beside.submit(d.cloud.terminate_probe))

            def connect(address: str, port: int) -> Connected:
                return through(probe.result()[PROBE_NODE], PORT_SECONDS)(address, port)

            try:
                yield replace(scene, neighbour=(PROBE_NODE, connect), leave_neighbour=end)
            finally:
                end()
                removed.append(_removal(ending[0].exception(), d.spec.cloud.probe))
                d.journal.checked(self.name, removed)
            probe.result().close()

    def _launched_probe(self) -> Fleet:
        """Launch the probe and return the connection to it once it accepts SSH."""
        self.deployment.cloud.launch_probe()
        return self.deployment.beside(PROBE_NODE)

    def prove(self, agreed: bool = False) -> Proof:
        """Make every attempt of the matrix and return the proof; its `verdict` is the result.

        Test users are created and removed afterwards; on AWS only when `agreed` is true. Raises Stopped after a Cancel or an interrupt.
        """
        removed: list[Check] = []
        with self.deployment.journal.attempt(self.name, "prove"):
            refuse_unagreed(self.deployment.on_aws, agreed)  # before a probe is launched for nothing
            with self.scene(removed) as scene, progress_.progress("The attempts", ["proof"]) as progress:
                proof = prove(scene, agreed=agreed, progress=progress)
        self.deployment.journal.checked(self.name, proof.checks)
        proof = replace(proof, clean_up=(*proof.clean_up, *removed))  # written by the scene, also where the proof did not come to its end
        self.deployment.journal.verdict(self.name, proof.kind, proof.verdict, proof.as_expected)
        for outcome in proof.outcomes:
            self.deployment.journal.write(self.name, "attempt", key=f"sso.{outcome.attempt.id}", **outcome.as_evidence())
        self.deployment.journal.write(self.name, "scope", **proof.scope)
        self.deployment.journal.conclude()
        return proof

    def browser(self, agreed: bool = False) -> Shots:
        """Return screenshots of the proof in a browser. Where no browser is installed, the result says so."""
        d = self.deployment
        with d.journal.attempt(self.name, "browser"), d.writing():
            shots = prove_in_browser(scene_of(d), agreed=agreed)
        for shot in shots:
            d.journal.screenshot(self.name, shot.id, shot.title, shot.png, shot.caption)
        d.journal.checked(self.name, shots.checks)
        d.journal.conclude()
        return shots

    def walk_pages(self, agreed: bool = False) -> CheckTable:
        """Return the requests of the users' own pages that Nginx refuses, one row per user and application.

        Where no browser is installed, the rows say so. Raises ChecksFailed when a request was refused or a row is undecided.
        """
        d = self.deployment
        with d.journal.attempt(self.name, "walk_pages"), d.writing():
            checks = crawl(scene_of(d), agreed=agreed)
            d.journal.checked(self.name, checks)
            if wrong := [f"{check.title}: {check.observed}" for check in checks if check.status in ("fail", "undecided")]:
                step = "a path that your users need belongs in parameter `also_allow`: add it, run chapter 05, then this one again"
                error = ChecksFailed("; ".join(wrong), f"{d.spec.deployment}, chapter 07", step, self.name)
                error.table = checks
                raise error
        return checks

    def beside(self) -> SideBySide:
        """Return the screenshots of this run beside those of the newest run with the opposite result."""
        return side_by_side(self.deployment.journal.folder)

    def exchanges(self, proof: Proof) -> Exchanges:
        """Return the requests and responses of the product's three holes in this proof, one table each, with cookies by name."""
        return as_tables(proof.exchanges)

    def sign_on(self, proof: Proof, attempt: str = pictures.ATTEMPT) -> Figure | str:
        """Return the requests and answers of one attempt of this proof (its id) as a sequence diagram.

        Where a run of the other kind was made on this machine, it stands beside, step by step. The default is the administrator's walk from the Store
        to the Publisher.
        """
        d = self.deployment
        made = next((outcome for outcome in proof.outcomes if outcome.attempt.id == attempt and outcome.exchanges), None)
        if made is None:
            return f"this proof made no attempt {attempt}, or it sent no request"
        return pictures.draw_beside(pictures.WalkRecord(d.spec.deployment, proof.kind, made.attempt.title, made.exchanges), d.journal.folder, attempt)

    def hardening_matrix(self, proof: Proof) -> HardeningMatrix | str:
        """Return the ways by hardening: this deployment's level as the proof found it, the other levels as the table of attempts foretells them."""
        found = hardening_matrix(self.deployment.spec.deployment, [outcome.as_evidence() for outcome in proof.outcomes], proof.scope)
        return found or "this proof made no attempt"

    def works(self, agreed: bool = False) -> CheckTable:
        """Check that the separated applications still work together: an asset of the Publisher is seen in the Store, each tier is one cluster.

        Return the checks. Raises ChecksFailed when one did not pass.
        """
        from runbook_lib.checks.cluster import verify_membership
        from runbook_lib.checks.sso.publishing import verify_published

        d = self.deployment
        with d.journal.attempt(self.name, "works"), d.writing(), ThreadPoolExecutor(max_workers=1) as beside:
            scene = scene_of(d)
            membership = beside.submit(verify_membership, d)  # while the product's index is waited for
            checks = CheckTable([*verify_published(scene, agreed=agreed), *membership.result()])
            d.journal.checked(self.name, checks)
            checks.raise_if_failed()
        d.journal.conclude()
        return checks

    def checks(self, quiet: bool = False) -> CheckTable:
        """Return what is asked beside the proof, all of it quiet: whether each tier is one cluster."""
        from runbook_lib.checks.cluster import verify_membership

        return verify_membership(self.deployment)

    def verify(self, proof: Proof | None = None) -> CheckTable:
        """Return the checks of `proof` (default: a new one). Raises ChecksFailed unless it found what the parameters expect (`expect: leak | separated`)."""
        found = proof or self.prove()
        store_verification(self.deployment, self.name, found.as_expected, found.statement.system if found.kind == "leak" else "")
        with self.deployment.journal.attempt(self.name, "verify"):
            if not found.as_expected:
                if proof is None:  # else whoever has it has shown it
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


def _removal(error: BaseException | None, wanted: bool) -> Check:
    """Return the check that the probe was removed. `wanted`: the parameters keep one (`cloud.probe`)."""
    seen = "kept: cloud.probe" if wanted else "removed"
    if error:
        why = (str(error).splitlines() or [type(error).__name__])[0]
        seen = f"not removed: {why}; prove again, which removes it, or look at it in EC2: until then it costs what a machine does"
    return Check(PROBE_REMOVED, "The probe is removed again", "fail" if error else "pass", "removed", redactor.redact(seen), PROBE_NODE, Sso.name)
