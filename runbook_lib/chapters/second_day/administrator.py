"""The administrator's password, changed where the product has it: in its user store, which all nodes share (golden run 6)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runbook_lib.checks.product_nodes import ADMIN, HTTPS_PORT, signs_in
from runbook_lib.checks.secrets import user_store
from runbook_lib.errors import HostError
from runbook_lib.launch.secrets import ADMIN_PASSWORD
from runbook_lib.roles.context import Context
from runbook_lib.ssh import through
from runbook_lib.webclient.client import Client

if TYPE_CHECKING:
    from runbook_lib.session import Session


def due(deployment: Session, ctx: Context) -> str:
    """Return the node at which the password is to be changed; "" where no rotation of it is under way, no node serves, or it is changed."""
    if ADMIN_PASSWORD not in ctx.former:
        return ""
    out_of_reach = deployment.out_of_reach()
    serving = [node for node in deployment.topology.wso2_nodes if node.name in ctx.booted and node.role != "as-worker" and node.name not in out_of_reach]
    if not serving:
        return ""  # a first boot takes it from the files
    host = deployment.fleet(without=out_of_reach)[serving[0].name]
    return "" if signs_in(host, serving[0].address, ctx.secrets[ADMIN_PASSWORD], ctx.spec.design.product) == 200 else serving[0].name


def change(deployment: Session, ctx: Context, name: str) -> None:
    """Change the password at the node `name`, signed in with the old one. Raises HostError where that is refused too."""
    address = deployment.topology.node(name).address
    client = Client({address: address}, None, through(deployment.fleet()[name]))
    old, new, service = ctx.former[ADMIN_PASSWORD], ctx.secrets[ADMIN_PASSWORD], user_store.SERVICES[ctx.spec.design.product]
    where, step = f"{name}: {service.path}", "set the password of admin in the console (Users and Roles), then the same command again"
    try:
        refused = user_store.change_password(service, client, f"https://{address}:{HTTPS_PORT}", ADMIN, old, new)
    except OSError as error:
        raise HostError(f"the administrator's password was not changed: {error}", where, "see that the node serves, then the same command again") from error
    if refused:
        raise HostError(f"the administrator's password was not changed: {name} answers {refused} to the old one", where, step)
