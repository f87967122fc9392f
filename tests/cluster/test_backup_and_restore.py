"""Backups in S3 and what they are for: a lost database machine, a copy, a restore that is killed. And what is refused, with nothing touched."""

from __future__ import annotations

import gzip
import hashlib
import json
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from runbook_lib.aws.s3.backup_store import MANIFEST, WANTED, Backup, BackupStore
from runbook_lib.chapters.deployment import Deployment
from runbook_lib.chapters.second_day.backups import BEFORE_RESTORE, HOLDS_BLIND
from runbook_lib.checks.sso.environment import scene_of
from runbook_lib.checks.sso.publishing import ASSETS, made_id
from runbook_lib.errors import DataLost, RunbookError
from runbook_lib.operations import demo_app
from runbook_lib.roles import appserver, carbon
from runbook_lib.waiting import wait_until
from tests.support.deployments import Deployed, in_lab, on
from tests.support.drift_tools import Running
from tests.support.iam_user import operator_policy, user_with
from tests.support.lab_fixtures import eventually

SHOP = "test-shop"
SQL = "$(command -v mariadb || command -v mysql) -BN -e"
BEGUN = "SELECT COUNT(*) FROM runbook.schema_load"  # on a new machine: how many databases a restore has begun to replace


def store_of(deployment: Deployment) -> BackupStore:
    return BackupStore(deployment.cloud.aws, deployment.spec.deployment)


def untouched(deployment: Deployment) -> tuple[str, ...]:
    """What changes when something is dropped, kept or stopped: the tables' times of making, dumps, and since when the product runs on each node."""
    made = on(deployment, "db-1", f"{SQL} \"SELECT MIN(create_time), MAX(create_time) FROM information_schema.tables WHERE table_schema LIKE 'WSO2%'\"")
    names = [node.name for node in deployment.topology.wso2_nodes]
    kept = on(deployment, "db-1", "ls /var/backups/runbook-mysql")
    return (made, kept, *(on(deployment, name, f"systemctl show -p ActiveEnterTimestamp {carbon.UNIT}") for name in names))


@pytest.fixture(scope="module")
def made(as_deployment: Deployment) -> Iterator[Backup]:
    folder = f"{carbon.home_of(as_deployment.spec)}/{appserver.DEPLOYMENT}/webapps"
    on(as_deployment, "as-manager-1", f"echo 'not of the pack' > {folder}/notes.war.off; cp {folder}/notes.war.off {folder}/.hidden.aar")
    yield as_deployment.backups.make()
    on(as_deployment, "as-manager-1", f"rm -f {folder}/notes.war.off {folder}/.hidden.aar")
    store_of(as_deployment).delete_all()


