"""A password of one's own: from the field to SSM and the redactor, and to no other place."""

from __future__ import annotations

import re
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from runbook_lib.aws.lock import Lock
from runbook_lib.aws.parameter_store import Vault
from runbook_lib.chapters.forms import passwords
from runbook_lib.chapters.forms.passwords import LONGEST, SHORTEST, check_password, choose_passwords, passwords_table, secrets_of, set_password
from runbook_lib.errors import RunbookError
from runbook_lib.launch.cloud import Cloud
from runbook_lib.launch.secrets import ensure, make_password
from runbook_lib.redaction import redactor

pytest_plugins = ["tests.support.aws_endpoint"]
ADMIN = "carbon-admin-password"


@pytest.fixture
def deployment(make_cloud: Callable[..., Cloud]) -> Any:
    """What the passwords need of a deployment that is not launched; `machines` can be filled."""
    cloud = make_cloud()
    machines: dict[str, object] = {}
    return SimpleNamespace(
        spec=cloud.spec, topology=cloud.topology, vault=cloud.vault, machines=machines, instances=lambda: machines,
        writing=lambda: Lock(cloud.vault, "a test"),
    )  # fmt: skip


def stored(deployment: Any, name: str) -> dict[str, Any]:
    return deployment.vault.ssm.get_parameter(Name=f"{deployment.vault.prefix}{name}", WithDecryption=True)["Parameter"]


def test_what_is_entered_becomes_a_secure_string_and_chapter_01_keeps_it(deployment: Any) -> None:
    set_password(deployment, ADMIN, "Correct0Horse1Battery")
    assert (stored(deployment, ADMIN)["Type"], stored(deployment, ADMIN)["Value"]) == ("SecureString", "Correct0Horse1Battery")
    list(ensure(Vault(deployment.vault.ssm, deployment.vault.deployment), deployment.topology))
    assert stored(deployment, ADMIN)["Value"] == "Correct0Horse1Battery"
    assert "Horse1" not in redactor.redact("it is Correct0Horse1Battery")


def test_administrator_and_every_database_account_can_be_chosen(deployment: Any) -> None:
    names = [secret.name for secret in secrets_of(deployment)]
    assert names == [ADMIN, *(f"db/{account}" for account in deployment.topology.db_accounts)]
    assert all(secret.users for secret in secrets_of(deployment))


@pytest.mark.parametrize(
    "value", ["Short1", "nocapitals0123", "NOSMALL012345", "NoDigitsAtAll", "Blank 0 Blank 1", "Quote'0Quote1", "Ümlaut0Ümlaut1", "A1b" * 11]
)
def test_what_the_product_or_a_file_could_not_hold_is_refused_without_quoting_it(value: str) -> None:
    with pytest.raises(RunbookError, match=r"db/wso2_user: ") as caught:
        check_password("db/wso2_user", value)
    assert value not in str(caught.value)
    assert "12 to 30" in str(caught.value)


def test_what_the_runbook_makes_itself_is_allowed_too() -> None:
    made = make_password()
    check_password(ADMIN, made)
    assert SHORTEST <= len(made) <= LONGEST


def test_a_mistyped_password_may_be_entered_anew_until_a_machine_has_it(deployment: Any) -> None:
    set_password(deployment, ADMIN, "FirstTry0000")
    set_password(deployment, ADMIN, "SecondTry1111")
    deployment.machines["greg-1"] = object()
    with pytest.raises(RunbookError, match=f"{ADMIN} is in use") as caught:
        set_password(deployment, ADMIN, "ThirdTry2222")
    assert "chapter 99" in str(caught.value)
    assert stored(deployment, ADMIN)["Value"] == "SecondTry1111"


def test_another_secret_cannot_be_set_this_way(deployment: Any) -> None:
    with pytest.raises(RunbookError, match="ca-key is no password"):
        set_password(deployment, "ca-key", "CorrectHorse0Battery")
    assert "ca-key" not in deployment.vault.names()


def test_while_somebody_applies_nothing_is_set(deployment: Any) -> None:
    with Lock(deployment.vault, "a colleague"), pytest.raises(RunbookError, match="a colleague has been working"):
        set_password(deployment, ADMIN, "Correct0Horse1Battery")
    assert ADMIN not in deployment.vault.names()


def test_headless_names_and_states_are_a_table_without_values(deployment: Any) -> None:
    set_password(deployment, ADMIN, "TableNever0Shows1")
    shown = choose_passwords(deployment)
    text = f"{shown}{shown._repr_html_()}"
    assert re.search(rf"{ADMIN}\s+● set\s", text)
    assert "○ not set: chapter 01 makes one at random" in text
    assert "TableNever0Shows1" not in text
    deployment.machines["greg-1"] = object()
    assert "● set, in use" in str(passwords_table(deployment))


class TestForm:
    """The widgets, without a front end."""

    def test_a_field_is_empty_again_at_once_and_no_widget_holds_the_value(self, deployment: Any) -> None:
        shown = passwords.PasswordForm(deployment)
        shown.fields[ADMIN].value = "Widget0Widget1Widget"
        assert shown.fields[ADMIN].value == ""
        assert stored(deployment, ADMIN)["Value"] == "Widget0Widget1Widget"
        assert "● set" in shown.states[ADMIN].value
        states = [widget.get_state() for widget in _below(shown.box)]
        assert len(states) > 6
        assert "Widget0Widget1Widget" not in str(states)

    def test_a_refused_value_leaves_a_card_and_an_empty_field(self, deployment: Any) -> None:
        shown = passwords.PasswordForm(deployment)
        shown.fields[ADMIN].value = "wrong"
        assert shown.fields[ADMIN].value == ""
        assert "5 characters" in shown.answer.value
        assert ADMIN not in deployment.vault.names()

    def test_what_is_in_use_has_no_open_field(self, deployment: Any) -> None:
        set_password(deployment, ADMIN, "Correct0Horse1Battery")
        deployment.machines["greg-1"] = object()
        shown = passwords.PasswordForm(deployment)
        assert shown.fields[ADMIN].disabled
        assert not shown.fields[f"db/{deployment.topology.db_accounts[0]}"].disabled


def _below(widget: Any) -> list[Any]:
    return [widget, *(inner for child in getattr(widget, "children", ()) for inner in _below(child))]
