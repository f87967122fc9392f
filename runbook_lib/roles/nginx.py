"""Desired state of the load balancers: one generated configuration, tested before it runs (facts 5, golden run 5)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from runbook_lib import pki
from runbook_lib.converge.config_tree import ConfigTree, TreeFile
from runbook_lib.converge.engine import Stage
from runbook_lib.converge.resources import File, Package, Unit
from runbook_lib.roles.context import Context
from runbook_lib.roles.machine import CONFINED, kernel_settings
from runbook_lib.spec import front_doors
from runbook_lib.topology.model import Node
from runbook_lib.topology.packages import NGINX

if TYPE_CHECKING:
    from jinja2 import Environment

STATUS_PORT = 8099  # on loopback: the version that runs, and stub_status
OPEN = ("hosts", "app-removed")  # hardenings whose Nginx passes everything on, as the blog's did (golden table, b and d)

# About 6 s until a silent neighbour counts as gone: unacknowledged data by retransmissions (0.2 s, doubled 4 times),
# connections that wait for an answer by three probes after 3 s. The price: a visitor whose own line is dead for more
# than 6 s while it receives something must load it again.
KERNEL = {
    "net.ipv4.tcp_retries2": 4,
    "net.ipv4.tcp_keepalive_time": 3,
    "net.ipv4.tcp_keepalive_intvl": 1,
    "net.ipv4.tcp_keepalive_probes": 3,
}
KERNEL_FILE = "/etc/sysctl.d/zz-runbook-nginx.conf"

# The master process begins as root: it opens ports and logs, and gives its workers another user.
CONFINED_FILE = "/etc/systemd/system/nginx.service.d/runbook.conf"
CONFINED_TO = f"""\
# Made by the runbook.
[Service]
NoNewPrivileges=yes
ReadWritePaths=/run /var/lib/nginx /var/log/nginx
CapabilityBoundingSet=CAP_CHOWN CAP_DAC_OVERRIDE CAP_KILL CAP_NET_BIND_SERVICE CAP_SETGID CAP_SETUID
{CONFINED.format(home="yes")}
"""


@dataclass(frozen=True)
class Site:
    """One public host. `locations`: the template of its paths; `allow`: the ranges that may connect, empty for everybody.

    `policy`: the Content-Security-Policy of its pages, empty where the applications are the user's own; `policy_header`: the header that it is sent in.
    """

    host: str
    title: str
    upstream: str
    locations: str
    app: str = ""
    contexts: tuple[str, ...] = ()
    allow: tuple[str, ...] = ()
    policy_header: str = ""
    policy: str = ""


# The template of a G-Reg host's paths by hardening: everything; applications without what is known to be dangerous in them (golden table, c);
# only what a browser needs (f).
LOCATIONS = {"hosts": "nginx_open.j2", "app-removed": "nginx_open.j2", "allow-list": "nginx_known_dangers.j2", "full": "nginx_front_doors.j2"}
# The product's pages have scripts and styles inside, and their templates need eval: these cannot be forbidden. Scripts come from the host itself.
# {hosts}: a sign-on posts a form to the other public host and is led back. Measured on the practice pack's pages only: hence the parameter.
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline' https:; font-src 'self' data: https:; "
    "img-src 'self' data: https:; object-src 'none'; base-uri 'self'; form-action 'self' {hosts}; frame-ancestors 'self'"
)
POLICY_HEADERS = {"enforce": "Content-Security-Policy", "report-only": "Content-Security-Policy-Report-Only", "off": ""}
AS_HOSTS = ("as", "mgt")
CONTEXTS = {"store": ("store", "sso", "social"), "publisher": ("publisher", "sso")}


def desired(node: Node, ctx: Context, drained: Collection[str] = ()) -> tuple[Stage, ...]:
    """Return the stages of `node`, an Nginx machine. `drained`: names of nodes that get no new requests (before they are restarted)."""
    return (
        Stage("packages", (File(CONFINED_FILE, CONFINED_TO.encode()), Package(NGINX), *kernel_settings(KERNEL_FILE, KERNEL))),
        Stage("configuration", (tree(node, ctx, drained),)),
        Stage("service", (Unit("nginx.service", watches=(CONFINED_FILE,)),)),
    )


def tree(node: Node, ctx: Context, drained: Collection[str] = ()) -> ConfigTree:
    """Return the whole configuration of an Nginx machine as one resource: it is tested before it replaces the running one."""
    return ConfigTree(
        root="/etc/nginx/runbook",
        link="/etc/nginx/nginx.conf",
        entry="nginx.conf",
        files=files(node, ctx, drained),
        test=("nginx", "-t", "-q", "-c", "{entry}"),
        active=("systemctl", "is-active", "--quiet", "nginx.service"),
        reload=("systemctl", "reload", "nginx.service"),
        status=f"127.0.0.1:{STATUS_PORT}",
    )


def files(node: Node, ctx: Context, drained: Collection[str] = ()) -> tuple[TreeFile, ...]:
    """Return nginx.conf, a certificate and a key per host, and the certificates that the nodes may present."""
    found = [TreeFile("nginx.conf", configuration(node, ctx, drained).encode())]
    for host in node.hosts:
        certificate, key = pki.split(ctx.secrets[f"tls/{host}"])
        found += [TreeFile(f"tls/{host}.pem", certificate), TreeFile(f"tls/{host}.key", key, 0o600, secret=True)]
    trusted = dict.fromkeys(pki.certificate_of(bundle) for host in node.hosts for bundle in _shown(host, ctx))
    return (*found, TreeFile("tls/nodes.pem", "".join(trusted).encode()))


def _shown(host: str, ctx: Context) -> list[str]:
    """Return the bundles whose certificate a node behind a public host may show: while a tier's key is rotated, the former one until the node's turn."""
    names = dict.fromkeys(f"tier-key/{ctx.topology.key_of(member.tier or '')}" for member in ctx.topology.upstream(host))
    return [*(ctx.secrets[name] for name in names), *(ctx.former[name] for name in names if name in ctx.former)]


def _name_of_nodes(host: str, ctx: Context) -> str:
    """Return the name under which Nginx checks the nodes behind a public host: one that every certificate has which they may show.

    A tier's key is made once, for the host's name of that day; the host itself may have another by now.
    """
    every = [set(pki.names_of(certificate)) for bundle in _shown(host, ctx) for certificate in pki.certificates(bundle)]
    common = set.intersection(*every) if every else set()
    return host if host in common or not common else min(common)


def configuration(node: Node, ctx: Context, drained: Collection[str] = ()) -> str:
    """Return the text of nginx.conf; the paths in it begin with the configuration tree's placeholder."""
    upstreams = _upstreams(node, ctx)
    members = {member.name: member for found in upstreams.values() for member in found}
    return (
        _environment()
        .get_template("nginx.conf.j2")
        .render(
            deployment=ctx.spec.deployment,
            pattern=ctx.spec.pattern,
            hardening=ctx.spec.hardening,
            settings=ctx.spec.nginx,
            guarded=guarded(ctx),
            sites=sites(node, ctx),
            names_of_nodes={host: _name_of_nodes(host, ctx) for host in node.hosts},
            clean_path=front_doors.CLEAN,
            front_doors=_front_doors(node, ctx),
            closed={key: front_doors.closed(key) for key in AS_HOSTS},
            closed_paths={key: front_doors.closed_paths(key) for key in AS_HOSTS},
            upstreams=upstreams,
            nodes=tuple(members.values()),
            drained=frozenset(drained),
            status_port=STATUS_PORT,
        )
    )


