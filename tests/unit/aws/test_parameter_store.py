"""Secrets in SSM: made once, read by name, never larger than SSM takes; what a deployment keeps there."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from runbook_lib import pki
from runbook_lib.aws.parameter_store import Vault
from runbook_lib.errors import CloudError
from runbook_lib.launch import secrets
from runbook_lib.launch.cloud import Cloud
from runbook_lib.redaction import redactor

pytest_plugins = ["tests.support.aws_endpoint"]


@pytest.fixture
def vault(make_cloud: Callable[..., Cloud]) -> Vault:
    return make_cloud().vault


def fresh(vault: Vault) -> Vault:
    """Another process's view."""
    return Vault(vault.ssm, vault.deployment)


def test_a_value_is_made_once_and_then_read(vault: Vault) -> None:
    assert vault.ensure("db/wso2_user", lambda: "first-value") == "first-value"
    assert fresh(vault).ensure("db/wso2_user", lambda: "second-value") == "first-value"


def test_of_two_that_make_a_value_at_once_both_get_the_same(vault: Vault) -> None:
    vaults = [fresh(vault) for _ in range(6)]
    with ThreadPoolExecutor(6) as pool:
        got = list(pool.map(lambda pair: pair[1].ensure("x/y", lambda: f"value-{pair[0]}"), enumerate(vaults)))
    assert len(set(got)) == 1


def test_an_absent_value_is_an_error_that_names_it_and_the_chapter_that_makes_it(vault: Vault) -> None:
    with pytest.raises(CloudError, match="tier-key/greg is not in SSM") as caught:
        vault.get("tier-key/greg")
    assert "01_launch_ec2" in (caught.value.next_step or "")


@pytest.mark.parametrize("value", ["", "x" * 4097, "é" * 2049])
def test_what_ssm_does_not_take_is_refused_before_it_is_sent(vault: Vault, value: str) -> None:
    with pytest.raises(CloudError, match="4096"):
        vault.put("big", value)
    assert vault.names() == ()


@pytest.mark.parametrize(
    ("name", "kind"),
    [("carbon-admin-password", "SecureString"), ("ca-key", "SecureString"), ("tls/a.example.com", "SecureString"),
     ("ca.pem", "String"), ("host-keys/store-1", "String"), ("lock", "String")],
)  # fmt: skip
def test_secrets_are_encrypted_and_what_is_public_is_not(vault: Vault, name: str, kind: str) -> None:
    vault.put(name, "some-value")
    assert vault.ssm.get_parameter(Name=vault.prefix + name)["Parameter"]["Type"] == kind


def test_every_value_that_is_read_is_hidden_from_then_on(vault: Vault) -> None:
    vault.ssm.put_parameter(Name=vault.prefix + "db/other", Value="Xy7-never-seen-before", Type="SecureString")
    assert "Xy7" in redactor.redact("Xy7-never-seen-before")
    vault.read_all()
    assert redactor.redact("Xy7-never-seen-before") == "[db/other]"


def test_everything_is_read_and_deleted_across_pages_and_other_deployments_stay(vault: Vault) -> None:
    names = {f"n/{number:02}": f"value-{number}" for number in range(23)}
    for name, value in names.items():
        vault.put(name, value)
    other = Vault(vault.ssm, f"{vault.deployment}-2")
    other.put("keep", "this-value")
    assert fresh(vault).read_all() == names
    assert vault.names() == tuple(names)
    assert vault.delete_all() == tuple(names)
    assert fresh(vault).read_all() == {}
    assert fresh(other).get("keep") == "this-value"
    assert vault.delete_all() == ()


