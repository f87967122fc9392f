"""Passwords, keys and certificates replaced under load: the new in use, the old refused, each node restarted once at most; killed, and finished by a run.

One deployment lives through all of it; the tests are told in their order.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from runbook_lib import pki
from runbook_lib.aws import rotation
from runbook_lib.chapters.deployment import Deployment
from runbook_lib.checks.drill.failover import settle, target_of
from runbook_lib.checks.drill.load import Stream
from runbook_lib.errors import ChecksFailed, KeyRefused, RunbookError
from runbook_lib.launch import secrets
from runbook_lib.operations import rotated
from runbook_lib.roles import carbon, mysql
from tests.support.deployments import Deployed, in_lab, made, on
from tests.support.drift_tools import Running
from tests.support.watched import ENOUGH, ended, under_load

pytestmark = pytest.mark.full
VISITORS, RATE = 12, 6.0  # who keep sessions, of which the loss is counted; GETs alone are judged at 100 a second, below
# what is rotated: the nodes that it restarts, of store-1, store-2 and publisher-1
RESTARTS = {
    "host-certificates": (),
    "ssh-key": (),
    "ca": (),
    "databases": ("publisher-1", "store-1", "store-2"),
    "administrator": ("publisher-1", "store-1", "store-2"),
    "tier-keys": ("publisher-1", "store-1", "store-2"),
}
ALL_BUT_THE_AUTHORITY = tuple(what for what in RESTARTS if what != "ca")  # its visitors trust none but it, and refuse every page of the next one


@pytest.fixture(scope="module")
def shop(lab: Any) -> Iterator[Deployed]:
    with made(in_lab(lab, "greg-separated", "test-rotate", 90, nodes__store=2, nodes__publisher=1), "--to", "05") as deployed:
        yield deployed


@pytest.fixture
def opened(shop: Deployed) -> Iterator[Deployment]:
    deployment = shop.open()
    yield deployment
    deployment.close()


def starts(d: Deployment) -> dict[str, int]:
    """By machine how often its service has started: the product's by its own log, the others' by what systemd wrote."""
    log = f"{carbon.home_of(d.spec)}/{carbon.LOG}"
    found = {node.name: int(on(d, node.name, f"cat {log}* | grep -c 'WSO2 Carbon started in' || true")) for node in d.topology.wso2_nodes}
    units = {d.topology.db.name: mysql.unit_of(d.spec), **{lb.name: "nginx.service" for lb in d.topology.lbs}}
    return found | {name: int(on(d, name, f"systemctl show -p ExecMainPID --value {unit}")) for name, unit in units.items()}


def restarted(before: dict[str, int], after: dict[str, int]) -> dict[str, int]:
    """What was started again, with the number of times (of database and Nginx only that it was)."""
    return {name: after[name] - count for name, count in before.items() if after[name] != count}


def values(d: Deployment, *what: str) -> dict[str, str]:
    stored = d.vault.read_all()
    return {name: stored[name] for row in what for name in secrets.names_of(d.topology, row)}


def proofs(deployed: Deployed) -> dict[str, str]:
    """By row of the newest run that proves a rotation: how it went."""
    return {check["id"]: check["status"] for check in deployed.result["checks"] if check["id"].startswith("rotated-")}


def at_rest(d: Deployment) -> bool:
    """No rotation is under way, and nothing is to be changed."""
    stored = d.vault.read_all()
    plans = [chapter.plan() for chapter in (d.launch, d.mysql, d.product, d.nginx)]
    return not rotation.unfinished(stored) and not any(name.startswith(rotation.ROTATING) for name in stored) and not any(plans)


def ended_at_rest(deployed: Deployed) -> bool:
    """The same, as a session sees it that began afterwards and knows no old key."""
    deployment = deployed.open()
    try:
        return at_rest(deployment)
    finally:
        deployment.close()


def test_an_unknown_thing_and_a_deployment_with_something_else_to_change_are_refused_and_nothing_is_touched(shop: Deployed, opened: Deployment) -> None:
    before = values(opened, *secrets.ROTATED)
    said = shop.cli("rotate", "database")
    assert said.returncode == 1 and "did you mean databases?" in said.stderr, said.stderr
    on(opened, "db-1", f"echo >> {mysql.DROP_INS[0]}")
    with pytest.raises(RunbookError, match="there is something else to change"):
        opened.rotate("databases")
    opened.mysql.apply(opened.mysql.plan())
    assert values(opened, *secrets.ROTATED) == before and at_rest(opened)


@pytest.mark.parametrize("what", RESTARTS)
def test_under_load_the_new_is_in_use_the_old_refused_and_each_node_restarted_once_at_most(
    shop: Deployed, opened: Deployment, what: str, record_property: Callable[[str, object], None]
) -> None:
    old, before, target = values(opened, what), starts(opened), target_of(opened, "store")
    settle(target, [node.name for node in opened.topology.of("store")], 120)
    with Stream(target, RATE, VISITORS) as stream:
        done = shop.cli("rotate", what)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(stream.samples) >= ENOUGH * RATE * stream.seconds, "too few to say anything"
    samples = [sample for sample in stream.samples if not sample.doubtful]
    failed = [f"{sample.at:.1f} s: {sample.failure}" for sample in samples if sample.failure]
    lost = sum(sample.lost for sample in samples)
    words = f"{what}: {len(failed)} of {len(samples)} GETs failed, {stream.holders} visitors lost a session {lost} times, {stream.seconds:.0f} s; {failed[:3]}"
    record_property("load", words)
    print(words)
    new = values(opened, what)
    assert {name for name in new if new[name] == old[name]} == set()
    assert restarted(before, starts(opened)) == dict.fromkeys(RESTARTS[what], 1)
    rows = proofs(shop)
    assert set(rows.values()) == {"pass"} and f"rotated-{what}-refused" in rows
    assert ended_at_rest(shop)
    # a visitor of the authority that goes away is refused at once: every other rotation is carried by the second node of the tier
    assert what == "ca" or not failed, failed[:5]


def test_all_but_the_authority_at_once_restarts_each_node_once_and_no_get_fails(shop: Deployed, opened: Deployment) -> None:
    old, before = values(opened, *ALL_BUT_THE_AUTHORITY), starts(opened)
    meanwhile = under_load(shop, ("store",), lambda: shop.cli("rotate", *ALL_BUT_THE_AUTHORITY, seconds=900))
    meanwhile.was_served(ended(meanwhile.done))
    assert meanwhile.nodes("store") == {"store-1", "store-2"}
    new = values(opened, *ALL_BUT_THE_AUTHORITY)
    assert {name for name in new if new[name] == old[name]} == set()
    assert restarted(before, starts(opened)) == dict.fromkeys(("publisher-1", "store-1", "store-2"), 1)
    assert ended_at_rest(shop)


def test_all_at_once_restarts_each_node_once_and_every_check_is_green(shop: Deployed, opened: Deployment) -> None:
    key, authority, before = opened.vault.get(secrets.SSH_KEY), opened.vault.get("ca.pem"), starts(opened)
    done = opened.rotate("all")
    assert done.what == tuple(secrets.ROTATED) and done.checks.ok and "<table" in done._repr_html_()
    assert restarted(before, starts(opened)) == dict.fromkeys(("publisher-1", "store-1", "store-2"), 1)
    for host in opened.fleet().hosts.values():
        with pytest.raises(KeyRefused):
            host.with_key(key).transport()
    target = target_of(opened, "publisher")
    with pytest.raises(ssl.SSLCertVerificationError), socket.create_connection((target.address, 443)) as wire:
        ssl.create_default_context(cadata=authority).wrap_socket(wire, server_hostname=target.host)
    verified = shop.cli("run", "--to", "05")
    assert verified.returncode == 0, verified.stdout + verified.stderr
    assert sum(chapter["changed"] for chapter in shop.result["chapters"]) == 0


def at_nginx(d: Deployment, host: str) -> int:
    """Return for how many days the certificate is valid that Nginx shows for a host."""
    target = target_of(d, host)
    trusted = ssl.create_default_context(cadata=target.ca)
    with socket.create_connection((target.address, target.port), 10) as wire, trusted.wrap_socket(wire, server_hostname=target.host) as tls:
        return pki.days_left(ssl.DER_cert_to_PEM_cert(tls.getpeercert(binary_form=True) or b""))


def test_a_certificate_that_ends_soon_is_renewed_by_a_run_and_no_get_fails(shop: Deployed, opened: Deployment) -> None:
    host, authority = opened.spec.hosts["store"], pki.Authority(opened.vault.get("ca-key"), opened.vault.get("ca.pem"))
    certificate, key = pki.issue(authority, [host], datetime.now(UTC) - timedelta(days=pki.HOST_DAYS - pki.RENEW_DAYS + 5))
    opened.vault.put(f"tls/{host}", key + certificate)
    opened.nginx.apply(opened.nginx.plan())  # chapter 05 alone renews nothing
    assert at_nginx(opened, "store") < pki.RENEW_DAYS
    planned = shop.cli("plan")
    assert planned.returncode == 2 and f"tls/{host}" in planned.stdout and "more days" in planned.stdout, planned.stdout
    before = starts(opened)
    with Stream(target_of(opened, "store"), RATE, VISITORS) as stream:
        ended(shop.cli("run", "--to", "05"))
    assert [sample for sample in stream.samples if sample.failure] == [] and restarted(before, starts(opened)) == {}
    assert at_nginx(opened, "store") > pki.HOST_DAYS - 2
    assert shop.cli("plan").returncode == 0


def declared(d: Deployment) -> bool:
    return any(name.startswith(rotation.ROTATING) for name in d.vault.names())


def promoted(d: Deployment) -> bool:
    return any(name.startswith(rotation.RETIRED) for name in d.vault.names())


def a_node_restarts(d: Deployment) -> bool:
    return promoted(d) and on(d, "store-1", f"systemctl show -p ActiveEnterTimestampMonotonic --value {carbon.UNIT}") != STARTED["store-1"]


def the_end(d: Deployment) -> bool:
    return promoted(d) and f"{rotation.RETIRED}tls/db-1" not in d.vault.names()


STARTED: dict[str, str] = {}
MOMENTS: dict[str, tuple[Callable[[Deployment], bool], tuple[str, ...]]] = {
    "new values are declared": (declared, ("ca", "databases", "tier-keys")),
    "they are the values, and no machine knows": (promoted, ("databases", "administrator")),
    "the SSH key is changed": (promoted, ("ssh-key",)),
    "the first node restarts": (a_node_restarts, ("databases", "tier-keys", "administrator")),
    "the database server has its new certificate": (the_end, ("ca",)),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_in_the_middle_a_run_ends_in_one_value_and_proves_it(shop: Deployed, opened: Deployment, moment: str) -> None:
    condition, what = MOMENTS[moment]
    before = values(opened, *what)
    unit = f"systemctl show -p ActiveEnterTimestampMonotonic --value {carbon.UNIT}"
    STARTED["store-1"] = on(opened, "store-1", unit)
    running = Running(shop, "rotate", *what)
    running.until(lambda: condition(opened), moment)
    running.kill()

    done = shop.cli("run", "--to", "05", seconds=1200)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr
    fresh = shop.open()
    try:
        assert at_rest(fresh)
        after = values(fresh, *what)
        replaced = {name for name in after if after[name] != before[name]}
        rows = proofs(shop)
        assert replaced and rows and set(rows.values()) == {"pass"}, rows
    finally:
        fresh.close()


def test_a_proof_that_fails_keeps_the_old_value_known_and_the_same_command_goes_on(opened: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    """The old key is not taken away: the row is red, nothing is forgotten, and the next rotation ends it without another key."""
    with monkeypatch.context() as broken:
        broken.setattr(rotated, "expel", lambda *_: None)
        with pytest.raises(ChecksFailed) as told:
            opened.rotate("ssh-key")
    assert {row.id for row in told.value.table.failed()} == {"rotated-ssh-key-refused"}
    assert rotation.unfinished(opened.vault.names()) == (secrets.SSH_KEY,)
    present = opened.vault.get(secrets.SSH_KEY)
    assert opened.rotate("ssh-key").checks.ok
    assert opened.vault.get(secrets.SSH_KEY) == present and rotation.unfinished(opened.vault.names()) == ()


@pytest.mark.image("debian-sid")
def test_an_as_cluster_and_a_mysql_server_are_rotated_likewise(lab: Any) -> None:
    """A MySQL server keeps its accounts and certificates otherwise than MariaDB, and an AS cluster has other nodes: both in one deployment."""
    other = {"cloud.image": "debian-sid", "database.package": "mysql-server"}
    with made(in_lab(lab, "as-cluster", "test-rotate-as", 91, drill=False, **other), "--to", "05") as deployed:
        deployment = deployed.open()
        try:
            deployment.appserver.deploy()  # the page that is requested
            before = starts(deployment)
            meanwhile = under_load(deployed, ("as",), lambda: deployed.cli("rotate", *ALL_BUT_THE_AUTHORITY, seconds=900))
            meanwhile.was_served(ended(meanwhile.done))
            assert meanwhile.nodes("as") == {"as-worker-1", "as-worker-2"}
            assert restarted(before, starts(deployment)) == dict.fromkeys(("as-manager-1", "as-worker-1", "as-worker-2"), 1)
            rows = proofs(deployed)
            ended(deployed.cli("rotate", "ca"))
            rows |= proofs(deployed)
            assert {f"rotated-{what}-refused" for what in secrets.ROTATED} <= rows.keys() and set(rows.values()) == {"pass"}, rows
            assert ended_at_rest(deployed)
        finally:
            deployment.close()
