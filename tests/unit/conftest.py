"""What every unit test gets: a redactor that knows nothing of the tests before."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from runbook_lib.redaction import redactor


@pytest.fixture(autouse=True)
def fresh_redactor() -> Iterator[None]:
    """The process has one redactor; without this it would know thousands of values by the end of the tests."""
    yield
    redactor._forms, redactor._pattern = {}, None
