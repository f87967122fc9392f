"""A figure: one or more SVG pictures with a caption that says what to look at, and the same in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from runbook_lib.charts import as_image
from runbook_lib.redaction import redactor


@dataclass(frozen=True)
class Panel:
    """One picture of a figure. `svg`: the picture; `steps`: what it shows, in its order, as sentences; `title`: what it is of."""

    title: str
    svg: str
    steps: Sequence[str]

    @property
    def words(self) -> str:
        """The alternative text: title and steps."""
        return redactor.redact(" ".join((f"{self.title}.", *self.steps)))


@dataclass(frozen=True)
class Figure:
    """Pictures that belong together, beside each other where there is room. `caption`: what to look at. `id`: the same in every run."""

    id: str
    title: str
    caption: Sequence[str]
    panels: Sequence[Panel]

    def _repr_html_(self) -> str:
        """Return it as HTML: pictures as `img`, because JupyterLab shows no SVG of a page that it does not trust, and their steps folded below."""
        pictures = "".join(map(self._picture, self.panels))
        told = "".join(f"<p><strong>{escape(panel.title)}</strong></p><ul>{_items(panel.steps)}</ul>" for panel in self.panels)
        caption = "".join(f"<p>{escape(sentence)}</p>" for sentence in self.caption)
        words = redactor.redact(f"<figcaption><p><strong>{escape(self.title)}</strong></p>{caption}</figcaption>")
        folded = redactor.redact(f"<details><summary>The same in words</summary>{told}</details>")
        return f'<figure class="rb-figure">{words}<div class="rb-panels">{pictures}</div>{folded}</figure>'

    def _picture(self, panel: Panel) -> str:
        name = redactor.redact(escape(panel.title))
        title = "" if panel.title == self.title else f"<p><strong>{name}</strong></p>"
        image = as_image(redactor.redact(panel.svg), panel.words)
        return f'<div class="rb-picture" tabindex="0" role="group" aria-label="{name}">{title}{image}</div>'

    def __str__(self) -> str:
        lines = [self.title, *self.caption]
        for panel in self.panels:
            lines += ["", panel.title, *(f"  {step}" for step in panel.steps)]
        return redactor.redact("\n".join(lines))

    __repr__ = __str__


def _items(steps: Sequence[str]) -> str:
    return "".join(f"<li>{escape(step)}</li>" for step in steps)
