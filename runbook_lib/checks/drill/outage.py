"""What a disaster drill found: how much was lost (RPO), how long nobody was served (RTO), and whether what came back is whole.

Everything is computed from what was written, the looks of a user, the requests of visitors, and the marks of the drill. RPO is measured as
after a real loss: from the newest that survived to the loss. RTO goes from the loss until a user signs in everywhere and reads what was
written before the backup, and no later look fails. Looks while this machine was late itself decide neither.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from runbook_lib.check import Check, CheckTable, answered
from runbook_lib.checks.drill.load import LATE, Sample
from runbook_lib.evidence.pictures import outage as picture
from runbook_lib.evidence.pictures.figure import Figure
from runbook_lib.spec.chapters import SECOND_DAY as CHAPTER
from runbook_lib.tables import Table

SHARE = 0.1  # part of the RTO that may be uncertain because this machine was late
NAMED = 3  # of a longer list, how many are named


@dataclass(frozen=True)
class Trial:
    """One look of a user. `at`: seconds after the drill's beginning; `took`: seconds until it ended; `failure`: "" when all of it worked.

    `late`: by how many seconds at most this machine itself was late meanwhile.
    """

    at: float
    took: float
    failure: str
    late: float = 0.0

    @property
    def ended(self) -> float:
        return self.at + self.took

    @property
    def doubtful(self) -> bool:
        """Whether it tells more of this machine, which was busy, than of the cluster."""
        return self.late >= LATE


@dataclass(frozen=True)
class Write(Trial):
    """One write of `name`. With a failure nobody knows whether it was done: it counts neither as written nor as lost."""

    name: str = ""


@dataclass(frozen=True)
class Moments:
    """When what happened, in seconds after the drill's beginning: backup, loss, and the begin and end of the restore with its run."""

    backup_began: float
    backup_ended: float
    loss: float
    restore_began: float
    restore_ended: float


@dataclass(frozen=True)
class Aftermath:
    """What was found after the restore. `found`: by name "" where it is whole, else what is wrong with it; `guarded`: whether a plan in between
    was refused; `pending`: chapters that would change something; `failing`: chapters whose verification failed; `left`: what could not be removed."""

    found: Mapping[str, str]
    guarded: bool
    pending: Sequence[str] = ()
    failing: Sequence[str] = ()
    left: Sequence[str] = ()


