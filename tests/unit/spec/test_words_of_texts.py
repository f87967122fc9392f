"""Which words of the glossary a text uses, and which of them a chapter has to define."""

from __future__ import annotations

import pytest

from runbook_lib.spec import glossary


@pytest.mark.parametrize(
    ("text", "chapter", "expected"),
    [
        ("one security group per role", "", ["role", "security group"]),
        ("two Security Groups", "", ["security group"]),
        ("a name for the certificate authority", "", ["certificate authority"]),
        ("a certificate of that certificate authority", "", ["certificate", "certificate authority"]),
        ("what a shop keeps in store", "", []),
        ("the Store and Parameter Store", "", ["Parameter Store", "Store"]),
        ("package default-jre-headless", "", []),
        ("restart the kernel", "00", ["kernel (Jupyter)"]),
        ("the *kernel* finds dead machines", "05", ["kernel (Linux)"]),
        ("restart the kernel", "07", []),
        ("a lock behind", "04", ["lock (registry)"]),
        ("a lock says who", "01", ["lock"]),
    ],
)
def test_words_are_found_as_the_chapters_mean_them(text: str, chapter: str, expected: list[str]) -> None:
    assert [word.name for word in glossary.used_in(text, chapter)] == expected


def test_a_word_is_defined_where_a_reader_of_each_pattern_meets_it_first_and_linked_afterwards() -> None:
    names = {name for walk in glossary.walks() for name in walk}
    prose = dict.fromkeys(names, "") | {"03_configure_as_nodes": "a session", "05_configure_nginx": "a session", "06_verify_as_cluster": "this session"}
    boxes = glossary.boxes(prose)
    where = {name for name, box in boxes.items() if glossary.glossary()["session"] in box.defined}
    assert where == {"03_configure_as_nodes", "05_configure_nginx"}, "05 is the first for Governance Registry, which has no chapter 03"
    assert glossary.glossary()["session"] in boxes["06_verify_as_cluster"].linked
    assert glossary.glossary()["cookie"] in boxes["05_configure_nginx"].linked, "its definition uses that word"


def test_a_form_gets_escaped_html() -> None:
    word = glossary.Word("a<b", "It is `<x>` and *that*. Second.", "t", "https://example.org", ("a<b",))
    assert "<dt><b>a&lt;b</b></dt><dd>It is <code>&lt;x&gt;</code> and <i>that</i>. Second.</dd>" in glossary.as_html([word])
