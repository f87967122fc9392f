"""The error class of the lab, and the command line that its messages name."""

from __future__ import annotations

import os


class LabError(Exception):
    """The lab cannot do what was asked on this machine.

    `what` went wrong in one sentence; `where`: an option, a command or a file; `next_step`: what to do now.
    """

    def __init__(self, what: str, where: str | None = None, next_step: str | None = None):
        super().__init__(what)
        self.what, self.where, self.next_step = what, where, next_step

    def __str__(self) -> str:
        given = [self.what, self.where and f"  where: {self.where}", self.next_step and f"  next:  {self.next_step}"]
        return "\n".join(filter(None, given))


def lab_command(words: str) -> str:
    """Return the command line that runs the lab's verb `words`. A program that embeds the lab names its own command in EC2LAB_COMMAND."""
    return f"{os.environ.get('EC2LAB_COMMAND', 'ec2lab')} {words}"
