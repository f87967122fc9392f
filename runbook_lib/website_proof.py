"""The proof on the site: a leaking deployment and the repaired one side by side, as their runs found and pictured them."""

from __future__ import annotations

import html
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import journal as journals
from .patterns import PATTERNS
from .tables import html_table

CHAPTER = "07_verify_sso_separation"
KINDS = ("leak", "repair")  # the columns; a proof that is not decided is on neither side
LACKING = {"leak": "a leak", "repair": "a separated deployment"}
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


@dataclass(frozen=True)
class Side:
    """One run's proof. `kind`: leak or repair; `checks`: (id, where) -> the row; `shots`: title -> (caption, file)."""

    run: Path
    pattern: str
    hardening: str
    verdict: str
    expected: bool
    kind: str
    checks: Mapping[tuple[str, str], Mapping[str, Any]]
    shots: Mapping[str, tuple[str, Path]]

    @property
    def name(self) -> str:
        return self.run.parent.name


def sides_of(runs: Sequence[Path]) -> list[Side]:
    """The runs that came to a verdict, in the order of the story: what leaks first, the simplest pattern first."""
    found = [side for run in runs if (side := _side(run))]
    order = list(PATTERNS)
    return sorted(found, key=lambda side: (side.kind == "repair", order.index(side.pattern), side.hardening != "full"))


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


def _side(run: Path) -> Side | None:
    entries = journals.read(run)
    result = journals.summarise(entries)
    if not result["verdict"] or result["pattern"] not in PATTERNS:
        return None
    verdict = next(entry for entry in reversed(entries) if entry["verb"] == "verdict")
    text = str(result["verdict"])
    kind = "repair" if text == "separated" else "leak" if text.startswith("leak") else "undecided"
    rows = {(row["id"], row["where"]): row for row in result["checks"] if row["chapter"] == CHAPTER and row["id"].startswith("sso.")}
    shots = {
        entry["key"]: (entry["change"], run / entry["file"]) for entry in entries if entry["verb"] == "screenshot" and (run / entry.get("file", "")).is_file()
    }
    return Side(run, str(result["pattern"]), str(result["hardening"]), text, bool(verdict["ok"]), kind, rows, shots)


def _column(side: Side) -> str:
    mark = "✘ leak" if side.kind == "leak" else "✔ repair"
    through = sum(_outcome(row) == "leak" for row in side.checks.values())
    chapter = f'<a href="{html.escape(side.name)}/{CHAPTER}.html">{html.escape(side.name)}</a>'
    link = chapter if (side.run / f"{CHAPTER}.ipynb").exists() else html.escape(side.name)
    counts = f"{through} of {len(side.checks)} attempts got through" + ("" if side.expected else "; not what its parameters expect")
    return (
        f'<div class="side {side.kind}"><h3>{mark}: {link}</h3><p>Pattern {html.escape(side.pattern)}, hardening {html.escape(side.hardening)}</p>'
        f"<p><strong>{html.escape(side.verdict)}</strong>: {EXPLAINED[side.kind]}. {counts}.</p></div>"
    )


def _pictures(sides: Sequence[Side], out: Path) -> str:
    """The browser's pictures, each title once, with a column per side."""
    titles = dict.fromkeys(title for side in sides for title in side.shots)
    if not titles:
        return "<p>No browser was installed where these ran.</p>"
    return "".join(f'<h3>{html.escape(title)}</h3><div class="sides">{"".join(_figure(side, title, out) for side in sides)}</div>' for title in titles)


def _figure(side: Side, title: str, out: Path) -> str:
    if title not in side.shots:
        return f"<figure><figcaption>{html.escape(side.name)}: no picture</figcaption></figure>"
    caption, source = side.shots[title]
    target = Path(side.name) / "screenshots" / source.name
    (out / target).parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, out / target)
    words = html.escape(caption)
    name = html.escape(side.name)
    alt = f"{html.escape(title)}, {name}: {words}"
    image = f'<a href="{target.as_posix()}"><img src="{target.as_posix()}" alt="{alt}" loading="lazy"></a>'
    return f"<figure>{image}<figcaption><strong>{name}</strong>: {words}</figcaption></figure>"


def _rows(sides: Sequence[Side]) -> str:
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
    return html_table(("Attempt", *(side.name for side in sides)), rows, "", note)


def _verdicts(sides: Sequence[Side]) -> str:
    rows = [(side.name, side.pattern, side.hardening, side.verdict, "✔ as expected" if side.expected else "✘ not as expected") for side in sides]
    return html_table(("Deployment", "Pattern", "Hardening", "Verdict", ""), rows)


def _outcome(row: Mapping[str, Any]) -> str:
    """held, leak, or what else a row begins with."""
    return str(row["observed"]).partition(":")[0].strip()


def _observed(row: Mapping[str, Any]) -> str:
    return f"{MARKS.get(_outcome(row), '?')} {row['observed']}"