def guarded(ctx: Context) -> bool:
    """Return whether Nginx lets through only what each host needs."""
    return ctx.spec.design.product == "as" or ctx.spec.hardening not in OPEN


def sites(node: Node, ctx: Context) -> tuple[Site, ...]:
    """Return the public hosts that `node` serves, in the order of the pattern."""
    return tuple(_site(key, ctx) for key in ctx.spec.design.hosts if ctx.spec.hosts[key] in node.hosts)


def _site(key: str, ctx: Context) -> Site:
    host = ctx.spec.hosts[key]
    if key == "as":
        return Site(host, "applications, on the workers", "workers", "nginx_as.j2", "as")
    if key == "mgt":
        return Site(
            host,
            "console, on the manager; the operator's range only",
            "manager",
            "nginx_mgt.j2",
            "mgt",
            allow=(_operator(ctx),),
        )
    everybody = key == "store" or "0.0.0.0/0" in ctx.spec.publisher_allow_cidr
    allow = () if everybody else tuple(ctx.spec.publisher_allow_cidr)
    upstream = key if ctx.spec.pattern == "greg-separated" else "greg"
    header = POLICY_HEADERS[ctx.spec.nginx.content_security_policy]
    policy = POLICY.format(hosts=" ".join(f"https://{name}" for name in ctx.spec.hosts.values())) if header else ""
    return Site(host, f"the {key.title()}", upstream, LOCATIONS[ctx.spec.hardening], key, CONTEXTS[key], allow, header, policy)


def _front_doors(node: Node, ctx: Context) -> Mapping[str, tuple[front_doors.Door, ...]]:
    """Return the rows of the front doors for each host on `node` that has such a list: complete, or for what is closed on it."""
    named = [site for site in sites(node, ctx) if site.locations == LOCATIONS["full"] or site.app in AS_HOSTS]
    return {site.app: front_doors.open_doors(ctx.spec, site.app) for site in named}


def _upstreams(node: Node, ctx: Context) -> Mapping[str, tuple[Node, ...]]:
    return {site.upstream: ctx.topology.upstream(site.host) for site in sites(node, ctx)}


def _operator(ctx: Context) -> str:
    """Return the operator's range as the machines see it; before the launch, the range of the parameters."""
    known = ctx.operator_cidr or ctx.spec.cloud.operator_cidr
    return "127.0.0.1" if known == "auto" else known


@cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined  # here, because the other chapters render nothing

    loader = PackageLoader("runbook_lib", "roles")
    return Environment(loader=loader, undefined=StrictUndefined, keep_trailing_newline=True, lstrip_blocks=True, trim_blocks=True)
