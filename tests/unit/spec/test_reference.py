"""The reference page says what the model says."""

from __future__ import annotations

from runbook_lib.spec.model import Spec
from runbook_lib.spec.reference import as_markdown
from tests.conftest import ROOT


def test_the_reference_page_is_the_one_made_from_the_model():
    page = (ROOT / "docs/parameters.md").read_text()
    assert page == as_markdown(Spec.reference()), "make it anew: python -m runbook_lib.spec > docs/parameters.md"


def test_every_key_is_explained():
    assert [row.key for row in Spec.reference() if not row.description] == []