@dataclass(frozen=True)
class Disaster:
    """The result of a disaster drill. `lose`: database or everything; `lost_machines`: their names; `what`: what was written, in the plural."""

    deployment: str
    lose: str
    lost_machines: Sequence[str]
    what: str
    host: str
    samples: Sequence[Sample]
    writes: Sequence[Write]
    looks: Sequence[Trial]
    moments: Moments
    marks: Sequence[tuple[float, str]]
    after: Aftermath

    @cached_property
    def written(self) -> list[Write]:
        """What the product had said before the loss that it has done."""
        return [write for write in self.writes if not write.failure and write.ended <= self.moments.loss]

    @property
    def due(self) -> list[Write]:
        """What had been written when the backup began: all of it must come back."""
        return [write for write in self.written if write.ended <= self.moments.backup_began]

    @property
    def survived(self) -> list[Write]:
        return [write for write in self.written if write.name in self.after.found]

    @property
    def lost(self) -> list[Write]:
        return [write for write in self.written if write.name not in self.after.found]

    @property
    def rpo(self) -> float | None:
        """Seconds from the newest that survived to the loss; None when nothing did."""
        return self.moments.loss - max(write.ended for write in self.survived) if self.survived else None

    @property
    def first_failure(self) -> float | None:
        """When the first request after the loss had failed; None when none did."""
        ended = [sample.at + sample.took for sample in self.samples if sample.failure]
        ended += [look.ended for look in (*self.writes, *self.looks) if look.failure]
        return min((at for at in ended if at >= self.moments.loss), default=None)

    @cached_property
    def _return(self) -> tuple[float, float] | None:
        """When a user was served again, and for how many seconds before that nobody could tell because this machine was late; None for never."""
        after = [look for look in self.looks if look.at >= self.moments.loss]
        last = max((place for place, look in enumerate(after) if look.failure and not look.doubtful), default=-1)
        good = next((place for place, look in enumerate(after) if place > last and not look.failure), None)
        if good is None:
            return None
        since = after[last].ended if last >= 0 else self.moments.loss
        return after[good].ended, after[good].ended - since if any(look.doubtful for look in after[last + 1 : good + 1]) else 0.0

    @property
    def back(self) -> float | None:
        """When a user was served again; None when that did not happen."""
        return self._return[0] if self._return else None

    @property
    def rto(self) -> float | None:
        """Seconds from the loss until a user was served again; None when that did not happen."""
        return self.back - self.moments.loss if self.back is not None else None

    @property
    def figures(self) -> dict[str, Any]:
        """The measured values, as `result.json` has them. Times in seconds, null where there is none."""
        times = {"rpo_seconds": self.rpo, "rto_seconds": self.rto}
        counts = {"written": len(self.written), "survived": len(self.survived), "lost": len(self.lost)}
        return {"lose": self.lose, **{name: None if value is None else round(value, 1) for name, value in times.items()}, "what": self.what, **counts}

    @property
    def told(self) -> list[tuple[float, str]]:
        """The marks with what was computed: the first failed request, and the moment at which users were served again."""
        more = [(self.first_failure, "the first request fails"), (self.back, "users sign in and read again")]
        return sorted([*self.marks, *((at, text) for at, text in more if at is not None)])

    def values(self) -> dict[str, Any]:
        """What the picture is drawn from."""
        seconds = [Counter[str]() for _ in range(int(max((s.at for s in self.samples), default=0)) + 1)]
        for sample in self.samples:
            seconds[int(sample.at)]["failed" if sample.failure else "answered"] += 1
        return {"deployment": self.deployment, "host": self.host, "seconds": [dict(each) for each in seconds], "marks": self.told, "figures": self.figures}

    def figure(self) -> Figure:
        """Return the picture: answers and failures second by second, with what happened meanwhile."""
        return picture.draw(self.values())

    @property
    def table(self) -> Table:
        failed = sum(bool(sample.failure) for sample in self.samples)
        newest = "nothing survived" if self.rpo is None else f"{self.rpo:.1f} s: the newest that survived is so much older than the loss"
        rows: list[tuple[str, object]] = [
            ("lost", ", ".join(self.lost_machines)),
            ("RPO", newest),
            ("RTO", "never" if self.rto is None else f"{self.rto:.1f} s from the loss until users signed in and read again"),
            (self.what, f"{len(self.written)} written before the loss, {len(self.survived)} survived, {len(self.lost)} lost"),
            ("age of the backup at the loss", f"{self.moments.loss - self.moments.backup_began:.1f} s"),
            ("restore and run", f"{self.moments.restore_ended - self.moments.restore_began:.1f} s of it"),
            ("visitors' requests", f"{len(self.samples)}, of which {failed} failed"),
        ]
        return Table(("What", "Measured"), rows, f"Disaster drill of {self.deployment}: {self.lose} lost")

    @property
    def checks(self) -> CheckTable:
        """Whether the guard held, users are served again, what the backup had is back and whole, and the cluster is as it was."""
        after = self.after
        missing = [write.name for write in self.due if write.name not in after.found]
        broken = [f"{name}: {wrong}" for name, wrong in after.found.items() if wrong]
        again = [write for write in self.writes if not write.failure and self.back is not None and write.at >= self.back]
        most = self.moments.loss - max((write.ended for write in self.due), default=self.moments.backup_began)
        rpo = "nothing survived" if self.rpo is None else f"{self.rpo:.1f} s; {len(self.lost)} of {len(self.written)} lost"
        return CheckTable(
            [
                self._row(
                    "guard", "Until the restore nothing goes on with empty databases", after.guarded, "refused", "refused" if after.guarded else "not refused"
                ),
                self._served(),
                self._row("rpo", "What was lost is younger than the backup", self.rpo is not None and self.rpo <= most, f"at most {most:.1f} s", rpo),
                self._row(
                    "kept",
                    f"All {self.what} written before the backup are there",
                    not missing and bool(self.due),
                    f"all {len(self.due)}",
                    _named(missing, f"{len(self.due)} are there"),
                ),
                self._row("whole", f"None of the {self.what} is half there", not broken, "whole or not there", _named(broken, f"{len(after.found)} whole")),
                self._row("writes", f"New {self.what} can be written", bool(again), "at least one", f"{len(again)} since users are served again"),
                self._unexpected(),
                self._row("verified", "Every chapter is verified again", not after.failing, "all", _named(after.failing, "all")),
                self._row("again", "A further run changes nothing", not after.pending, "nothing to change", _named(after.pending, "nothing to change")),
                self._row(
                    "removed", f"The {self.what} of the drill are removed again", not after.left, "nothing is left", _named(after.left, "nothing is left")
                ),
            ]
        )

    def _served(self) -> Check:
        """Return the check that users are served again; undecided when more than a tenth of the time may be this machine's own lateness."""
        observed = "they are not" if self.rto is None else f"RTO {self.rto:.1f} s"
        row = self._row("back", "Users sign in and read again what was written before", self.rto is not None, "they do", observed)
        if self._return and self.rto and self._return[1] > SHARE * self.rto:
            words = f"{observed}, or up to {self._return[1]:.1f} s less: this machine was late itself then; drill again when it has less to do"
            return replace(row, status="undecided", observed=words)
        return row

    def _unexpected(self) -> Check:
        """Return the check that visitors notice nothing before the loss and nothing after the return."""
        until = self.back if self.back is not None else self.moments.restore_ended
        failed = [sample for sample in self.samples if sample.failure and (sample.at + sample.took < self.moments.loss or sample.at > until)]
        reasons = "; ".join(f"{count} times {reason}" for reason, count in Counter(sample.failure for sample in failed).most_common(NAMED))
        row = self._row("visitors", "No request fails before the loss, and none after the return", not failed, "0", reasons or "0")
        if failed and all(sample.doubtful for sample in failed):
            return replace(row, status="undecided", observed=f"{row.observed}; this machine was late itself then")
        return row

    def _row(self, name: str, title: str, holds: bool, expected: str, observed: str) -> Check:
        return answered(f"drill-disaster-{name}", title, holds, expected, observed, self.host, CHAPTER)

    def _repr_html_(self) -> str:
        return self.table._repr_html_() + self.figure()._repr_html_() + self.checks._repr_html_()

    def __str__(self) -> str:
        events = "\n".join(f"  {at:6.1f} s  {text}" for at, text in self.told)
        return f"{self.table}\n{events}\n{self.checks}"

    __repr__ = __str__


def _named(names: Sequence[str], otherwise: str) -> str:
    """Return the first of these names, `otherwise` when there are none."""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return f"not: {', '.join(names[:NAMED])}{more}" if names else otherwise