def test_in_one_look_everything_is_listed_once_and_afterwards_anew(vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    vault.put("a", "old-value")
    listed: list[dict[str, Any]] = []
    pages = vault._pages

    def counted(**options: Any) -> Any:
        listed.append(options)
        return pages(**options)

    monkeypatch.setattr(vault, "_pages", counted)
    with vault.one_look():
        assert vault.read_all() == {"a": "old-value"}
        fresh(vault).put("b", "new-value")
        assert vault.names() == ("a",) and vault.read_all() == {"a": "old-value"}
        assert len(listed) == 1
    assert vault.names() == ("a", "b") and vault.read_all() == {"a": "old-value", "b": "new-value"}


def test_a_value_that_another_process_changed_is_seen_when_asked_afresh(vault: Vault) -> None:
    vault.put("a", "old-value")
    fresh(vault).put("a", "new-value")
    assert vault.find("a") == "old-value"
    assert vault.find("a", fresh=True) == "new-value"


def test_chapter_01_makes_every_secret_once(make_cloud: Callable[..., Cloud]) -> None:
    cloud = make_cloud("greg-separated")
    expected = {item.name for item in secrets.missing(cloud.topology, {})}
    assert expected == {
        "ssh-private-key", "evidence-key", "evidence-key.pub", "carbon-admin-password", "ca-key", "ca.pem", "tier-key/store", "tier-key/publisher",
        "tls/store.lab.test", "tls/publisher.lab.test", "tls/db-1",
        *(f"db/wso2_{name}" for name in ("user", "registry", "social", "storage", "bps")),
    }  # fmt: skip
    assert {item.name for item in secrets.ensure(cloud.vault, cloud.topology)} == expected
    before = cloud.vault.read_all()
    assert set(before) == expected
    assert list(secrets.ensure(cloud.vault, cloud.topology)) == []
    assert fresh(cloud.vault).read_all() == before


def test_every_secret_fits_the_free_tier_of_ssm(make_cloud: Callable[..., Cloud]) -> None:
    long_host = ".".join(["a" * 60] * 4) + ".example"
    cloud = make_cloud("greg-separated", {"hosts.store": long_host})
    list(secrets.ensure(cloud.vault, cloud.topology))
    assert max(len(value) for value in cloud.vault.read_all().values()) <= 4096


def test_making_secrets_goes_on_where_it_was_killed(make_cloud: Callable[..., Cloud]) -> None:
    cloud = make_cloud()
    steps = secrets.ensure(cloud.vault, cloud.topology)
    for _ in range(7):
        next(steps)
    steps.close()  # type: ignore[attr-defined]
    kept = cloud.vault.read_all()
    list(secrets.ensure(cloud.vault, cloud.topology))
    after = cloud.vault.read_all()
    assert kept.items() <= after.items()
    assert secrets.missing(cloud.topology, after) == ()


def test_an_authority_of_which_only_the_key_was_stored_is_made_anew_as_a_whole(
    make_cloud: Callable[..., Cloud],
) -> None:
    cloud = make_cloud()
    cloud.vault.put("ca-key", pki.make_ca("lost").key_pem)
    list(secrets.ensure(cloud.vault, cloud.topology))
    stored = cloud.vault.read_all()
    assert pki.needs_renewal(stored["tls/store.lab.test"], stored["ca.pem"], ["store.lab.test"]) is None


def test_a_host_certificate_is_renewed_before_it_ends_and_nothing_else_is(make_cloud: Callable[..., Cloud]) -> None:
    cloud = make_cloud()
    list(secrets.ensure(cloud.vault, cloud.topology))
    before = cloud.vault.read_all()
    old = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=pki.HOST_DAYS - pki.RENEW_DAYS + 1)
    certificate, key = pki.issue(pki.Authority(before["ca-key"], before["ca.pem"]), ["store.lab.test"], now=old)
    cloud.vault.put("tls/store.lab.test", key + certificate)
    [renewed] = secrets.ensure(cloud.vault, cloud.topology)
    assert renewed.name == "tls/store.lab.test" and "more days" in renewed.why
    changed = {name for name, value in cloud.vault.read_all().items() if value != before[name]}
    assert changed == {"tls/store.lab.test"}


def test_the_database_servers_certificate_is_for_its_node_and_private_address(make_cloud: Callable[..., Cloud]) -> None:
    cloud = make_cloud()
    list(secrets.ensure(cloud.vault, cloud.topology))
    stored = cloud.vault.read_all()
    assert pki.needs_renewal(stored["tls/db-1"], stored["ca.pem"], ["db-1", cloud.topology.db.address]) is None


def test_the_tier_key_covers_the_names_that_nginx_checks(make_cloud: Callable[..., Cloud]) -> None:
    for pattern, key, names in (
        ("greg-separated", "publisher", ("publisher.lab.test",)),
        ("greg-single", "greg", ("publisher.lab.test", "store.lab.test")),
        ("as-cluster", "as", ("as.lab.test", "mgt.as.lab.test")),
    ):
        made = secrets.makers(make_cloud(pattern).topology)[f"tier-key/{key}"]()
        [certificate] = pki.certificates(made)
        assert pki.names_of(certificate) == names
        public_key = certificate.public_key()
        assert isinstance(public_key, rsa.RSAPublicKey) and public_key.key_size == 2048


def test_passwords_are_long_different_and_need_no_quoting_anywhere() -> None:
    passwords = {secrets.make_password() for _ in range(50)}
    assert len(passwords) == 50
    assert all(len(password) == 24 and password.isalnum() and password.isascii() for password in passwords)
