"""One family of errors: what went wrong, where, and what to do next."""

from __future__ import annotations


class RunbookError(Exception):
    """An error that a user can act on. `changed`: what an apply had changed before it (`changes.Pending`), for the journal.

    `what` went wrong in one sentence; `where`: file and key, host and command, or URL; `next_step`: what to do now.
    In a notebook it shows as a card without a traceback (see `display.install`).
    """

    changed: tuple[object, ...] = ()

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
    """The parameters are wrong: names the key, the value and what is allowed. `key`: dotted, "" when it is about none."""

    def __init__(self, what: str, where: str | None = None, next_step: str | None = None, key: str = ""):
        super().__init__(what, where, next_step)
        self.key = key


class CloudError(RunbookError):
    """The cloud refused or does not answer: names the call and the resource. `code`: AWS's error code, if any."""

    code: str = ""


class HostError(RunbookError):
    """A host refused, failed or does not answer: names the host and the command."""


class WrongHostKey(HostError):
    """A host shows another key than its console did: waiting does not help."""


class PackError(RunbookError):
    """A pack or JDK archive cannot be had, or is not the one that the parameters name."""


class PlanOvertaken(RunbookError):
    """The world changed between plan and apply; `fresh` is the plan as it would be now."""

    fresh: object = None


class LockHeld(RunbookError):
    """Another writer works on this deployment: names the owner and since when."""


class ChecksFailed(RunbookError):
    """At least one check failed: names them. `chapter`: the one whose checks they are, "" when it is the reader's own."""

    def __init__(self, what: str, where: str | None = None, next_step: str | None = None, chapter: str = ""):
        super().__init__(what, where, next_step)
        self.chapter = chapter
