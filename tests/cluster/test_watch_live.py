"""A watch of a cluster that stands: it finds what hands did within one pass, tells it, disturbs nobody, and leaves nothing behind."""

from __future__ import annotations

import datetime
import json
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from runbook_lib import pki
from runbook_lib.aws.lock import MARK
from runbook_lib.chapters.deployment import Deployment
from runbook_lib.evidence.runs import runs_folder
from runbook_lib.headless.watch import metrics, record
from runbook_lib.headless.watch.command import Watcher
from runbook_lib.headless.watch.look import BUSY, DRIFT, OK, UNREACHABLE
from runbook_lib.roles import appserver
from tests.conftest import ROOT
from tests.support.deployments import Deployed
from tests.support.drift_tools import as_root, state_of, undo_rules
from tests.support.iam_user import user_with
from tests.support.lab_fixtures import Box, Net, eventually
from tests.support.listeners import mail_listener, web_listener
from tests.support.prometheus_text import parsed

DRIFT_TABLE = yaml.safe_load((Path(__file__).parent / "drift.yaml").read_text())
OLD_CERTIFICATE = "tls/db-1"
# What programs wrote of themselves: their logs by size, their units' lines in the journal, visits of Nginx
LOGS = """
for log in /var/log/nginx/error.log /var/log/mysql/error.log /opt/wso2/*/repository/logs/wso2carbon.log /opt/wso2/*/repository/logs/audit.log; do
  if [ -f "$log" ]; then wc -c "$log"; fi
done
for unit in nginx mariadb wso2carbon; do journalctl -q -o cat -u "$unit" | wc -l | sed "s/$/ lines of $unit/"; done
"""
VISITS = "wc -l < /var/log/nginx/access.log"
USERS = "mariadb -BNe 'SELECT COUNT(*) FROM WSO2_USER_DB.UM_USER; SELECT COUNT(*) FROM WSO2_USER_DB.UM_ROLE'"


@pytest.fixture(scope="module")
def opened(separated: Deployed) -> Iterator[Deployment]:
    deployment = separated.open()
    yield deployment
    deployment.close()


class LiveWatch:
    """`./runbook watch` of one deployment, with records of its own, and what its webhook and its mail address were told."""

    def __init__(self, deployed: Deployed, folder: Path, web: tuple[str, list[dict[str, Any]]], mail: tuple[str, list[Any]]):
        self.deployed, self.folder = deployed, folder
        self.heard, self.letters = web[1], mail[1]
        self.env = {"RUNBOOK_RUNS": str(folder / "runs"), "RUNBOOK_WEBHOOK": f"{web[0]}/token-4711", "RUNBOOK_SMTP": mail[0]}

    @property
    def words(self) -> list[str]:
        return ["--mail", "ops@example.org", "--metrics", str(self.folder / "runbook.prom"), "--json"]

    def look(self) -> tuple[int, dict[str, Any]]:
        """The exit status of a pass, and what it found."""
        done = self.deployed.cli("watch", *self.words, env=self.env)
        assert done.stdout, done.stderr
        [found] = json.loads(done.stdout)["deployments"]
        return done.returncode, found["newest"]

    def begin(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            self.deployed.command("watch", *self.words), cwd=ROOT, env={**os.environ, **self.env}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )


def listened(deployed: Deployed, folder: Path, stack: ExitStack) -> LiveWatch:
    return LiveWatch(deployed, folder, stack.enter_context(web_listener()), stack.enter_context(mail_listener()))


@pytest.fixture(scope="module")
def watcher(separated: Deployed, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveWatch]:
    with ExitStack() as stack:
        yield listened(separated, tmp_path_factory.mktemp("watch"), stack)


