"""The desired state of the WSO2 nodes: settings as a table on the product's files, and what stands around them."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import time
import zipfile
from collections.abc import Callable
from dataclasses import replace
from functools import cache, reduce
from pathlib import Path
from typing import Any

import pytest
import yaml
from lxml import etree

from runbook_lib.converge import edits
from runbook_lib.converge.engine import Stage
from runbook_lib.converge.keystore import Truststore
from runbook_lib.converge.resources import Absent, Edited, Exec, Resource, Unit, sha256
from runbook_lib.errors import RunbookError
from runbook_lib.roles import appserver, carbon, carbon_settings, greg, mysql, nginx
from runbook_lib.roles.context import Context, Download
from runbook_lib.roles.java import java
from runbook_lib.topology.databases import REGISTRY, databases_of
from runbook_lib.topology.packages import downloaded_of, packages_of
from tests.conftest import ProductFiles
from tests.fakes import context, context_with_keys
from tests.support.local_host import LocalHost, converged, planned

TABLE = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text())
ROWS = [(pattern, node, row["file"], row["read"], row["is"]) for pattern, nodes in TABLE.items() for node, rows in nodes.items() for row in rows]


def with_pack(ctx: Context, files: ProductFiles) -> Context:
    """The context with a pack that consists of `files`."""
    product = "as" if ctx.spec.pattern == "as-cluster" else "greg"
    return replace(ctx, pack=Download("ab" * 32, "https://bucket/pack.zip", lambda path: files(product, path)))


def desired(node: str, ctx: Context) -> tuple[Stage, ...]:
    step = appserver if ctx.spec.pattern == "as-cluster" else greg
    return step.desired(ctx.topology.node(node), ctx)


def resources(node: str, ctx: Context) -> dict[str, Resource]:
    return {resource.key: resource for stage in desired(node, ctx) for resource in stage.resources}


@cache
def content(pattern: str, node: str, file: str, files: ProductFiles) -> bytes:
    """A file of a node after the edits."""
    ctx = with_pack(context_with_keys(pattern), files)
    below = file.replace("apps/", greg.APPS + "/") if file.startswith("apps/") else f"repository/conf/{file}"
    path = f"{carbon.home_of(ctx.spec)}/{below}"
    found = resources(node, ctx).get(f"settings in {path}")
    base = ctx.base(below)
    assert base is not None
    return edits.apply(base, found.edits, path) if isinstance(found, Edited) else base


def read(data: bytes, path: str) -> Any:
    if data.lstrip().startswith(b"{"):
        value = json.loads(data)
        for key in path.split("."):
            value = value[key]
        return value
    root = etree.fromstring(data)
    namespace = etree.QName(root).namespace
    found = root.xpath(path, namespaces={"c": namespace} if namespace else None)
    texts = [node if isinstance(node, str) else node.text for node in found] if isinstance(found, list) else [str(found)]
    return texts[0] if len(texts) == 1 else texts


@pytest.mark.parametrize("pattern, node, file, path, wanted", ROWS, ids=[" ".join(row[:4]) for row in ROWS])
def test_after_the_edits_the_file_says(product_files: ProductFiles, pattern: str, node: str, file: str, path: str, wanted: Any) -> None:
    ctx = context_with_keys(pattern)
    for name in [each.name for each in ctx.topology.wso2_nodes] if node == "every" else [node]:
        expected = wanted
        if isinstance(wanted, str):
            expected = wanted.replace("{address}", ctx.topology.node(name).address)
            trust = f"trustStore=file://{carbon.home_of(ctx.spec)}/repository/resources/security/database-truststore.jks&trustStorePassword=wso2carbon"
            options = f"useMysqlMetadata=true&useSsl=true&enabledSslProtocolSuites=TLSv1.2&{trust}"
            expected = re.sub(r"\{url:(\w+)\}", rf"jdbc:mysql://{ctx.topology.db.address}:3306/\1?{options}", expected)
        assert read(content(pattern, name, file, product_files), path) == expected


@pytest.mark.parametrize(
    ("pattern", "nodes", "least"),
    [
        ("as-cluster", {}, 80),
        ("as-cluster", {"worker": 8}, 50),
        ("greg-single", {}, 80),
        ("greg-original", {"greg": 8}, 20),
        ("greg-separated", {}, 40),
        ("greg-separated", {"store": 8, "publisher": 8}, 10),
    ],
)
def test_the_server_has_a_connection_for_all_that_the_nodes_may_open(product_files: ProductFiles, pattern: str, nodes: dict[str, int], least: int) -> None:
    ctx = with_pack(context_with_keys(pattern, nodes=nodes), product_files)
    settings = next(
        r.content.decode() for s in mysql.desired(ctx.topology.db, context(pattern)) for r in s.resources if getattr(r, "path", "") in mysql.DROP_INS
    )
    [limit] = re.findall(r"^max_connections = (\d+)$", settings, re.M)
    opened = []
    for path, edited in carbon_settings.datasources(ctx).items():
        base = ctx.base(path)
        assert base is not None
        opened += etree.fromstring(edits.apply(base, edited, path)).xpath("//configuration[starts-with(url, 'jdbc:mysql:')]/maxActive/text()")
    assert len(opened) == len(databases_of(pattern)) and min(map(int, opened)) >= least
    assert sum(map(int, opened)) * len(ctx.topology.wso2_nodes) <= int(limit) - 50


@pytest.mark.parametrize("pattern", list(TABLE))
def test_a_node_trusts_the_deployments_authority_alone_for_the_database(pattern: str) -> None:
    ctx = context_with_keys(pattern)
    for node in ctx.topology.wso2_nodes:
        [store] = [r for r in resources(node.name, ctx).values() if isinstance(r, Truststore) and r.path.endswith("database-truststore.jks")]
        assert dict(store.certificates) == {"runbook": ctx.secrets["ca.pem"]} and f"file://{store.path}&" in carbon_settings.jdbc_url(REGISTRY, ctx)


@pytest.mark.parametrize("pattern", list(TABLE))
def test_every_edit_finds_its_place_in_the_files_and_holds(product_files: ProductFiles, pattern: str) -> None:
    ctx = with_pack(context_with_keys(pattern), product_files)
    for node in ctx.topology.wso2_nodes:
        for resource in resources(node.name, ctx).values():
            if isinstance(resource, Edited) and resource.base is not None:
                after = edits.apply(resource.base, resource.edits, resource.path)
                assert edits.apply(after, resource.edits, resource.path) == after
            elif isinstance(resource, Edited):
                assert resource.path.endswith("wso2server.sh")  # of the pack, not among the genuine files


REMOVED = {
    "hosts": {"store-1": set(), "publisher-1": set()},
    "allow-list": {"store-1": set(), "publisher-1": set()},
    "app-removed": {"store-1": {"publisher"}, "publisher-1": {"store", "social"}},
    "full": {"store-1": {"publisher"}, "publisher-1": {"store", "social"}},
}


@pytest.mark.parametrize("hardening", list(REMOVED))
def test_the_other_application_goes_and_keys_differ_as_the_hardening_says(hardening: str) -> None:
    ctx = context_with_keys("greg-separated", hardening=hardening, expect="separated" if hardening == "full" else "leak")
    apps = f"{carbon.home_of(ctx.spec)}/{greg.APPS}"
    pems = set()
    for node, removed in REMOVED[hardening].items():
        found = resources(node, ctx)
        assert {key.rpartition("/")[2] for key in found if key.startswith(f"no {apps}/")} == removed
        assert not any(key.startswith(f"settings in {apps}/{app}/") for key in found for app in removed)
        assert f"no {apps}/sso" not in found
        pems.add(found[f"keystore {carbon.home_of(ctx.spec)}/{carbon.SECURITY}/wso2carbon.jks"].pem)  # type: ignore[attr-defined]
    assert len(pems) == (2 if hardening == "full" else 1)


@pytest.mark.parametrize("hardening", list(REMOVED))
def test_the_other_service_provider_is_gone_at_every_hardening(product_files: ProductFiles, hardening: str) -> None:
    expect = "separated" if hardening == "full" else "leak"
    ctx = with_pack(context_with_keys("greg-separated", hardening=hardening, expect=expect), product_files)
    path = f"{carbon.home_of(ctx.spec)}/repository/conf/identity/sso-idp-config.xml"
    edited = resources("store-1", ctx)[f"settings in {path}"]
    assert isinstance(edited, Edited) and edited.base is not None
    after = edits.apply(edited.base, edited.edits, path)
    assert b"<Issuer>publisher</Issuer>" not in after and b"<Issuer>store</Issuer>" in after


def test_the_real_password_never_stands_in_a_file_that_is_served(product_files: ProductFiles) -> None:
    ctx = with_pack(context_with_keys("greg-single"), product_files)
    holding = {
        resource.path.removeprefix(carbon.home_of(ctx.spec) + "/")
        for resource in resources("greg-1", ctx).values()
        if isinstance(resource, Edited) and resource.base is not None
        and b"the-admin-password" in edits.apply(resource.base, resource.edits, resource.path)
    }  # fmt: skip
    assert holding == {"repository/conf/user-mgt.xml", "repository/conf/registry.xml"}


def test_a_node_is_started_by_systemd_only_after_its_first_boot_is_recorded() -> None:
    before = context_with_keys("greg-separated")
    after = replace(before, booted=frozenset({"store-1"}))
    unit, again = (resources("store-1", ctx)["unit wso2carbon.service"] for ctx in (before, after))
    assert (unit.enabled, unit.running) == (False, None)  # type: ignore[attr-defined]
    assert (again.enabled, again.running) == (True, True)  # type: ignore[attr-defined]
    restart = f"file {carbon.RESTART_FILE}"
    assert restart in resources("store-1", after) and restart not in resources("store-1", before)
    assert restart not in resources("store-2", after)
    service = resources("store-1", after)[f"file {carbon.UNIT_FILE}"].content.decode()  # type: ignore[attr-defined]
    assert "\nRestart=no\n" in service and "\nUser=wso2carbon\n" in service
    assert "\nRestart=always\n" in resources("store-1", after)[restart].content.decode()  # type: ignore[attr-defined]


def test_a_changed_setting_makes_a_restart_due() -> None:
    ctx = replace(context_with_keys("greg-separated"), booted=frozenset({"store-1"}))
    found = resources("store-1", ctx)
    watched = set(found["unit wso2carbon.service"].watches)  # type: ignore[attr-defined]
    paths = {resource.path for key, resource in found.items() if key.startswith(("settings", "keystore", "truststore"))}  # type: ignore[attr-defined]
    [itself] = [
        path for path in paths if path.endswith("/database-truststore.jks")
    ]  # read for each connection (tests/unit/operations/test_rotated_machines.py)
    assert paths - {itself} < watched and carbon.UNIT_FILE in watched
    assert carbon.RESTART_FILE not in watched  # it comes after the first boot and must not restart the node


def test_a_machine_of_one_gib_gets_a_smaller_heap_and_a_larger_one_the_products_own() -> None:
    script = b"    -Xms256m -Xmx1024m \\\n"
    small = context_with_keys("as-cluster", cloud={"instance_type": {"default": "t2.micro"}})
    found = resources("as-worker-1", small)["settings in /opt/wso2/as/bin/wso2server.sh"]
    assert edits.apply(script, found.edits, "f") == b"    -Xms256m -Xmx512m \\\n"  # type: ignore[attr-defined]
    assert "settings in /opt/wso2/as/bin/wso2server.sh" not in resources("as-worker-1", context_with_keys("as-cluster"))


def test_a_heap_of_before_goes_back_to_what_the_pack_ships() -> None:
    shipped = b"    -Xms256m -Xmx1024m \\\n"
    ctx = replace(context_with_keys("as-cluster"), pack=Download("ab" * 32, member={carbon.SCRIPT: shipped}.__getitem__))
    found = resources("as-worker-1", ctx)["settings in /opt/wso2/as/bin/wso2server.sh"]
    assert edits.apply(b"    -Xms256m -Xmx2g \\\n", found.edits, "f") == shipped == edits.apply(shipped, found.edits, "f")  # type: ignore[attr-defined]


def test_workers_run_the_worker_profile_and_no_other_node_does() -> None:
    for pattern in TABLE:
        ctx = context_with_keys(pattern)
        for node in ctx.topology.wso2_nodes:
            service = resources(node.name, ctx)[f"file {carbon.UNIT_FILE}"].content.decode()  # type: ignore[attr-defined]
            assert ("-DworkerNode=true" in service) == (node.role == "as-worker")
            assert f"-Dcarbon.local.ip={node.address}" in service


def test_artifacts_are_served_to_the_workers_and_pulled_without_metadata() -> None:
    ctx = context_with_keys("as-cluster")
    daemon = resources("as-manager-1", ctx)["file /etc/rsyncd.conf"].content.decode()  # type: ignore[attr-defined]
    assert "hosts allow = 10.213.1.41 10.213.1.42\n" in daemon and "read only = yes" in daemon
    pull = resources("as-worker-1", ctx)[f"file {appserver.PULL_SCRIPT}"].content.decode()  # type: ignore[attr-defined]
    assert "--delete" in pull and "rsync://10.213.1.31/" in pull
    for text in (daemon, pull):
        assert "artifactMetafiles" not in text and all(folder in text for folder in appserver.ARTIFACTS)


RSYNC = """#!/bin/sh
for one; do
  case $one in
    --list-only) echo "-rw-r-----             12 2026/11/28 04:00:00 own.war"; exit ;;
    --exclude-from=*) excluded=${one#*=} ;;
    rsync://*) folder=$(basename $one) ;;
  esac
done
cp $excluded $RUNTIME_DIRECTORY/$folder
[ $folder != carbonapps ] || mv $RUNTIME_DIRECTORY/pulled/* $one
"""


def test_what_the_product_unpacked_from_a_war_or_from_one_in_a_carbon_application_stays_each_nodes_own(tmp_path: Path) -> None:
    """The first pull brings the application; the manager has unpacked it before."""
    ctx = context_with_keys("as-cluster")
    script = resources("as-worker-1", ctx)[f"file {appserver.PULL_SCRIPT}"].content.decode()  # type: ignore[attr-defined]
    for folder in appserver.ARTIFACTS:
        (tmp_path / appserver.DEPLOYMENT / folder).mkdir(parents=True)
    (tmp_path / "pulled").mkdir()
    with zipfile.ZipFile(tmp_path / "pulled/orders.car", "w") as car:
        for name in ("artifacts.xml", "Web_1.0.0/orders-web.war", "Service_1.0.0/orders.aar", "Api_1.0.0/my api-1.0.0.war"):
            car.writestr(name, "")
    (tmp_path / "pulled/half.car").write_text("no zip")
    (tmp_path / "rsync").write_text(RSYNC)
    (tmp_path / "rsync").chmod(0o755)
    subprocess.run(["sh", "-c", script.replace(carbon.home_of(ctx.spec), str(tmp_path))], check=True,
                   env=os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "RUNTIME_DIRECTORY": str(tmp_path)})  # fmt: skip
    excluded = {folder: sorted((tmp_path / folder).read_text().splitlines()) for folder in appserver.ARTIFACTS}
    of_wars = ["/own/"]
    assert excluded == dict.fromkeys(appserver.ARTIFACTS, of_wars) | {"webapps": sorted([*of_wars, "/orders-web/", "/my api-1.0.0/"])}


@pytest.mark.parametrize(
    ("booted", "in_use", "serves"),
    [((), False, True), (("as-manager-1", "as-worker-1"), True, True), (("as-worker-1", "as-worker-2"), True, False), ((), True, False)],
)
def test_a_manager_that_is_new_in_a_cluster_in_use_serves_no_artifacts_before_it_has_them(booted: tuple[str, ...], in_use: bool, serves: bool) -> None:
    ctx = replace(context_with_keys("as-cluster"), booted=frozenset(booted), in_use=in_use)
    unit: Any = resources("as-manager-1", ctx)["unit rsync.service"]
    assert (unit.enabled, unit.running) == (serves, serves)


JAVA = [
    ({"package": "default-jre-headless"}, "/usr/lib/jvm/default-java", "package default-jre-headless"),
    ({"package": "openjdk-8-jdk-headless"}, "/usr/lib/jvm/java-8-openjdk-amd64", "package openjdk-8-jdk-headless"),
    (
        {"archive": "https://example.com/jdk.tar.gz", "sha256": "cd" * 32},
        "/opt/java/cdcdcdcdcdcd",
        "archive /opt/java/cdcdcdcdcdcd",
    ),
]


@pytest.mark.parametrize("given, home, key", JAVA, ids=[home for _, home, _ in JAVA])
def test_java_comes_from_a_package_or_an_archive(given: dict, home: str, key: str) -> None:
    ctx = context_with_keys("greg-single", java=given)
    assert java(ctx).home == home and [
        found for found in resources("greg-1", ctx) if found.startswith(("package default-j", "package openjdk", "archive /opt/java"))
    ] == [key]


@pytest.mark.parametrize("pattern", list(TABLE))
def test_what_user_data_installs_or_downloads_at_launch_is_what_the_chapter_of_a_node_would(pattern: str) -> None:
    ctx = context_with_keys(pattern)
    for node in ctx.topology.wso2_nodes:
        of_the_product = {key for key in resources(node.name, ctx) if key.startswith("package ")}
        assert of_the_product == {f"package {name}" for name in packages_of(node, ctx.spec)} and of_the_product
    for node in ctx.topology.lbs:
        assert downloaded_of(node, ctx.spec) == (nginx.NGINX,), "its chapter's package"
    assert not any(packages_of(node, ctx.spec) for node in (*ctx.topology.lbs, ctx.topology.db)), "what listens comes with its settings"


def test_the_driver_decides_class_and_url_options() -> None:
    url = {"url": "https://example.com/mysql-connector-java-5.1.49.jar", "sha256": "ef" * 32}
    ctx = context_with_keys("greg-single", database={"driver": url})
    edit = next(e for e in carbon_settings.datasources(ctx)["repository/conf/datasources/master-datasources.xml"] if "WSO2_USER_DB" in e.describe())
    assert "com.mysql.jdbc.Driver" in edit.describe()
    assert "requireSSL=true&amp;verifyServerCertificate=true" in edit.describe() and "&amp;relaxAutoCommit" in edit.describe()


@pytest.mark.parametrize("stated", [None, "as it is", "in capitals"])
def test_a_driver_by_url_is_fetched_and_found_by_the_checksum_that_the_jar_has(stated: str | None, tmp_path: Path) -> None:
    jar = tmp_path / "their.jar"
    jar.write_bytes(b"a jar")
    digest = sha256(b"a jar")
    given = {None: None, "as it is": digest, "in capitals": digest.upper()}[stated]
    driver = {"url": jar.as_uri(), **({"sha256": given} if given else {})}
    ctx = replace(context_with_keys("greg-single", database={"driver": driver}), driver=Download(digest, jar.as_uri()))
    found = carbon.driver_jar(ctx)
    assert isinstance(found, Exec)
    here = {found.path: str(tmp_path / "jar"), "wso2carbon:wso2carbon": f"{os.getuid()}:{os.getgid()}"}
    check, fetch = (reduce(lambda now, one: now.replace(*one), here.items(), text) for text in (found.unless, found.run))
    assert subprocess.run(["sh", "-c", check]).returncode, "it is not there"
    subprocess.run(["sh", "-euc", fetch], input=found.stdin.encode(), check=True)
    assert subprocess.run(["sh", "-c", check]).returncode == 0


@pytest.mark.parametrize(
    ("driver", "kept", "goes"),
    [
        ({"package": "libmysql-java"}, "mysql-connector-java", "mariadb-java-client"),
        ({"package": "libmariadb-java"}, "mariadb-java-client", "mysql-connector-java"),
        ({"url": "https://example.com/mysql-connector-java-5.1.49.jar", "sha256": "ef" * 32}, "mysql-connector-java", "mariadb-java-client"),
        ({"url": "https://example.com/mariadb-java-client-2.7.12.jar", "sha256": "ef" * 32}, "mariadb-java-client", "mysql-connector-java"),
    ],
)
def test_another_driver_takes_the_place_of_the_one_before_and_what_the_operator_put_there_stays(tmp_path: Path, driver: dict, kept: str, goes: str) -> None:
    ctx = context_with_keys("greg-single", database={"driver": driver})
    home, components = carbon.home_of(ctx.spec), tmp_path / "repository/components"
    jars = {f"{place}/{name.replace('-', '_') + '_1.0.0' if place == 'dropins' else name}.jar" for name in (kept, goes, "mine") for place in ("lib", "dropins")}
    for jar in jars:
        (components / jar).parent.mkdir(parents=True, exist_ok=True)
        (components / jar).touch()
    absent = [
        replace(one, path=one.path.replace(home, str(tmp_path))) for one in resources("greg-1", ctx).values() if isinstance(one, Absent) and ".jar" in one.path
    ]
    host = LocalHost("greg-1", {})
    assert {p.change.key.rpartition("/")[2] for p in planned(host, *absent).pending} == {f"{goes}.jar", f"{goes.replace('-', '_')}_1.0.0.jar"}
    converged(host, *absent)
    assert {str(path.relative_to(components)) for path in components.glob("*/*.jar")} == {
        jar for jar in jars if goes.replace("-", "_") not in jar.replace("-", "_")
    }
    assert not planned(host, *absent)
    assert f"{home}/repository/components/lib/{kept}.jar" in resources("greg-1", replace(ctx, booted=frozenset({"greg-1"})))[f"unit {carbon.UNIT}"].watches  # type: ignore[attr-defined]


