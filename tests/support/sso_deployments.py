"""Deployments to prove things on, and ways to break one: each break is undone exactly."""

from __future__ import annotations

import base64
import contextlib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from runbook_lib.chapters.deployment import Deployment, open_deployment
from runbook_lib.operations import startup
from runbook_lib.roles import carbon, nginx
from tests.conftest import ROOT

CHAPTERS = ("launch", "mysql", "greg", "nginx")
APPS = "repository/deployment/server/jaggeryapps"
CONF = "/etc/nginx/nginx.conf"
BROKEN = "/etc/nginx/broken.conf"
LOGIN = {
    "console": "/permission/admin/login",
    "store": "/permission/admin/enterprisestore/apps/store/features/app/login",
    "publisher": "/permission/admin/enterprisestore/apps/publisher/features/app/login",
}


def subnet(lab: Any, number: int) -> str:
    """The lab's /24 of that number."""
    return str(list(lab.lab.network.subnets(new_prefix=24))[number])


def deployed(lab: Any, number: int, pattern: str = "greg-separated", **overrides: Any) -> Deployment:
    """A deployment in a subnet of the lab, built through chapter 05; what is there already is left as it is."""
    given = {"cloud.aws_config": str(lab.aws_config), "cloud.network": subnet(lab, number), **overrides}
    deployment = open_deployment(ROOT / "params" / f"{pattern}.lab.yaml", given)
    for name in CHAPTERS:
        chapter = getattr(deployment, name)
        chapter.apply(chapter.plan())
    return deployment


