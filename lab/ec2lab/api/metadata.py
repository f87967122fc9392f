"""The instance metadata service, version 2: what a machine may ask at 169.254.169.254, and nobody else. Of all its pages the lab has those of the
instance's identity and of its role's credentials (EC2 user guide, "Retrieve security credentials from instance metadata").

Who asks is known by the address that he asks from: the host's table leads the machines' packets here, and this machine has none of their addresses.
"""

from __future__ import annotations

import json
import secrets
import threading
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from moto.core import DEFAULT_ACCOUNT_ID as ACCOUNT
from moto.core.utils import utcnow
from moto.sts.models import AssumedRole, sts_backends

from ec2lab.machines.hypervisor import Hypervisor
from ec2lab.network import routing
from ec2lab.paths import METADATA_PORT, REGION

CREDENTIALS = "iam/security-credentials"
HOURS, LEAST = 6, timedelta(minutes=15)  # that credentials are good for; what is left of them when new ones are made
ISO = "%Y-%m-%dT%H:%M:%SZ"
_tokens: dict[str, str] = {}  # of sessions: the id of the instance that asked for each
_roles: dict[str, AssumedRole] = {}  # the present credentials, by instance and role
_guard = threading.Lock()


def open_metadata(hypervisor: Hypervisor) -> ThreadingHTTPServer:
    """Return the server of the metadata, which listens and does not serve yet."""

    class Handler(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            instance = _instance_at(hypervisor, self.client_address[0])
            if instance is None or self.path != "/latest/api/token" or not self.headers.get("X-aws-ec2-metadata-token-ttl-seconds", "").isdigit():
                return self._answer(400 if instance else 404)
            token = secrets.token_urlsafe(40)
            _tokens[token] = instance.id
            self._answer(200, token)

        def do_GET(self) -> None:
            instance = _instance_at(hypervisor, self.client_address[0])
            if instance is None:
                return self._answer(404)
            if _tokens.get(self.headers.get("X-aws-ec2-metadata-token", "")) != instance.id:
                return self._answer(401)
            found = _page(hypervisor, instance, self.path.removeprefix("/latest/meta-data/").rstrip("/"))
            self._answer(404 if found is None else 200, found or "")

        def _answer(self, status: int, text: str = "") -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, format: str, *args: object) -> None:
            return

    return ThreadingHTTPServer((str(hypervisor.lab.gateway), METADATA_PORT), Handler)


def _instance_at(hypervisor: Hypervisor, address: str) -> Any:
    """Return the running instance with this address, None where there is none: of those that share it, the one that this machine's answers reach."""
    with hypervisor.guard:
        found = [one for one in hypervisor.ec2.all_instances() if one.private_ip == address and one.state == "running"]
        return next((one for one in found if routing.reached(hypervisor.ec2.get_subnet(one.subnet_id))), None)


def _page(hypervisor: Hypervisor, instance: Any, path: str) -> str | None:
    """Return a page of the metadata, None where there is none."""
    association = instance.ec2_backend.iam_instance_profile_associations.get(instance.id)
    roles = {role.name: role for role in association.iam_instance_profile.roles} if association else {}
    name = path.removeprefix(f"{CREDENTIALS}/")
    if name in roles:
        return json.dumps(_credentials(hypervisor, instance.id, roles[name]))
    pages = {"instance-id": instance.id, "placement/region": REGION, "local-ipv4": instance.private_ip, CREDENTIALS: "\n".join(roles)}
    return pages.get(path) or None


def _credentials(hypervisor: Hypervisor, instance: str, role: Any) -> dict[str, str]:
    """Return credentials of a session of the role, the same until they are about to end."""
    with _guard:
        key, now = f"{instance} {role.arn}", utcnow()
        if key not in _roles or _roles[key].expiration < now + LEAST:
            _roles[key] = sts_backends[ACCOUNT]["aws"].assume_role(REGION, instance, role.arn, "", HOURS * 3600, "")
            hypervisor.keep()
        made = _roles[key]
    return {
        "Code": "Success", "Type": "AWS-HMAC", "LastUpdated": now.strftime(ISO), "Expiration": made.expiration.strftime(ISO),
        "AccessKeyId": made.access_key_id, "SecretAccessKey": made.secret_access_key, "Token": made.session_token,
    }  # fmt: skip
