"""The answer to one of the doctor's questions."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """One thing examined. `needed`: whether the runbook cannot work without it; otherwise only an optional part is left out."""

    what: str
    ok: bool
    words: str
    fix: str = ""
    needed: bool = True

    def __str__(self) -> str:
        mark = "✔" if self.ok else ("✘" if self.needed else "○")
        return f"{mark} {self.what}: {self.words}" + (f"\n    fix: {self.fix}" if self.fix and not self.ok else "")
