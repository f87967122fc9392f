"""Corrections of moto where it differs from AWS in ways that matter here: one function each, one module for each subject.

`@corrects(Class, "method")` replaces a method of moto; the function receives the original as its first argument. The
functions run under the hypervisor's guard (see server.py).
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from ec2lab.api.pace import Pace
from ec2lab.machines.hypervisor import Hypervisor

SUBJECTS = ("account", "conflicts", "groups", "images", "instances", "launches", "lookups", "networks", "requests", "ways_out")

_table: list[tuple[type, str, Callable[..., Any]]] = []
_resuming: list[Callable[[], None]] = []
_lab: Hypervisor  # set by install(); one lab per process
_pace: Pace | None = None


def lab() -> Hypervisor:
    """Return the machines of the lab that the corrections work for."""
    return _lab


def pace() -> Pace | None:
    """Return how slow the lab is, if it is to be as slow as AWS."""
    return _pace


def corrects(owner: type, method: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        _table.append((owner, method, function))
        return function

    return register


def resumes(function: Callable[[], None]) -> Callable[[], None]:
    """Register what goes on with something that an earlier daemon had begun."""
    _resuming.append(function)
    return function


def install(hypervisor: Hypervisor, pace: Pace | None = None) -> None:
    """Install every correction in this process. `pace`: how slow the lab is, if it is to be as slow as AWS."""
    global _lab, _pace
    _lab, _pace = hypervisor, pace
    for subject in SUBJECTS:
        importlib.import_module(f"{__name__}.{subject}")
    for owner, method, function in _table:
        original = getattr(owner, method, None)
        if isinstance(original, property):
            setattr(owner, method, property(_bind(function, original.fget)))
        else:
            setattr(owner, method, _bind(function, original))


def resume() -> None:
    """Go on with what an earlier daemon had begun."""
    for go_on in _resuming:
        go_on()


def _bind(function: Callable[..., Any], original: Callable[..., Any] | None) -> Callable[..., Any]:
    return lambda self, *arguments, **named: function(original, self, *arguments, **named)
