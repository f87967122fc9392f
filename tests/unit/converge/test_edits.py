"""Edits change what they name and nothing else: on made-up files (a table), on random ones and on the product's."""

from __future__ import annotations

import difflib
import json
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree

from runbook_lib.converge import edits
from runbook_lib.converge.edits import JsonSet, XmlElement, XmlRemove, XmlSet, apply
from runbook_lib.converge.xml_source import IN_ATTRIBUTES
from runbook_lib.errors import RunbookError
from tests.conftest import ProductFiles

CASES = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text())


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_an_edit_changes_what_it_names_and_nothing_else(case: dict) -> None:
    arguments = dict(case["edit"])
    edit = getattr(edits, arguments.pop("kind"))(**arguments)
    encoding = case.get("encoding", "utf-8")
    before = case["before"].encode(encoding)
    if "error" in case:
        with pytest.raises(RunbookError) as error:
            apply(before, (edit,), "/opt/some/file")
        assert case["error"] in str(error.value)
        assert "U+" in case["error"] or "/opt/some/file" in str(error.value)
        return
    after = apply(before, (edit,), "/opt/some/file")
    assert after.decode(encoding) == case["after"]
    assert apply(after, (edit,), "/opt/some/file") == after


def test_an_edit_may_build_on_an_earlier_one() -> None:
    made = (
        XmlElement("/a/m[@p='1']", '<m p="1">\n  <i>x</i>\n</m>', into="/a"),
        XmlElement("/a/n", "<n/>", after="/a/m[@p='1']"),
        XmlSet("/a/m[@p='1']/i", "y"),
    )
    with pytest.raises(RunbookError, match="does not read back"):  # the first says x, the third y
        apply(b"<a/>", made, "f")
    assert apply(b"<a/>", made[:2], "f") == b'<a>\n    <m p="1">\n      <i>x</i>\n    </m>\n    <n/>\n</a>'


def test_attributes_added_to_one_tag_do_not_get_in_each_others_way() -> None:
    two = (XmlSet("/a/@x", "1"), XmlSet("/a/@y", "2"))
    after = apply(b'<a k="v" l="w"/>', two, "f")
    assert dict(etree.fromstring(after).attrib) == {"k": "v", "l": "w", "x": "1", "y": "2"}
    assert apply(after, two, "f") == after


def test_a_file_that_needs_nothing_is_returned_as_it_is() -> None:
    data = b"<a><b>1</b></a>"
    assert apply(data, (XmlSet("/a/b", "1"),), "f") is data


TEXT = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x2FFF, exclude_categories=("Cs",)), max_size=20)
SPACE = st.sampled_from(["", " ", "\n", "\r\n\t"])


@settings(max_examples=150, deadline=None)
@given(
    value=TEXT, old=TEXT, comment=TEXT, space=SPACE,
    encoding=st.sampled_from(["utf-8", "ISO-8859-1"]), quote=st.sampled_from(["'", '"']),
)  # fmt: skip
def test_random_values_read_back_and_the_rest_stays(value: str, old: str, comment: str, space: str, encoding: str, quote: str) -> None:
    written = edits.escape(old).decode()
    attribute = edits.escape(old, IN_ATTRIBUTES).decode()
    around = comment.replace("-", "").encode(encoding, "ignore").decode(encoding)
    before = f"<?xml version='1.0' encoding='{encoding}'?><a><!--{around}-->{space}<b k={quote}{attribute}{quote}>"
    after = f"</b>{space}<!--{around}--></a>"
    data = (before + written + after).encode(encoding)
    result = apply(data, (XmlSet("/a/b", value), XmlSet("/a/b/@k", value)), "f")
    root = etree.fromstring(result)
    assert (root.findtext("b") or "").strip() == value.strip()
    assert root.find("b").get("k") == value  # type: ignore[union-attr]
    assert result.startswith(before.partition("<b")[0].encode(encoding)) and result.endswith(after.encode(encoding))
    assert apply(result, (XmlSet("/a/b", value), XmlSet("/a/b/@k", value)), "f") == result


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXT,
    lambda inner: st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=100, deadline=None)
