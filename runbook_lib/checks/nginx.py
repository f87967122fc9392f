"""Checks of chapter 05: Nginx runs the planned configuration, and the public hosts respond as configured.

The hosts are requested from outside by name; the configuration is compared on the host of each Nginx.
"""

from __future__ import annotations

import shlex
import socket
import ssl
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from runbook_lib import pki
from runbook_lib.check import Check, CheckTable, Status, answered
from runbook_lib.converge.engine import ask
from runbook_lib.roles import nginx
from runbook_lib.spec import front_doors
from runbook_lib.ssh import Host
from runbook_lib.webclient.client import Client
from runbook_lib.webclient.transport import Closed

if TYPE_CHECKING:
    from runbook_lib.roles.context import Context
    from runbook_lib.session import Session
    from runbook_lib.topology.model import Node

CHAPTER = "05_configure_nginx"
_row = partial(answered, chapter=CHAPTER)
OURS = {80, 443, nginx.STATUS_PORT}
WITHIN_MACHINE = (22, 53, 68, 323, 5355)  # ports of SSH and of services that a cloud image runs by default
STRANGER = "unknown.invalid"
ATTEMPTS = 40  # new visitors; with two nodes, the chance that all of them get the same node is 2 in 10^12

# The samples in the Application Server's pack, and the page of one that makes users and asks nobody who he is.
SAMPLES = tuple(row.name for row in front_doors.closed("mgt"))
PAGE = "/example/carbon/usermgt/index.jsp"
# Paths per public host that Nginx refuses with its own 404 page where it lets through only what a host needs (facts 5.3, 6.5).
GUARDED: Mapping[str, tuple[str, ...]] = {
    "store": ("/publisher/", "/store/..;/publisher/", "/store/config/store.json", "/store/apis/authenticate",
              "/carbon/", "/services/"),
    "publisher": ("/store/", "/publisher/config/publisher.json", "/publisher/config;a/publisher.json",
                  "/sso/register", "/publisher/apis/authenticate", "/carbon/", "/services/"),
    "as": ("/carbon/", "/app/..;/carbon/", "/services/UserAdmin", "/services/UserProfileMgtService", "/services;x/LogViewer",
           *(f"/{name}/" for name in SAMPLES), PAGE),
    "mgt": (*(f"/{name}/" for name in SAMPLES), PAGE),
}  # fmt: skip
ENTRY = {"store": "/store/", "publisher": "/publisher/", "as": "/", "mgt": "/carbon/admin/login.jsp"}


def verify_nginx(deployment: Session, quiet: bool = False) -> CheckTable:
    """Return every check of chapter 05. Only requests without a session are sent. `quiet`: one for each public host."""
    context = deployment.context()
    table = CheckTable()
    for lb in deployment.topology.lbs:
        table += _machine(deployment.fleet()[lb.name], lb, context)
    outside = _Outside(deployment, context)
    for key in deployment.spec.design.hosts:
        table += outside.quiet_rows(key) if quiet else outside.rows(key)
    return table


def _machine(host: Host, lb: Node, context: Context) -> list[Check]:
    """Return three checks of one Nginx host: the planned configuration runs, it passes `nginx -t`, and no other port listens."""
    wanted = nginx.tree(lb, context)
    version = ask(host, "probe", [wanted.question()], timeout=60)["facts"][0]["running"]
    look = "nginx -t -q 2>&1; echo rc=$?; ss -Hltn"
    test, _, listening = host.run(f"sudo -n sh -c {shlex.quote(look)}", timeout=60).stdout.partition("rc=")
    code, *lines = listening.splitlines()
    ports = {int(line.split()[3].rpartition(":")[2]) for line in lines if line.strip()}
    others = ports - OURS - set(WITHIN_MACHINE)
    return [
        _row(f"nginx-runs-{lb.name}", "the configuration of the plan is the one that runs", version == wanted.version,
             wanted.version, version or "no answer", lb.name),
        _row(f"nginx-test-{lb.name}", "the configuration passes nginx -t", code == "0", "no error",
             test.strip() or f"exit {code}", lb.name),
        _row(f"nginx-ports-{lb.name}", "nothing else listens", not others and ports >= OURS, "80, 443, loopback status",
             ", ".join(map(str, sorted(ports))), lb.name),
    ]  # fmt: skip


