"""Who may open the data channel of a session: who signs the request for it, as it is sent, and has the right to this session's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import InvalidStatus

from runbook_lib.aws import session_manager
from runbook_lib.aws.client import Aws
from runbook_lib.errors import CloudError, HostError
from runbook_lib.spec.sections import CloudSpec
from tests.support.iam_user import EVERYTHING, user_with
from tests.support.sessions import SESSION, data_channels

pytest_plugins = ["tests.support.aws_endpoint", "tests.support.aws_account"]


def policy(*actions: str, resource: str = "*") -> dict[str, Any]:
    return {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": [*actions], "Resource": resource}]}


@pytest.fixture
def url(account: Any) -> Iterator[str]:
    with data_channels() as found:
        yield found


def user(endpoint: str, folder: Path, allowed: dict[str, Any]) -> Aws:
    return Aws(CloudSpec(aws_config=str(user_with(allowed, endpoint, folder))))


def test_who_has_the_right_is_admitted(url: str, endpoint: str, tmp_path: Path) -> None:
    mine = policy("ssmmessages:OpenDataChannel", resource=f"arn:aws:ssm:us-east-1:123456789012:session/{SESSION}")
    with session_manager._websocket(user(endpoint, tmp_path, mine), url, 10) as opened:
        assert opened.response and opened.response.status_code == 101


REFUSED = {
    "no right": (policy("ssm:StartSession"), {}, "not authorized to perform: ssmmessages:OpenDataChannel"),
    "a right to another's session": (policy("ssmmessages:OpenDataChannel", resource="arn:aws:ssm:*:*:session/other-*"), {}, "not authorized"),
    "no signature": (EVERYTHING, {"Authorization": None}, "Access Denied"),
    "another signature": (EVERYTHING, {"Authorization": ("Signature=", "Signature=" + "0" * 64 + "x")}, "Authorization header requires"),
    "another time": (EVERYTHING, {"X-Amz-Date": ("T", "T0")}, "is not a date"),
    "a signature for another service": (EVERYTHING, {"Authorization": ("ssmmessages", "ssm")}, "correct service: 'ssmmessages'"),
    "a key that nobody has": (EVERYTHING, {"Authorization": ("Credential=", "Credential=AKIA")}, "security token included in the request is invalid"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_others_are_refused(url: str, endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    allowed, changes, words = REFUSED[what]
    aws, signed = user(endpoint, tmp_path, allowed), session_manager._signature

    def changed(aws: Aws, url: str) -> dict[str, str]:
        headers = signed(aws, url)
        for name, change in changes.items():
            headers |= {name: headers[name].replace(*change)} if change else {}
        return {name: value for name, value in headers.items() if changes.get(name, True)}

    monkeypatch.setattr(session_manager, "_signature", changed)
    with pytest.raises(InvalidStatus) as refused, session_manager._websocket(aws, url, 10):
        pass
    assert refused.value.response.status_code == 403 and words in refused.value.response.body.decode()


def test_what_was_signed_is_for_this_session_s_channel(url: str, endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    aws, signed = user(endpoint, tmp_path, EVERYTHING), session_manager._signature
    monkeypatch.setattr(session_manager, "_signature", lambda aws, url: signed(aws, url.replace(SESSION, "another")))
    with pytest.raises(InvalidStatus) as refused, session_manager._websocket(aws, url, 10):
        pass
    assert "does not match the signature" in refused.value.response.body.decode()


def test_a_missing_right_is_told_by_its_name_and_is_not_tried_again(url: str, endpoint: str, tmp_path: Path) -> None:
    with pytest.raises(CloudError, match="is refused") as told:
        session_manager.connect(user(endpoint, tmp_path, policy("ssm:*")), "db-1", "i-0123456789abcdef0", 22, 10)
    assert "ssmmessages:OpenDataChannel" in (told.value.next_step or "") and not told.value.transient
    with pytest.raises(HostError):  # admitted, to an end without an agent
        session_manager.connect(user(endpoint, tmp_path, EVERYTHING), "db-1", "i-0123456789abcdef0", 22, 10)
