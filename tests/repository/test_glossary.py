"""The glossary is plain and leads somewhere; every chapter's Words box defines what the chapter says, before it says it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from runbook_lib.notebook import words_cell
from runbook_lib.spec.glossary import Word, as_markdown, glossary, used_by, used_in, walks
from runbook_lib.spec.model import Spec
from tests.conftest import ROOT

AGAIN = "make them anew: python -m runbook_lib.notebook.words_cell"
WORDS = glossary()
BOOKS: dict[str, dict[str, Any]] = {path.stem: json.loads(path.read_text()) for path in sorted((ROOT / "notebooks").glob("*.ipynb"))}
# Abbreviations and names that a definition may use unexplained: who opens a chapter has met them.
KNOWN = """AWS API DNS HTTP HTTPS IAM IPv4 JavaScript JupyterLab MySQL MariaDB OASIS POST GET PUT DELETE S3 SOAP SQL SSH TCP URL WSO2 XML
    REHEARSAL"""
# Calls, columns and fields as they are
NAMES = """GetConsoleOutput KMS NAT REG_CLUSTER_LOCK NO_ZERO_DATE SAMLResponse -DworkerNode SSM Set-Cookie"""


def defined_in(chapter: str) -> set[str]:
    """The words that the chapter's Words box defines, as its cell says."""
    (box,) = (cell for cell in BOOKS[chapter]["cells"] if cell["id"].endswith(words_cell.ENDS))
    return set(re.findall(r"^- \*\*(.+?)\*\*: ", "".join(box["source"]), re.MULTILINE))


def headings(document: Path) -> set[str]:
    """The anchors that GitHub gives to a document's headings, and those that stand in it."""
    text = document.read_text()
    titles = [re.sub(r"<[^>]+>", "", line.lstrip("#")).strip() for line in text.splitlines() if re.match("#+ ", line)]
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles} | set(re.findall(r'<a id="([^"]+)">', text))


@pytest.mark.parametrize("word", WORDS.values(), ids=WORDS.keys())
class TestWord:
    def test_it_is_defined_in_two_plain_sentences(self, word: Word) -> None:
        sentences = re.split(r"(?<=[.?!])[*]? (?=[A-Z`])", word.text)
        assert len(sentences) == 2 and word.text.endswith(".") and len(word.text.split()) <= 70

    def test_its_definition_uses_no_abbreviation_that_is_explained_nowhere(self, word: Word) -> None:
        found = {each for each in re.findall(r"[\w-]*[A-Z][\w-]*[A-Z0-9][\w-]*|\b[A-Z]{2,}\b", word.text)}
        explained = {form for other in (word, *used_by(word)) for form in (*other.forms, other.name)}
        left = {each for each in found if each not in {*KNOWN.split(), *NAMES.split()} and not any(each.lower() in form.lower() for form in explained)}
        assert left == set()

    def test_its_document_exists_as_far_as_it_is_ours(self, word: Word) -> None:
        page, _, anchor = word.link.partition("#")
        if not page.startswith("https://"):
            assert not anchor or anchor in headings(ROOT / "docs" / page)
            assert (ROOT / "docs" / page).is_file()

    def test_what_it_refers_to_is_in_the_glossary(self, word: Word) -> None:
        assert set(word.see) <= WORDS.keys() - {word.name}


def test_the_words_are_in_the_order_of_the_alphabet_with_an_address_each() -> None:
    assert list(WORDS) == sorted(WORDS, key=str.lower)
    assert len({word.anchor for word in WORDS.values()}) == len(WORDS)
    assert {word.anchor for word in WORDS.values()} <= headings(ROOT / "docs" / "glossary.md")


def test_boxes_and_page_are_the_ones_made_from_the_glossary() -> None:
    different = [path.name for path, text in words_cell.texts().items() if path.read_text(encoding="utf-8") != text]
    assert different == [], AGAIN
    assert (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8") == as_markdown(), AGAIN


@pytest.mark.parametrize("name", BOOKS)
def test_a_chapter_defines_its_words_before_it_uses_them(name: str) -> None:
    """In the box of this chapter or of one that comes earlier, whichever of its patterns the reader follows; only what leads to the box stands before it."""
    assert [cell["id"][3:] for cell in BOOKS[name]["cells"][:3]] == ["01", "goals", "words"]
    used = {word.name for word in used_in(words_cell.prose(BOOKS[name]), name[:2])}
    for walk in walks():
        if name in walk:
            defined = set().union(*(defined_in(earlier) for earlier in walk[: walk.index(name) + 1]))
            assert used - defined == set(), walk


@pytest.mark.parametrize("name", BOOKS)
def test_a_box_leads_to_every_word_that_its_definitions_use(name: str) -> None:
    (box,) = ("".join(cell["source"]) for cell in BOOKS[name]["cells"] if cell["id"].endswith(words_cell.ENDS))
    linked = set(re.findall(r"\.\./docs/glossary\.md#([\w-]+)", box))
    used = {other.anchor for word in defined_in(name) for other in used_by(WORDS[word]) if other.name not in defined_in(name)}
    assert used <= linked <= {word.anchor for word in WORDS.values()}


def test_the_words_that_a_course_on_clusters_and_sign_on_needs_are_there() -> None:
    needed = """SSO, assertion, identity provider, service provider, ACS, cookie scope, session affinity, registry mount, cacheId, Hazelcast,
        well-known addresses, coordinator, IMDSv2, security group, host key, console output, idempotent, drift, bastion, plan, JDBC, keystore,
        truststore, certificate authority, upstream, reverse proxy, allow-list, front door, Parameter Store, user data, Elastic IP, NAT gateway,
        lock, evidence, journal, provenance, papermill, kernel, first boot, tier, pack, hardening, Carbon, Jaggery, SAML, AuthnRequest, Response"""
    forms = {form for word in WORDS.values() for form in (word.name, *word.forms)}
    assert set(re.split(r",\s+", needed)) - forms == set()


def test_chapter_07_names_what_travels_and_04_what_is_shared() -> None:
    said = {name: {word.name for word in used_in(words_cell.prose(book), name[:2])} for name, book in BOOKS.items()}
    assert {"SAML", "AuthnRequest", "Response", "assertion", "ACS", "issuer"} <= said["07_verify_sso_separation"]
    assert {"registry mount", "cacheId", "local registry"} <= said["04_configure_greg_nodes"]
    assert "session affinity" in said["05_configure_nginx"] & said["06_verify_as_cluster"]


def test_the_form_explains_the_words_of_its_fields() -> None:
    fields = {word.name for word in used_in("\n".join(row.description for row in Spec.reference()))}
    assert {"bastion", "Elastic IP", "Hazelcast", "tier", "VPC", "Session Manager"} <= fields and "headless" not in fields, "as in default-jre-headless"
