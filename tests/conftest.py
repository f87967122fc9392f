"""What every test shares: the reason-giving skip, and markers from the folder a test lies in."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import wso2_practice
from hypothesis import settings

pytest_plugins = ["tests.support.lab_fixtures", "tests.support.deployments"]  # the lab and its clusters: one of each for all folders

ROOT = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get("RUNBOOK_SHARED", ROOT.parent / "shared"))  # holds wso2-conf: WSO2's own files, which are not ours to ship
DATA = ROOT / "tests" / "data"  # our own measurements on the real product
# what keeps a folder out of ./runbook test --fast, and the marker of its tests
NOT_FAST = {
    "lab": "machines and root", "cluster": "machines and root", "processes": "root, Nginx and MariaDB",
    "practice": "Java and a database", "notebooks": "machines and root", "browser": "Chromium and machines",
}  # fmt: skip
FOLDER_MARKERS = {
    "unit": "unit", "repository": "unit", "lab": "lab", "cluster": "lab", "processes": "lab", "practice": "lab", "browser": "browser", "notebooks": "notebooks",
}  # fmt: skip


def need(condition: object, reason: str) -> None:
    """Skip the test with `reason` unless `condition` holds; under CI=true a skip is a failure."""
    if condition:
        return
    if os.environ.get("CI") == "true":
        pytest.fail(f"cannot run in CI: {reason}")
    pytest.skip(reason)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--full", action="store_true", help="also run the long sequences")
    parser.addoption("--fast", action="store_true", help="leave out unit tests that take seconds each")


def pytest_configure(config: pytest.Config) -> None:
    """Properties are tried 70 times each, 700 times with --full; an example that takes 20 seconds is an error, 5 would be one on a calm machine."""
    settings.register_profile("here", max_examples=700 if config.getoption("--full") else 70, deadline=20_000, print_blob=True)
    settings.load_profile("here")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        inside = ROOT / "tests" in Path(item.path).parents
        folder = Path(item.path).relative_to(ROOT / "tests").parts[0] if inside else ""
        if folder in FOLDER_MARKERS:
            item.add_marker(FOLDER_MARKERS[folder])
        if item.get_closest_marker("full") and not config.getoption("--full"):
            item.add_marker(pytest.mark.skip(reason="long sequence: ./runbook test --full"))
        if config.getoption("--fast") and folder in NOT_FAST:
            item.add_marker(pytest.mark.skip(reason=f"needs {NOT_FAST[folder]}: ./runbook test"))
        if item.get_closest_marker("slow") and config.getoption("--fast"):
            item.add_marker(pytest.mark.skip(reason="takes seconds: ./runbook test"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if config.getoption("--fast"):
        for folder, needs in NOT_FAST.items():
            terminalreporter.write_line(f"LEFT OUT tests/{folder}: needs {needs}: ./runbook test")


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Python's own way with SIGINT, which is ignored where the tests run in a shell's background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session")
def wso2_conf() -> Path:
    """The folder of genuine WSO2 configuration files to read (never part of this project); skips where it is absent."""
    folder = SHARED / "wso2-conf"
    if not folder.is_dir():  # not `need`: the files are not ours to ship, so their absence is no failure
        pytest.skip(f"needs WSO2's own configuration files, which are not at {folder}; set RUNBOOK_SHARED")
    return folder


ProductFiles = Callable[[str, str], bytes]


@pytest.fixture(scope="session", params=["practice pack", "WSO2's own files"])
def product_files(request: pytest.FixtureRequest) -> ProductFiles:
    """Returns a file of a product ("greg" or "as") by its path below the home, before any edit; KeyError where there is none.

    Once from the practice packs, which everybody has, and once from WSO2's own files, which is skipped where they are absent.
    """
    if request.param == "practice pack":
        pack = Path(wso2_practice.__file__).parent / "pack"
        folders = {product: [pack / product, pack / "common"] for product in ("greg", "as")}
    else:
        genuine = request.getfixturevalue("wso2_conf")
        folders = {"greg": [genuine / "greg-5.1.0"], "as": [genuine / "as-5.3.0"]}

    def read(product: str, path: str) -> bytes:
        for folder in folders[product]:
            if (folder / path).is_file():
                return (folder / path).read_bytes()
        raise KeyError(path)

    return read
