"""JupyterLab as a person has it: a server over copies of the chapters, a browser before it, and the verbs of both."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import nbformat
import pytest

from runbook_lib.checks.sso.screenshots import program
from runbook_lib.spec.chapters import chapters_of
from runbook_lib.spec.loader import load_spec
from tests.conftest import ROOT, need
from tests.support.deployments import Deployed, with_parameters
from tests.support.quiet_network import SOCKS, quiet_network

PICTURES = ROOT / "runs" / "pictures"
PATIENCE = 120_000  # milliseconds; a deadline, not a pause
LIBRARY = ("runbook_lib", "params", "docs", "notebooks")  # what a person has who cloned the repository, as far as chapters use it


@dataclass(frozen=True)
class Desk:
    """A running JupyterLab. Its root is the folder that holds `notebooks/` and `docs/`, as in the repository."""

    url: str
    root: Path

    def notebook(self, name: str) -> Path:
        return self.root / "notebooks" / f"{name}.ipynb"

    def code(self, name: str) -> str:
        """All code of a chapter as it was saved last."""
        return "\n".join(cell.source for cell in nbformat.read(self.notebook(name), as_version=4).cells if cell.cell_type == "code")

    def setting(self, plugin: str, text: str) -> None:
        """A person's own setting, as JupyterLab keeps it."""
        path = self.root / "settings" / "@jupyterlab" / f"{plugin}.jupyterlab-settings"
        if plugin.startswith("@"):
            path = self.root / "settings" / f"{plugin}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def chapters_for(deployed: Deployed, root: Path) -> None:
    """Copies of the chapters that name the test's cluster, and the docs that cards link to."""
    (root / "notebooks").mkdir(parents=True, exist_ok=True)
    for name in ("docs", "params"):
        shutil.copytree(ROOT / name, root / name, dirs_exist_ok=True)
    pattern = load_spec(deployed.params).pattern
    for name in ("00_start_here", *(chapter.name for chapter in chapters_of(pattern)), "99_tear_down"):
        with_parameters(name, deployed, root / "notebooks")


def clone(root: Path) -> Path:
    """The repository once more, as a colleague has it: the same files elsewhere, none of our runs."""
    for name in LIBRARY:
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__", "kernel-ipc*"))
    return root


@contextmanager
def jupyterlab(root: Path, more: Mapping[str, str] | None = None) -> Iterator[Desk]:
    """A server over `root`, with settings and workspaces of its own; gone afterwards with its kernels."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    homes = {f"JUPYTER_{name}_DIR": str(root / name.lower()) for name in ("CONFIG", "DATA", "RUNTIME")}
    homes |= {f"JUPYTERLAB_{name}_DIR": str(root / name.lower()) for name in ("SETTINGS", "WORKSPACES")}
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}"]
    command += ["--IdentityProvider.token=token", f"--notebook-dir={root}", "--LabApp.news_url=None"]
    person = {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"}  # widgets are shown
    environment = {**person, **homes, "RUNBOOK_RUNS": str(root / "runs"), **(more or {})}
    desk = Desk(f"http://127.0.0.1:{port}", root)
    desk.setting("apputils-extension/notification", '{"fetchNews": "false", "checkForUpdates": false}')
    with open(root / "jupyter.log", "w") as log:
        server = subprocess.Popen(command, cwd=root, stdout=log, stderr=log, env=environment)
    try:
        _until_it_answers(f"http://127.0.0.1:{port}/api?token=token", server)
        yield desk
    finally:
        server.terminate()
        try:
            server.wait(30)
        except subprocess.TimeoutExpired:  # it waits for a browser that is still there
            server.kill()
            server.wait(30)


def _until_it_answers(url: str, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and server.poll() is None:
        try:
            if httpx2.get(url).status_code == 200:
                return
        except httpx2.TransportError:
            time.sleep(0.2)
    pytest.fail("JupyterLab does not answer")


@contextmanager
def chromium_running() -> Iterator[Any]:
    """A headless browser."""
    need(program(), "no Chromium is installed (apt-get install chromium-headless-shell)")
    from playwright.sync_api import sync_playwright

    with ExitStack() as opened:
        apart = os.geteuid() == 0  # who is not root has no lab either, and so no networks that come and go
        with opened.enter_context(quiet_network()).entered() if apart else nullcontext():
            play = opened.enter_context(sync_playwright())
        browser = play.chromium.launch(executable_path=program(), args=["--no-sandbox", *(SOCKS if apart else [])])
        try:
            yield browser
        finally:
            for number, page in enumerate(page for context in browser.contexts for page in context.pages):
                with suppress(Exception):  # what a person saw last; the matter of the test is decided by now
                    picture(page, f"last-{number}")
            browser.close()


def open_chapter(browser: Any, desk: Desk, name: str, run: bool = True) -> Any:
    """A new window on a chapter, its kernel ready; `run`: all of its cells are run."""
    page = browser.new_page(viewport={"width": 1400, "height": 4000})
    page.set_default_timeout(PATIENCE)
    page.goto(f"{desk.url}/lab/tree/notebooks/{name}.ipynb?token=token&reset")
    page.wait_for_selector("text=| Idle" if run else ".jp-Notebook .jp-Cell")
    if run:
        menu(page, "Run", "Run All Cells")
    return page


def menu(page: Any, name: str, entry: str) -> None:
    """Choose an entry of JupyterLab's menu."""
    page.get_by_role("menuitem", name=name, exact=True).click()
    page.locator(".lm-Menu-itemLabel").get_by_text(entry, exact=True).click()  # its role's name would hold the shortcut too


def idle(page: Any) -> None:
    """Until the kernel has nothing more to do: its status alone says so between two cells too, and while one listens to its buttons."""
    page.wait_for_function("![...document.querySelectorAll('.jp-InputArea-prompt')].some(prompt => prompt.textContent.includes('*'))")
    page.get_by_text("| Idle").wait_for()


def save(page: Any, desk: Desk, name: str) -> str:
    """Save the notebook as a person does; the file's text, once it is written whole: the server empties the file first."""
    before = desk.notebook(name).stat().st_mtime_ns
    menu(page, "File", "Save Notebook")
    deadline = time.monotonic() + 60
    while True:
        with suppress(json.JSONDecodeError):
            if desk.notebook(name).stat().st_mtime_ns != before:
                json.loads(text := desk.notebook(name).read_text())
                return text
        assert time.monotonic() < deadline, f"{name} was not saved"
        time.sleep(0.1)


def picture(page: Any, name: str) -> None:
    PICTURES.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=PICTURES / f"{name}.png")