@given(
    others=st.dictionaries(TEXT, JSON, max_size=4),
    value=TEXT,
    indent=st.sampled_from([None, 2, 4]),
    ascii_only=st.booleans(),
)
def test_a_json_value_is_found_among_random_ones(others: dict, value: str, indent: int | None, ascii_only: bool) -> None:
    others = {key: item for key, item in others.items() if key != "wanted"}
    before = {**others, "wanted": {"inner": "OLD\u2011"}, "last": 1}
    data = json.dumps(before, indent=indent, ensure_ascii=ascii_only).encode()
    result = apply(data, (JsonSet("wanted.inner", value),), "f")
    assert json.loads(result) == {**before, "wanted": {"inner": value}}
    old = json.dumps("OLD\u2011", ensure_ascii=ascii_only).encode()
    assert result == data.replace(old, json.dumps(value).encode())


# One edit per file of the product, with the number of lines that it takes and that it puts there.
SAML = "/c:Authenticators/c:Authenticator[@name='SAML2SSOAuthenticator']/@disabled"
DATABASE = '<dbConfig name="s">\n    <dataSource>x</dataSource>\n</dbConfig>'
BEHIND = "/wso2registry/dbConfig[@name='wso2registry']"
EDITED = [
    ("carbon.xml", XmlSet("/c:Server/c:HostName", "h.test", create=True), 0, 1),
    ("carbon.xml", XmlSet("/c:Server/c:Ports/c:Offset", "1"), 1, 1),
    ("axis2/axis2.xml", XmlSet("/axisconfig/clustering/@enable", "true"), 1, 1),
    ("axis2/axis2.xml", XmlSet("/axisconfig/clustering/parameter[@name='domain']", "d"), 1, 1),
    ("registry.xml", XmlElement("/wso2registry/dbConfig[@name='s']", DATABASE, after=BEHIND), 0, 3),
    ("user-mgt.xml", XmlSet("/UserManager/Realm/Configuration/Property[@name='dataSource']", "jdbc/X"), 1, 1),
    ("datasources/master-datasources.xml", XmlSet("//datasource[name='WSO2_CARBON_DB']//maxActive", "9"), 1, 1),
    ("tomcat/catalina-server.xml", XmlSet("/Server/Service/Connector[@port='9443']/@proxyPort", "443"), 0, 1),
    ("etc/jmx.xml", XmlSet("/c:JMX/c:StartRMIServer", "false"), 1, 1),
    ("security/authenticators.xml", XmlSet(SAML, "false"), 1, 1),
    ("identity/sso-idp-config.xml", XmlRemove("//ServiceProvider[Issuer='social']"), 6, 0),
    ("identity.xml", XmlSet("/c:Server/c:SSOService/c:EntityId", "h.test"), 1, 1),
    ("tenant-mgt.xml", XmlSet("//TenantManager[2]/Property[@name='RootPartition']", "dc=x"), 1, 1),
]
GREG_ONLY = ("identity/sso-idp-config.xml", "identity.xml", "tenant-mgt.xml")
ROWS = [("greg", *row) for row in EDITED] + [("as", *row) for row in EDITED if row[0] not in GREG_ONLY]


@pytest.mark.parametrize("product, name, edit, taken, put", ROWS, ids=[f"{row[0]} {row[2].xpath}" for row in ROWS])
def test_a_products_file_changes_in_the_named_lines_only(product_files: ProductFiles, product: str, name: str, edit: edits.Edit, taken: int, put: int) -> None:
    path = f"repository/conf/{name}"
    before = product_files(product, path)
    after = apply(before, (edit,), path)
    lines = list(difflib.unified_diff(*([line.decode("latin-1") for line in data.splitlines(True)] for data in (before, after)), n=0))[2:]
    assert (sum(line.startswith("-") for line in lines), sum(line.startswith("+") for line in lines)) == (taken, put)
    assert before.count(b"\r\n") == 0 or after.count(b"\n") == after.count(b"\r\n")
    assert apply(after, (edit,), path) == after
