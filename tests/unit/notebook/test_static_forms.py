"""Whatever a notebook shows as HTML it stores as readable text too: no class name, no address in memory, nothing unredacted."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import pkgutil

import pytest
from IPython.core.formatters import DisplayFormatter
from lxml import html

import runbook_lib
from runbook_lib.changes import Change, Pending, Plan, Result
from runbook_lib.chapters.deployment import Deployment
from runbook_lib.notebook.display import redact_what_is_shown
from runbook_lib.redaction import redactor

SKIPPED = ("runbook_lib.converge.agent", "runbook_lib.__main__", "runbook_lib.front")


def shown_classes() -> list[type]:
    """Every class of ours that a notebook shows as HTML."""
    found: dict[str, type] = {}
    for info in pkgutil.walk_packages(runbook_lib.__path__, "runbook_lib."):
        if info.name.startswith(SKIPPED):
            continue
        for _, kind in inspect.getmembers(importlib.import_module(info.name), inspect.isclass):
            if kind.__module__.startswith("runbook_lib") and hasattr(kind, "_repr_html_") and not issubclass(kind, Exception):
                found[f"{kind.__module__}.{kind.__qualname__}"] = kind
    return list(found.values())


@pytest.mark.parametrize("kind", shown_classes(), ids=lambda kind: kind.__qualname__)
def test_what_is_shown_as_html_is_told_in_words_as_well(kind: type) -> None:
    by_hand = inspect.isfunction(kind.__repr__) and not hasattr(kind.__repr__, "__wrapped__")  # @dataclass wraps its own
    assert by_hand, f"{kind.__qualname__}: text/plain would be the names of its fields"


def data_classes() -> list[type]:
    """Every dataclass of ours whose repr is the generated one: it shows each of its fields."""
    found = {}
    for info in pkgutil.walk_packages(runbook_lib.__path__, "runbook_lib."):
        if not info.name.startswith(SKIPPED):
            for _, kind in inspect.getmembers(importlib.import_module(info.name), inspect.isclass):
                if kind.__module__.startswith("runbook_lib") and dataclasses.is_dataclass(kind) and hasattr(kind.__repr__, "__wrapped__"):
                    found[f"{kind.__module__}.{kind.__qualname__}"] = kind
    return list(found.values())


def test_whatever_value_ends_a_cell_shows_no_secret() -> None:
    redactor.add("ends-a-cell", "Ends0A1Cell2Secret")
    formatter = DisplayFormatter()
    values = []
    for kind in data_classes():
        value = object.__new__(kind)
        for field in dataclasses.fields(kind):
            object.__setattr__(value, field.name, "Ends0A1Cell2Secret")
        values.append(value)
    assert "Ends0A1Cell2Secret" in formatter.format(values)[0]["text/plain"], "no field shows what it holds: the test proves nothing"
    redact_what_is_shown(formatter)
    shown = formatter.format(values)[0]["text/plain"]
    assert len(values) > 50 and shown.count("[ends-a-cell]") > 100 and "Ends0A1Cell2Secret" not in shown


def test_a_secret_in_a_plan_is_in_neither_form() -> None:
    redactor.add("static-form-test", "Static0In1No2Form")
    plan = Plan("Demo", {"db-1": ()}, (Pending("db-1", "files", Change("file /etc/x", "edit", "a password", "+Static0In1No2Form")),))
    assert "[static-form-test]" in repr(plan)
    assert "Static0In1No2Form" not in repr(plan) + plan._repr_html_()


EDITED = Pending("db-1", "files", Change("file /etc/x", "edit", "differs", "-old\n+new"))


@pytest.mark.parametrize("shown", [Plan("Demo", {"db-1": ()}, (EDITED,)), Result("Demo", (EDITED,), ("db-1",), 1.0)], ids=lambda shown: type(shown).__name__)
def test_changes_are_a_table_whose_headings_say_that_they_head_columns(shown: Plan | Result) -> None:
    table = html.fromstring(shown._repr_html_())
    headings = table.xpath("./thead/tr/th")
    assert len(headings) == len(table.xpath("./tbody/tr[1]/td")) == 4
    assert all(heading.get("scope") == "col" and heading.text for heading in headings)
    assert table.xpath("./tbody/tr[@class='rb-diff']//pre")[0].text_content() == "-old\n+new\n"


@pytest.mark.parametrize("shown", [Plan("Demo", {"db-1": ()}, ()), Result("Demo", (), ("db-1",), 1.0)], ids=lambda shown: type(shown).__name__)
def test_no_change_is_a_sentence_and_no_empty_table(shown: Plan | Result) -> None:
    sentence = html.fromstring(shown._repr_html_())
    assert (sentence.tag, sentence.get("role")) == ("p", "status")
    assert "nothing to change on 1 host" in sentence.text_content()
    assert "1 hosts" not in sentence.text_content()


def test_a_deployment_is_shown_from_one_look_at_the_cloud() -> None:
    assert hasattr(Deployment, "_repr_mimebundle_")
    assert not hasattr(Deployment, "_repr_html_")