class TestOfACluster:
    """An AS cluster that others use too: nothing of it is stopped."""

    def test_a_backup_holds_the_databases_and_what_was_deployed_and_leaves_nothing_on_the_machine(self, as_deployment: Deployment, made: Backup) -> None:
        assert {part.name for part in made.databases} == {"WSO2_USER_DB", "WSO2_REGISTRY_DB"} and all(len(part.rows) == 64 for part in made.databases)
        names = [Path(name).name for name in made.archives.holds] if made.archives else []
        assert ".hidden.aar" in names and "notes.war.off" not in names
        assert not [name for name in made.archives.holds if name in as_deployment.pack.members()]
        assert made.folder.rpartition("/")[2][:16] not in on(as_deployment, "db-1", "ls /var/backups/runbook-mysql || true")
        assert "parcel" not in on(as_deployment, "as-manager-1", "ls /var/backups/runbook-mysql")

    def test_the_commands_list_it(self, as_cluster: Deployed, made: Backup) -> None:
        listed = as_cluster.cli("backups", "--json")
        assert listed.returncode == 0, listed.stderr
        newest = json.loads(listed.stdout)["backups"][0]
        assert newest["folder"] == made.folder and newest["size"] == made.size

    def test_s3_takes_nothing_that_is_not_encrypted_as_the_url_says(self, as_deployment: Deployment, made: Backup) -> None:
        way = store_of(as_deployment).way_in(made.folder, "more.sql.gz")
        for headers in ({}, {**way.headers, "x-amz-server-side-encryption": "aws:kms"}):
            with pytest.raises(urllib.error.HTTPError) as refused:
                urllib.request.urlopen(urllib.request.Request(way.url, b"x", {**headers, "Content-Type": "application/gzip"}, method="PUT"))
            assert refused.value.code == 403

    FOREIGN: tuple[tuple[str, Callable[[dict[str, Any]], dict[str, Any]]], ...] = (
        ("is of the deployment shop", lambda said: {**said, "deployment": "shop"}),
        ("is of the product greg", lambda said: {**said, "product": "greg"}),
        ("is of WSO2 AS 6", lambda said: {**said, "version": "WSO2 AS 6"}),
        ("is of the server", lambda said: {**said, "server": "MySQL 8.4.3" if said["server"].startswith("MariaDB") else "MariaDB 10.11.6"}),
        ("needs WSO2_REGISTRY_DB", lambda said: {**said, "databases": said["databases"][:1]}),
        ("not there, or of another size", lambda said: {**said, "databases": [{**part, "size": 1} for part in said["databases"]]}),
        ("its manifest says", lambda said: {**said, "databases": [{**part, "sha256": "ab" * 32} for part in said["databases"]]}),
        ("archives.tar.gz has sha256 .* its manifest says", lambda said: {**said, "archives": {**said["archives"], "sha256": "ab" * 32}}),
        ("the parcel is not what its manifest says", lambda said: {**said, "archives": {**said["archives"], "holds": ["nowhere.war"]}}),
        ("holds other rows than its manifest says", lambda said: {**said, "databases": [said["databases"][0], {**said["databases"][1], "rows": "ab" * 32}]}),
    )

    @pytest.mark.parametrize(("words", "spoil"), FOREIGN, ids=[words for words, _ in FOREIGN])
    def test_a_backup_that_does_not_fit_is_refused_before_anything_is_touched(
        self, as_deployment: Deployment, made: Backup, words: str, spoil: Callable[[dict[str, Any]], dict[str, Any]]
    ) -> None:
        d, own, key = as_deployment, store_of(as_deployment).own, f"{made.folder}/manifest.json"
        whole, before = own.s3.get_object(**own.bucket, Key=key)["Body"].read(), untouched(as_deployment)
        own.s3.put_object(**own.bucket, Key=key, Body=json.dumps(spoil(json.loads(whole))).encode())
        try:
            with pytest.raises(RunbookError, match=words):
                d.backups.restore(confirm=d.spec.deployment)
        finally:
            own.s3.put_object(**own.bucket, Key=key, Body=whole)
        assert untouched(d) == before

    def test_nobody_is_stopped_for_a_dump_that_does_not_load(self, as_deployment: Deployment, made: Backup) -> None:
        d, store, part = as_deployment, store_of(as_deployment), made.databases[0]
        manifest, dump = ({**store.own.bucket, "Key": f"{made.folder}/{file}"} for file in ("manifest.json", part.file))
        told, held = (store.own.s3.get_object(**each)["Body"].read() for each in (manifest, dump))
        spoilt = gzip.compress(gzip.decompress(held).replace(b"CREATE TABLE `UM_USER`", b"CREATE NOTHING `UM_USER`"))
        said, before = json.loads(told), untouched(d)
        said["databases"][0] |= {"size": len(spoilt), "sha256": hashlib.sha256(spoilt).hexdigest()}
        try:
            for each, body in ((dump, spoilt), (manifest, json.dumps(said).encode())):
                store.own.s3.put_object(**each, Body=body, **store.encryption)
            with pytest.raises(RunbookError, match="does not load, nothing was dropped"):
                d.backups.restore(confirm=d.spec.deployment)
        finally:
            for each, body in ((dump, held), (manifest, told)):
                store.own.s3.put_object(**each, Body=body, **store.encryption)
        assert untouched(d) == before and not d.context().restoring

    @pytest.mark.parametrize(("at", "words"), [("2001-01-01", "no backup of test-as of 2001-01-01 or before: the oldest is of"), ("noon", "is no time")])
    def test_a_time_without_a_backup_is_told(self, as_deployment: Deployment, made: Backup, at: str, words: str) -> None:
        with pytest.raises(RunbookError, match=words):
            as_deployment.backups.choose(at)

    def test_nothing_is_restored_unasked(self, as_cluster: Deployed, as_deployment: Deployment, made: Backup) -> None:
        before = untouched(as_deployment)
        done = as_cluster.cli("restore")
        assert done.returncode == 1 and "test-as was not restored: not confirmed" in done.stderr
        assert untouched(as_deployment) == before

    @pytest.mark.parametrize(("lacking", "words"), [("s3:PutObject", r"S3 refused \(403"), ("s3:ListBucket", "may not be looked at")])
    def test_without_the_right_to_the_bucket_there_is_one_error_and_no_backup(
        self, lab: Any, as_cluster: Deployed, as_deployment: Deployment, made: Backup, tmp_path: Path, lacking: str, words: str
    ) -> None:
        policy = operator_policy()
        policy["Statement"] = [{**each, "Action": [one for one in each["Action"] if one != lacking]} if each["Sid"] == "StagePacks" else each
                               for each in policy["Statement"]]  # fmt: skip
        held = replace(as_cluster, overrides={**as_cluster.overrides, "cloud.aws_config": str(user_with(policy, lab.lab.endpoint, tmp_path, lab.key_of_lab))})
        deployment, before = held.open(), untouched(as_deployment)
        try:
            for attempt in (deployment.backups.make, lambda: deployment.backups.restore(confirm="test-as")):
                with pytest.raises(RunbookError, match=words):
                    attempt()
        finally:
            deployment.close()
        assert untouched(as_deployment) == before and store_of(as_deployment).backups() == [made]

    def test_while_other_machines_are_down_a_backup_is_made_all_the_same_with_the_archives_of_a_worker(
        self, as_cluster: Deployed, as_deployment: Deployment, made: Backup
    ) -> None:
        d, down, own = as_deployment, ("lb-1", "as-manager-1"), store_of(as_deployment).own
        d.cloud.aws.client("ec2").stop_instances(InstanceIds=[d.instances()[name].id for name in down])
        eventually(lambda: all(d.instances()[name].state == "stopped" for name in down), "the machines are stopped")
        try:
            done = as_cluster.cli("backup")
            assert done.returncode == 0, done.stdout + done.stderr
            newest = d.backups.made()[0]
            assert newest.folder != made.folder and newest.version == made.version and len(newest.databases) == 2
            assert newest.archives and f"{appserver.DEPLOYMENT}/webapps/{demo_app.NAME}" in newest.archives.holds
            for key in own.sizes(f"{newest.folder}/"):
                own.delete(key)
        finally:
            assert as_cluster.cli("run", "--to", "05", seconds=900).returncode == 0

    @pytest.mark.full
    def test_a_restore_brings_back_rows_and_deployed_archives_also_where_the_manifest_does_not_know_the_rows(
        self, as_deployment: Deployment, made: Backup
    ) -> None:
        d, home = as_deployment, carbon.home_of(as_deployment.spec)
        own = store_of(d).own
        key = f"{made.folder}/{MANIFEST}"
        older = json.loads(b"".join(own.s3.content(**own.bucket, Key=key))) | {"schema": 1}
        for part in older["databases"]:
            part["rows"] = "cd" * 32
        own.s3.put_object(**own.bucket, Key=key, Body=json.dumps(older).encode())
        on(d, "db-1", f"{SQL} 'DELETE FROM WSO2_USER_DB.UM_USER_ROLE'")
        on(d, "as-manager-1", f"rm {home}/{appserver.DEPLOYMENT}/webapps/.hidden.aar")
        said = str(d.backups.restore(confirm=d.spec.deployment))
        assert all(part.rows[:12] in said for part in made.databases) and said.count(HOLDS_BLIND) == 2 and "1 of" in said
        on(d, "as-manager-1", f"test -e {home}/{appserver.DEPLOYMENT}/webapps/.hidden.aar")
        assert not d.mysql.plan() and not d.appserver.plan()
        assert d.mysql.verify().ok and d.appserver.verify().ok


