"""The proof on the site: a leaking deployment and the repaired one side by side, as their runs found and pictured them."""

from __future__ import annotations

import html
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from runbook_lib.evidence.comparison import CHAPTER, RunProof, finding
from runbook_lib.spec.patterns import PATTERNS
from runbook_lib.tables import html_table

KINDS = ("leak", "repair")  # the columns; a proof that is not decided is on neither side
LACKING = {"leak": "a leak", "repair": "a separated deployment"}
LIMIT = "a limit of the product"  # as `checks.sso` calls what no configuration closes
MARKS = {"leak": "✘", "held": "✔"}
EXPLAINED = {
    "leak": "Store and Publisher let the user of the one into the other",
    "repair": "no attempt leads from the one application into the other",
}
STYLE = """
.sides { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(22rem, 100%), 1fr)); gap: 1rem; align-items: start; }
.side { border: 1px solid #8886; border-top: .4rem solid; border-radius: 6px; padding: .3rem .9rem .7rem; min-width: 0; }
.side.leak { border-top-color: #c4453c; } .side.repair { border-top-color: #2f8f4e; } .side h3 { margin: .4rem 0; }
figure { margin: 0; }
figure img { width: 100%; aspect-ratio: 2; object-fit: cover; object-position: top; border: 1px solid #8886; background: #fff; }
figcaption { font-size: .87rem; overflow-wrap: anywhere; }
.proof .rb-table { table-layout: fixed; width: 100%; } .proof .rb-table td { overflow-wrap: anywhere; }
"""


def sides_of(runs: Sequence[Path]) -> list[RunProof]:
    """The runs that came to a verdict, in the order of the story: what leaks first, the simplest pattern first."""
    found = [side for run in runs if (side := finding(run)) and side.pattern in PATTERNS]
    order = list(PATTERNS)
    return sorted(found, key=lambda side: (side.kind == "repair", order.index(side.pattern), side.hardening != "full"))


def proof_words(runs: Sequence[Path]) -> str:
    """What the page shows, in a few words: it promises two sides only when there are two."""
    kinds = {side.kind for side in sides_of(runs)}
    return "leak and repair side by side" if kinds.issuperset(KINDS) else "what was tried and what a person saw"


def proof_body(runs: Sequence[Path], out: Path) -> str:
    """The page's body, "" when no run came to a verdict; the pictures are copied below `out`."""
    sides = sides_of(runs)
    if not sides:
        return ""
    first = {side.kind: side for side in reversed(sides)}
    shown = [first[kind] for kind in KINDS if kind in first]
    columns = "".join(_column(side) for side in shown)
    lacking = "".join(f"<p>No run here found {words}: there is nothing to compare with.</p>" for kind, words in LACKING.items() if kind not in first)
    return (
        f'<style>{STYLE}</style><p><a href="index.html">All chapters</a></p><h1>The proof</h1>'
        "<p>The same attempts were made on each deployment, from outside through Nginx and from machines beside it.</p>"
        f'<div class="sides">{columns}</div>{lacking}'
        f'<section class="proof"><h2>What a person sees</h2>{_pictures(shown, out)}</section>'
        f'<section class="proof"><h2>{"The attempts that come out otherwise" if len(shown) == 2 else "The attempts"}</h2>{_rows(shown)}</section>'
        f'<section class="proof"><h2>Every verdict</h2>{_verdicts(sides)}</section>'
    )


def _column(side: RunProof) -> str:
    mark = "✘ leak" if side.kind == "leak" else "✔ repair"
    counted = [row for row in side.checks.values() if LIMIT not in row["expected"]]  # what the verdict counts
    through = sum(_outcome(row) == "leak" for row in counted)
    chapter = f'<a href="{html.escape(side.deployment)}/{CHAPTER}.html">{html.escape(side.deployment)}</a>'
    link = chapter if (side.folder / f"{CHAPTER}.ipynb").exists() else html.escape(side.deployment)
    counts = f"{through} of {len(counted)} attempts got through" + ("" if side.expected else "; not what its parameters expect")
    return (
        f'<div class="side {side.kind}"><h3>{mark}: {link}</h3><p>Pattern {html.escape(side.pattern)}, hardening {html.escape(side.hardening)}</p>'
        f"<p><strong>{html.escape(side.verdict)}</strong>: {EXPLAINED[side.kind]}. {counts}.</p></div>"
    )


def _pictures(sides: Sequence[RunProof], out: Path) -> str:
    """The browser's pictures, each title once, with a column per side."""
    titles = dict.fromkeys(picture.title for side in sides for picture in side.pictures)
    if not titles:
        return "<p>No browser was installed where these ran.</p>"
    return "".join(f'<h3>{html.escape(title)}</h3><div class="sides">{"".join(_figure(side, title, out) for side in sides)}</div>' for title in titles)


def _figure(side: RunProof, title: str, out: Path) -> str:
    picture = next((picture for picture in side.pictures if picture.title == title), None)
    if picture is None:
        return f"<figure><figcaption>{html.escape(side.deployment)}: no picture</figcaption></figure>"
    target = Path(side.deployment) / "screenshots" / picture.path.name
    (out / target).parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(picture.path, out / target)
    words = html.escape(picture.caption)
    name = html.escape(side.deployment)
    alt = f"{html.escape(title)}, {name}: {words}"
    image = f'<a href="{target.as_posix()}"><img src="{target.as_posix()}" alt="{alt}" loading="lazy"></a>'
    return f"<figure>{image}<figcaption><strong>{name}</strong>: {words}</figcaption></figure>"


def _rows(sides: Sequence[RunProof]) -> str:
    """With two sides the rows whose outcome differs; with one all of them."""
    if not sides:
        return "<p>None.</p>"
    first = sides[0]
    keys = [key for key in first.checks if all(key in side.checks for side in sides)]
    differing = [key for key in keys if len({_outcome(side.checks[key]) for side in sides}) == len(sides)]
    if not differing:
        return "<p>None.</p>"
    rows = [(first.checks[key]["title"], *(_observed(side.checks[key]) for side in sides)) for key in differing]
    note = f"{len(differing)} of {len(keys)} attempts; the others came out alike." if len(sides) > 1 else ""
    if both := [first.checks[key]["title"] for key in keys if len(sides) > 1 and {_outcome(side.checks[key]) for side in sides} == {"leak"}]:
        note += f" Got through on both sides, because the product allows it within one application: {'; '.join(both)}."
    return html_table(("Attempt", *(side.deployment for side in sides)), rows, "", note)


def _verdicts(sides: Sequence[RunProof]) -> str:
    rows = [(side.deployment, side.pattern, side.hardening, side.verdict, "✔ as expected" if side.expected else "✘ not as expected") for side in sides]
    return html_table(("Deployment", "Pattern", "Hardening", "Verdict", ""), rows)


def _outcome(row: Mapping[str, Any]) -> str:
    """held, leak, or what else a row begins with."""
    return str(row["observed"]).partition(":")[0].strip()


def _observed(row: Mapping[str, Any]) -> str:
    return f"{MARKS.get(_outcome(row), '?')} {row['observed']}"
