"""A loss and the way back: visitors' requests second by second, with backup, loss, restore and return as marks. From the values of a drill."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from runbook_lib.charts import draw as chart
from runbook_lib.evidence.pictures.figure import Figure, Panel


def draw(values: Mapping[str, Any]) -> Figure:
    """Return the timeline of a disaster drill. `values`: those of `checks.drill.outage.Disaster`."""
    found, marks = values["figures"], [(float(at), str(text)) for at, text in values["marks"]]
    title = f"{values['deployment']}: {found['lose']} lost, visitors of {values['host']}"
    seconds = values["seconds"]
    failing = [number for number, second in enumerate(seconds) if second.get("failed")]
    steps = [f"{at:.1f} s: {text}." for at, text in marks]
    steps.append(f"Requests failed from second {failing[0]} to second {failing[-1]}." if failing else "No visitor's request failed.")
    panel = Panel(title, chart(title, seconds, ["answered"], marks), steps)
    return Figure("outage", title, _caption(found), [panel])


def _caption(found: Mapping[str, Any]) -> list[str]:
    """Return RPO and RTO in words."""
    rpo, rto, what = found["rpo_seconds"], found["rto_seconds"], found["what"]
    lost = f"{found['lost']} of {found['written']} {what} are lost"
    told = [f"RPO {rpo:.1f} s: {lost}, all of them younger than the newest that survived." if rpo is not None else f"Nothing survived: {lost}."]
    told.append(f"RTO {rto:.1f} s: so long after the loss users signed in and read again." if rto is not None else "Users were not served again.")
    return [*told, "Look at the time between the loss and the last mark. Pages may be answered before that; served is who can sign in and read."]
