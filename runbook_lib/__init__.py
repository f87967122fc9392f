"""The library behind the notebooks: launch, configure and verify WSO2 clusters on EC2, step by step.

A notebook needs one import: `from runbook_lib import open_deployment`. The names in `__all__` are imported when they are first used.
"""

from __future__ import annotations

import gc
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .chapters.deployment import open_deployment
    from .chapters.exercises.card import course, exercise
    from .chapters.forms.params_form import choose_params, show_patterns
    from .chapters.forms.passwords import choose_passwords

__version__ = "0.2.0"
__all__ = ["__version__", "choose_params", "choose_passwords", "course", "exercise", "open_deployment", "show_patterns"]

_HOMES = {
    "open_deployment": "chapters.deployment",
    "course": "chapters.exercises.card",
    "exercise": "chapters.exercises.card",
    "choose_params": "chapters.forms.params_form",
    "choose_passwords": "chapters.forms.passwords",
    "show_patterns": "chapters.forms.params_form",
}


def __getattr__(name: str) -> Any:
    """Return a function of the notebooks, imported on first use, so that importing one module does not load all of them."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = f"{__name__}.{_HOMES[name]}"
    load(home)
    return getattr(import_module(home), name)


def load(*modules: str) -> None:
    """Import modules. Nothing of what they make is garbage, so Python does not look for any meanwhile, nor in it later: a quarter of the time."""
    looked_for = gc.isenabled()
    gc.disable()
    try:
        for module in modules:
            import_module(module)
        gc.freeze()
    finally:
        if looked_for:
            gc.enable()
