"""Prometheus's text format 0.0.4 by a strict grammar: what node_exporter's textfile collector takes, and nothing else."""

from __future__ import annotations

import re

NAME, LABEL = r"[a-zA-Z_:][a-zA-Z0-9_:]*", r"[a-zA-Z_][a-zA-Z0-9_]*"
VALUE = r"[+-]?(?:\d+(?:\.\d*)?(?:[eE][+-]?\d+)?|Inf)|NaN"
PAIR = rf'{LABEL}="(?:[^"\\\n]|\\["\\n])*"'
SAMPLE = re.compile(rf"(?P<name>{NAME})\{{(?P<labels>{PAIR}(?:,{PAIR})*)\}} (?P<value>{VALUE})")
HEAD = re.compile(rf"# (?P<kind>HELP|TYPE) (?P<name>{NAME}) (?P<words>(?:[^\\]|\\[\\n])+)")
UNESCAPED = {r"\\": "\\", r"\"": '"', r"\n": "\n"}


def parsed(text: str) -> dict[str, dict[frozenset[tuple[str, str]], float]]:
    """The samples by metric and labels. Fails for what the format forbids: a sample twice, a metric in two places, a line without its end."""
    assert text.endswith("\n"), "the last line has no end"
    found: dict[str, dict[frozenset[tuple[str, str]], float]] = {}
    heads: dict[str, list[str]] = {}
    for line in text.removesuffix("\n").split("\n"):
        if line.startswith("#"):
            head = HEAD.fullmatch(line)
            assert head, line
            assert head["name"] not in found, f"{line}: below its samples"
            heads.setdefault(head["name"], []).append(head["kind"])
            assert head["kind"] == "HELP" or head["words"] == "gauge", line
            continue
        sample = SAMPLE.fullmatch(line)
        assert sample, line
        name = sample["name"]
        assert heads.get(name) == ["HELP", "TYPE"], f"{line}: without its head"
        assert name not in found or list(found)[-1] == name, f"{line}: away from the others of its metric"
        pairs = re.findall(rf'({LABEL})="((?:[^"\\\n]|\\["\\n])*)"', sample["labels"])
        labels = frozenset((label, re.sub(r'\\["\\n]', lambda match: UNESCAPED[match[0]], value)) for label, value in pairs)
        assert labels not in found.setdefault(name, {}), f"{line}: twice"
        found[name][labels] = float(sample["value"])
    return found