def traces(deployment: Deployment) -> dict[str, Any]:
    """Everything that a pass could leave: on the hosts, in the cloud, in the databases, in logs, among the runs."""
    hosts = deployment.fleet()
    runs = runs_folder() / deployment.spec.deployment
    return {
        **state_of(deployment),
        "every parameter": deployment.vault.read_all(),
        "users and roles": as_root(hosts["db-1"], USERS),
        "logs": hosts.each(lambda host: as_root(host, LOGS)),
        "runs": sorted(path.name for path in runs.iterdir()),
        "newest run": {path.name: path.read_bytes() for path in (runs / "latest").iterdir() if path.is_file()},
    }


def test_a_pass_of_what_is_as_declared_finds_nothing_and_leaves_nothing(opened: Deployment, watcher: LiveWatch) -> None:
    before, visits = traces(opened), int(as_root(opened.fleet()["lb-1"], VISITS))
    status, found = watcher.look()
    after = traces(opened)
    assert (status, found["state"], found["failed"], found["drifted"]) == (0, OK, [], []), found
    assert found["checks"] > 60
    assert {name for name in before if before[name] != after[name]} == set()
    assert int(as_root(opened.fleet()["lb-1"], VISITS)) - visits == len(opened.spec.hosts), "one visit of each public host"
    assert watcher.heard == [] and watcher.letters == []


def test_prometheus_reads_certificates_disks_and_state(opened: Deployment, watcher: LiveWatch) -> None:
    samples = parsed((watcher.folder / "runbook.prom").read_text())
    assert set(samples) == {*metrics.HELP} - {"runbook_backup_timestamp_seconds"}, "there is no backup, which is no alarm"
    labels = [dict(each) for each in samples["runbook_disk_free_bytes"]]
    assert {each["node"] for each in labels} == {node.name for node in opened.topology.nodes} and "/" in {each["mountpoint"] for each in labels}
    certificates = {dict(each)["certificate"]: end for each, end in samples["runbook_certificate_expiry_timestamp_seconds"].items()}
    assert set(certificates) == {"ca.pem", "tls/store.lab.test", "tls/publisher.lab.test", "tls/db-1", "tier-key/store", "tier-key/publisher"}
    assert all(end > datetime.datetime.now(datetime.UTC).timestamp() + 300 * 86400 for end in certificates.values())
    assert set(samples["runbook_watch_ok"].values()) == {1}


def test_a_watcher_whose_policy_only_reads_sees_all_of_it_and_may_run_nothing(lab: Any, separated: Deployed, watcher: LiveWatch, tmp_path: Path) -> None:
    policy = json.loads((ROOT / "docs/iam/watcher.json").read_text())
    config = user_with(policy, lab.lab.endpoint, tmp_path, lab.key_of_lab)
    held = replace(separated, overrides={**separated.overrides, "cloud.aws_config": str(config)})
    done = held.cli("watch", "--json", env={"RUNBOOK_RUNS": str(tmp_path)})
    assert done.returncode == 0, done.stdout + done.stderr
    refused = held.cli("run", "--from", "02", "--to", "02")
    assert refused.returncode == 1 and "may not do this" in refused.stderr, refused.stdout + refused.stderr


