"""Keys on machines while one replaces the other, and what a role makes of a rotation that is under way."""

from __future__ import annotations

import grp
import os
import pwd
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from runbook_lib import pki
from runbook_lib.converge.agent import keystores
from runbook_lib.converge.keystore import Truststore
from runbook_lib.converge.mysql import MysqlAccount
from runbook_lib.converge.resources import Exec, File, Unit
from runbook_lib.operations import rotated
from runbook_lib.roles import carbon, greg, mysql, nginx
from runbook_lib.roles.context import Context
from tests.fakes import context_with_keys, tier_key

OLD, NEW, OTHER = (pki.make_ssh_key() for _ in range(3))
LINES = {key: pki.ssh_public_key(key).strip() for key in (OLD, NEW, OTHER)}
FORBIDDEN = 'no-port-forwarding,command="echo sign in as admin"'


class Machine:
    """A machine's files of keys, as cloud-init leaves them, edited by the scripts in bash."""

    def __init__(self, folder: Path):
        self.folder = folder
        for user in ("admin", "root"):
            (folder / user / ".ssh").mkdir(parents=True)
        self.file("admin").write_text(f"{LINES[OLD]} runbook-shop\n{LINES[OTHER]} a person\n")
        self.file("root").write_text(f"{FORBIDDEN} {LINES[OLD]} runbook-shop\n")

    def file(self, user: str) -> Path:
        return self.folder / user / ".ssh/authorized_keys"

    def run(self, script: str, commands: int = 1000) -> bool:
        """Run a script, killed before the command after `commands`; return whether it ended."""
        blobs = {"old": LINES[OLD].split()[1], "new": LINES[NEW].split()[1], "line": LINES[OLD]}
        text = script.format(user="admin", **blobs).replace("~admin", str(self.folder / "admin")).replace("~root", str(self.folder / "root"))
        trap = f"n=0; trap '[ $n -lt {commands} ] || kill -9 $$; n=$((n + 1))' DEBUG\n"
        return subprocess.run(["bash"], input=trap + text, text=True, capture_output=True).returncode == 0

    def known(self, user: str) -> set[str]:
        """Who is let in."""
        text = self.file(user).read_text()
        return {name for name, key in (("old", OLD), ("new", NEW), ("other", OTHER)) if LINES[key].split()[1] in text}


@pytest.mark.parametrize("commands", range(26))
def test_killed_at_any_command_nobody_is_locked_out_and_the_same_again_ends_in_one_key(tmp_path: Path, commands: int) -> None:
    machine = Machine(tmp_path)
    machine.run(rotated.ADMIT, commands)
    assert "old" in machine.known("admin")
    assert machine.run(rotated.ADMIT) and machine.known("admin") == {"old", "new", "other"}
    once = [machine.file(user).read_text() for user in ("admin", "root")]
    assert machine.run(rotated.ADMIT) and [machine.file(user).read_text() for user in ("admin", "root")] == once
    machine.run(rotated.EXPEL, commands)
    assert "new" in machine.known("admin")
    assert machine.run(rotated.EXPEL)
    assert machine.known("admin") == {"new", "other"} and machine.known("root") == {"new"}
    assert machine.file("root").read_text().startswith(FORBIDDEN), "what stands before root's key stays"
    assert (tmp_path / "admin/.ssh/retired_keys").read_text() == LINES[OLD] + "\n"


def test_the_old_key_stays_where_the_new_one_is_not_known(tmp_path: Path) -> None:
    machine = Machine(tmp_path)
    assert not machine.run(rotated.EXPEL)
    assert machine.known("admin") == {"old", "other"}


def under_way(*names: str) -> Context:
    ctx = context_with_keys("greg-separated")
    values = dict(ctx.secrets) | {"tls/db-1": pki.make_tier_key("db-1", ["db-1"]), "tls/store.lab.test": tier_key("a"), "tls/publisher.lab.test": tier_key("b")}
    former = {name: values[name].replace("password", "former") if name.startswith("db/") else tier_key(f"old {name}") for name in names}
    return replace(ctx, secrets=values, former=former, booted=frozenset({"store-1", "store-2", "publisher-1"}))


