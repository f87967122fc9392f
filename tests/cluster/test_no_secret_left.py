"""No secret is left anywhere by a whole run: not in its evidence, not on the machines, not in a process list.

The smallest cluster was made from nothing under watch. Each place that is searched is shown to be searched.
"""

from __future__ import annotations

import secrets as random
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from runbook_lib.chapters.deployment import Deployment
from runbook_lib.evidence.runs import runs_folder
from tests.conftest import ROOT
from tests.support.deployments import Deployed, Watched
from tests.support.drift_tools import as_root
from tests.support.lab_fixtures import eventually
from tests.support.secret_scan import ProcessWatch, Secrets, paths_of_this_machine

NODES = ("lb-1", "db-1", "greg-1")
SEEN = (
    "systemd",
    "runbook_cli",
    "ipykernel",
    "wso2server.sh",
    "mariadbd",
    "nginx",
)  # so that the watch is known to see


@dataclass(frozen=True)
class Searched:
    """A cluster that was made under watch, and the values that are looked for."""

    deployed: Deployed
    opened: Deployment
    processes: ProcessWatch
    secrets: Secrets


@pytest.fixture(scope="module")
def run(watched: Watched) -> Iterator[Searched]:
    opened = watched.deployed.open()
    yield Searched(watched.deployed, opened, watched.processes, Secrets(opened.vault.read_all()))
    opened.close()


def test_the_vault_holds_what_is_looked_for(run: Searched) -> None:
    wanted = {
        "ssh-private-key",
        "ca-key",
        "carbon-admin-password",
        "tier-key/greg",
        "db/wso2_user",
        "tls/store.lab.test",
    }
    assert wanted <= set(run.secrets.names)
    assert len(run.secrets.forms) > 100


def test_the_evidence_of_a_run_holds_no_secret(run: Searched) -> None:
    left = {path.name for path in run.deployed.whole_run.rglob("*")}
    assert {"journal.jsonl", "result.json", "report.html", "04_configure_greg_nodes.ipynb"} <= left
    assert run.secrets.in_files(runs_folder() / run.deployed.name) == {}


def test_the_notebooks_name_no_path_of_this_machine(run: Searched) -> None:
    ours = [str(ROOT), str(Path.home()), sys.prefix, "/tmp/ipykernel"]
    texts = {p.name: p.read_text() for p in run.deployed.whole_run.iterdir() if p.suffix in (".ipynb", ".json", ".jsonl", ".html")}
    assert {name: found for name, text in texts.items() if (found := paths_of_this_machine(text, ours))} == {}


def test_no_process_list_showed_a_secret(run: Searched) -> None:
    for program in SEEN:
        assert any(program in text for text in run.processes.seen), f"the watch saw no {program}"
    assert run.processes.found(run.secrets) == {}


@pytest.mark.parametrize("node", NODES)
def test_no_machine_lets_everybody_read_a_secret(run: Searched, node: str) -> None:
    assert run.secrets.readable_on(run.opened.fleet()[node]) == []


@pytest.mark.parametrize("node", NODES)
def test_no_log_and_no_shell_history_holds_a_secret(run: Searched, node: str) -> None:
    host = run.opened.fleet()[node]
    assert run.secrets.logged_on(host) == ()
    assert run.secrets.in_histories_of(host) == ()


def test_each_search_finds_what_is_planted(run: Searched, tmp_path: Path) -> None:
    """A value that is nobody's, planted in every place that is searched."""
    word = random.token_hex(12)
    planted, host = Secrets({"planted": word}), run.opened.fleet()["lb-1"]

    (tmp_path / "book.ipynb").write_text(f'{{"a": "{word}"}}')
    assert planted.in_files(tmp_path) == {"book.ipynb": ("planted",)}
    assert paths_of_this_machine(f'"{ROOT}/runs"', [str(ROOT)]) == [str(ROOT)]

    everybody = f"umask 022; echo {word} >/srv/planted; logger {word}"
    as_root(host, f"{everybody}; umask 077; echo {word} >/root/.bash_history; echo {word} >/srv/closed")
    assert planted.readable_on(host) == ["/srv/planted"]
    eventually(lambda: planted.logged_on(host) == ("planted",), "the line in the journal")
    assert planted.in_histories_of(host) == ("planted",)
    as_root(host, "rm /srv/planted /srv/closed /root/.bash_history")

    shows = [sys.executable, "-c", "import time; time.sleep(600)", word]
    with ProcessWatch() as watch, subprocess.Popen(shows, env={"PLANTED": word}) as process:
        try:
            eventually(lambda: len(watch.found(planted)) == 2, "command line and environment in the watch")
        finally:
            process.kill()