def test_an_unknown_driver_package_is_an_error_that_names_the_key() -> None:
    with pytest.raises(RunbookError, match="libfoo-java") as error:
        resources("greg-1", context_with_keys("greg-single", database={"driver": {"package": "libfoo-java"}}))
    assert error.value.where == "database.driver.package"


STEPS: dict[str, Callable] = {"greg": greg.desired, "as": appserver.desired}


@pytest.mark.parametrize("pattern", list(TABLE))
def test_the_same_parameters_give_the_same_resources_and_no_key_twice(pattern: str) -> None:
    for node in context_with_keys(pattern).topology.wso2_nodes:
        keys = [resource.key for stage in desired(node.name, context_with_keys(pattern)) for resource in stage.resources]
        assert len(keys) == len(set(keys))
        assert desired(node.name, context_with_keys(pattern)) == desired(node.name, context_with_keys(pattern))


@pytest.mark.parametrize(("pattern", "node"), [("as-cluster", "as-worker-2"), ("greg-separated", "store-1"), ("greg-single", "greg-1")])
def test_a_node_with_others_gives_up_silent_ones_and_restarts_when_that_is_changed(pattern, node):
    ctx = context_with_keys(pattern)
    found, path = resources(node, ctx), f"{carbon.home_of(ctx.spec)}/repository/conf/hazelcast.properties"
    booted = resources(node, replace(ctx, booted=frozenset({node})))
    watched = path in booted[f"unit {carbon.UNIT}"].watches
    if pattern == "greg-single":
        assert f"file {path}" not in found and not watched
    else:
        said = dict(line.split("=") for line in found[f"file {path}"].content.decode().splitlines() if not line.startswith("#"))
        assert int(said["hazelcast.max.no.heartbeat.seconds"]) < 600 and int(said["hazelcast.max.no.master.confirmation.seconds"]) < 900
        assert watched


