"""The page of what a notebook calls: made from the docstrings of `runbook_lib.__all__` and of the chapters' objects."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from typing import Any

import runbook_lib
from runbook_lib.changes import Plan, Result
from runbook_lib.chapters import cluster, launch, mysql, nginx, product_nodes, sso
from runbook_lib.chapters.deployment import Deployment
from runbook_lib.chapters.second_day import backups, disaster, patch
from runbook_lib.check import CheckTable
from runbook_lib.headless.batch_view import Batch

OBJECTS = {  # what deployment.<name> is
    "launch": launch.Launch,
    "mysql": mysql.Mysql,
    "appserver": product_nodes.Appserver,
    "greg": product_nodes.Greg,
    "product": product_nodes.ProductNodes,  # one of these two
    "nginx": nginx.Nginx,
    "cluster": cluster.Cluster,
    "sso": sso.Sso,
    "backups": backups.Backups,
    "patch": patch.Patch,
    "disaster": disaster.DisasterDrill,
}
RETURNED = (Plan, Result, CheckTable)
INNER = ("checks", "own_checks", "nodes", "desired", "wish", "work", "resumed", "lacking", "announce")  # what the verbs are made of
HEAD = (
    "# What a notebook calls",
    "",
    "A chapter has one import, `from runbook_lib import open_deployment`, and one object, `deployment`, with an object per chapter. Each has the",
    "verbs `plan`, `apply` and `verify`, and what is special to it. This page is made from the docstrings.",
    "",
)


def reference_page() -> str:
    """Return the page in Markdown."""
    lines = [*HEAD, "## Functions", ""]
    for name in runbook_lib.__all__:
        if callable(function := getattr(runbook_lib, name)):
            lines += _entry(name, function)
    lines += ["## The deployment", "", plain(_doc(Deployment)), ""]
    for name, method in _methods(Deployment, (Deployment,)):
        lines += _entry(f"deployment.{name}", method)
    for name, kind in OBJECTS.items():
        lines += [f"## deployment.{name}", "", plain(_doc(kind)), ""]
        for verb, method in _methods(kind, kind.__mro__):
            lines += _entry(f"deployment.{name}.{verb}", method)
    lines += ["## batch", "", plain(_doc(Batch)), ""]
    for verb, method in _methods(Batch, (Batch,)):
        lines += _entry(f"batch.{verb}", method)
    lines += ["## What they return", ""]
    for value in RETURNED:
        lines += [f"### {value.__name__}", "", plain(_doc(value)), ""]
        lines += [f"- `.{name}`: {plain(_doc(member)).partition(chr(10) * 2)[0]}" for name, member in _members(value)] + [""]
    return "\n".join(lines)


def _methods(kind: type, homes: tuple[type, ...]) -> Iterator[tuple[str, Callable[..., Any]]]:
    """Yield name and function of the public methods that a chapter calls, those of the class's own first; `homes`: the classes that are looked at."""
    seen: set[str] = set()
    for home in homes:
        for name, member in vars(home).items():
            if inspect.isfunction(member) and not name.startswith("_") and name not in (*seen, *INNER):
                seen.add(name)
                yield name, getattr(kind, name)


def _members(kind: type) -> Iterator[tuple[str, Any]]:
    """Yield name and member of what is public and described in a class of values."""
    for name, member in vars(kind).items():
        if not name.startswith("_") and (inspect.isfunction(member) or isinstance(member, property)) and _doc(member):
            yield name, member


def _entry(name: str, function: Callable[..., Any]) -> list[str]:
    signature = inspect.signature(function)
    given = [each for each in signature.parameters.values() if each.name != "self"]
    words = ", ".join(str(each.replace(annotation=inspect.Parameter.empty)) for each in given)
    return [f"### {name}({words})", "", plain(_doc(function)) or "No description.", ""]


def _doc(thing: Any) -> str:
    """Return a docstring without its indentation; for a method of a subclass without one, that of the method it replaces."""
    return inspect.getdoc(thing) or ""


def plain(text: str) -> str:
    """Return a docstring as Markdown in which only backticks mean something."""
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(part if part.startswith("`") else re.sub(r"([*_<\[\]{}$|#\\])", r"\\\1", part) for part in parts)
