"""The packs, built once; nodes and a database that are gone when the test is."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import need
from tests.support.practice_nodes import Database, Nodes

DRIVER = Path("/usr/share/java/mariadb-java-client.jar")


@pytest.fixture(scope="session")
def packs() -> dict[str, Path]:
    need(shutil.which("javac"), "the practice packs are compiled: install openjdk-17-jdk-headless")
    from wso2_practice.build import build

    greg, appserver = build()
    return {"greg": greg, "as": appserver}


@pytest.fixture(scope="module")
def nodes(packs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    made = Nodes(packs, tmp_path_factory.mktemp("nodes"))
    yield made
    made.stop()


@pytest.fixture(scope="session")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    need(shutil.which("mariadbd") and shutil.which("mariadb-install-db"), "needs mariadb-server-core")
    server = Database(tmp_path_factory.mktemp("mariadb"))
    yield server
    server.stop()


@pytest.fixture(scope="session")
def driver() -> Path:
    need(DRIVER.exists(), f"needs the driver {DRIVER}: install libmariadb-java")
    return DRIVER