def test_while_passwords_are_rotated_chapter_02_leaves_those_of_serving_nodes_to_their_turn() -> None:
    ctx = under_way("db/wso2_user")
    left = {(account.user, account.host) for account in mysql.accounts(ctx)}
    addresses = {node.name: node.address for node in ctx.topology.wso2_nodes}
    serving = {addresses[name] for name in ctx.booted}
    assert {host for user, host in left if user == "wso2_user"} == set(addresses.values()) - serving
    assert {host for user, host in left if user == "wso2_registry"} == set(addresses.values())
    turn: list[MysqlAccount] = [*mysql.accounts_of(ctx.topology.node("store-1"), ctx)]
    assert {account.host for account in turn} == {addresses["store-1"]}
    assert {account.password for account in turn if account.user == "wso2_user"} == {"password-of-wso2_user"}, "the new one"


def test_while_an_authority_is_rotated_nodes_trust_both_and_the_database_server_keeps_its_certificate() -> None:
    plain, ctx = under_way(), under_way("ca.pem", "tls/db-1")
    files = {name: {f.path: f.content for f in mysql.certificate(each.topology.db, each)} for name, each in (("plain", plain), ("rotating", ctx))}
    certificate, _ = pki.split(ctx.former["tls/db-1"])
    assert files["rotating"][f"{mysql.TLS}/server.pem"] == certificate != files["plain"][f"{mysql.TLS}/server.pem"]
    assert carbon.authorities(plain) == {"runbook": plain.secrets["ca.pem"]}
    assert carbon.authorities(ctx) == {"runbook": ctx.secrets["ca.pem"], "runbook-before": ctx.former["ca.pem"]}
    settled = replace(ctx, former={"ca.pem": ctx.former["ca.pem"]})
    assert {f.path: f.content for f in mysql.certificate(settled.topology.db, settled)}[f"{mysql.TLS}/ca.pem"] == ctx.secrets["ca.pem"].encode()


def test_what_the_driver_and_the_server_read_by_themselves_restarts_nobody() -> None:
    ctx = under_way()
    resources = [r for stage in greg.desired(ctx.topology.node("store-1"), ctx) for r in stage.resources]
    [unit] = [r for r in resources if isinstance(r, Unit) and r.name == carbon.UNIT]
    stores = {r.path for r in resources if isinstance(r, Truststore)}
    assert {path.rpartition("/")[2] for path in stores - set(unit.watches)} == {"database-truststore.jks"}
    files, service, *_ = mysql.desired(ctx.topology.db, ctx)
    unit, reload = service.resources
    assert isinstance(unit, Unit) and not {f.path for f in files.resources if isinstance(f, File) and f.path.startswith(mysql.TLS)} & set(unit.watches)
    assert isinstance(reload, Exec) and mysql.TLS in reload.unless


def test_a_trust_store_of_another_hand_restarts_its_node_and_a_rotation_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "database-truststore.jks"
    order = {"path": str(path), "mode": 0o600, "owner": f"{pwd.getpwuid(os.getuid()).pw_name}:{grp.getgrgid(os.getgid()).gr_name}"}

    def make(r: dict[str, str]) -> None:
        path.write_text(r["made_of"])
        Path(keystores.stamp_of(str(path))).write_text(f"{r['made_of']} {keystores.file_digest(str(path))}\n")

    monkeypatch.setattr(keystores.Keystores, "make", make)
    for made_of, hand, mended in (("one", "", False), ("both", "", False), ("one", "", False), ("one", "another hand", True)):
        if hand:
            path.write_text(hand)
        keystores.Keystores.apply([{**order, "made_of": made_of}])
        assert path.read_text() == made_of and Path(keystores.mended_of(str(path))).exists() is mended
    resources = [r for stage in greg.desired(under_way().topology.node("store-1"), under_way()) for r in stage.resources]
    [unit] = [r for r in resources if isinstance(r, Unit) and r.name == carbon.UNIT]
    assert any(watched.endswith("database-truststore.jks.mended") for watched in unit.watches)


@pytest.mark.parametrize("names", [(), ("tier-key/store",)])
def test_nginx_trusts_the_old_certificate_of_a_tier_beside_the_new_one_until_the_end(names: tuple[str, ...]) -> None:
    ctx = under_way(*names)
    [trusted] = [file.content.decode() for file in nginx.files(ctx.topology.lbs[0], ctx) if file.name == "tls/nodes.pem"]
    assert pki.certificate_of(ctx.secrets["tier-key/store"]) in trusted
    assert (pki.certificate_of(tier_key("old tier-key/store")) in trusted) is bool(names)