@pytest.fixture(scope="module")
def drifted(separated: Deployed, opened: Deployment, watcher: LiveWatch) -> Iterator[dict[str, Any]]:
    """Every drift of the table and a certificate about to end, the pass that finds them, passes while a run repairs them, and the pass after that."""
    before = len(watcher.heard)
    for row in DRIFT_TABLE:
        if "host" in row:
            as_root(opened.fleet()[row["host"]], row["do"])
    authority = pki.Authority(opened.vault.get("ca-key"), opened.vault.get("ca.pem"))
    lately = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=pki.HOST_DAYS - 5)
    certificate, key = pki.issue(authority, ["db-1", opened.topology.db.address], now=lately)
    opened.vault.put(OLD_CERTIFICATE, key + certificate)
    with undo_rules(opened, [row for row in DRIFT_TABLE if "group" in row]):
        first, again = watcher.look(), watcher.look()
        told = len(watcher.heard)
        meanwhile = watcher.begin()  # the run begins in the middle of this pass
        run = subprocess.Popen(separated.command("run", "--to", "05"), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        eventually(lambda: run.poll() is not None or opened.vault.find("lock", fresh=True), "the run has the lock", 300)
        holder, busy = opened.vault.find("lock", fresh=True), watcher.look()
        output, _ = run.communicate(timeout=1800)
        meanwhile.communicate(timeout=300)
        yield {
            "first": first, "again": again, "told": watcher.heard[before:told], "letters": list(watcher.letters), "busy": busy, "holder": holder,
            "meanwhile": meanwhile.returncode, "while it ran": watcher.heard[told:], "run": (run.returncode, output), "after": watcher.look(),
            "heard in the end": watcher.heard[told:],
        }  # fmt: skip


@pytest.mark.full
@pytest.mark.parametrize("row", DRIFT_TABLE, ids=[row["drift"] for row in DRIFT_TABLE])
def test_one_pass_finds_what_hands_changed(drifted: dict[str, Any], row: dict[str, Any]) -> None:
    status, found = drifted["first"]
    assert (status, found["state"]) == (2, DRIFT)
    line = row["shown"][0].replace(r" +\S ", ": ").replace(" +", " ")  # as the plan's table has it; here in one line
    assert [each for each in found["drifted"] if re.search(line, each)], "\n".join(found["drifted"])


@pytest.mark.full
def test_one_pass_finds_a_certificate_in_its_last_week(drifted: dict[str, Any]) -> None:
    found = drifted["first"][1]
    assert [line for line in found["failed"] if line.startswith(f"certificate-{OLD_CERTIFICATE}: ")], found["failed"]
    assert [line for line in found["drifted"] if line.startswith(f"secret: replace secret {OLD_CERTIFICATE}")], found["drifted"]


@pytest.mark.full
def test_webhook_and_mail_are_told_once_in_one_line(drifted: dict[str, Any]) -> None:
    assert (drifted["again"][0], drifted["again"][1]["state"]) == (2, DRIFT)
    [told], [letter] = drifted["told"], drifted["letters"]
    assert told["text"].startswith("test-separated: drift: ") and "\n" not in told["text"] and "more findings" in told["text"]
    assert letter["Subject"].strip() == told["text"] and all(line in letter.get_content() for line in drifted["first"][1]["drifted"])


@pytest.mark.full
def test_a_run_is_not_disturbed_by_passes_and_what_it_has_half_done_is_no_alarm(drifted: dict[str, Any]) -> None:
    assert drifted["run"][0] == 0, drifted["run"][1][-4000:]
    assert drifted["holder"], "the run had ended before the pass began"
    status, found = drifted["busy"]
    assert (status, found["state"]) == (0, BUSY) and json.loads(drifted["holder"])["owner"].partition(MARK)[0] in found["line"]
    assert drifted["while it ran"] == []


@pytest.mark.full
def test_when_it_is_well_again_that_is_told_once(drifted: dict[str, Any]) -> None:
    status, found = drifted["after"]
    assert (status, found["state"]) == (0, OK), found
    [told] = drifted["heard in the end"]
    assert told["ok"] and told["text"].startswith("test-separated: well again (it was drift: ")


@pytest.mark.full
def test_a_machine_that_does_not_answer_is_told_as_such_and_one_that_comes_back_at_once_is_not(opened: Deployment, watcher: LiveWatch) -> None:
    def away(seconds: int) -> None:
        script = f"systemctl stop ssh.socket ssh.service; pkill -x sshd; sleep {seconds}; systemctl start ssh.service"
        as_root(opened.fleet()["store-1"], f"systemd-run --quiet --on-active=1 --timer-property=AccuracySec=100ms sh -c '{script}'")
        opened.close()

    before = len(watcher.heard)
    away(3)
    assert watcher.look()[1]["state"] == OK and watcher.heard[before:] == []
    away(120)
    status, found = watcher.look()
    assert (status, found["state"], found["drifted"]) == (1, UNREACHABLE, []), found
    assert "store-1" in found["line"] and len(watcher.heard) == before + 1
    opened.wait_for_ssh(["store-1"])
    assert watcher.look()[1]["state"] == OK


@pytest.mark.full
@pytest.mark.timeout(7200)
def test_a_hundred_passes_raise_no_alarm_and_their_record_does_not_grow(
    separated: Deployed, opened: Deployment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUNBOOK_RUNS", str(tmp_path))
    before, said, lines = traces(opened), [], []
    with web_listener() as (address, heard):
        watch = Watcher((separated.params,), separated.overrides, webhook=address, metrics=tmp_path / "runbook.prom")
        for _ in range(100):
            [found] = watch.once(said.append)
            lines.append(found["newest"]["line"])
        assert heard == []
    assert set(lines) == {OK}, [line for line in lines if line != OK]
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {path.name for path in files} == {"watch.json", "runbook.prom"} and sum(path.stat().st_size for path in files) < 50_000
    assert len(record.read("test-separated")["changes"]) == 1
    after = traces(opened)
    assert {name for name in before if before[name] != after[name]} == set()


@pytest.mark.full
def test_an_archive_that_a_worker_no_longer_takes_from_the_manager_is_found(as_cluster: Deployed, as_deployment: Deployment, tmp_path: Path) -> None:
    as_deployment.appserver.deploy()
    with ExitStack() as stack:
        watcher = listened(as_cluster, tmp_path, stack)
        assert watcher.look()[0] == 0
        archive = "/opt/wso2/as/repository/deployment/server/webapps/probe.war"
        worker, timer = as_deployment.fleet()["as-worker-1"], f"{appserver.PULL_UNIT}.timer"
        as_root(worker, f"systemctl stop {timer}; echo other >> {archive}")  # where the timer runs, the worker has the manager's again in 10 s
        status, found = watcher.look()
        as_root(worker, f"systemctl start {timer}")
        assert status == 2, found
        assert [line for line in found["failed"] if line.startswith("cluster-artifact-as: ") and "as-worker-1: webapps/probe.war" in line], found
        assert [line for line in found["drifted"] if timer in line], found
    as_deployment.appserver.undeploy("probe.war")


@pytest.mark.full
def test_node_exporter_takes_the_file(lab: Any, net: Net, launch: Callable[..., Box], tmp_path: Path) -> None:
    """Debian's node_exporter is the judge of the format: a file that it cannot read is node_textfile_scrape_error 1."""
    levels = [{"kind": "disk", "place": 'db-1:/a "strange"\\folder', "measured": {"free": 5.5e9, "size": 1e10}}]
    decided = {"state": DRIFT, "since": "2026-11-26T15:00:00.000Z", "unreachable": [], "changes": 3, "checks_failed": 0, "checks": 70, "levels": levels}
    newest = {"state": DRIFT, "when": "2026-11-26T15:00:00.000Z", "seconds": 12.5}
    metrics.write(tmp_path / "runbook.prom", [{"deployment": "shop", "newest": newest, "decided": decided}])
    box = launch()
    lab.internet(net.vpc)
    lab.elastic_ip(box)
    box.booted().run("sudo apt-get update -q && sudo apt-get install -qy --no-install-recommends prometheus-node-exporter")
    asked = "wget -qO- http://127.0.0.1:9100/metrics | grep -E 'runbook_|textfile_scrape_error'"
    for text, error in (((tmp_path / "runbook.prom").read_text(), 0), ("runbook_watch_ok{deployment=shop} 1\n", 1)):
        box.run(f"sudo tee /var/lib/prometheus/node-exporter/runbook.prom >/dev/null <<'END'\n{text}END")
        said = eventually(lambda: box.run(asked, check=False), "node_exporter answers")
        assert f"node_textfile_scrape_error {error}" in said, said
        assert ('runbook_watch_drifted{deployment="shop"} 3' in said) is (error == 0), said
