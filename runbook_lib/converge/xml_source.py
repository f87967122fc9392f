"""An XML file as bytes: where each element stands, so that a piece can be spliced and all else stays as it is.

lxml answers XPath and says what a file means, but knows no byte offsets; expat knows the offsets. Both read the same
bytes, and a document in which they disagree is refused.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from xml.parsers import expat

from lxml import etree

from runbook_lib.errors import RunbookError

Splice = tuple[int, int, bytes]  # from, to, what stands there afterwards

START_TAG = re.compile(rb"""<[^\s/>]+(?:\s+[^\s=/>]+\s*=\s*(?:"[^"]*"|'[^']*'))*\s*(/?)>""")
ATTRIBUTE = re.compile(rb"""(\s+)([^\s=/>]+)\s*=\s*("[^"]*"|'[^']*')""")
FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # XML 1.0, section 2.2
ESCAPES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "\r": "&#13;"}
IN_ATTRIBUTES = {**ESCAPES, '"': "&quot;", "'": "&apos;", "\n": "&#10;", "\t": "&#9;"}


class NotFound(RunbookError):
    """No element, or more than one, where exactly one was meant."""


def escape(value: str, table: dict[str, str] = ESCAPES) -> bytes:
    """A value as it is written in a file of any declared encoding: non-ASCII characters become character references."""
    if found := FORBIDDEN.search(value):
        raise RunbookError(f"a value holds U+{ord(found[0]):04X}, which no XML file can hold", None, "choose another value")
    return "".join(table.get(character, character) for character in value).encode("ascii", "xmlcharrefreplace")


@dataclass
class Span:
    """Byte offsets of a node: `start`, end of its start tag, start of its end tag, `end`. The inner two are equal
    for an empty tag.
    """

    start: int
    open_end: int = 0
    close: int = 0
    end: int = 0
    name: str = ""
    empty: bool = False


