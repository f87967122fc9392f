"""Desired state of the Governance Registry nodes: Store, Publisher, or both on one node (role greg). No I/O.

Levels of `hardening`, as measured by the golden table: `hosts` (b) and `allow-list` (c) leave both applications on
every node, `app-removed` (d) and `full` (f) remove the other tier's. What Nginx lets through is decided in `nginx.py`,
the key per tier (f) in the topology. The other tier's service provider is removed at every level: with it, one tier's
identity provider signs for the other tier's application (golden run 4).
"""

from __future__ import annotations

from runbook_lib.converge.edits import Edit, JsonSet, TextSet, XmlRemove, XmlSet
from runbook_lib.converge.engine import Stage
from runbook_lib.converge.resources import Absent
from runbook_lib.roles.carbon import home_of, stages
from runbook_lib.roles.carbon_settings import CONF, Registry, common, merged
from runbook_lib.roles.context import Context
from runbook_lib.topology.model import Node

APPS = "repository/deployment/server/jaggeryapps"
# Which applications (and service providers of the same names) a role serves; `sso` stays on every node.
SERVES = {"store": ("store", "social"), "publisher": ("publisher",), "greg": ("store", "social", "publisher")}
EVERY_APP = SERVES["greg"]
REMOVES_APPS = ("app-removed", "full")
# Store and Publisher share the configuration path: their roles and tenant settings live there (facts 1.4). What a
# Publisher node writes must be seen by a Store node at once, and their caches do not reach each other (design,
# decision 11): no cache.
REGISTRY = Registry("/_system/config/greg", read_only=False, cache=False)
STORE_TENANT = f"{APPS}/store/config/store-tenant.json"
# The first node that boots with the Store copies that file here; from then on the copy is read, never the file (facts 1.11, golden run 7).
FROZEN = f"{REGISTRY.config_path}/store/configs/store.json"


def desired(node: Node, ctx: Context) -> tuple[Stage, ...]:
    """Return the stages of a G-Reg node."""
    also = tuple(Absent(f"{home_of(ctx.spec)}/{APPS}/{app}") for app in removed_apps(node, ctx))
    return stages(node, ctx, settings(node, ctx), also=also)


def settings(node: Node, ctx: Context) -> dict[str, tuple[Edit, ...]]:
    """Return the edits by path below the product's home: the list of golden run 2 and the additions of the decisions."""
    host = ctx.topology.public_name(node.tier or "")
    return merged(
        common(node, ctx, REGISTRY, (host, host), "worker"),
        {
            f"{CONF}/registry.xml": (XmlSet("/wso2registry/workList/password", ctx.secrets["carbon-admin-password"]),),
            f"{CONF}/identity/sso-idp-config.xml": service_providers(node, ctx),
            f"{CONF}/email/email-admin-config.xml": (TextSet(r"https://([^/\s]+)/sso/reset-link", ctx.topology.host("store")),),
        },
        applications(node, ctx),
    )


def removed_apps(node: Node, ctx: Context) -> tuple[str, ...]:
    """Return the folders of the other tier's applications where the hardening removes them; otherwise none."""
    if ctx.spec.hardening not in REMOVES_APPS:
        return ()
    return tuple(app for app in EVERY_APP if app not in SERVES[node.role])


def service_providers(node: Node, ctx: Context) -> tuple[Edit, ...]:
    """Return the edits of sso-idp-config.xml (facts 1.9).

    They set where the browser is sent after signing in, and remove the service providers that this identity provider must not serve.
    """
    top = "/SSOIdentityProviderConfig/ServiceProviders/ServiceProvider"
    edits: list[Edit] = []
    for issuer in EVERY_APP:
        one = f"{top}[Issuer='{issuer}']"
        if issuer in SERVES[node.role]:
            edits.append(XmlSet(f"{one}/AssertionConsumerService", f"{public_url(issuer, ctx)}/{issuer}/acs"))
        else:
            edits.append(XmlRemove(one))
    return tuple(edits)


def applications(node: Node, ctx: Context) -> dict[str, tuple[Edit, ...]]:
    """Return the edits of the remaining applications' JSON files (facts 1.11).

    `%https.host%` follows HostName and proxyPort by itself, except where it is set here. publisher.json keeps its shipped
    credentials: whoever reaches /publisher/config downloads it, and nothing needs the real ones (golden run 6).
    store-tenant.json is copied into the registry at the first boot and never read again.
    """
    store = public_url("store", ctx)
    files: dict[str, tuple[Edit, ...]] = {
        f"{APPS}/social/configs/social.json": (
            JsonSet("server.https", store),
            JsonSet("authentication.methods.sso.attributes.identityProviderURL", f"{store}/samlsso"),
            JsonSet("authentication.methods.sso.attributes.storeAcs", f"{store}/store/acs.jag"),
        ),
        STORE_TENANT: (
            JsonSet("features.social.keys.socialAppUrl", f"{store}/social"),
            JsonSet("features.social.keys.socialScriptSource", f"{store}/social/export-js/social.js"),
        ),
        f"{APPS}/publisher/config/publisher.json": (JsonSet("storeUrl", f"{store}/store"),),
    }
    gone = tuple(f"{APPS}/{app}/" for app in removed_apps(node, ctx))
    return {path: edits for path, edits in files.items() if not path.startswith(gone)}


def frozen_settings(ctx: Context) -> tuple[Edit, ...]:
    """Return the edits that the registry's copy of the Store's settings must hold, whichever node wrote it."""
    node = next(node for node in ctx.topology.wso2_nodes if "store" in SERVES[node.role])
    return applications(node, ctx)[STORE_TENANT]


def public_url(app: str, ctx: Context) -> str:
    """Return https://<host>, the public address of an application."""
    return f"https://{ctx.topology.host('publisher' if app == 'publisher' else 'store')}"
