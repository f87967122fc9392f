"""What a plan and a result show reads as a sentence, of the cloud as of hosts: before, after, and when there is nothing to do."""

from __future__ import annotations

import pytest
from lxml import html

from runbook_lib.changes import Change, Pending, Plan, Result


def cloud_plan(*changes: tuple[str, str]) -> Plan:
    return Plan("demo", {}, tuple(Pending(name, "machine", Change(f"machine {name}", verb, "as designed")) for verb, name in changes))


def host_plan(*verbs: str) -> Plan:
    return Plan("MySQL", {"db-1": (), "lb-1": ()}, tuple(Pending("db-1", "files", Change("file /etc/x", verb, "differs")) for verb in verbs))


NOTHING, SOME = cloud_plan(), cloud_plan(("create", "db-1"), ("create", "lb-1"), ("start", "greg-1"))
SENTENCES = (
    (NOTHING, "demo: nothing to change"),
    (SOME, "demo: 3 changes pending (2 create, 1 start)"),
    (host_plan(), "MySQL: nothing to change on 2 hosts"),
    (host_plan("edit"), "MySQL: 1 change pending on 1 host (1 edit)"),
    (Result("demo", SOME.pending, (), 6.25), "demo: 3 resources changed (6.2 s)"),
    (Result("demo", (), (), 0.5), "demo: nothing to change (0.5 s)"),
    (Result("MySQL", host_plan("edit").pending, ("db-1", "lb-1"), 0.5), "MySQL: 1 resource changed on 1 host (0.5 s)"),
    (Result("MySQL", (), ("db-1", "lb-1"), 0.5), "MySQL: nothing to change on 2 hosts (0.5 s)"),
)


@pytest.mark.parametrize(("shown", "sentence"), SENTENCES, ids=[sentence for _, sentence in SENTENCES])
def test_one_sentence_heads_the_text_and_the_table_or_is_all_there_is(shown: Plan | Result, sentence: str) -> None:
    assert str(shown).splitlines()[0] == repr(shown).splitlines()[0] == sentence
    found = html.fromstring(shown._repr_html_())
    changes = shown.pending if isinstance(shown, Plan) else shown.changed
    assert (found.xpath("./caption")[0] if changes else found).text == (sentence if changes else f"✔ {sentence}")
    assert len(found.xpath(".//tbody/tr")) == len(changes)


@pytest.mark.parametrize("verb", ["create", "modify", "replace", "delete", "start", "enable and start"])
def test_every_change_carries_a_sign_beside_its_word(verb: str) -> None:
    cell = html.fromstring(host_plan(verb)._repr_html_()).xpath("./tbody/tr/td[2]")[0].text
    sign, word = cell.split(maxsplit=1)
    assert not sign.isalnum()
    assert word == verb and f" {cell} " in str(host_plan(verb))
