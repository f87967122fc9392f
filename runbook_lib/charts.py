"""Charts as SVG: the responses per second of a drill, and the timings of a run."""

from __future__ import annotations

import html
import re
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

WIDTH, HEIGHT, LEFT, TOP, BOTTOM = 760, 220, 44, 14, 24
# The palette of Okabe and Ito, whose colours differ for every kind of colour vision. Vermilion (FAILED) is for failures only.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#F0E442", "#999999", "#000000")
FAILED = "#D55E00"
PAPER, INK = "#ffffff", "#1e293b"  # a picture's own, so that it is as legible on a dark page

BAR, ROW, LABELS, WORDS, TIMINGS_WIDTH = 18, 26, 230, 115, 860  # WORDS: "123.4 s ✘ failed" beside the longest bar


def as_image(svg: str, words: str) -> str:
    """Return an SVG as an HTML image with the alternative text `words`.

    Unlike the SVG's own markup it is also shown by who does not trust a page: JupyterLab with a notebook that it did not run, code hosts.
    """
    viewbox = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg)
    size = f'width="{float(viewbox[1]):.0f}" height="{float(viewbox[2]):.0f}" ' if viewbox else ""
    return f'<img {size}alt="{html.escape(words)}" src="data:image/svg+xml;base64,{b64encode(svg.encode()).decode()}">'


def draw(title: str, seconds: Sequence[Mapping[str, int]], nodes: Sequence[str], marks: Sequence[tuple[float, str]]) -> str:
    """Return a self-contained SVG: the responses per second as stacked bars by node, with failures in vermilion.

    `seconds` has, for each second, the number of responses by node name, and of failures under "failed". `marks` are actions with
    their time in seconds, drawn as vertical lines.
    """
    most = max((sum(second.values()) for second in seconds), default=0) or 1
    step = (WIDTH - LEFT) / max(len(seconds), 1)
    names = [*nodes, "failed"]
    colours = {name: COLOURS[number % len(COLOURS)] for number, name in enumerate(nodes)} | {"failed": FAILED}
    depth = HEIGHT + 18 * len(marks) + 24
    parts = [
        f'<svg class="rb-drill" role="img" viewBox="0 0 {WIDTH} {depth}" width="100%" style="max-width:{WIDTH}px" '
        f'font-family="sans-serif" font-size="11" fill="{INK}" xmlns="http://www.w3.org/2000/svg">',
        f"<title>{html.escape(title)}: answers per second by node</title>",
        f'<rect width="{WIDTH}" height="{depth}" rx="6" fill="{PAPER}"/>',
    ]
    parts += _axes(most, len(seconds), step)
    for number, second in enumerate(seconds):
        foot = float(HEIGHT - BOTTOM)
        for name in names:
            tall = second.get(name, 0) / most * (HEIGHT - TOP - BOTTOM)
            if tall:
                foot -= tall
                place = f'x="{LEFT + number * step:.1f}" y="{foot:.1f}"'
                size = f'width="{max(step - 0.5, 0.5):.1f}" height="{tall:.1f}" fill="{colours[name]}"'
                parts.append(f"<rect {place} {size}><title>{name}: {second[name]}</title></rect>")
    parts += _marks(marks, step)
    parts += _legend(names, colours, depth)
    return "".join([*parts, "</svg>"])


def _axes(most: int, seconds: int, step: float) -> list[str]:
    parts = [f'<text x="{LEFT - 6}" y="{TOP + 4}" text-anchor="end">{most}</text>']
    parts.append(f'<text x="{LEFT - 6}" y="{HEIGHT - BOTTOM}" text-anchor="end">0/s</text>')
    every = 5 if seconds <= 60 else 15 if seconds <= 180 else 60
    for second in range(0, seconds + 1, every):
        anchor = "end" if second == seconds else "middle"  # the last label would extend beyond the edge
        parts.append(f'<text x="{LEFT + second * step:.1f}" y="{HEIGHT - 8}" text-anchor="{anchor}">{second} s</text>')
    return parts


def _marks(marks: Sequence[tuple[float, str]], step: float) -> list[str]:
    parts = []
    for number, (at, text) in enumerate(marks, 1):
        x, row = LEFT + at * step, HEIGHT + 18 * number - 6
        line = f'x1="{x:.1f}" x2="{x:.1f}" y1="{TOP - 2}" y2="{HEIGHT - BOTTOM}"'
        parts.append(f'<line {line} stroke="{INK}" stroke-dasharray="3 2"/>')
        parts.append(f'<text x="{x:.1f}" y="{TOP - 4}" text-anchor="middle" font-weight="bold">{number}</text>')
        told = f'<tspan font-weight="bold">{number}</tspan> {at:.1f} s: {html.escape(text)}'
        parts.append(f'<text x="{LEFT}" y="{row}">{told}</text>')
    return parts


