"""Nothing secret is shown: each known value, in every form it travels in."""

from __future__ import annotations

import base64
import html
import json
import re
import shlex
import urllib.parse
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runbook_lib import pki
from runbook_lib.redaction import START, Redactor, any_of

SECRET = "p@ss w<o>rd&'\"/+é7"
FORMS: dict[str, Callable[[str], str]] = {
    "plain": str,
    "JSON": json.dumps,
    "JSON in UTF-8": lambda value: json.dumps(value, ensure_ascii=False),
    "URL": lambda value: urllib.parse.quote(value, safe=""),
    "URL path": urllib.parse.quote,
    "form": urllib.parse.quote_plus,
    "HTML": html.escape,
    "HTML text": lambda value: html.escape(value, quote=False),
    "shell": shlex.quote,
    "base64": lambda value: base64.b64encode(value.encode()).decode(),
    "basic auth": lambda value: base64.b64encode(f"admin:{value}".encode()).decode(),
    "basic auth, another user": lambda value: base64.b64encode(f"ab:{value}!".encode()).decode(),
    "base64 for URLs": lambda value: base64.urlsafe_b64encode(f"u:{value}".encode()).decode(),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_secret_is_hidden_in_every_form(form: str) -> None:
    redactor = Redactor()
    redactor.add("db/wso2", SECRET)
    shown = redactor.redact(f"before {FORMS[form](SECRET)} after")
    assert "[db/wso2]" in shown
    assert shown.startswith("before ") and shown.endswith(" after")
    assert FORMS[form](SECRET).strip("\"'") not in shown


@given(
    value=st.text(min_size=8, max_size=40).filter(lambda v: len(v.strip()) >= 8),
    before=st.binary(max_size=5),
    after=st.binary(max_size=5),
)
def test_a_secret_inside_any_base64_text_is_found(value: str, before: bytes, after: bytes) -> None:
    redactor = Redactor()
    redactor.add("secret", value)
    text = base64.b64encode(before + value.encode() + after).decode()
    assert redactor.redact(text) != text


def test_a_key_is_hidden_as_a_whole_and_line_by_line() -> None:
    key = pki.make_ssh_key()
    redactor = Redactor()
    redactor.add("ssh-private-key", key)
    for text in (key, json.dumps(key), key.splitlines()[2], key.replace("\n", "\r\n")):
        shown = redactor.redact(f"a {text} b")
        assert key.splitlines()[2] not in shown
        assert "[ssh-private-key]" in shown or "[private key]" in shown


def test_a_private_key_that_nobody_registered_is_hidden_too() -> None:
    ca = pki.make_ca("x")
    shown = Redactor().redact(f"log: {ca.key_pem} {ca.cert_pem}")
    assert ca.key_pem.splitlines()[1] not in shown
    assert ca.cert_pem in shown


def test_a_private_key_that_was_cut_off_is_hidden() -> None:
    text = "x " + pki.make_ca("x").key_pem[:120]
    assert Redactor().redact(text) == "x [private key]"


def test_what_a_presigned_url_permits_is_hidden() -> None:
    url = "https://b.s3.amazonaws.com/p.zip?X-Amz-Credential=AKIA%2Fx&X-Amz-Security-Token=tok&X-Amz-Signature=0a1b2c&x=1"
    shown = Redactor().redact(url)
    assert "AKIA" not in shown and "tok" not in shown.replace("[signature]", "") and "0a1b2c" not in shown
    assert shown.startswith("https://b.s3.amazonaws.com/p.zip?") and shown.endswith("&x=1")


def test_a_word_too_short_to_tell_from_others_is_left_alone() -> None:
    redactor = Redactor()
    redactor.add("short", "admin")
    assert redactor.redact("admin at work") == "admin at work"


def test_of_two_secrets_one_inside_the_other_the_longer_is_hidden_first() -> None:
    redactor = Redactor()
    redactor.add("inner", "abcdefgh")
    redactor.add("outer", "abcdefgh-and-more")
    assert redactor.redact("abcdefgh-and-more abcdefgh") == "[outer] [inner]"


@given(st.lists(st.text("ab.", min_size=1), min_size=1), st.text("ab."))
def test_at_every_place_the_longest_of_the_values_is_found(values: list[str], text: str) -> None:
    one_by_one = "|".join(map(re.escape, sorted(values, key=len, reverse=True)))
    assert re.findall(any_of(values), text) == re.findall(one_by_one, text)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("<abcdefghijklmnopqrstuv>", "<[long]>"),
        ("<abcdefghijklmnopqrst>", "<[short]ij[inner]qrst>"),
        ("<abcdefgh>", "<[short]>"),
        ("<bcdefghijklmnopqrstuw>", "<bcdefghij[inner]qrstuw>"),
        ("<0123456789abcdefghi>", "<0123456789[short]i>"),
        ("<0123456789abcdefABCD>0123456789abcdefABCDE", "<0123456789abcdefABCD>[other]"),
    ],
)
def test_a_value_counts_as_a_whole_and_one_that_only_begins_like_it_hides_none_behind_it(text: str, shown: str) -> None:
    redactor = Redactor()
    redactor._forms = {
        "abcdefghijklmnopqrstuv": "long",
        "abcdefgh": "short",
        "klmnop": "inner",
        "bcdefghijklmnopqrstuvw": "shifted",
        "0123456789abcdefABCDE": "other",
    }
    assert redactor.redact(text) == shown
    assert all(len(form) > START or len(form) < START for form in redactor._forms), "values on both sides of what the pattern holds"


def test_text_without_secrets_is_not_touched() -> None:
    redactor = Redactor()
    assert redactor.redact("nothing known yet") == "nothing known yet"
    redactor.add("db", "correct horse")
    assert redactor.redact("nothing here") == "nothing here"
