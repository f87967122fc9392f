"""The diagram of a topology as one SVG: visitors, the machines in the network, which group may connect to which.

Without scripts, font files or other resources; with a description for screen readers; on a paper of its own, so that it is as legible
on a dark page as on a light one, and in programs that know no colours of the system.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from runbook_lib.charts import INK, PAPER, as_image

if TYPE_CHECKING:
    from runbook_lib.topology.model import Node, Topology

BOX_W, BOX_H, GAP, COLUMN, MARGIN, TOP = 172, 46, 14, 250, 24, 64
COLUMNS = (
    ("visitors",),
    ("lb", "lb-store", "lb-publisher"),
    ("as-manager", "as-worker", "greg", "store", "publisher"),
    ("db", "probe"),
)
TINTS = {
    "visitors": "#64748b",
    "lb": "#0284c7",
    "lb-store": "#0284c7",
    "lb-publisher": "#7c3aed",
    "as-manager": "#b45309",
    "as-worker": "#15803d",
    "greg": "#15803d",
    "store": "#15803d",
    "publisher": "#7c3aed",
    "db": "#be185d",
    "probe": "#64748b",
}
LINE = "#64748b"
STYLE = f"""
.rb-topology text{{font:12px system-ui,sans-serif;fill:{INK}}}
.rb-topology .name{{font-weight:600}}
.rb-topology .small{{font-size:10.5px;fill:#475569}}
.rb-topology .wire{{fill:none;stroke:{LINE};stroke-width:1.3}}
.rb-topology .label{{paint-order:stroke;stroke:{PAPER};stroke-width:4px;font-size:10.5px}}
"""
RUNS, RUNS_NOT = ("#dcfce7", ""), (PAPER, ' stroke-dasharray="4 3"')  # a machine's fill and outline, when its state is known


@dataclass(frozen=True)
class Box:
    """A group of machines of one role, drawn together."""

    role: str
    x: float
    y: float
    nodes: tuple[Node, ...]
    lines: tuple[str, ...] = ()

    @property
    def height(self) -> float:
        return max(len(self.nodes), 1) * (BOX_H + GAP) + 18

    @property
    def middle(self) -> float:
        return self.y + self.height / 2


def draw(topology: Topology, states: Mapping[str, str] | None = None) -> str:
    """Return the SVG; its description has the same content as text.

    `states`: the machines' states by name, each with its symbol (`● running`), to be written and shown by colour and outline.
    """
    boxes = _boxes(topology)
    width = MARGIN * 2 + COLUMN * (len(COLUMNS) - 1) + BOX_W + 16
    height = max(box.y + box.height for box in boxes.values()) + MARGIN + 10
    parts = [
        f'<svg class="rb-topology" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height:.0f}" role="img" '
        f'style="max-width:{width}px;width:100%;height:auto">',
        f"<title>{escape(topology.spec.deployment)}: {escape(topology.spec.pattern)}</title>",
        f"<desc>{escape(_description(topology, states or {}))}</desc><style>{STYLE}</style>",
        f'<rect width="{width}" height="{height:.0f}" rx="10" fill="{PAPER}"/>',
        '<defs><marker id="rb-arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto-start-reverse">'
        f'<path d="M0 0 8 4 0 8z" fill="{LINE}"/></marker></defs>',
        _network_frame(topology, width, height),
        *(_box(box, states or {}) for box in boxes.values()),
        *_wires(topology, boxes),
        "</svg>",
    ]
    return "".join(parts)


def image(topology: Topology, states: Mapping[str, str] | None = None) -> str:
    """Return the drawing as an HTML image, with its description as the alternative text."""
    return as_image(draw(topology, states), _description(topology, states or {}))


def _boxes(topology: Topology) -> dict[str, Box]:
    boxes: dict[str, Box] = {}
    for number, roles in enumerate(COLUMNS):
        y = float(TOP)
        for role in roles:
            nodes = topology.of(role)
            if not nodes and role != "visitors":
                continue
            lines = tuple(topology.spec.hosts.values()) if role == "visitors" else ()
            boxes[role] = Box(role, MARGIN + number * COLUMN, y, nodes, lines)
            y += boxes[role].height + 26
    tallest = max(sum(boxes[r].height + 26 for r in roles if r in boxes) for roles in COLUMNS)
    return {role: _centred(box, boxes, tallest) for role, box in boxes.items()}


def _centred(box: Box, boxes: dict[str, Box], tallest: float) -> Box:
    column = next(roles for roles in COLUMNS if box.role in roles)
    own = sum(boxes[role].height + 26 for role in column if role in boxes)
    return Box(box.role, box.x, box.y + (tallest - own) / 2, box.nodes, box.lines)


def _network_frame(topology: Topology, width: float, height: float) -> str:
    x = MARGIN + COLUMN - 30
    return (
        f'<rect x="{x}" y="14" width="{width - x - 8}" height="{height - 24:.0f}" rx="10" fill="none" '
        f'stroke="{LINE}" stroke-dasharray="5 4"/>'
        f'<text x="{x + 12}" y="34" class="small">VPC {escape(topology.spec.cloud.network)} · '
        f"{escape(topology.spec.cloud.region)} · SSH only from the operator</text>"
    )


def _box(box: Box, states: Mapping[str, str]) -> str:
    tint = TINTS[box.role]
    parts = [
        f'<rect x="{box.x - 8}" y="{box.y:.1f}" width="{BOX_W + 16}" height="{box.height:.1f}" rx="8" fill="{tint}" '
        f'fill-opacity=".10" stroke="{tint}" stroke-opacity=".7"/>',
        f'<text x="{box.x}" y="{box.y + 14:.1f}" class="small">{escape(_title(box.role))}</text>',
    ]
    for number, node in enumerate(box.nodes):
        y = box.y + 20 + number * (BOX_H + GAP)
        state = states.get(node.name, "")
        fill, outline = (RUNS if state.startswith("●") else RUNS_NOT) if state else (PAPER, "")
        parts.append(
            f'<rect x="{box.x}" y="{y:.1f}" width="{BOX_W}" height="{BOX_H}" rx="6" fill="{fill}" stroke="{tint}"{outline}/>'
            f'<text x="{box.x + 10}" y="{y + 19:.1f}" class="name">{escape(node.name)}</text>'
            f'<text x="{box.x + BOX_W - 10}" y="{y + 19:.1f}" class="small" text-anchor="end">{escape(state)}</text>'
            f'<text x="{box.x + 10}" y="{y + 36:.1f}" class="small">{node.address} · {node.instance_type}</text>'
        )
    for number, line in enumerate(box.lines):
        parts.append(f'<text x="{box.x}" y="{box.y + 36 + number * 18:.1f}" class="name">{escape(line)}</text>')
    return "".join(parts)


def _title(role: str) -> str:
    words = {
        "visitors": "visitors",
        "lb": "Nginx",
        "lb-store": "Nginx for the Store",
        "lb-publisher": "Nginx for the Publisher",
        "db": "MySQL",
        "as-manager": "AS manager",
        "as-worker": "AS workers",
        "greg": "G-Reg, both applications",
        "store": "G-Reg Store",
        "publisher": "G-Reg Publisher",
        "probe": "probe, trusted by nobody",
    }
    return words[role]


def _wires(topology: Topology, boxes: dict[str, Box]) -> Iterable[str]:
    """Yield one arrow per pair of groups, labelled with its ports; ports within a group (Hazelcast) are written below it."""
    pairs: dict[tuple[str, str], list[int]] = {}
    for rule in topology.rules:
        source = rule.source if rule.source in boxes else "visitors" if "/" in rule.source else ""
        if source and rule.group in boxes:
            pairs.setdefault((source, rule.group), []).append(rule.from_port)
    for (source, target), ports in pairs.items():
        label = ", ".join(str(port) for port in sorted(set(ports), reverse=True))
        if source == target:
            yield _below(boxes[source], f"{label} among themselves")
        elif boxes[source].x == boxes[target].x:
            if boxes[source].y < boxes[target].y or (target, source) not in pairs:
                yield _upright(boxes[source], boxes[target], _both_ways(pairs, source, target), (target, source) in pairs)
        else:
            yield _across(boxes[source], boxes[target], label)


def _both_ways(pairs: dict[tuple[str, str], list[int]], source: str, target: str) -> str:
    ports: Sequence[int] = [*pairs.get((source, target), []), *pairs.get((target, source), [])]
    return ", ".join(str(port) for port in sorted(set(ports), reverse=True))


def _below(box: Box, text: str) -> str:
    return f'<text x="{box.x}" y="{box.y + box.height + 14:.1f}" class="small">{escape(text)}</text>'


def _upright(source: Box, target: Box, label: str, both: bool) -> str:
    upper, lower = sorted((source, target), key=lambda box: box.y)
    x = upper.x + BOX_W - 24
    back = ' marker-start="url(#rb-arrow)"' if both else ""
    return (
        f'<path class="wire" d="M{x} {upper.y + upper.height:.1f}V{lower.y:.1f}" marker-end="url(#rb-arrow)"{back}/>'
        f'<text class="label" x="{x + 6}" y="{lower.y - 4:.1f}">{label}</text>'
    )


def _across(source: Box, target: Box, label: str) -> str:
    left, right = (source, target) if source.x < target.x else (target, source)
    x1, x2 = left.x + BOX_W + 8, right.x - 8
    y1, y2 = left.middle, right.middle
    start, end = ((x1, y1), (x2, y2)) if left is source else ((x2, y2), (x1, y1))
    bend = (x1 + x2) / 2
    return (
        f'<path class="wire" d="M{start[0]} {start[1]:.1f}C{bend} {start[1]:.1f} {bend} {end[1]:.1f} '
        f'{end[0]} {end[1]:.1f}" marker-end="url(#rb-arrow)"/>'
        f'<text class="label" text-anchor="middle" x="{bend}" y="{(y1 + y2) / 2 - 5:.1f}">{label}</text>'
    )


def _description(topology: Topology, states: Mapping[str, str]) -> str:
    state = {name: f" ({words.strip('●○ ')})" for name, words in states.items()}
    machines = "; ".join(f"{node.name} at {node.address}{state.get(node.name, '')}" for node in topology.nodes)
    behind = "; ".join(
        f"{host} is served by {topology.lb_for(host).name} from {', '.join(n.name for n in topology.upstream(host))}" for host in topology.spec.hosts.values()
    )
    return f"{len(topology.nodes)} machines: {machines}. {behind}. All share the databases on {topology.db.name}."
