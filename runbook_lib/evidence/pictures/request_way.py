"""The way of requests through Nginx to a node and its database, as a sequence diagram of what log and machines told."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from runbook_lib.evidence.pictures.figure import Figure, Panel
from runbook_lib.evidence.pictures.sequence import Diagram, Lane, Part, Row, Step
from runbook_lib.tables import counted
from runbook_lib.webclient.response import Exchange

CLIENT, NGINX, NODE, DATABASE = "client", "nginx", "node", "db"
ROUTE = "runbook_route"


def draw(values: Mapping[str, Any]) -> Figure:
    """Return the figure of the requests in `values`, which `checks.request_way.ways` made."""
    made = [{**one, "exchange": Exchange(**one["exchange"])} for one in values["made"]]
    nodes = list(dict.fromkeys(node for one in made for node in [*one["asked"], one["node"]] if node))
    lanes = [Lane(CLIENT, "Client"), Lane(NGINX, "Nginx", values["nginx"]), *(Lane(node, "Node", node) for node in nodes)]
    if any(one["database"] for one in made):
        lanes.append(Lane(DATABASE, "Database", values["db"]))
    title = f"{values['deployment']}: the way of {len(made)} requests to {values['host']}"
    rows = [row for number, one in enumerate(made, 1) for row in _rows(number, one, values)]
    diagram = Diagram(title, lanes, rows)
    return Figure("way", title, _caption(made, values), [Panel(title, diagram.draw(), diagram.steps)])


def _rows(number: int, one: Mapping[str, Any], values: Mapping[str, Any]) -> list[Row]:
    """Return the rows of one request: what the client sent, what Nginx decided, whom it asked, and what came back."""
    met, line, path = one["exchange"], one["logged"], urlsplit(one["exchange"].url).path
    sends = f"with {ROUTE}" if ROUTE in met.sent else f"without {ROUTE}"
    rows: list[Row] = [Part(f"Request {number}: {path}, {sends}")]
    rows.append(Step(CLIENT, NGINX, f"{met.method} {met.url}, {sends}", str(number)))
    rows.append(Step(NGINX, NGINX, _decision(one, values), mark="held" if met.by_nginx else "", verdict="refused here: no node is asked"))
    for node in one["asked"]:
        rows.append(Step(NGINX, node, _passed(line, len(one["asked"]))))
    if one["asked"] and one["database"]:
        rows.append(Step(one["node"], DATABASE, f"{counted(one['database'], 'connection')}, kept open for all requests"))
    took = f", after {_milliseconds(line['response'])}" if line and _is_number(line["response"]) else ""
    if one["node"]:
        own = " (the product's own page)" if met.status and met.status >= 400 else ""
        rows.append(Step(one["node"], NGINX, f"{met.status}{own}{took}", answer=True))
    told = [str(met.status or met.note)]
    if met.location:
        told.append(f"to {urlsplit(met.location).path or met.location}")
    if ROUTE in met.set:
        told.append(f"sets {ROUTE}")
    rows.append(Step(NGINX, CLIENT, f"{', '.join(told)}, {_milliseconds(met.seconds)} in all", answer=True))
    return rows


def _decision(one: Mapping[str, Any], values: Mapping[str, Any]) -> str:
    """Return what let the request through or not, by Nginx's list."""
    door = one["door"]
    if door and door["path"]:
        return f"front door {door['path']}: {door['why']}"
    if door:
        return "no front door leads there: 404"
    if one["exchange"].by_nginx:
        return "a rule of this host refuses the path"
    return "no rule refuses the path" if values["guarded"] else "no list here: every path is passed on"


def _passed(line: Mapping[str, Any] | None, tried: int) -> str:
    """Return what the access log says of the connection to a node."""
    if line is None or tried > 1 or not _is_number(line["connect"]):
        return "asks this node"
    return f"by the hash of {ROUTE}; connected in {_milliseconds(line['connect'])}"


def _is_number(text: str) -> bool:
    return text.replace(".", "", 1).isdigit()


def _milliseconds(seconds: str | float) -> str:
    """Return a time of the log, which has whole milliseconds."""
    return f"{float(seconds) * 1000:.0f} ms" if float(seconds) >= 0.001 else "less than 1 ms"


def _caption(made: list[dict[str, Any]], values: Mapping[str, Any]) -> list[str]:
    """Return what to look at, by what became of the requests."""
    told = []
    stayed = [one["node"] for one in made if one["node"] and ROUTE in one["exchange"].sent]
    first = next((one["node"] for one in made if one["node"]), "")
    if stayed and first:
        same = "the same node" if stayed[0] == first else "another node"
        told.append(f"The first request came without a route cookie and was answered by {first}; the next one brought the cookie and met {same}.")
    refused = [urlsplit(one["exchange"].url).path for one in made if one["exchange"].by_nginx]
    passed = [urlsplit(one["exchange"].url).path for one in made if not one["exchange"].by_nginx]
    if refused:
        told.append(f"Look where the arrow of {', '.join(refused)} ends: Nginx itself answers, and no node ever sees the request.")
    elif not values["guarded"]:
        told.append(f"Nothing is refused here: {passed[-1]}, which belongs to another host, reaches a node as well.")
    if any(one["logged"] is None for one in made):
        told.append("Of some requests there is no line in Nginx's access log: what is not known is not drawn.")
    told.append("Which of its database connections a node uses for a request, it does not say; the number is how many it holds.")
    return told