@dataclass
class Breaker:
    """Breaks a deployment: a method is an action of `sso_breaks.yaml`; `undo` takes all back, the last one first."""

    deployment: Deployment
    undone: list[Callable[[], None]] = field(default_factory=list)

    def do(self, actions: list[Mapping[str, Any]]) -> None:
        restart: list[str] = []
        for action in actions:
            name, arguments = next(iter(action.items()))
            restart += getattr(self, name.replace("-", "_"))(**arguments) or []
        self._restart(restart)
        if restart:
            self.undone.insert(0, lambda: self._restart(restart))

    def undo(self) -> None:
        while self.undone:
            self.undone.pop()()

    # Nginx
    def nginx(self, host: str = "", add: str = "", cut: str = "", put: str = "") -> None:
        """Change the configuration: of the TLS server of `host` only, or anywhere. `add`: text that is tried before
        its own locations; `cut`: a regular expression that is replaced by `put`."""
        text = self._sh("lb-1", f"cat $(readlink -f {CONF})")
        words = dict(self.deployment.spec.hosts)
        start, end = self._server(text, words[host]) if host else (0, len(text))
        block = text[start:end]
        if cut:
            block, times = re.subn(_fill(cut, words), lambda _: _fill(put, words), block)
            assert times, f"nothing like {cut!r} in the configuration"
        if add:
            mark = f"proxy_ssl_name {words[host]};\n"
            assert mark in block
            block = block.replace(mark, mark + _fill(add, words) + "\n", 1)
        self._load(text[:start] + block + text[end:])

    def pass_on(self, host: str, what: str) -> None:
        """Let more through: `what` is a regular expression on "METHOD /path", tried before the host's front doors."""
        text = self._sh("lb-1", f"cat $(readlink -f {CONF})")
        mark = f"$front_door_{host} {{\n        default refused;\n"
        assert mark in text
        self._load(text.replace(mark, f'{mark}        "~{what}" pass;\n'))

    def known_dangers(self) -> None:
        """The guard of `allow-list` in the place of this one: golden table e, before the third hole was known."""
        ctx = self.deployment.context()
        older = replace(ctx, spec=ctx.spec.model_copy(update={"hardening": "allow-list"}))
        tree = re.search(r"ssl_certificate (\S+)/tls/", self._sh("lb-1", f"cat $(readlink -f {CONF})"))
        assert tree
        text = nginx.configuration(self.deployment.node("lb-1"), older)
        self._load(text.replace("@TREE@", tree[1]).replace("@VERSION@", "broken"))

    def _server(self, text: str, host: str) -> tuple[int, int]:
        start = text.index("listen 443 ssl;\n        server_name " + host)
        end = text.find("\n    server {", start)
        return start, end if end > 0 else len(text)

    def _load(self, text: str) -> None:
        before = self._sh("lb-1", f"readlink {CONF}").strip()
        if BROKEN not in before:
            self.undone.append(lambda: self._point(before))
        self._sh("lb-1", f"sudo tee {BROKEN} >/dev/null", text)
        self._point(BROKEN)

    def _point(self, target: str) -> None:
        """Restart rather than reload: no worker with the former configuration answers any more."""
        tested = f"sudo nginx -t -q -c $(readlink -f {target})"
        self._sh("lb-1", f"cd /etc/nginx && {tested} && sudo ln -sfn {target} {CONF}")
        self._sh("lb-1", "sudo systemctl reset-failed nginx; sudo systemctl restart nginx")

    # nodes
    def app(self, name: str, node: str, of: str) -> list[str]:
        """Deploy an application on a node: the files of another node that has it."""
        home = carbon.home_of(self.deployment.spec)
        packed = self._sh(of, f"sudo tar -C {home}/{APPS} -cz {name} | base64 -w0")
        self._sh(node, f"base64 -d | sudo tar -C {home}/{APPS} -xz", packed)
        self.undone.append(lambda: self._quiet(node, f"sudo rm -rf {home}/{APPS}/{name}"))
        return [node]

    def file(self, node: str, path: str, cut: str = "", put: str = "", of: str = "") -> list[str]:
        """Change a file of the product: replace a regular expression, or take the other node's file."""
        full = f"{carbon.home_of(self.deployment.spec)}/repository/{path}"
        old = self._sh(node, f"sudo base64 -w0 {full}")
        new = self._sh(of, f"sudo base64 -w0 {full}") if of else ""
        if cut:
            places = {n.name: n.address for n in self.deployment.topology.nodes}
            words = {**self.deployment.spec.hosts, **places, "node": places[node]}
            text, times = re.subn(_fill(cut, words), lambda _: _fill(put, words), base64.b64decode(old).decode())
            assert times, f"nothing like {cut!r} in {path}"
            new = base64.b64encode(text.encode()).decode()
        write = f"base64 -d | sudo tee {full} >/dev/null"
        self._sh(node, write, new)
        self.undone.append(lambda: self._sh(node, write, old))
        return [node]

    def _restart(self, nodes: list[str]) -> None:
        for node in dict.fromkeys(nodes):
            startup.start(self.deployment.fleet(), self.deployment.context(), node, "restart")

    # cloud and database
    def door(self, group: str, port: int, source: str) -> None:
        """Open a port of a group. `source`: a CIDR or the name of a node."""
        ec2 = self.deployment.cloud.aws.client("ec2")
        name = f"{self.deployment.spec.deployment}-{group}"
        found = ec2.describe_security_groups(Filters=[{"Name": "group-name", "Values": [name]}])["SecurityGroups"]
        nodes = {node: machine.address for node, machine in self.deployment.instances().items()}
        cidr = f"{nodes[source]}/32" if source in nodes else source
        rule = {"IpProtocol": "tcp", "FromPort": port, "ToPort": port, "IpRanges": [{"CidrIp": cidr}]}
        ec2.authorize_security_group_ingress(GroupId=found[0]["GroupId"], IpPermissions=[rule])
        self.undone.append(lambda: ec2.revoke_security_group_ingress(GroupId=found[0]["GroupId"], IpPermissions=[rule]))

    def permit(self, login: list[str]) -> None:
        """Everybody may sign in: the role that all have gets the login permissions of these."""
        paths = ", ".join(f"'{LOGIN[one]}'" for one in login)
        role = "g.UM_ROLE_NAME = 'everyone' AND g.UM_DOMAIN_ID = d.UM_DOMAIN_ID"
        domain = "UM_DOMAIN d WHERE d.UM_DOMAIN_NAME = 'INTERNAL'"
        before = "DELETE g FROM UM_ROLE_PERMISSION g, UM_PERMISSION p, UM_DOMAIN d WHERE g.UM_PERMISSION_ID = p.UM_ID"
        self._sql(
            "INSERT INTO UM_ROLE_PERMISSION (UM_PERMISSION_ID, UM_ROLE_NAME, UM_IS_ALLOWED, UM_TENANT_ID, UM_DOMAIN_ID)"
            f" SELECT p.UM_ID, 'everyone', 1, -1234, d.UM_DOMAIN_ID FROM UM_PERMISSION p, {domain}"
            f" AND p.UM_RESOURCE_ID IN ({paths})"
        )
        undo = f"{before} AND {role} AND d.UM_DOMAIN_NAME = 'INTERNAL' AND p.UM_RESOURCE_ID IN ({paths})"
        self.undone.append(lambda: self._sql(undo))

    def _sql(self, text: str) -> str:
        return self._sh("db-1", "sudo mysql --default-character-set=utf8 WSO2_USER_DB", text)

    def _sh(self, node: str, command: str, stdin: str = "") -> str:
        done = self.deployment.fleet()[node].run(command, stdin.encode(), timeout=60)
        assert done.succeeded, f"{node}: {command}: {done.stderr[-500:]}"
        return done.stdout

    def _quiet(self, node: str, command: str) -> None:
        self._sh(node, command)


def _fill(text: str, words: Mapping[str, str]) -> str:
    """`<store>` stands for the Store's host, `<store-1>` for a node's address, `<node>` for the changed one's."""
    return re.sub(r"<([a-z]+(?:-\d)?)>", lambda m: words.get(m[1], m[0]), text)


@contextlib.contextmanager
def broken(deployment: Deployment, actions: list[Mapping[str, Any]]) -> Iterator[None]:
    """The deployment with these actions done; all of them undone afterwards, whatever happens."""
    breaker = Breaker(deployment)
    try:
        breaker.do(actions)
        yield
    finally:
        breaker.undo()