class Document:
    """A parsed file. `c:` in an XPath stands for the namespace of the root element, whichever that is."""

    def __init__(self, data: bytes, path: str):
        self.data, self.path = data, path
        if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
            raise RunbookError("the file is UTF-16, which is not edited here", path, "convert it to UTF-8 in the pack")
        try:
            self.root = etree.fromstring(data, etree.XMLParser(resolve_entities=False, no_network=True))
            spans = _spans(data)
        except (etree.XMLSyntaxError, expat.ExpatError) as error:
            raise RunbookError(f"not well-formed XML: {error}", path, "compare the file with the one in the pack") from None
        nodes = list(self.root.iter())
        names = [node.tag.rpartition("}")[2] if isinstance(node.tag, str) else "" for node in nodes]
        if names != [span.name.rpartition(":")[2] for span in spans]:
            raise RunbookError("the two XML parsers disagree about this file (entities?)", path, "edit it by hand")
        self.spans = dict(zip(nodes, spans, strict=True))  # holds the nodes, so that lxml keeps returning these very objects

    @cached_property
    def newline(self) -> bytes:
        return b"\r\n" if b"\r\n" in self.data else b"\n"

    def find(self, xpath: str) -> list[etree._Element]:
        """The elements that `xpath` selects."""
        namespace = etree.QName(self.root).namespace
        try:
            found = self.root.xpath(xpath, namespaces={"c": namespace} if namespace else None)
        except etree.XPathError as error:
            raise RunbookError(f"cannot look for {xpath}: {error}", self.path) from None
        if not isinstance(found, list) or not all(node in self.spans for node in found):
            raise RunbookError(f"{xpath} selects something other than elements", self.path)
        return list(found)

    def one(self, xpath: str) -> etree._Element:
        """The one element that `xpath` selects; NotFound, with what there is instead."""
        found = self.find(xpath)
        if len(found) == 1:
            return found[0]
        if found:
            raise NotFound(
                f"{xpath} is there {len(found)} times, on lines {', '.join(str(node.sourceline) for node in found)}",
                self.path,
            )
        raise NotFound(
            f"{xpath} is not there: {self._nearest(xpath)}",
            self.path,
            "is this the product and version that the runbook knows?",
        )

    def _nearest(self, xpath: str) -> str:
        """The longest part of `xpath` that exists, and what is below it."""
        while "/" in xpath.strip("/"):
            xpath = xpath.rpartition("/")[0]
            try:
                found = self.find(xpath)
            except RunbookError:  # cut inside a predicate
                continue
            if found:
                below = dict.fromkeys(str(etree.QName(child).localname) for child in found[0] if isinstance(child.tag, str))
                return f"{xpath} has {', '.join(list(below)[:12]) or 'nothing below it'}"
        return f"the root is {etree.QName(self.root).localname}"

    def attribute(self, element: etree._Element, name: str, value: str) -> Splice:
        """Set an attribute; a new one goes behind the first, spaced as the second is."""
        span = self.spans[element]
        found = list(ATTRIBUTE.finditer(self.data, span.start, span.open_end))
        for match in found:
            if match[2] == name.encode():
                return match.start(3) + 1, match.end(3) - 1, escape(value, IN_ATTRIBUTES)
        written = b'%s="%s"' % (name.encode(), escape(value, IN_ATTRIBUTES))
        if not found:
            at = span.start + 1 + len(span.name.encode())
            return at, at, b" " + written
        return found[0].end(), found[0].end(), (found[1][1] if len(found) > 1 else b" ") + written

    def text(self, element: etree._Element, value: str) -> Splice:
        """Set the text of an element that holds only text; white space around the old text stays."""
        span = self.spans[element]
        if len(element):
            raise RunbookError(f"<{span.name}> on line {element.sourceline} holds elements or comments, not only text", self.path)
        if span.empty:
            opened = self.data[span.start : span.end - 2].rstrip()
            return span.start, span.end, b"%s>%s</%s>" % (opened, escape(value), span.name.encode())
        raw = self.data[span.open_end : span.close]
        if not raw.strip() or value != value.strip():
            return span.open_end, span.close, escape(value)
        before, after = len(raw) - len(raw.lstrip()), len(raw) - len(raw.rstrip())
        return span.open_end + before, span.close - after, escape(value)

    def indent(self, node: etree._Element) -> bytes:
        """White space between the start of the node's line and the node; none when something else stands before it."""
        start = self.spans[node].start
        before = self.data[self.data.rfind(b"\n", 0, start) + 1 : start]
        return before if not before.strip() else b""

    def lines(self, xml: str, indent: bytes) -> bytes:
        """A snippet in the file's own line ends, all lines but the first indented."""
        return (self.newline + indent).join(line.encode("ascii", "xmlcharrefreplace") for line in xml.strip().splitlines())

    def after(self, node: etree._Element, xml: str) -> Splice:
        """Insert a snippet on the line behind `node`."""
        end, indent = self.spans[node].end, self.indent(node)
        return end, end, self.newline + indent + self.lines(xml, indent)

    def into(self, parent: etree._Element, xml: str) -> Splice:
        """Insert a snippet as the last child of `parent`."""
        if len(parent):
            return self.after(parent[-1], xml)
        span, outer = self.spans[parent], self.indent(parent)
        inner = self.newline + outer + b"    " + self.lines(xml, outer + b"    ") + self.newline + outer
        if span.empty:
            opened = self.data[span.start : span.end - 2].rstrip()
            return span.start, span.end, b"%s>%s</%s>" % (opened, inner, span.name.encode())
        if (element_text := parent.text) and element_text.strip():
            raise RunbookError(f"<{span.name}> on line {parent.sourceline} holds text, nothing can be inserted there", self.path)
        return span.open_end, span.close, inner

    def replace(self, node: etree._Element, xml: str) -> Splice:
        """A snippet in the place of `node`."""
        span = self.spans[node]
        return span.start, span.end, self.lines(xml, self.indent(node))

    def remove(self, node: etree._Element) -> Splice:
        """Take `node` away, with its line when it has that for itself."""
        span = self.spans[node]
        line = self.data.rfind(b"\n", 0, span.start)
        ends = self.data.find(b"\n", span.end)
        alone = not self.data[line + 1 : span.start].strip() and ends >= 0 and not self.data[span.end : ends].strip()
        return (line + 1, ends + 1, b"") if alone and line >= 0 else (span.start, span.end, b"")

    def sample(self, parent: etree._Element, name: str) -> etree._Element | None:
        """The comment below `parent` that holds `<name>` as a commented-out sample, such as
        `<!--HostName>…</HostName-->`.
        """
        looks = re.compile(rf"\s*<?{re.escape(name)}[\s>/]")
        return next((node for node in parent.iterchildren(etree.Comment) if looks.match(node.text or "")), None)


def _spans(data: bytes) -> list[Span]:
    """Spans of the root and everything in it (elements, comments, processing instructions), in document order."""
    spans: list[Span] = []
    stack: list[Span] = []
    parser = expat.ParserCreate()

    def start(name: str, _attributes: object) -> None:
        at = parser.CurrentByteIndex
        tag = START_TAG.match(data, at)
        if tag is None:
            raise expat.ExpatError(f"start tag at byte {at}")
        span = Span(at, tag.end(), tag.end(), tag.end(), name, bool(tag[1]))
        spans.append(span)
        stack.append(span)

    def end(_name: str) -> None:
        span = stack.pop()
        if not span.empty:
            span.close = parser.CurrentByteIndex
            span.end = data.index(b">", span.close) + 1

    def other(closing: bytes) -> None:
        if stack:
            at = parser.CurrentByteIndex
            until = data.index(closing, at + 2) + len(closing)
            spans.append(Span(at, until, until, until))

    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.CommentHandler = lambda _text: other(b"-->")
    parser.ProcessingInstructionHandler = lambda _target, _text: other(b"?>")
    parser.Parse(data, True)
    return spans