@pytest.mark.parametrize(("pattern", "node"), [("as-cluster", "as-manager-1"), ("as-cluster", "as-worker-1"), ("greg-separated", "store-1")])
def test_a_unit_comes_in_a_later_stage_than_the_files_it_watches(pattern, node):
    """Only then does the apply that changes a file see that the unit is due for a restart."""
    ctx = replace(context_with_keys(pattern), booted=frozenset({node}))
    written: set[str] = set()
    for stage in desired(node, ctx):
        here = {resource.path for resource in stage.resources if hasattr(resource, "path")}
        watched = {path for resource in stage.resources if isinstance(resource, Unit) for path in resource.watches}
        assert not here & watched, f"{stage.name}: {here & watched}"
        written |= here
    assert f"{carbon.home_of(ctx.spec)}/repository/conf/carbon.xml" in written


OLD_LOGS = (  # the name, how many days ago it was last written, whether the product started after that, whether it stays
    ("wso2carbon.log", 99, True, True),
    ("wso2carbon.log.2026-09-01", 31.5, True, False),
    ("wso2carbon.log.2026-10-30", 29, True, True),
    ("wso2carbon.log.2026-09-02", 31.5, False, True),  # of the present start: checks read it
    ("wso2carbon-trace-messages.log.2026-09-01", 99, True, False),
    ("http_access_2026-09-02.log", 31.5, False, False),
    ("http_access_2026-10-30.log", 1, False, True),
    ("audit.log", 99, True, True),
    ("audit.log.2026-09-01", 99, True, True),
    ("notes.txt", 99, True, True),
)


@pytest.mark.parametrize(("name", "days", "before_start", "stays"), OLD_LOGS, ids=[f"{row[0]} {row[1]} {row[2]}" for row in OLD_LOGS])
def test_each_day_old_logs_go_and_those_of_the_present_start_stay(tmp_path: Path, name: str, days: float, before_start: bool, stays: bool) -> None:
    ctx = context_with_keys("greg-single")
    found = resources("greg-1", ctx)
    assert found[f"unit {carbon.LOGS_UNIT}.timer"]
    unit = carbon.old_logs(ctx.spec)[0].content.decode().replace("\\\n", " ").replace(carbon.home_of(ctx.spec), str(tmp_path))
    [command] = re.findall(r"^ExecStart=(.*)$", unit, re.M)
    start, log = tmp_path / "start", tmp_path / "repository/logs" / name
    log.parent.mkdir(parents=True)
    for path, age in ((start, days - 1 if before_start else days + 1), (log, days)):
        path.touch()
        os.utime(path, (time.time() - age * 86400,) * 2)
    subprocess.run(shlex.split(command.replace(carbon.LOG_START, str(start))), check=True)
    assert log.exists() == stays
