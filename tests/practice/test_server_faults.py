"""A fault of configuration shows in the log and in the state of the process as on the real product."""

from __future__ import annotations

import base64
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.support.practice_nodes import JAVA_HOME, STARTED, Node, Nodes, hold_assertion, sign_in

TABLE = yaml.safe_load((Path(__file__).parent / "test_server_faults.yaml").read_text(encoding="utf-8"))
SECURITY = "repository/resources/security"


@pytest.fixture
def node(nodes: Nodes) -> Iterator[Node]:
    made = nodes.make()
    yield made
    made.stop()
    shutil.rmtree(made.home)


@pytest.mark.parametrize("fault", TABLE, ids=lambda fault: fault["id"])
def test_fault(node: Node, fault: dict) -> None:
    file, *texts = fault.get("edit", [""])
    for old, new in zip(texts[::2], texts[1::2], strict=True):
        node.edit(file, old, new)
    node.launch(*fault.get("arguments", ["-Dsetup"]))
    for text in fault["log"]:
        node.wait_for(text)
    if fault["state"] == "dies":
        assert node.process is not None and node.process.wait(60) == 0, "as the real script, whose status says nothing of Java's"
        assert not node.alive() and STARTED not in node.log()
    elif fault["state"] == "hangs":
        assert node.alive() and node.pid > 0 and not node.listens()
        assert STARTED not in node.log()
    else:
        node.wait_for(STARTED)


# ---- faults that show at the sign-in only


def test_acs_left_at_localhost_sends_the_browser_there_and_logs_nothing(node: Node) -> None:
    here = f"localhost:{9443 + node.offset}/store/acs"
    node.edit("repository/conf/identity/sso-idp-config.xml", here, "localhost:9443/store/acs")
    node.start("-Dsetup")
    with node.client() as client:
        answer = client.get("/store/login")
        assert "https://localhost:9443/store/acs" not in answer.text  # the request does not carry the address
        assert hold_assertion(client, "store", "admin", "admin")["RelayState"] == "/store"
    assert "ERROR" not in node.log()


def test_proxy_port_missing_shows_in_what_the_node_makes_of_its_settings_and_set_it_is_gone(node: Node) -> None:
    commented, named = "<!--HostName>www.wso2.org</HostName-->", "<HostName>store.example</HostName>"
    public, request = {"Host": "store.example"}, {"SAMLRequest": "PHg6QXV0aG5SZXF1ZXN0IHhtbG5zOng9IngiLz4="}
    node.edit("repository/conf/carbon.xml", commented, named)
    node.start("-Dsetup")
    port = 9443 + node.offset
    with node.client() as client:
        assert client.get("/store").headers["location"] == f"https://localhost:{port}/store/"
        assert f'action="https://store.example:{port}/samlsso"' in client.get("/store/pages/sso-login", headers=public).text
        assert client.post("/samlsso", data=request, headers=public).headers["location"].startswith(f"https://store.example:{port}/commonauth?")
        repeated = client.get("/store", headers=public).headers["location"]
        assert repeated == "https://store.example/store/", "Nginx passes the host on without a port: a redirect that repeats it is right"
    node.stop()
    node.edit("repository/conf/tomcat/catalina-server.xml", 'port="9443"', 'port="9443" proxyPort="443"')
    node.start()
    with node.client() as client:
        assert client.get("/store", headers=public).headers["location"] == "https://store.example/store/"
        assert 'action="https://store.example/samlsso"' in client.get("/store/pages/sso-login").text
        to = client.post("/samlsso", data=request).headers["location"]
        assert to.startswith("https://store.example:443/commonauth?sessionDataKey=")


def new_key(node: Node, size: int, alias: str = "wso2carbon") -> None:
    """An own key: in the keystore, and its certificate in the trust store, as golden-run 5 did it."""
    assert JAVA_HOME is not None
    tool = str(JAVA_HOME / "bin/keytool")
    keys, trust, cert = (str(node.home / SECURITY / name) for name in ("wso2carbon.jks", "client-truststore.jks", "c"))
    if alias == "wso2carbon":
        for store in (keys, trust):
            Path(store).unlink()
    common = ["-alias", alias, "-storepass", "wso2carbon", "-noprompt"]
    made = ["-genkeypair", "-keyalg", "RSA", "-keysize", str(size), "-dname", "CN=store.example"]
    made += ["-keypass", "wso2carbon"]
    for command in (
        [tool, *made, *common, "-storetype", "JKS", "-keystore", keys],
        [tool, "-exportcert", *common[:4], "-keystore", keys, "-file", cert],
        [tool, "-importcert", *common, "-storetype", "JKS", "-keystore", trust, "-file", cert],
    ):
        subprocess.run(command, check=True, capture_output=True)


