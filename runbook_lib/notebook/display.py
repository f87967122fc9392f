"""Display in notebooks beyond a cell's value: style, errors as cards, widgets. The only module that imports ipywidgets.

Everything here has a static form: headless (papermill, a terminal, a test) nothing waits for a click or a front end.
"""

from __future__ import annotations

import html
import os
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib.resources import files
from typing import Any

from runbook_lib.errors import RunbookError, Stopped
from runbook_lib.notebook.error_card import error_card
from runbook_lib.redaction import redactor

STYLE = files("runbook_lib") / "style.css"


def in_notebook() -> bool:
    """Return whether the output goes into a notebook, executed by a person or headless."""
    shell = sys.modules.get("IPython")
    return bool(shell and (running := shell.get_ipython()) and hasattr(running, "kernel"))


def interactive() -> bool:
    """Return whether a person uses the notebook and can click."""
    return in_notebook() and not os.environ.get("RUNBOOK_HEADLESS") and not os.environ.get("PYTEST_CURRENT_TEST")


def show(thing: Any) -> None:
    """Show a value: in a notebook as its display form, in a terminal as redacted text."""
    if in_notebook():
        from IPython.display import display

        display(thing)
    elif os.environ.get("RUNBOOK_QUIET") != "1":
        print(redactor.redact(str(thing)))


class Html:
    """HTML with an equivalent text; both are redacted."""

    def __init__(self, markup: str, text: str):
        self.markup, self.text = redactor.redact(markup), redactor.redact(text)

    def _repr_html_(self) -> str:
        return self.markup

    def __repr__(self) -> str:
        return self.text


class Notice(Html):
    """A sentence that the reader should not miss, in amber."""

    def __init__(self, words: str):
        super().__init__(f'<p class="rb-notice" role="status">△ {html.escape(words)}</p>', f"△ {words}")


def install(pictures: Mapping[type, Callable[[Any], str]] | None = None) -> None:
    """Set up the display of this notebook: errors as cards, the tables' style, redaction of every shown value. Does nothing outside of a notebook.

    `pictures`: functions that return the HTML of a value, by the value's type.
    """
    if not in_notebook():
        return
    RunbookError._render_traceback_ = _render_error  # type: ignore[attr-defined]
    shell = sys.modules["IPython"].get_ipython()
    shell.set_custom_exc((KeyboardInterrupt,), _render_interrupt)
    formatter = shell.display_formatter
    for kind, draw in {RunbookError: error_card, **(pictures or {})}.items():
        formatter.formatters["text/html"].for_type(kind, draw)
    redact_what_is_shown(formatter)
    show(Html(f"<style>{STYLE.read_text(encoding='utf-8')}</style>", "(style of the tables)"))


def redact_what_is_shown(formatter: Any) -> None:
    """Make IPython's display formatter redact every text form of every value, for the rest of the kernel's life."""
    shown = type(formatter).format

    def redacted(*arguments: Any, **options: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        forms, metadata = shown(formatter, *arguments, **options)
        return {kind: redactor.redact(form) if isinstance(form, str) else form for kind, form in forms.items()}, metadata

    formatter.format = redacted


def _render_error(error: RunbookError) -> list[str]:
    """Show the error's card and return the lines of its traceback. IPython calls this hook twice for an error; the card is shown once."""
    if not getattr(error, "_shown", False):
        error._shown = True  # type: ignore[attr-defined]
        show(Html(error_card(error), str(error)))
    if interactive():
        return [f"{type(error).__name__}: see the card above"]
    return redactor.redact(str(error)).splitlines()


def _render_interrupt(shell: Any, kind: type, error: BaseException, trace: Any, tb_offset: int | None = None) -> list[str]:
    """Show the interrupt of any cell as a card, and return the lines that stand for its traceback."""
    lines = _render_error(Stopped("interrupted"))
    shell._showtraceback(kind, error, lines)
    return lines


def toolkit() -> Any:
    """Return the module ipywidgets, imported only when a person can click. The forms of `chapters/` are built with it."""
    import ipywidgets

    return ipywidgets


def heard_while_busy(widget: Any) -> None:
    """Let the kernel handle a person's actions on `widget` while a cell runs.

    JupyterLab sends them to a second shell of the kernel (a subshell, ipykernel 7). ipykernel 7.4 forwards them to the
    shell that last sent a message for the widget, which is the one that the running cell keeps busy; deleting the stored
    id prevents this. With an older kernel they wait for the end of the cell, and only an interrupt is handled at once.
    """
    with suppress(AttributeError):
        del widget.comm._reply_subshell_id


class Shown:
    """HTML in a form, shown like a cell's output, because only in outputs JupyterLab follows links to chapters and docs."""

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
