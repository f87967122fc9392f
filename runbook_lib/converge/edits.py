"""Edits of named settings in configuration files. All other bytes stay exactly as the product's pack has them.

Each kind of edit returns the byte ranges to replace (`splices`); an empty list means that the setting already has its
value. `apply` replaces them, parses the result again and calls every edit once more. An edit that would still change
something is an error, so a second run changes nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache

from lxml import etree

from runbook_lib.converge.xml_source import Document, NotFound, Splice, escape
from runbook_lib.errors import RunbookError

STEP = re.compile(r"(?:c:)?([\w.-]+)((?:\[@[\w.-]+='[^']*'\])*)")
PREDICATE = re.compile(r"\[@([\w.-]+)='([^']*)'\]")


class View:
    """The bytes of a file, parsed as XML or JSON when first needed. `path` is used in error messages."""

    def __init__(self, data: bytes, path: str):
        self.data, self.path = data, path

    @cached_property
    def xml(self) -> Document:
        return Document(self.data, self.path)

    @cached_property
    def json(self) -> str:
        """The file as text, after a check that it is JSON. Raises RunbookError when it is not."""
        text = self.data.decode("utf-8", "surrogateescape")
        try:
            json.loads(text)
        except json.JSONDecodeError as error:
            raise RunbookError(f"not strict JSON: {error}", self.path, "compare the file with the one in the pack") from None
        return text

    def spliced(self, splices: Sequence[Splice]) -> View:
        """Return a view of the bytes with these replacements made; they must not overlap."""
        if not splices:
            return self
        parts, at = [], 0
        for start, end, new in sorted(splices):
            parts += [self.data[at:start], new]
            at = end
        return View(b"".join([*parts, self.data[at:]]), self.path)


@dataclass(frozen=True)
class Edit:
    """The base class of edits: one named setting of one file."""

    def describe(self) -> str:
        """Return the setting and its value in one line."""
        raise TypeError(f"{type(self).__name__} cannot be described")

    def splices(self, view: View) -> list[Splice]:
        """Return the byte ranges to replace, none when the setting has its value. Raises RunbookError when the file has no place for it."""
        raise TypeError(f"{type(self).__name__} cannot be applied")


@dataclass(frozen=True)
class XmlSet(Edit):
    """Sets the text of an element, or an attribute (`…/@name`), which is added when absent. `c:` is the namespace of the root.

    With `create`, an absent element is inserted: after the comment that holds it as a sample
    (`<!--HostName>…</HostName-->`; the comment stays), otherwise as the last child of its parent.
    """

    xpath: str
    value: str = field(repr=False)
    create: bool = False

    def describe(self) -> str:
        return f"{self.xpath} = {self.value}"

    def splices(self, view: View) -> list[Splice]:
        target, _, attribute = self.xpath.rpartition("/@")
        if target:
            element = view.xml.one(target)
            return [] if element.get(attribute) == self.value else [view.xml.attribute(element, attribute, self.value)]
        if self.create and not view.xml.find(self.xpath):
            return [self._made(view.xml)]
        element = view.xml.one(self.xpath)
        now = element.text or ""
        if not len(element) and self.value in (now, now.strip()):
            return []
        return [view.xml.text(element, self.value)]

    def _made(self, document: Document) -> Splice:
        above, step = split_last(self.xpath)
        found = STEP.fullmatch(step)
        if not found:
            raise RunbookError(f"{self.xpath} is not there and its last step is no name that could be made", document.path)
        name, attributes = found[1], "".join(f' {k}="{v}"' for k, v in PREDICATE.findall(found[2]))
        xml = f"<{name}{attributes}>{escape(self.value).decode()}</{name}>"
        parent = document.one(above)
        sample = None if attributes else document.sample(parent, name)
        return document.into(parent, xml) if sample is None else document.after(sample, xml)


@dataclass(frozen=True)
class XmlElement(Edit):
    """Sets an element with all its content. `xpath` finds it; `xml` is what it must be, apart from comments and white space.

    An absent element is inserted after the element `after`, or as the last child of `into`.
    """

    xpath: str
    xml: str = field(repr=False)
    after: str = ""
    into: str = ""

    def describe(self) -> str:
        return f"{self.xpath}: {' '.join(self.xml.split())}"

    def splices(self, view: View) -> list[Splice]:
        document = view.xml
        namespace = etree.QName(document.root).namespace
        wanted = etree.fromstring(f'<x xmlns="{namespace}">{self.xml}</x>' if namespace else f"<x>{self.xml}</x>")[0]
        if document.find(self.xpath):
            element = document.one(self.xpath)
            return [] if _meaning(element) == _meaning(wanted) else [document.replace(element, self.xml)]
        if self.after:
            return [document.after(document.one(self.after), self.xml)]
        return [document.into(document.one(self.into), self.xml)]


@dataclass(frozen=True)
class XmlRemove(Edit):
    """Removes every element that `xpath` selects."""

    xpath: str

    def describe(self) -> str:
        return f"{self.xpath}: none"

    def splices(self, view: View) -> list[Splice]:
        return [view.xml.remove(element) for element in view.xml.find(self.xpath)]


@dataclass(frozen=True)
class JsonSet(Edit):
    """Sets a value in strict JSON. `path` is dotted (`authentication.activeMethod`; numbers are positions in a list) and must exist."""

    path: str
    value: str | int | float | bool | None = field(repr=False)

    def describe(self) -> str:
        return f"{self.path} = {json.dumps(self.value)}"

    def splices(self, view: View) -> list[Splice]:
        text = view.json
        at = _skip(text, 0)
        for depth, name in enumerate(keys := self.path.split(".")):
            members = _members(text, at)
            if name not in members:
                above = ".".join(keys[:depth]) or "the top"
                raise NotFound(f"{self.path} is not there: {above} has {', '.join(members) or 'nothing below it'}", view.path)
            at = members[name]
        now, end = json.JSONDecoder().raw_decode(text, at)
        if now == self.value and type(now) is type(self.value):
            return []
        start = len(text[:at].encode("utf-8", "surrogateescape"))
        length = len(text[at:end].encode("utf-8", "surrogateescape"))
        return [(start, start + length, json.dumps(self.value).encode())]


@dataclass(frozen=True)
class TextSet(Edit):
    """Sets the one group of `pattern` to `value`. `pattern` is a multi-line regular expression that matches exactly once, before and after."""

    pattern: str
    value: str = field(repr=False)

    def describe(self) -> str:
        return f"{self.pattern} = {self.value}"

    def splices(self, view: View) -> list[Splice]:
        found = list(re.finditer(self.pattern.encode(), view.data, re.MULTILINE))
        if len(found) != 1:
            lines = ", ".join(str(view.data.count(b"\n", 0, match.start()) + 1) for match in found)
            where = f"on lines {lines}" if found else "is this the product and version that the runbook knows?"
            raise NotFound(f"/{self.pattern}/ was found {len(found)} times, exactly once was meant", view.path, where)
        start, end = found[0].span(1)
        new = self.value.encode()
        return [] if view.data[start:end] == new else [(start, end, new)]


@lru_cache(maxsize=512)
def apply(data: bytes, edits: tuple[Edit, ...], path: str) -> bytes:
    """Return `data` with all `edits` made; the same bytes when every setting already has its value.

    Edits whose byte ranges do not touch are made together. An edit that needs what an earlier one inserts is made after
    it. Raises RunbookError, which names the file (`path`), the XPath or key, and what was found instead.
    """
    view, pending = View(data, path), list[Splice]()
    for edit in edits:
        try:
            found = edit.splices(view)
            settled = not _touch(pending, found)
        except NotFound:
            settled = False
            if not pending:
                raise
        if not settled:
            view, pending = view.spliced(pending), []
            found = edit.splices(view)
        pending += found
    result = view.spliced(pending)
    if result.data == data:
        return data
    for edit in edits:
        if edit.splices(result):
            raise RunbookError(
                f"an edit does not read back: {edit.describe()}",
                path,
                "two edits of one file contradict each other, or one names the wrong place",
            )
    return result.data


def _touch(pending: Sequence[Splice], found: Sequence[Splice]) -> bool:
    return any(start <= until and since <= end for start, end, _ in pending for since, until, _ in found)


def split_last(xpath: str) -> tuple[str, str]:
    """Return an XPath without its last step, and that step. A slash inside a predicate does not separate steps."""
    depth = 0
    for at in range(len(xpath) - 1, -1, -1):
        depth += {"]": 1, "[": -1}.get(xpath[at], 0)
        if xpath[at] == "/" and not depth:
            return xpath[:at], xpath[at + 1 :]
    return "", xpath


def _meaning(element: etree._Element) -> tuple:
    """Return an element's name, attributes, text and children without white space and comments, for a comparison."""
    children = [_meaning(child) for child in element if isinstance(child.tag, str)]
    text = "".join([element.text or "", *(child.tail or "" for child in element)]).strip()
    return element.tag, sorted(element.attrib.items()), text, children


def _skip(text: str, at: int) -> int:
    while at < len(text) and text[at] in " \t\r\n\ufeff":
        at += 1
    return at


def _members(text: str, at: int) -> dict[str, int]:
    """Return, by name or position, where each member's value starts in the object or list at `at`. `text` must be valid JSON."""
    found: dict[str, int] = {}
    opening, decode = text[at], json.JSONDecoder().raw_decode
    if opening not in "{[":
        return found
    at = _skip(text, at + 1)
    while text[at] not in "}]":
        name = str(len(found))
        if opening == "{":
            name, at = decode(text, at)
            at = _skip(text, _skip(text, at) + 1)  # after the colon
        found[name] = at
        _, at = decode(text, at)
        at = _skip(text, at)
        if text[at] == ",":
            at = _skip(text, at + 1)
    return found
