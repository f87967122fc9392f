"""The disaster drill: machines are terminated under load, and what `./runbook restore` and `./runbook run` do brings the cluster back.

    deployment.disaster.drill("database", confirm="greg-separated")      # or "everything"; on AWS also agreed=True

While visitors browse and something is written each second, a backup is made, more is written, and the machines are terminated through EC2.
Killed before the loss, the same command begins anew. Killed after it, the cluster is what it would be after a real loss: `./runbook restore`
goes on, and then `./runbook run`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from runbook_lib.aws.s3.backup_store import DRILL
from runbook_lib.changes import Event
from runbook_lib.chapters.base import announced, banner
from runbook_lib.checks.drill import data as written
from runbook_lib.checks.drill.failover import WINDOW, not_there, people_for, settle, target_of
from runbook_lib.checks.drill.interruption import PATHS
from runbook_lib.checks.drill.load import Stream
from runbook_lib.checks.drill.outage import Aftermath, Disaster, Moments
from runbook_lib.checks.sso.environment import scene_of
from runbook_lib.checks.sso.proof_users import Logins, UserStore, make
from runbook_lib.errors import ChecksFailed, DataLost, RunbookError
from runbook_lib.notebook import display
from runbook_lib.notebook import progress as progress_
from runbook_lib.operations.lost_database import refuse_lost_data
from runbook_lib.spec.chapters import SECOND_DAY, chapters_of
from runbook_lib.tables import counted

DATABASE, EVERYTHING = LOSSES = ("database", "everything")
RATE = 5.0  # visitors' requests per second where `drill.rate` of the parameters says no other: this is no load test
LEAST = 5  # written before the backup, and again between the backup and the loss
INDEXED = 90.0  # seconds until what was written is in every list (design, decision 11)
NOT_ASKED = 'no drill asked for: lose = "database" or "everything", and confirm = the deployment\'s name'


class DisasterDrill:
    """The disaster drill, as chapter 08 and the command drill call it."""

    def __init__(self, deployment: Any):  # a Deployment, whose module imports this one
        self.deployment = deployment

    def refuse(self, lose: str, agreed: bool) -> None:
        """Raise RunbookError for an unknown loss, and on AWS unless somebody agreed. Nothing is asked of the cloud."""
        d = self.deployment
        if lose not in LOSSES:
            raise RunbookError(f"nothing called {lose!r} can be lost in a drill", "lose", f"there is: {', '.join(LOSSES)}")
        if d.on_aws and not agreed:
            what = f"machines of {d.spec.deployment} would be terminated on AWS, and what was written since the drill's backup would be lost: nobody agreed"
            raise RunbookError(what, d.spec.deployment, "say agreed=True in the notebook, or --agreed on the command line")

    def announcement(self, lose: str) -> display.Notice:
        """Return in words what a drill does, how long it takes, what it costs, and what to do when it is killed."""
        d, going, nodes = self.deployment, machines(self.deployment, lose), len(self.deployment.topology.wso2_nodes)
        return display.Notice(
            f"Disaster drill: {d.spec.deployment} loses {', '.join(going)} under load, with {'its disk' if len(going) == 1 else 'their disks'}. "
            "What users write between the drill's backup and the loss, some ten seconds, is lost. Nobody is served until the restore is done: it launches "
            f"{counted(len(going), 'machine')}, and {counted(nodes, 'node')} of the product must boot, each after the one before "
            "(2 to 5 minutes in the lab, 10 to 40 on AWS). The same machines are launched again, so it costs no more per month; EC2 bills at least one "
            "minute of each. "
            "If it is killed: before the loss, the same again; after it, ./runbook restore PARAMS and then ./runbook run PARAMS."
        )

    def drill(self, lose: str = "", confirm: str = "", agreed: bool = False) -> Disaster | str:
        """Lose the database's machine, or every machine, restore, and return what was measured. Without `lose`, return a text that says how to ask.

        `lose`: database or everything. `confirm`: the deployment's name. `agreed`: on AWS it may be done. Raises RunbookError before anything is
        touched, when one of them is missing or the cluster is not well; ChecksFailed when a check failed; after the loss, an error that names the way on.
        """
        if not lose:
            return NOT_ASKED
        d = self.deployment
        self.refuse(lose, agreed)
        if confirm != d.spec.deployment:
            raise RunbookError(f"machines of {d.spec.deployment} are to be terminated", "confirm", f'say so: confirm="{d.spec.deployment}"')
        display.show(banner(d))
        display.show(self.announcement(lose))
        with d.writing(), announced(), d.journal.attempt(SECOND_DAY, "disaster"):
            found = _Drill(d, lose).run()
            d.journal.checked(SECOND_DAY, found.checks)
            d.journal.write(SECOND_DAY, "recovery", figures=found.figures)
            d.journal.pictured(SECOND_DAY, "outage", found.values())
            if failed := [f"{check.title}: {check.observed}" for check in found.checks if check.status == "fail"]:
                display.show(found)
                step = "the table says what was expected; docs/second-day.md, Disaster drill, what each row asks"
                raise ChecksFailed("; ".join(failed), f"{d.spec.deployment}, {lose} lost", step)
        return found


def machines(deployment: Any, lose: str) -> list[str]:
    """Return the names of the nodes whose machines a drill terminates."""
    topology = deployment.topology
    return [topology.db.name] if lose == DATABASE else [node.name for node in topology.nodes]


class _Drill:
    """One drill, from a cluster that is well to one that is well again."""

    def __init__(self, deployment: Any, lose: str):  # a Deployment, whose module imports this one
        self.deployment, self.lose = deployment, lose
        self.lost = self.guarded = False
        self.progress: progress_.Progress | None = None
        self.chapters = [chapter for chapter in chapters_of(deployment.spec.pattern) if chapter.converges]

    def run(self) -> Disaster:
        d = self.deployment
        with self._way_on(), progress_.progress("Disaster drill", ["drill"]) as progress:
            self.progress = progress
            self._tell("is the cluster well?")
            self._refuse_unwell()
            host = d.spec.design.hosts[0]
            target, behind = target_of(d, host, PATHS[host]), [node.name for node in d.topology.upstream(host)]
            if why := not_there(target):
                raise RunbookError(f"before the drill {why}", target.url, "then drill again")
            settle(target, behind, d.spec.timeouts.ssh + d.spec.timeouts.boot)
            scene = scene_of(d)
            logins = make(UserStore(scene, scene.machines[0])) if d.spec.design.product == "greg" else None
            data: written.Data = written.Assets(scene, logins) if logins else written.Accounts(scene)
            try:
                written.cleared(data, INDEXED)
                rate = d.spec.drill_rate or RATE
                with Stream(target, rate, people_for(rate)) as stream:
                    with written.Observers(data, written.stem(), lambda: stream.now, stream.late_since) as observers:
                        moments = self._lose_and_restore(stream, observers)
                    stream.until(stream.now + WINDOW)
                after = self._aftermath(data, observers, moments)
            finally:
                if logins:
                    self._remove(logins)
            return Disaster(
                d.spec.deployment, self.lose, machines(d, self.lose), data.what, target.host, tuple(stream.samples), tuple(observers.writes),
                tuple(observers.looks), moments, tuple(stream.marks), after,
            )  # fmt: skip

    def _refuse_unwell(self) -> None:
        """Raise RunbookError when a chapter would change something, or data is lost already: a drill of such a cluster proves nothing."""
        d = self.deployment
        if not d.context().in_use:
            raise RunbookError(f"there is nothing to lose: no node of {d.spec.deployment} was booted", d.spec.deployment, "./runbook run PARAMS first")
        if pending := self._pending():
            raise RunbookError(
                f"before the drill something is to be changed: {', '.join(pending)}", d.spec.deployment, "./runbook run PARAMS first, then drill"
            )

    def _pending(self) -> list[str]:
        return [chapter.name for chapter in self.chapters if getattr(self.deployment, chapter.attribute).plan()]

    def _lose_and_restore(self, stream: Stream, observers: written.Observers) -> Moments:
        d = self.deployment
        self._mark(stream, f"{observers.data.what} are written")
        self._enough(stream, observers, 0.0)
        stream.wait(lambda: any(not look.failure for look in list(observers.looks)) or not observers.alive, INDEXED)
        if all(look.failure for look in list(observers.looks)):
            why = observers.looks[-1].failure if observers.looks else "nothing was written"
            raise RunbookError(
                f"before the loss a user does not find what was written: {why}", d.spec.deployment, "verify the chapters before; then drill again"
            )
        began = self._mark(stream, "a backup begins")
        d.backups.make(DRILL)
        ended = self._mark(stream, "the backup is complete")
        self._enough(stream, observers, ended)
        going = machines(d, self.lose)
        hosts = d.fleet()
        self.lost = True
        loss = self._mark(stream, f"{'the machine of the database' if self.lose == DATABASE else 'every machine'} is terminated")
        for name in going:
            hosts[name].close()  # it would get no response but look open
        d.cloud.lose(going)
        self.guarded = self._is_guarded()
        restoring = self._mark(stream, "the restore begins")
        d.backups.restore(confirm=d.spec.deployment)
        for chapter in self.chapters:
            part = getattr(d, chapter.attribute)
            part.apply(part.plan())
        self.lost = False
        restored = self._mark(stream, "restored, and every chapter is applied")
        moments = Moments(began, ended, loss, restoring, restored)
        stream.wait(lambda: self._served_again(observers, moments), 2 * INDEXED)
        return moments

    def _served_again(self, observers: written.Observers, moments: Moments) -> bool:
        """Return whether a look after the restore worked, and something was written after that."""
        good = next((look.ended for look in list(observers.looks) if look.at >= moments.restore_ended and not look.failure), None)
        return good is not None and bool(observers.written(good))

    def _enough(self, stream: Stream, observers: written.Observers, since: float) -> None:
        """Wait until enough was written since that second. Raises RunbookError when it is not, with the last reason."""
        stream.wait(lambda: len(observers.written(since)) >= LEAST or not observers.alive, INDEXED)
        if len(observers.written(since)) < LEAST:
            why = next((write.failure for write in reversed(observers.writes) if write.failure), "it takes too long")
            raise RunbookError(
                f"before the loss too little can be written: {why}", self.deployment.spec.deployment, "verify the chapters before; then drill again"
            )

    def _is_guarded(self) -> bool:
        """Return whether the guard that every plan asks refuses to go on."""
        try:
            refuse_lost_data(self.deployment, self.deployment.context())
        except DataLost:
            return True
        return False

    def _aftermath(self, data: written.Data, observers: written.Observers, moments: Moments) -> Aftermath:
        self._tell("what is there, and is it whole?")
        due = [write.name for write in observers.written() if write.ended <= moments.backup_began]
        found = written.settled(data, due, INDEXED)
        self._tell("would a further run change something?")
        pending, failing = self._pending(), []
        for chapter in self.chapters:
            try:
                getattr(self.deployment, chapter.attribute).verify()
            except ChecksFailed:
                failing.append(chapter.name)
        self._tell("what was written for the drill is removed")
        try:
            left = written.cleared(data, INDEXED)
        except (RunbookError, OSError):
            left = [f"the {data.what} of the drill: nobody could look"]
        return Aftermath(found, self.guarded, tuple(pending), tuple(failing), tuple(left))

    def _remove(self, logins: Logins) -> None:
        """Remove the test users where there is a node to ask; the next proof or drill removes what is left."""
        try:
            scene = scene_of(self.deployment)  # anew: machines were replaced
            logins.clean_up(UserStore(scene, scene.machines[0]))
        except (RunbookError, OSError):
            return
        self.deployment.journal.checked(SECOND_DAY, [logins.check(SECOND_DAY, "the drill")])

    def _tell(self, doing: str) -> None:
        """Show what is done now. Before the loss, a Cancel stops the drill here."""
        if self.progress:
            self.progress(Event("drill", "disaster", doing, 0, 0, may_stop=not self.lost))

    def _mark(self, stream: Stream, text: str) -> float:
        self._tell(text)
        return stream.mark(text)

    @contextmanager
    def _way_on(self) -> Iterator[None]:
        """Give an error of the block the way on: before the loss the same command again, after it the restore."""
        try:
            yield
        except RunbookError as error:
            if not self.lost:
                raise
            way = "where the database is gone, ./runbook restore PARAMS goes on, then ./runbook run PARAMS; what the drill wrote goes with the next drill"
            raise RunbookError(f"the drill ended after the loss: {error.what}", error.where, f"{way}. Before that: {error.next_step or 'nothing'}") from error