class _Outside:
    """Checks of the public hosts, requested from outside."""

    def __init__(self, deployment: Session, context: Context):
        self.spec, self.topology, self.context = deployment.spec, deployment.topology, context
        self.ca = context.secrets["ca.pem"]
        found = deployment.public_addresses()
        self.addresses = {host: found[self.topology.lb_for(host).name] for host in self.spec.hosts.values()}

    def rows(self, key: str) -> list[Check]:
        """Return every check of the public host with this key (`store`, `publisher`, `as`, `mgt`)."""
        host = self.spec.hosts[key]
        found = [*self.quiet_rows(key), self._old_tls(host), self._plain(host)]
        found += self._spread(key, host)
        if nginx.guarded(self.context):
            found += [self._stranger(host), *self._closed(key, host)]
        return found

    def quiet_rows(self, key: str) -> list[Check]:
        """Return the checks of its certificate and of its first page."""
        return [self._certificate(self.spec.hosts[key]), self._served(key, self.spec.hosts[key])]

    def visitor(self) -> Client:
        """Return a client without cookies that trusts the deployment's CA."""
        return Client(self.addresses, self.ca)

    def _certificate(self, host: str) -> Check:
        """Return the check that the host shows a certificate of our CA for its name, valid for more than 7 days."""
        try:
            tls = ssl.create_default_context(cadata=self.ca)
            with (
                socket.create_connection((self.addresses[host], 443), 10) as wire,
                tls.wrap_socket(wire, server_hostname=host) as safe,
            ):
                days = pki.days_left(ssl.DER_cert_to_PEM_cert(safe.getpeercert(binary_form=True) or b""))
                observed, holds = f"{safe.version()}, {days} days left", days > 7
        except OSError as error:
            observed, holds = str(error), False
        return _row(
            f"nginx-certificate-{host}",
            f"a certificate of our CA for {host}",
            holds,
            "trusted, more than 7 days left",
            observed,
            "outside",
        )

    def _old_tls(self, host: str) -> Check:
        """Return the check that TLS 1.0 and 1.1 are refused.

        It is undecided when the local TLS library cannot offer these versions: then the server was not asked.
        """
        status: Status
        old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
        old.set_ciphers("ALL:@SECLEVEL=0")
        old.minimum_version, old.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
        try:
            with (
                socket.create_connection((self.addresses[host], 443), 10) as wire,
                old.wrap_socket(wire, server_hostname=host) as safe,
            ):
                observed, status = f"accepted {safe.version()}", "fail"
        except ssl.SSLError as error:
            refused = "ALERT" in str(error) or "EOF" in str(error)
            observed, status = (error.reason or str(error)), "pass" if refused else "undecided"
        except OSError as error:
            observed, status = str(error), "pass" if isinstance(error, ConnectionResetError) else "fail"
        return Check(f"nginx-old-tls-{host}", "TLS older than 1.2 is refused", status, "refused", observed, "outside", CHAPTER)

    def _plain(self, host: str) -> Check:
        met, wanted = _meet(self.visitor(), f"http://{host}/x?y=1"), _Met(301, False, f"https://{host}/x?y=1")
        return _row(f"nginx-https-{host}", "plain HTTP is sent to HTTPS", met == wanted, str(wanted), str(met), "outside")

    def _served(self, key: str, host: str) -> Check:
        met = _meet(self.visitor(), f"https://{host}{ENTRY[key]}")
        holds = 200 <= met.status < 400 and ":9443" not in met.location
        if key == "as":
            holds = 200 <= met.status < 500 and not met.closed
        return _row(
            f"nginx-serves-{host}",
            f"{ENTRY[key]} is answered by the product",
            holds,
            "an answer without :9443",
            str(met),
            "outside",
        )

    def _spread(self, key: str, host: str) -> list[Check]:
        """Return two checks: new visitors reach every node, and a visitor with a route cookie stays on one. None for `mgt`, which has one node."""
        if key == "mgt":
            return []
        asked = {"X-Runbook-Probe": "1"}
        wanted = {node.name for node in self.topology.upstream(host)}
        seen: set[str] = set()
        for _ in range(ATTEMPTS):
            seen.add(_header(self.visitor(), f"https://{host}{ENTRY[key]}", asked))
            if seen >= wanted:
                break
        one = self.visitor()
        stays = {_header(one, f"https://{host}{ENTRY[key]}", asked) for _ in range(8)}
        return [
            _row(
                f"nginx-spread-{host}",
                "visitors are spread over the nodes",
                seen == wanted,
                _names(wanted),
                _names(seen),
                "outside",
            ),
            _row(
                f"nginx-sticky-{host}",
                "a visitor stays on one node",
                len(stays) == 1 and stays <= wanted,
                "one node",
                _names(stays),
                "outside",
            ),
        ]

    def _stranger(self, host: str) -> Check:
        visitor, holds = Client({STRANGER: self.addresses[host]}, None), False
        try:
            observed = str(visitor.request("GET", f"https://{STRANGER}/").status)
        except Closed:
            observed, holds = "closed", True
        except OSError as error:
            observed = str(error)
        title = f"a host name that is not ours gets no answer at {self.topology.lb_for(host).name}"
        return _row(f"nginx-stranger-{host}", title, holds, "closed", observed, "outside")

    def _closed(self, key: str, host: str) -> list[Check]:
        rows = []
        opened = front_doors.open_doors(self.spec, key)
        for path in (path for path in GUARDED[key] if not front_doors.find(opened, "GET", path)):
            met = _meet(self.visitor(), f"https://{host}{path}")
            rows.append(_row(f"nginx-closed-{key}{path}", f"{path} is closed", met.closed, "404 (nginx)", str(met), "outside"))
        return rows


@dataclass(frozen=True)
class _Met:
    """The result of one request.

    `status`: HTTP status, 0 without a response. `by_nginx`: the response is an error page of Nginx itself. `location`: the
    Location header. `trouble`: the error, when there was no response.
    """

    status: int
    by_nginx: bool = False
    location: str = ""
    trouble: str = ""

    @property
    def closed(self) -> bool:
        """Whether Nginx itself answered 404."""
        return self.status == 404 and self.by_nginx

    def __str__(self) -> str:
        return self.trouble or f"{self.status}{' (nginx)' if self.by_nginx else ''} {self.location}".strip()


def _meet(visitor: Client, url: str) -> _Met:
    """Send one GET and return its result; a connection error is part of the result."""
    try:
        answer = visitor.request("GET", url)
    except OSError as error:
        return _Met(0, trouble=f"{type(error).__name__}: {error}")
    return _Met(answer.status, answer.by_nginx, answer.location)


def _header(visitor: Client, url: str, headers: Mapping[str, str]) -> str:
    """Return the node named in X-Served-By, or a text that says why none is named."""
    try:
        answer = visitor.request("GET", url, headers=headers)
    except OSError as error:
        return type(error).__name__
    return answer.header("X-Served-By") or f"nobody ({answer.status})"


def _names(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))
