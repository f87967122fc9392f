"""What a learner has done, in SSM Parameter Store below the deployment: it survives the kernel, and another machine sees it.

One parameter for each exercise, `/runbook/<deployment>/exercises/<id>`, as JSON. It goes with the deployment.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

from runbook_lib.chapters.exercises.table import POINTS, exercises

if TYPE_CHECKING:
    from runbook_lib.aws.parameter_store import Vault

PREFIX = "exercises/"
State = Literal["open", "started", "passed", "solved"]
WORDS: Mapping[str, str] = {"open": "○ open", "started": "▶ started", "passed": "✔ passed", "solved": "△ solution shown"}


@dataclass(frozen=True)
class TaskRecord:
    """How far an exercise is. `running`: it was started and not reset since, so the deployment may differ from its parameters.

    `started`: when, in UTC ISO 8601; `seconds`: from the start to the passed check or to the solution; `hints`, `tries`: how many were taken.
    """

    state: State = "open"
    running: bool = False
    started: str = ""
    seconds: float = 0.0
    hints: int = 0
    tries: int = 0
    by: str = ""

    @property
    def points(self) -> int:
        """Return the points: all of them less one for each hint; none before it is passed, and none once the solution was shown."""
        return POINTS - self.hints if self.state == "passed" else 0

    @property
    def words(self) -> str:
        """Return the state in words."""
        return WORDS[self.state] + (", to be reset" if self.running and self.state in ("passed", "solved") else "")

    def began(self, by: str) -> TaskRecord:
        """Return the record of an exercise that begins now. One that was passed or solved before stays so: it is done again for practice."""
        return replace(self, state="started" if self.state == "open" else self.state, running=True, started=_now(), by=by)

    def ended(self, state: State) -> TaskRecord:
        """Return the record of an exercise that was passed or solved now; the first of the two counts."""
        if self.state != "started":
            return self
        return replace(self, state=state, seconds=round(_since(self.started), 1))

    def put_back(self) -> TaskRecord:
        """Return the record after a reset: open again unless it was passed or solved; hints that were taken stay taken."""
        return replace(self, state="open" if self.state == "started" else self.state, running=False)


def read(vault: Vault, id: str) -> TaskRecord:
    """Return the record of an exercise, as Parameter Store has it now."""
    text = vault.find(PREFIX + id, fresh=True)
    return TaskRecord(**json.loads(text)) if text else TaskRecord()


def read_all(vault: Vault) -> dict[str, TaskRecord]:
    """Return the record of every exercise of the table by its id. Those that were never begun are open."""
    found = vault.read_all()
    return {id: TaskRecord(**json.loads(found[PREFIX + id])) if PREFIX + id in found else TaskRecord() for id in exercises()}


def store(vault: Vault, id: str, record: TaskRecord) -> TaskRecord:
    """Store the record of an exercise and return it."""
    vault.put(PREFIX + id, json.dumps(asdict(record), ensure_ascii=False), secure=False)
    return record


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def _since(moment: str) -> float:
    return (datetime.now(UTC) - datetime.fromisoformat(moment)).total_seconds()
