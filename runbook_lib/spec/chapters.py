"""The chapters as data: their order, what each one works on, and which pattern has which."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from runbook_lib.errors import RunbookError
from runbook_lib.files import ROOT
from runbook_lib.spec.patterns import PATTERNS

NOTEBOOKS = ROOT / "notebooks"
GREG = tuple(name for name, pattern in PATTERNS.items() if pattern.product == "greg")
EVERY = tuple(PATTERNS)
SECOND_DAY = "08_second_day"  # belongs to every pattern and to no run: what it does is for a day that somebody chooses
BATCH = "10_batch"  # is about many deployments; its sweep counts the Store nodes of a greg-separated


@dataclass(frozen=True)
class Chapter:
    """One notebook. `attribute`: the deployment's object that it works with; `patterns`: those it belongs to."""

    name: str
    attribute: str
    title: str
    patterns: tuple[str, ...] = EVERY

    @property
    def number(self) -> str:
        return self.name[:2]

    @property
    def notebook(self) -> Path:
        return NOTEBOOKS / f"{self.name}.ipynb"

    @property
    def module(self) -> str:
        """The name of the module that the deployment's object is from."""
        return f"runbook_lib.chapters.{'product_nodes' if self.attribute in ('appserver', 'greg') else self.attribute}"

    @property
    def converges(self) -> bool:
        """Whether it has a plan and an apply; the others only verify."""
        return self.attribute not in ("cluster", "sso")


CHAPTERS = {
    chapter.name: chapter
    for chapter in (
        Chapter("01_launch_ec2", "launch", "Launch the machines"),
        Chapter("02_install_mysql", "mysql", "Install MySQL"),
        Chapter("03_configure_as_nodes", "appserver", "Configure the Application Server nodes", ("as-cluster",)),
        Chapter("04_configure_greg_nodes", "greg", "Configure the Governance Registry nodes", GREG),
        Chapter("05_configure_nginx", "nginx", "Configure Nginx"),
        Chapter("06_verify_as_cluster", "cluster", "Verify the cluster", ("as-cluster",)),
        Chapter("07_verify_sso_separation", "sso", "Verify the separation", GREG),
    )
}


def chapters_of(pattern: str, first: str | None = None, last: str | None = None) -> tuple[Chapter, ...]:
    """Return the chapters that build and verify a pattern, from number `first` to number `last`; never 00 and 99.

    Raises RunbookError for a number that the pattern does not have.
    """
    mine = [chapter for chapter in CHAPTERS.values() if pattern in chapter.patterns]
    numbers = [chapter.number for chapter in mine]
    for option, given in (("--from", first), ("--to", last)):
        if given is not None and given.zfill(2) not in numbers:
            raise RunbookError(f"{pattern} has no chapter {given}", option, f"its chapters are {', '.join(numbers)}")
    chosen = tuple(c for c in mine if (first or "00").zfill(2) <= c.number <= (last or "98").zfill(2))
    if not chosen:
        raise RunbookError(
            f"no chapter lies from {first} to {last}",
            "--from, --to",
            f"the chapters of {pattern} are {', '.join(numbers)}",
        )
    return chosen
