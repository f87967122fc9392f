"""What a notebook shows beyond its cells' values: style, errors as cards, progress. The only module that imports ipywidgets.

Everything here has a static form: headless (papermill, a terminal, a test) nothing waits for a click or a front end.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from runbook_lib.errors import RunbookError
from runbook_lib.notebook.error_card import error_card
from runbook_lib.redaction import redactor

if TYPE_CHECKING:
    pass

STYLE = files("runbook_lib") / "style.css"


def in_notebook() -> bool:
    """Whether our output goes into a notebook, executed by whomever."""
    shell = sys.modules.get("IPython")
    return bool(shell and (running := shell.get_ipython()) and hasattr(running, "kernel"))


def interactive() -> bool:
    """Whether a person sits before the notebook and can click."""
    return in_notebook() and not os.environ.get("RUNBOOK_HEADLESS") and not os.environ.get("PYTEST_CURRENT_TEST")


def show(thing: Any) -> None:
    """The value as a notebook shows it; as text in a terminal."""
    if in_notebook():
        from IPython.display import display

        display(thing)
    elif os.environ.get("RUNBOOK_QUIET") != "1":
        print(redactor.redact(str(thing)))


class Html:
    """A piece of HTML with the text that says the same."""

    def __init__(self, markup: str, text: str):
        self.markup, self.text = redactor.redact(markup), redactor.redact(text)

    def _repr_html_(self) -> str:
        return self.markup

    def __repr__(self) -> str:
        return self.text


def install(pictures: Mapping[type, Callable[[Any], str]] | None = None) -> None:
    """Make this notebook show our errors as cards, our tables in our style, values of the types in `pictures` as the HTML that their
    function returns, and nothing secret, whatever a cell ends with. Does nothing outside of a notebook.
    """
    if not in_notebook():
        return
    RunbookError._render_traceback_ = _render_error  # type: ignore[attr-defined]
    formatter = sys.modules["IPython"].get_ipython().display_formatter
    for kind, draw in {RunbookError: error_card, **(pictures or {})}.items():
        formatter.formatters["text/html"].for_type(kind, draw)
    redact_what_is_shown(formatter)
    show(Html(f"<style>{STYLE.read_text(encoding='utf-8')}</style>", "(style of the tables)"))


def redact_what_is_shown(formatter: Any) -> None:
    """Make IPython's display formatter redact every text form of every value; once is enough for a kernel."""
    shown = type(formatter).format

    def redacted(*arguments: Any, **options: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        forms, metadata = shown(formatter, *arguments, **options)
        return {kind: redactor.redact(form) if isinstance(form, str) else form for kind, form in forms.items()}, metadata

    formatter.format = redacted


def _render_error(error: RunbookError) -> list[str]:
    """IPython's hook for errors that draw themselves: the card once (it asks twice), then the words for the log."""
    if not getattr(error, "_shown", False):
        error._shown = True  # type: ignore[attr-defined]
        show(Html(error_card(error), str(error)))
    if interactive():
        return [f"{type(error).__name__}: see the card above"]
    return redactor.redact(str(error)).splitlines()


def toolkit() -> Any:
    """The module of widgets; loaded when a person is there to click. The forms of `chapters/` are built from it."""
    import ipywidgets

    return ipywidgets


def heard_while_busy(widget: Any) -> None:
    """Let what a person does with `widget` reach the kernel while a cell runs.

    JupyterLab sends it to a second shell of the kernel (a subshell, ipykernel 7). ipykernel 7.4 sends it on to the shell
    that spoke last for the widget: that is the one which the running cell keeps busy, until this forgets who spoke. With
    an older kernel it waits for the end of the cell, and only an interrupt is heard.
    """
    with suppress(AttributeError):
        del widget.comm._reply_subshell_id


class Shown:
    """HTML that a form shows, as a cell's output would be: only there JupyterLab follows links to chapters and docs."""

    def __init__(self, w: Any):
        self.box = w.Output()
        self._markup = ""

    @property
    def value(self) -> str:
        return self._markup

    @value.setter
    def value(self, markup: str) -> None:
        self._markup = redactor.redact(markup)
        data = {"text/html": self._markup, "text/plain": ""}
        self.box.outputs = ({"output_type": "display_data", "data": data, "metadata": {}},) if markup else ()