def _legend(names: Sequence[str], colours: Mapping[str, str], depth: int) -> list[str]:
    parts, x = [], float(LEFT)
    for name in names:
        parts.append(f'<rect x="{x:.0f}" y="{depth - 16}" width="10" height="10" fill="{colours[name]}"/>')
        parts.append(f'<text x="{x + 14:.0f}" y="{depth - 7}">{html.escape(name)}</text>')
        x += 30 + 6.5 * len(name)
    return parts


def timings_chart(rows: Sequence[tuple[str, float, float, bool]]) -> str:
    """Return an SVG with a bar for each attempt, labelled as text. A row is (name, start, duration, ok), in seconds. "" when there are no rows."""
    if not rows:
        return ""
    end = max(start + seconds for _, start, seconds, _ in rows) or 1.0
    scale = (TIMINGS_WIDTH - LABELS - WORDS) / end
    bars = []
    for number, (what, start, seconds, ok) in enumerate(rows):
        y = number * ROW + 6
        x, wide = LABELS + start * scale, max(seconds * scale, 2)
        words = f"{seconds:.1f} s" + ("" if ok else " ✘ failed")
        bars.append(
            f'<text x="{LABELS - 8}" y="{y + 13}" text-anchor="end">{html.escape(what)}</text>'
            f'<rect x="{x:.1f}" y="{y}" width="{wide:.1f}" height="{BAR}" class="{"ok" if ok else "bad"}">'
            f"<title>{html.escape(what)}: {words}</title></rect>"
            f'<text x="{x + wide + 5:.1f}" y="{y + 13}">{words}</text>'
        )
    high = len(rows) * ROW + 12
    label = f"timings of {len(rows)} attempts, {end:.0f} seconds in all"
    return f'<svg class="timings" role="img" aria-label="{label}" viewBox="0 0 {TIMINGS_WIDTH} {high}">{"".join(bars)}</svg>'


@dataclass(frozen=True)
class Bar:
    """A bar of a timeline, in seconds. `words`: what stands beside it; `marks`: (second, number) of what happened in its row."""

    name: str
    begin: float
    end: float
    words: str
    marks: Sequence[tuple[float, int]] = ()


def timeline(title: str, bars: Sequence[Bar], told: Sequence[str]) -> str:
    """Return an SVG with a row per bar, its marks as numbers, and below it what each number means (`told`, from number 1 on)."""
    left, row, wide = 110, 40, WIDTH - 20
    last = max([bar.end for bar in bars] + [at for bar in bars for at, _ in bar.marks]) or 1.0
    scale, foot = (wide - left) / last, 16 + row * len(bars)
    deep = foot + 30 + 16 * len(told) + 6
    parts = [
        f'<svg class="rb-timeline" role="img" viewBox="0 0 {WIDTH} {deep}" font-family="sans-serif" font-size="12" fill="{INK}" '
        f'xmlns="http://www.w3.org/2000/svg"><title>{html.escape(title)}</title><rect width="{WIDTH}" height="{deep}" rx="6" fill="{PAPER}"/>'
    ]
    step = next(size for size in (1, 2, 5, 10, 15, 30, 60, 300, 1800, 86400) if last / size <= 12 or size == 86400)
    for second in range(0, int(last) + 1, step):
        x = left + second * scale
        parts.append(f'<path d="M{x:.1f} 8V{foot}" stroke="#cbd5e1"/><text x="{x:.1f}" y="{foot + 14}" text-anchor="middle">{second} s</text>')
    for number, bar in enumerate(bars):
        y, begin, end = 12 + row * number, left + bar.begin * scale, left + bar.end * scale
        beside = f'x="{end + 5:.1f}"' if end + 5 + 6.6 * len(bar.words) < WIDTH else f'x="{begin - 5:.1f}" text-anchor="end"'
        parts.append(
            f'<text x="{left - 8}" y="{y + 14}" text-anchor="end" font-weight="bold">{html.escape(bar.name)}</text>'
            f'<rect x="{begin:.1f}" y="{y}" width="{max(end - begin, 2):.1f}" height="18" rx="2" fill="{COLOURS[4]}" stroke="{COLOURS[0]}"/>'
        )
        free = 0.0  # where the next number can stand: numbers of the same moment stand beside each other
        for at, mark in sorted(bar.marks):
            x = left + at * scale
            free = max(x, free)
            parts.append(f'<path d="M{x:.1f} {y}V{y + 20}L{free:.1f} {y + 22}" stroke="{INK}" fill="none"/>')
            parts.append(f'<text x="{free:.1f}" y="{y + 32}" text-anchor="middle" font-weight="bold" font-size="10">{mark}</text>')
            free += 14
        parts.append(f'<text {beside} y="{y + 13}" paint-order="stroke" stroke="{PAPER}" stroke-width="3">{html.escape(bar.words)}</text>')
    for mark, words in enumerate(told, 1):
        parts.append(f'<text x="{left - 60}" y="{foot + 16 + 16 * mark}"><tspan font-weight="bold">{mark}</tspan> {html.escape(words)}</text>')
    return "".join([*parts, "</svg>"])
