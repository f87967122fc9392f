"""The errors of this library. Each says what went wrong, where, and what to do next."""

from __future__ import annotations

from typing import Any


class RunbookError(Exception):
    """An error that a user can act on. In a notebook it is shown as a card without a traceback (see `display.install`).

    `what` says in one sentence what went wrong; `where` is a file and key, a host and command, or a URL; `next_step` says what to do.
    `changed` lists what an apply had changed before the error (`changes.Pending`), for the journal. `transient`: the same again may succeed.
    """

    changed: tuple[object, ...] = ()
    transient: bool = False

    def __init__(self, what: str, where: str | None = None, next_step: str | None = None):
        super().__init__(what)
        self.what, self.where, self.next_step = what, where, next_step

    def __str__(self) -> str:
        lines = [self.what]
        if self.where:
            lines.append(f"  where: {self.where}")
        if self.next_step:
            lines.append(f"  next:  {self.next_step}")
        return "\n".join(lines)


class ParamsError(RunbookError):
    """The parameters are wrong; the message names the key, the value and what is allowed. `key` is dotted, "" when no single key is wrong."""

    def __init__(self, what: str, where: str | None = None, next_step: str | None = None, key: str = ""):
        super().__init__(what, where, next_step)
        self.key = key


class CloudError(RunbookError):
    """The cloud refused a call or does not answer; the message names the call and the resource. `code` is the error code of AWS, if any.

    `parameter` is the one whose value AWS calls invalid, where it names one: codes alone do not tell. `region` is that of the bucket, of which S3 tells
    it also to those who may not look at it.
    """

    code: str = ""
    parameter: str = ""
    region: str = ""


class HostError(RunbookError):
    """A host refused, failed or does not answer; the message names the host and the command."""

    transient = True


class DataLost(RunbookError):
    """Nodes were booted, and the databases that they wrote to hold nothing: nobody may make new ones out of them without being asked."""


class WrongHostKey(HostError):
    """A host has another SSH host key than its console showed. Retries do not help."""

    transient = False


class KeyRefused(HostError):
    """A host answered and does not let this SSH key in."""


class PackError(RunbookError):
    """An archive (pack, JDK or driver) cannot be fetched, or is not the one that the parameters name."""


class PlanOvertaken(RunbookError):
    """The hosts or the cloud changed between plan and apply. `fresh` is the plan for the present state."""

    fresh: object = None


class Stopped(RunbookError):
    """The work was stopped because somebody asked for it: Cancel, or an interrupt. What was done stays, and another run goes on from there."""

    def __init__(self, what: str, where: str | None = None, next_step: str | None = "run this again: it goes on from here"):
        super().__init__(what, where, next_step)


class LockHeld(RunbookError):
    """Another writer holds the deployment's lock; the message names the owner and since when."""

    transient = True


class ChecksFailed(RunbookError):
    """At least one check did not pass; the message names them. `chapter` is the chapter of these checks, "" when the reader has it open.

    `table` are all rows of the verification, where the error names its rows by them: a card shows those that did not pass.
    """

    table: Any = None

    def __init__(self, what: str, where: str | None = None, next_step: str | None = None, chapter: str = ""):
        super().__init__(what, where, next_step)
        self.chapter = chapter


def by_name() -> dict[str, type[RunbookError]]:
    """Return the errors of this library by the name of their class, as a kernel names them."""
    family = [RunbookError]
    for kind in family:
        family += kind.__subclasses__()
    return {kind.__name__: kind for kind in family}
