"""The conformance table's expectations tell a right answer from a wrong one, each on the same page."""

from __future__ import annotations

import base64
import zlib

import pytest
from wso2_practice.conformance import load
from wso2_practice.expectations import EXPECTATIONS, StepAnswers, saml_text

from runbook_lib.errors import RunbookError
from runbook_lib.webclient.response import Answer

REQUEST = '<samlp:AuthnRequest xmlns:samlp="urn:oasis:names:tc:SAML:2.0:protocol" ID="a"/>'
DEFLATED = base64.b64encode(zlib.compress(REQUEST.encode())[2:-4]).decode()
PAGE = f'<form action="/samlsso" method="post"><input name="SAMLRequest" value="{DEFLATED}"></form> welcome'
FIRST = Answer(302, "https://h:9443/store", [("Location", "/store/")], "", [], 0.0)
LAST = Answer(
    200,
    "https://h:9443/sso/login;jsessionid=1?k=2",
    [
        ("Set-Cookie", "commonAuthId=abc; Secure; HttpOnly"),
        ("Set-Cookie", "S=12ab; Path=/store/; Max-Age=7200; SameSite=Lax"),
        ("Set-Cookie", "E=x; Path=/; Expires=Tue, 24-Nov-2026 18:00:01 GMT; Secure"),
        ("Set-Cookie", "samlssoTokenId=gone; Path=/; Expires=Thu, 01-Jan-1970 00:00:10 GMT"),
        ("Content-Type", "text/html;charset=UTF-8"),
        ("Date", "Tue, 24 Nov 2026 16:00:00 GMT"),
        ("Location", "https://evil.example//publisher/login;x=1?q"),
    ],
    PAGE,
    [],
    0.0,
)
OUTCOME = StepAnswers((FIRST, LAST), asked=True)


@pytest.mark.parametrize(
    ("expectation", "right", "wrong"),
    [
        ("status", 200, 302),
        ("location", "/+publisher/login", "/publisher/login"),
        ("location_host", "evil.example", "h"),
        ("content_type", "text/html", ""),
        ("opens_session", False, True),
        ("at", "/sso/login", "/sso/.*x"),
        ("asked", True, False),
        ("trail", ["/store 302", "/sso/login 200"], ["/sso/login 200"]),
        ("fields", ["SAMLRequest"], ["SAMLRequest", "password"]),
        ("action", "/samlsso", "/commonauth"),
        ("body", ["wel+come"], ["welcome", "goodbye"]),
        ("empty", False, True),
        ("lacks", "AssertionConsumerServiceURL", "ID="),
        ("cookies", {"commonAuthId": {"secure": True, "session": True}}, {"commonAuthId": {"session": False}}),
        ("cookies", {"commonAuthId": {"path_attribute": False, "path": "/sso"}}, {"commonAuthId": {"path": "/"}}),
        ("cookies", {"S@/store/": {"value": "[0-9a-f]{4}"}}, {"S@/": {"value": ".*"}}),
        ("cookies", {"S": {"max_age": 7200, "same_site": "Lax"}}, {"S": {"max_age": 1}}),
        ("cookies", {"S": {"lifetime": 7200}}, {"S": {"lifetime": None}}),
        ("cookies", {"E": {"lifetime": 7200, "max_age": None, "session": False}}, {"E": {"lifetime": 3600}}),
        ("cookies", {"commonAuthId": {"lifetime": None}}, {"commonAuthId": {"lifetime": 7200}}),
        ("cookies", {"S": {}}, {"samlssoTokenId": {}}),
        ("cookies", {"S": {"http_only": False, "host_only": True}}, {"S": {"same_site": ""}}),
        ("cookies", {"S": {}}, {"T": {}}),
    ],
)
def test_an_expectation_holds_or_says_what_it_saw(expectation: str, right: object, wrong: object):
    assert EXPECTATIONS[expectation](OUTCOME, right) is None
    assert EXPECTATIONS[expectation](OUTCOME, wrong) is not None


def test_a_page_without_a_form_or_a_redirect_meets_nothing_that_needs_one():
    bare = StepAnswers((Answer(200, "https://h/", [], "", [], 0.0),))
    for expectation, value in (("fields", ["x"]), ("action", "/"), ("lacks", "x"), ("location", "/"), ("empty", False)):
        assert EXPECTATIONS[expectation](bare, value) is not None, expectation


@pytest.mark.parametrize("encoded", [DEFLATED, base64.b64encode(REQUEST.encode()).decode(), DEFLATED.replace("=", "%3D")])
def test_a_saml_message_is_read_however_it_is_packed(encoded: str):
    assert saml_text(encoded) == REQUEST


def test_a_row_that_nobody_understands_is_refused(tmp_path):
    table = tmp_path / "table.yaml"
    table.write_text("- {id: a, do: [{walk: /}], colour: red}\n")
    with pytest.raises(RunbookError, match="colour, walk"):
        load(table)
