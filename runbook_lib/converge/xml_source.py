"""An XML file as bytes, with the byte offsets of each element, so that a part can be replaced and all other bytes stay.

lxml evaluates XPath but has no byte offsets; expat has the offsets. Both parse the same bytes, and a document in which
they disagree is refused.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from xml.parsers import expat

from lxml import etree

from runbook_lib.errors import RunbookError

Splice = tuple[int, int, bytes]  # start offset, end offset, the bytes that replace what is between them

START_TAG = re.compile(rb"""<[^\s/>]+(?:\s+[^\s=/>]+\s*=\s*(?:"[^"]*"|'[^']*'))*\s*(/?)>""")
ATTRIBUTE = re.compile(rb"""(\s+)([^\s=/>]+)\s*=\s*("[^"]*"|'[^']*')""")
FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # XML 1.0, section 2.2
ESCAPES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "\r": "&#13;"}
IN_ATTRIBUTES = {**ESCAPES, '"': "&quot;", "'": "&apos;", "\n": "&#10;", "\t": "&#9;"}


class NotFound(RunbookError):
    """Raised when there is no match, or more than one, where exactly one is required."""


def escape(value: str, table: dict[str, str] = ESCAPES) -> bytes:
    """Return the value escaped for a file of any declared encoding: non-ASCII characters become character references.

    Raises RunbookError when the value holds a character that XML 1.0 forbids.
    """
    if found := FORBIDDEN.search(value):
        raise RunbookError(f"a value holds U+{ord(found[0]):04X}, which no XML file can hold", None, "choose another value")
    return "".join(table.get(character, character) for character in value).encode("ascii", "xmlcharrefreplace")


@dataclass
class Span:
    """Byte offsets of a node: `start`, `open_end` (end of the start tag), `close` (start of the end tag), `end`.

    For an empty tag the last three are equal.
    """

    start: int
    open_end: int = 0
    close: int = 0
    end: int = 0
    name: str = ""
    empty: bool = False


class Document:
    """A parsed file. In an XPath, `c:` is the prefix for the namespace of the root element.

    The methods that edit change nothing themselves: they return a splice. Raises RunbookError when the file cannot be parsed.
    """

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
        self.spans = dict(zip(nodes, spans, strict=True))  # keeps the nodes alive, so that lxml returns these same objects again

    @cached_property
    def newline(self) -> bytes:
        return b"\r\n" if b"\r\n" in self.data else b"\n"

    def find(self, xpath: str) -> list[etree._Element]:
        """Return the elements that `xpath` selects. Raises RunbookError when it is not valid or selects anything else."""
        namespace = etree.QName(self.root).namespace
        try:
            found = self.root.xpath(xpath, namespaces={"c": namespace} if namespace else None)
        except etree.XPathError as error:
            raise RunbookError(f"cannot look for {xpath}: {error}", self.path) from None
        if not isinstance(found, list) or not all(node in self.spans for node in found):
            raise RunbookError(f"{xpath} selects something other than elements", self.path)
        return list(found)

    def one(self, xpath: str) -> etree._Element:
        """Return the one element that `xpath` selects. Raises NotFound, naming what is there instead, when it is not exactly one."""
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
        """Return, for an error message, the longest part of `xpath` that exists and the elements below it."""
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
        """Return the splice that sets an attribute. A new one is written after the first, with the white space before the second."""
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
        """Return the splice that sets an element's text; white space around the old text stays.

        Raises RunbookError when the element holds anything but text.
        """
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
        """Return the white space before the node on its line; empty when anything else precedes the node there."""
        start = self.spans[node].start
        before = self.data[self.data.rfind(b"\n", 0, start) + 1 : start]
        return before if not before.strip() else b""

    def lines(self, xml: str, indent: bytes) -> bytes:
        """Return a snippet with the file's own line ends, every line but the first indented."""
        return (self.newline + indent).join(line.encode("ascii", "xmlcharrefreplace") for line in xml.strip().splitlines())

    def after(self, node: etree._Element, xml: str) -> Splice:
        """Return the splice that inserts a snippet on a new line after `node`."""
        end, indent = self.spans[node].end, self.indent(node)
        return end, end, self.newline + indent + self.lines(xml, indent)

    def into(self, parent: etree._Element, xml: str) -> Splice:
        """Return the splice that inserts a snippet as the last child of `parent`. Raises RunbookError when `parent` holds text."""
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
        """Return the splice that replaces `node` by a snippet."""
        span = self.spans[node]
        return span.start, span.end, self.lines(xml, self.indent(node))

    def remove(self, node: etree._Element) -> Splice:
        """Return the splice that removes `node`, and its line when nothing else is on it."""
        span = self.spans[node]
        line = self.data.rfind(b"\n", 0, span.start)
        ends = self.data.find(b"\n", span.end)
        alone = not self.data[line + 1 : span.start].strip() and ends >= 0 and not self.data[span.end : ends].strip()
        return (line + 1, ends + 1, b"") if alone and line >= 0 else (span.start, span.end, b"")

    def sample(self, parent: etree._Element, name: str) -> etree._Element | None:
        """Return the comment below `parent` that holds `<name>` as a sample, such as `<!--HostName>…</HostName-->`; None when there is none."""
        looks = re.compile(rf"\s*<?{re.escape(name)}[\s>/]")
        return next((node for node in parent.iterchildren(etree.Comment) if looks.match(node.text or "")), None)


def _spans(data: bytes) -> list[Span]:
    """Return the spans of the root and of all elements, comments and processing instructions in it, in document order."""
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
