"""The glossary: the words of the chapters with their definitions, read from glossary.yaml, and where a text uses them.

    glossary()["ACS"].text                       # two sentences
    used_in("What the ACS checks", "07")         # the words of a text, here of chapter 07
    boxes(prose)["05_configure_nginx"]           # which words the Words box of a chapter defines, and which it only links

docs/glossary.md is `as_markdown()`; `python -m runbook_lib.notebook.words_cell` writes it and the Words boxes.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from runbook_lib.files import read_table
from runbook_lib.spec.chapters import BATCH, SECOND_DAY, chapters_of
from runbook_lib.spec.patterns import PATTERNS

TABLE = files(__package__) / "glossary.yaml"
FIRST, LAST = "00_start_here", "99_tear_down"  # they belong to every pattern
PAGE = "../docs/glossary.md"  # as the chapters reach it


@dataclass(frozen=True)
class Word:
    """One word. `link`: an https address, or a page relative to docs/; `chapters`: the only ones in which its forms mean it, () for all."""

    name: str
    text: str
    title: str
    link: str
    forms: tuple[str, ...]
    chapters: tuple[str, ...] = ()
    see: tuple[str, ...] = ()

    @property
    def anchor(self) -> str:
        """The fragment of its heading in docs/glossary.md, as GitHub and MyST make it: `kernel (Linux)` gives `kernel-linux`."""
        return re.sub(r"[^\w -]", "", self.name.lower()).replace(" ", "-")

    def belongs_to(self, chapter: str) -> bool:
        """Return whether its forms mean this word in a chapter. `chapter`: a number, "" for a text that is of no chapter."""
        return not self.chapters or chapter in self.chapters


@dataclass(frozen=True)
class WordsBox:
    """The words of one chapter: those that its Words box defines, and those that an earlier chapter defines or only a definition uses."""

    defined: tuple[Word, ...]
    linked: tuple[Word, ...]


@cache
def _pattern(form: str) -> re.Pattern[str]:
    return re.compile(rf"(?<![\w-]){re.escape(form)}(?:s|es)?(?![\w-])", 0 if form != form.lower() else re.IGNORECASE)


@cache
def glossary() -> dict[str, Word]:
    """Return every word by its name, in the order of the alphabet."""
    table = read_table(TABLE)
    found = {}
    for name, row in table.items():
        title, link = row["source"]
        forms = tuple(row.get("forms", [name]))
        found[name] = Word(name, row["text"], title, link, forms, tuple(row.get("chapters", ())), tuple(row.get("see", ())))
    return found


def used_in(text: str, chapter: str = "") -> tuple[Word, ...]:
    """Return the words that a text uses, in the order of the alphabet. `chapter`: the number of the chapter that the text is of, "" for others.

    Longer forms are looked for first and taken out, so that "certificate authority" does not use the word "certificate".
    """
    forms = [(form, word) for word in glossary().values() if word.belongs_to(chapter) for form in word.forms]
    found = set()
    for form, word in sorted(forms, key=lambda each: -len(each[0])):
        text, count = _pattern(form).subn("|", text)
        found |= {word} if count else set()
    return _sorted(found)


def used_by(word: Word) -> tuple[Word, ...]:
    """Return the other words that the definition of a word uses or refers to."""
    return _sorted({*used_in(word.text), *(glossary()[name] for name in word.see)} - {word})


def walks() -> list[list[str]]:
    """Return, for each pattern, the names of its chapters in the order of a reader: 00, its own, 08, 99; and those of whoever reads about batches."""
    return [*([FIRST, *(chapter.name for chapter in chapters_of(pattern)), SECOND_DAY, LAST] for pattern in PATTERNS), [FIRST, BATCH]]


def boxes(prose: Mapping[str, str]) -> dict[str, WordsBox]:
    """Return the box of each chapter. `prose`: the text of each by its name.

    A chapter defines the words that a reader of one of its patterns meets there for the first time.
    """
    used = {name: used_in(text, name[:2]) for name, text in prose.items()}
    defined: dict[str, set[Word]] = {name: set() for name in prose}
    for walk in walks():
        met: set[Word] = set()
        for name in walk:
            defined[name] |= set(used[name]) - met
            met |= set(used[name])
    found = {}
    for name in prose:
        others = set(used[name]).union(*(used_by(word) for word in defined[name])) - defined[name]
        found[name] = WordsBox(_sorted(defined[name]), _sorted(others))
    return found


def _sorted(words: Iterable[Word]) -> tuple[Word, ...]:
    chosen = set(words)
    return tuple(word for word in glossary().values() if word in chosen)


def as_cell(box: WordsBox) -> str:
    """Return a chapter's Words box as Markdown: folded, its blank lines let every renderer take what is inside as Markdown."""
    lines = ["<details>", f"<summary><b>Words</b>: {html.escape(' · '.join(word.name for word in box.defined))}</summary>", ""]
    for word in box.defined:
        address = word.link if word.link.startswith("https:") else f"../docs/{word.link}"
        lines.append(f"- **{word.name}**: {word.text} [{word.title}]({address})")
    if box.linked:
        links = ", ".join(f"[{word.name}]({PAGE}#{word.anchor})" for word in box.linked)
        lines += ["", f"Also used here, in [the glossary]({PAGE}): {links}."]
    return "\n".join([*lines, "", "</details>"])


def as_html(words: Iterable[Word]) -> str:
    """Return words with their definitions as a folded list in HTML, for a form."""
    rows = [f"<dt><b>{html.escape(word.name)}</b></dt><dd>{_code(word.text)}</dd>" for word in words]
    return f'<details class="rb-words"><summary>Words of this form</summary><dl>{"".join(rows)}</dl></details>'


def _code(text: str) -> str:
    marked = re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text))
    return re.sub(r"\*([^*]+)\*", r"<i>\1</i>", marked)


def as_markdown() -> str:
    """Return the page docs/glossary.md."""
    lines = [
        "# Glossary", "",
        "The words of the chapters, each in two sentences, with the document that defines it. Made from `runbook_lib/spec/glossary.yaml` by",
        "`python -m runbook_lib.notebook.words_cell`, as are the *Words* boxes of the chapters; a test compares.",
    ]  # fmt: skip
    for word in glossary().values():
        lines += ["", f'## <a id="{word.anchor}"></a>{word.name}', "", word.text, "", f"Source: [{word.title}]({word.link})."]
        if others := used_by(word):
            lines[-1] += " See also: " + ", ".join(f"[{other.name}](#{other.anchor})" for other in others) + "."
    return "\n".join(lines) + "\n"