def test_own_key_in_place_works_and_refuses_the_other_tiers_assertion(node: Node, nodes: Nodes) -> None:
    other = nodes.make()
    new_key(node, 2048)
    for each in (node, other):
        log = each.start("-Dsetup")
        assert ("default keystore" in log) == (each is other)
    with node.client() as client, other.client() as stranger, node.client() as fresh:
        assert sign_in(client, "store", "admin", "admin")[0].url.path == "/store/pages/top-assets"
        stolen = hold_assertion(stranger, "store", "admin", "admin")
        answer = fresh.post("/store/acs", data=stolen)
        assert (answer.status_code, answer.text) == (200, "")
        assert fresh.get("/store/pages/my-items").status_code == 401
    other.stop()
    assert "Bad signature length: got 128 but was expecting 256" in node.log()
    assert "Signature did not validate against the credential's key" in node.log()


def test_new_alias_without_identity_alias_breaks_the_sign_in_until_it_is_set(node: Node) -> None:
    new_key(node, 2048, alias="tier")
    node.edit("repository/conf/carbon.xml", "<KeyAlias>wso2carbon<", "<KeyAlias>tier<")
    node.start("-Dsetup")
    with node.client() as client:
        answer = sign_in(client, "store", "admin", "admin")[0]
        assert (answer.url.path, answer.status_code, answer.text) == ("/store/acs", 200, "")
    assert "Bad signature length: got 256 but was expecting 128" in node.log()
    node.stop()
    store = "repository/deployment/server/jaggeryapps/store/config/store.json"
    node.edit(store, '"identityAlias": "wso2carbon"', '"identityAlias": "tier"')
    node.start()
    with node.client() as client:
        assert sign_in(client, "store", "admin", "admin")[0].url.path == "/store/pages/top-assets"


def test_altered_or_unsigned_assertion_is_refused_and_a_repeated_one_is_not(node: Node) -> None:
    node.start("-Dsetup")
    with node.client() as client:
        held = hold_assertion(client, "store", "admin", "admin")
    text = base64.b64decode(held["SAMLResponse"]).decode()
    signature = text[text.index("<ds:Signature") : text.index("</ds:Signature>") + len("</ds:Signature>")]
    for forged in (text.replace(">admin<", ">sam<"), text.replace(signature, "")):
        assert forged != text
        with node.client() as client:
            answer = client.post("/store/acs", data={"SAMLResponse": base64.b64encode(forged.encode()).decode()})
            assert (answer.status_code, answer.text) == (200, "")
    for _ in range(2):
        with node.client() as client:
            assert client.post("/store/acs", data=held).status_code == 302
            assert client.get("/store/pages/my-items").status_code == 200


def test_admin_password_of_user_mgt_counts_at_the_first_boot_only(node: Node) -> None:
    node.edit("repository/conf/user-mgt.xml", "<Password>admin</Password>", "<Password>Other-1</Password>")
    node.start("-Dsetup")
    with node.client() as client:
        assert sign_in(client, "publisher", "admin", "Other-1")[0].url.path == "/publisher/pages/gc-landing"
    node.stop()
    node.edit("repository/conf/user-mgt.xml", "<Password>Other-1</Password>", "<Password>Third-1</Password>")
    node.start()
    with node.client() as client:
        assert sign_in(client, "publisher", "admin", "Third-1")[0].url.path == "/sso/login"


def test_removed_application_answers_with_the_console(node: Node) -> None:
    shutil.rmtree(node.home / "repository/deployment/server/jaggeryapps/publisher")
    assert "ERROR" not in node.start("-Dsetup")
    with node.client() as client:
        for path in ("/publisher/", "/publisher/config/publisher.json", "//publisher/", "/store/..;/publisher/"):
            request = client.build_request("GET", "/")
            request.url = request.url.copy_with(raw_path=path.encode())
            answer = client.send(request)
            assert (answer.status_code, answer.headers["location"]) == (302, f"{node.url}/carbon/admin/login.jsp"), path


def test_pruned_provider_asks_for_the_password_and_then_refuses(node: Node) -> None:
    file = node.home / "repository/conf/identity/sso-idp-config.xml"
    text = file.read_text()
    end = text.rindex("</ServiceProvider>") + len("</ServiceProvider>")
    start = text.rindex("<ServiceProvider>")
    assert "publisher" in text[start:end]
    file.write_text(text[:start] + text[end:])
    node.start("-Dsetup")
    with node.client() as client:
        answer, steps, asked = sign_in(client, "publisher", "admin", "admin")
    assert asked and any("/authenticationendpoint/samlsso_notification.do" in step for step in steps)
    assert answer.url.path == "/carbon/admin/login.jsp"
    assert "A Service Provider with the Issuer 'publisher' is not registered." in node.log()
