"""What the tests in JupyterLab share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.deployments import Deployed
from tests.support.jupyterlab_server import Desk, chapters_for, jupyterlab


@pytest.fixture
def desk(separated: Deployed, tmp_path: Path) -> Iterator[Desk]:
    """JupyterLab over copies of the chapters that name the test's cluster."""
    chapters_for(separated, tmp_path)
    with jupyterlab(tmp_path) as found:
        yield found


@pytest.fixture
def as_desk(as_cluster: Deployed, tmp_path: Path) -> Iterator[Desk]:
    """The same for the AS cluster."""
    chapters_for(as_cluster, tmp_path)
    with jupyterlab(tmp_path) as found:
        yield found