@pytest.fixture(scope="module")
def shop(lab: Any) -> Iterator[Deployed]:
    deployed = in_lab(lab, "greg-single", SHOP, 80)
    yield deployed
    deployed.cli("destroy", "--yes", "--backups")


@pytest.mark.full
class TestOfALife:
    """One small deployment, whose machines are lost one after the other. The tests are told in their order."""

    @pytest.fixture
    def opened(self, shop: Deployed) -> Iterator[Deployment]:
        deployment = shop.open()
        yield deployment
        deployment.close()

    @staticmethod
    def lose(deployment: Deployment, *nodes: str) -> None:
        found = deployment.instances()
        deployment.cloud.aws.client("ec2").terminate_instances(InstanceIds=[found[name].id for name in nodes])

    @staticmethod
    def ran(deployed: Deployed, verb: str, *more: str, status: int = 0) -> str:
        done = deployed.cli(verb, *more, seconds=900)
        assert done.returncode == status, done.stdout[-5000:] + done.stderr[-3000:]
        return done.stdout + done.stderr

    @staticmethod
    def published(deployment: Deployment, name: str) -> None:
        scene = scene_of(deployment)
        author = scene.visitor()
        author.sign_in_at(scene.hosts["publisher"], "publisher", scene.admin.user, scene.admin.password)
        fields = {"overview_name": name, "overview_context": f"/{name}", "overview_version": "1.0.0"}
        assert made_id(author.request("POST", f"https://{scene.hosts['publisher']}/publisher{ASSETS}", form=fields))

    @staticmethod
    def sold(deployed: Deployed, name: str) -> bool:
        """Whether the Store shows the asset, within 90 s. Opened anew: machines were replaced."""
        deployment = deployed.open()
        try:
            scene = scene_of(deployment)
            visitor = scene.visitor()
            visitor.sign_in_at(scene.hosts["store"], "store", scene.admin.user, scene.admin.password)
            return bool(wait_until(lambda: f'"{name}"' in visitor.get(f"https://{scene.hosts['store']}/store{ASSETS}").text, 90, pause=0.5))
        finally:
            deployment.close()

    def test_a_lost_database_machine_stops_everything_with_the_way_out(self, shop: Deployed, opened: Deployment) -> None:
        self.ran(shop, "run", "--to", "05")
        self.published(opened, "kept-asset")
        self.ran(shop, "backup")
        self.lose(opened, "db-1")
        [backup] = opened.backups.made()
        for verb, words in (("plan", "the machine db-1 is gone"), ("run", "the machine db-1 holds nothing of WSO2_USER_DB and WSO2_REGISTRY_DB"),
                            ("plan", "the machine db-1 holds nothing"), ("verify", "the machine db-1 holds nothing"), ("backup", "holds nothing")):  # fmt: skip
            said = self.ran(shop, verb, status=1)
            assert words in said and backup.time in said and "./runbook restore" in said and "--empty" in said, f"{verb}: {said}"
        assert json.loads(shop.cli("plan", "--json").stdout)["error"]["kind"] == "DataLost"
        anew = shop.open()
        assert "mariadb" not in on(anew, "db-1", "ls /etc/mysql 2>/dev/null || true"), "02 changed nothing"
        anew.close()

    def test_a_restore_that_was_killed_lets_nobody_go_on_and_is_begun_again(self, shop: Deployed, opened: Deployment) -> None:
        running = Running(shop, "restore", "--yes")
        running.until(lambda: int(on(opened, "db-1", f'{SQL} "{BEGUN}"')) > 0, "a database is being replaced")
        opened.cloud.power_cut("db-1")
        running.kill()
        self.ran(shop, "run", "--to", "01")
        for verb in ("plan", "run", "verify", "backup"):
            assert "was cut short: not all of it is there" in self.ran(shop, verb, status=1)

        said = self.ran(shop, "restore", "--yes")
        [backup] = opened.backups.made()
        assert all(part.rows[:12] in said for part in backup.databases)
        assert self.sold(shop, "kept-asset")
        self.ran(shop, "plan")
        self.ran(shop, "verify")

    def test_killed_while_the_nodes_boot_it_ends_well_too(self, shop: Deployed, opened: Deployment) -> None:
        running = Running(shop, "restore", "--yes")
        running.until(lambda: not opened.context().booted, "first boots are due")
        mark = f"cat {carbon.home_of(opened.spec)}/.runbook-first-boot 2>/dev/null || true"
        running.until(lambda: on(opened, "greg-1", mark).strip() == "begun", "greg-1 boots")
        running.kill()
        assert "was cut short: not all of it is there" in self.ran(shop, "plan", status=1), "the databases are back, and what follows is due"
        self.ran(shop, "restore", "--yes")
        assert {backup.why for backup in opened.backups.made()} == {WANTED, BEFORE_RESTORE}, "what was there went to S3 first"
        self.ran(shop, "plan")
        assert self.sold(shop, "kept-asset")

    def test_the_only_node_is_replaced_and_its_databases_stay(self, shop: Deployed, opened: Deployment) -> None:
        self.lose(opened, "greg-1")
        self.ran(shop, "run", "--to", "05")
        assert self.sold(shop, "kept-asset")

    def test_a_copy_has_the_rows_and_passwords_of_its_own(self, lab: Any, shop: Deployed, opened: Deployment) -> None:
        copy = in_lab(lab, "greg-single", "test-copy", 81)
        try:
            self.ran(copy, "restore", "--from", SHOP, "--yes")
            self.ran(copy, "run")
            of_copy = copy.open()
            assert of_copy.vault.get("carbon-admin-password") != opened.vault.get("carbon-admin-password")
            of_copy.close()
            assert self.sold(copy, "kept-asset")
        finally:
            copy.cli("destroy", "--yes", "--backups")
        self.ran(shop, "plan")

    def test_when_every_machine_is_lost_the_guard_still_holds(self, shop: Deployed, opened: Deployment) -> None:
        self.lose(opened, "db-1", "greg-1", "lb-1")
        assert "./runbook restore" in self.ran(shop, "run", status=1)
        self.ran(shop, "restore", "--yes", "--at", opened.backups.made()[0].time)  # the newest of any kind
        self.ran(shop, "run", "--to", "05")
        assert self.sold(shop, "kept-asset")

    def test_data_that_is_meant_to_be_gone_is_gone_when_it_is_said(self, shop: Deployed, opened: Deployment) -> None:
        self.lose(opened, "db-1")
        with pytest.raises(DataLost):
            opened.mysql.plan()
        self.ran(shop, "restore", "--empty", "--yes")
        self.ran(shop, "run", "--to", "05")
        assert not self.sold(shop, "kept-asset")

    def test_backups_outlive_their_deployment_and_go_when_it_is_said(self, shop: Deployed) -> None:
        said = self.ran(shop, "destroy", "--yes")
        assert "backups left, the newest of" in said
        assert len(json.loads(shop.cli("backups", "--json").stdout)["backups"]) >= 2
        assert "left, the newest" not in self.ran(shop, "destroy", "--yes", "--backups")
        assert json.loads(shop.cli("backups", "--json").stdout)["backups"] == []
