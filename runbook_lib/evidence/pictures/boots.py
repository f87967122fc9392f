"""The first boots as a timeline: one after the other, and when each node joined its cluster. From the journal and the nodes' logs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

from runbook_lib.charts import Bar, timeline
from runbook_lib.evidence import continuity, runs
from runbook_lib.evidence.pictures.figure import Figure, Panel

TOLD = {"elected": "is elected coordinator", "joined": "has joined the cluster domain {domain}", "met": "sees {who} join"}
NEAR = 5.0  # seconds around a boot within which the log's lines are of it


@dataclass(frozen=True)
class Boot:
    """A node's start. `events`: (time, words), of this start; `again`: the node was started again since, so that its log tells of a later start."""

    node: str
    began: float
    ended: float
    words: str
    events: Sequence[tuple[float, str]] = field(default=())
    again: bool = False


def first_boots(folder: Path) -> dict[str, dict[str, str]]:
    """Return by node when its newest first boot began and ended, of this run or of an earlier one since the last teardown."""
    found: dict[str, dict[str, str]] = {}
    for run in continuity.lineage(folder):
        for entry in runs.read(run):
            if entry["verb"] == runs.FIRST_BOOT:
                found[entry["host"]] = {"began": entry["began"], "ended": entry["ended"], "line": entry["change"], "run": run.name}
    return found


def draw(values: Mapping[str, Any]) -> Figure:
    """Return the timeline of the first boots, or of the present starts where no run of this machine has booted the nodes. `values`: of `boot_times`."""
    booted = [node for node in values["nodes"] if node["first"]]
    boots = sorted((_boot(node, bool(booted)) for node in booted or values["nodes"] if node["first"] or node["events"]), key=lambda boot: boot.began)
    title = f"{values['deployment']}: {'first boots' if booted else 'present starts'} of {len(boots)} nodes"
    if not boots:
        return Figure("boots", title, ["No node's log tells of a start: none was made, or the log is no longer kept."], [])
    zero = boots[0].began
    events = sorted((at - zero, boot.node, words) for boot in boots for at, words in boot.events)
    bars = [
        Bar(boot.node, boot.began - zero, boot.ended - zero, boot.words, [(at, number) for number, (at, node, _) in enumerate(events, 1) if node == boot.node])
        for boot in boots
    ]
    marks = [f"{at:.1f} s: {node} {words}" for at, node, words in events]
    steps = [f"{bar.name}: from {bar.begin:.1f} s to {bar.end:.1f} s, {bar.words}." for bar in bars] + [f"{n}, {told}." for n, told in enumerate(marks, 1)]
    return Figure("boots", title, _caption(boots, bool(booted)), [Panel(title, timeline(title, bars, marks), steps)])


def _boot(node: Mapping[str, Any], first: bool) -> Boot:
    """Return the start of a node: the first boot as the run saw it, else the present start by its log."""
    events = [(_seconds(event["at"]), event["what"], event["who"]) for event in node["events"]]
    if not first:
        end = next((at for at, what, _ in events if what == "ready"), events[-1][0])
        told = next((who for _, what, who in events if what == "ready"), "not ready by its log")
        return Boot(node["name"], events[0][0], end, told, _words(events))
    began, ended = _seconds(node["first"]["began"]), _seconds(node["first"]["ended"])
    started = next((at for at, what, _ in events if what == "starting"), None)
    again = started is None or not began - NEAR <= started <= ended + NEAR
    return Boot(node["name"], began, ended, f"{ended - began:.1f} s until it answered", [] if again else _words(events), again)


def _words(events: Sequence[tuple[float, str, str]]) -> list[tuple[float, str]]:
    domain = next((who for _, what, who in events if what == "domain"), "")
    return [(at, TOLD[what].format(who=who, domain=domain)) for at, what, who in events if what in TOLD]


def _caption(boots: Sequence[Boot], first: bool) -> list[str]:
    """Return what to look at, by what the boots show."""
    overlap = [f"{one.node} and {other.node}" for one, other in pairwise(boots) if other.began < one.ended]
    order = ", then ".join(boot.node for boot in boots)
    if not first:
        return [f"No run of this machine booted these nodes for the first time; these are their present starts, by their logs: {order}."]
    told = [f"Look at the bars: {f'the boots of {overlap[0]} overlap' if overlap else 'no boot begins before the one above has ended'} ({order})."]
    leaders = [boot.node for boot in boots if any(words == TOLD["elected"] for _, words in boot.events)]
    if leaders:
        told.append(f"Elected coordinator: {', '.join(leaders)}. Each cluster must have exactly one; whoever comes later joins it.")
    if again := [boot.node for boot in boots if boot.again]:
        told.append(f"Started again since, so that the log no longer tells of the first boot: {', '.join(again)}.")
    return told


def _seconds(utc: str) -> float:
    return datetime.fromisoformat(utc).timestamp()
