"""What is done to a deployment in an exercise (and in tests that break one): each verb of the tables is a method of `Actions`.

In a table an action is its name and its arguments: `{nginx: {host: store, cut: ..., put: ...}}`. `Actions.undo` takes everything back that
one object did, the last action first; what another process did, the chapters' own plans put right.
"""

from __future__ import annotations

import base64
import contextlib
import re
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from runbook_lib.aws.host_keys import Pinned, pin_name
from runbook_lib.checks.sso.environment import Login, scene_of
from runbook_lib.checks.sso.proof_users import UserStore
from runbook_lib.errors import HostError, RunbookError
from runbook_lib.launch.inventory import Permission
from runbook_lib.operations import startup
from runbook_lib.roles import carbon, nginx
from runbook_lib.topology.model import Topology

if TYPE_CHECKING:
    from runbook_lib.session import Session

APPS = "repository/deployment/server/jaggeryapps"
CONF = "/etc/nginx/nginx.conf"
SCRATCH = "/run/runbook-exercise-nginx.conf"  # where a changed configuration is tested before it replaces the one that runs
LOGIN = {
    "console": "/permission/admin/login",
    "store": "/permission/admin/enterprisestore/apps/store/features/app/login",
    "publisher": "/permission/admin/enterprisestore/apps/publisher/features/app/login",
}
ACCOUNT = re.compile(r"proof-learner-[0-9a-f]{6}")  # of an exercise; the first word is what UserStore.remove knows its users by


def as_root(deployment: Session, node: str, script: str) -> str:
    """Return what root's bash on a node prints for `script`, which travels by stdin: what is an argument, sudo writes to the log.

    Raises HostError when the script fails.
    """
    done = deployment.fleet()[node].run("sudo -n bash -eu", script.encode(), timeout=120)
    if not done.succeeded:
        raise HostError(f"a script failed: {done.stderr.strip()[-500:]}", node, "exercise reset puts the deployment back")
    return done.stdout


def fill(text: str, words: Mapping[str, str]) -> str:
    """Return `text` with its placeholders replaced: `<store>` is the Store's host, `<store-1>` a node's address, `<home>` the product's folder."""
    return re.sub(r"<([a-z]+(?:-[a-z]+)*(?:-\d)?)>", lambda m: words.get(m[1], m[0]), text)


def words_for(topology: Topology) -> dict[str, str]:
    """Return what the placeholders of a table stand for in a deployment of these machines."""
    spec, places = topology.spec, {node.name: node.address for node in topology.nodes}
    return {**spec.hosts, **places, "home": carbon.home_of(spec), "user": spec.product.user}


@dataclass
class Actions:
    """Changes a deployment: a method is an action. `told`: what a learner has to be told of what was done, such as the password of an account."""

    deployment: Any  # a chapters.deployment.Deployment; `apply` uses its chapters
    undone: list[Callable[[], object]] = field(default_factory=list)
    told: list[str] = field(default_factory=list)

    def do(self, actions: Iterable[Mapping[str, Any]]) -> None:
        """Do these actions in their order; nodes whose product has to be restarted are restarted in the end, each once."""
        due: list[str] = []
        for action in actions:
            name, arguments = next(iter(action.items()))
            verb = getattr(self, name.replace("-", "_"))
            due += (verb(**arguments) if isinstance(arguments, Mapping) else verb(arguments)) or []
        self._restart(due)
        if due:
            self.undone.insert(0, lambda: self._restart(due))

    def undo(self) -> None:
        """Take back what this object did, the last action first."""
        while self.undone:
            self.undone.pop()()

    def script(self, node: str, run: str, back: str = "") -> None:
        """Run a script as root on a node; `back` takes it back."""
        words = self._words(node)
        as_root(self.deployment, node, fill(run, words))
        if back:
            self.undone.append(lambda: as_root(self.deployment, node, fill(back, words)))

    # Nginx
    def nginx(self, host: str = "", add: str = "", cut: str = "", put: str = "") -> None:
        """Change the configuration: of the TLS server of `host` only, or anywhere. `add`: text that is tried before
        its own locations; `cut`: a regular expression that is replaced by `put`."""
        words, lb = self._words(), self._balancer(host)
        text = self._running(lb)
        start, end = self._server(text, words[host]) if host else (0, len(text))
        block = text[start:end]
        if cut:
            block, times = re.subn(fill(cut, words), lambda _: fill(put, words), block)
            _found(times, cut, "the configuration of Nginx")
        if add:
            block, times = re.subn(r"proxy_ssl_name .*\n", lambda mark: f"{mark[0]}{fill(add, words)}\n", block, count=1)
            _found(times, "proxy_ssl_name", "the configuration of Nginx")
        self._load(lb, text[:start] + block + text[end:])

    def pass_on(self, host: str, what: str) -> None:
        """Let more through: `what` is a regular expression on "METHOD /path", tried before the host's front doors."""
        lb = self._balancer(host)
        text = self._running(lb)
        mark = f"$front_door_{host} {{\n        default refused;\n"
        _found(mark in text, mark, "the configuration of Nginx")
        self._load(lb, text.replace(mark, f'{mark}        "~{what}" pass;\n'))

    def known_dangers(self) -> None:
        """The guard of `allow-list` in the place of this one: golden table e, before the third hole was known."""
        ctx, lb = self.deployment.context(), self._balancer("")
        older = replace(ctx, spec=ctx.spec.model_copy(update={"hardening": "allow-list"}))
        tree = re.search(r"ssl_certificate (\S+)/tls/", self._running(lb))
        _found(tree is not None, "ssl_certificate", "the configuration of Nginx")
        version = self._sh(lb, f"basename $(dirname $(readlink -f {CONF}))").strip()
        text = nginx.configuration(self.deployment.node(lb), older)
        self._load(lb, text.replace("@TREE@", tree[1] if tree else "").replace("@VERSION@", version))

    def _balancer(self, host: str) -> str:
        topology = self.deployment.topology
        return str(topology.lb_for(host).name if host else topology.lbs[0].name)

    def _running(self, lb: str) -> str:
        return self._sh(lb, f"cat $(readlink -f {CONF})")

    def _server(self, text: str, host: str) -> tuple[int, int]:
        start = text.index("listen 443 ssl;\n        server_name " + host)
        end = text.find("\n    server {", start)
        return start, end if end > 0 else len(text)

    def _load(self, lb: str, text: str) -> None:
        before = self._running(lb)
        self.undone.append(lambda: self._write(lb, before))
        self._write(lb, text)

    def _write(self, lb: str, text: str) -> None:
        """Test a configuration, write it over the one that runs, and restart: after a reload a worker with the former one might still answer."""
        self._sh(lb, f"sudo tee {SCRATCH} >/dev/null && sudo nginx -t -q -c {SCRATCH}", text)
        self._sh(lb, f"sudo cat {SCRATCH} | sudo tee $(readlink -f {CONF}) >/dev/null && sudo rm {SCRATCH}")
        self._sh(lb, "sudo systemctl reset-failed nginx; sudo systemctl restart nginx")

    # nodes
    def app(self, name: str, node: str, of: str) -> list[str]:
        """Deploy an application on a node: the files of another node that has it."""
        folder = f"{carbon.home_of(self.deployment.spec)}/{APPS}"
        packed = self._sh(of, f"sudo tar -C {folder} -cz {name} | base64 -w0")
        self._sh(node, f"base64 -d | sudo tar -C {folder} -xz", packed)
        self.undone.append(lambda: self._sh(node, f"sudo rm -rf {folder}/{name}"))
        return [node]

    def file(self, node: str, path: str, cut: str = "", put: str = "", of: str = "", restart: bool = True) -> list[str]:
        """Change a file of the product below `repository/`: replace a regular expression, or take the other node's file."""
        full = f"{carbon.home_of(self.deployment.spec)}/repository/{path}"
        old = self._sh(node, f"sudo base64 -w0 {full}")
        new = self._sh(of, f"sudo base64 -w0 {full}") if of else ""
        if cut:
            words = self._words(node)
            text, times = re.subn(fill(cut, words), lambda _: fill(put, words), base64.b64decode(old).decode())
            _found(times, cut, path)
            new = base64.b64encode(text.encode()).decode()
        write = f"base64 -d | sudo tee {full} >/dev/null"
        self._sh(node, write, new)
        self.undone.append(lambda: self._sh(node, write, old))
        return [node] if restart else []

    def stop(self, node: str) -> None:
        """Stop the product of a node. Taken back, it is started and awaited until it serves."""
        as_root(self.deployment, node, f"systemctl stop {carbon.UNIT}")
        self.undone.append(lambda: startup.start(self.deployment.fleet(), self.deployment.context(), node))

    def restart(self, node: str) -> list[str]:
        """Restart the product of a node, and wait until it serves."""
        return [node]

    def power(self, node: str, state: str) -> None:
        """Cut the power of a node's machine (`cut`) without a goodbye, or switch it on again (`back`) and wait until it accepts SSH."""
        if state == "cut":
            self.deployment.cloud.power_cut(node)
            self.undone.append(lambda: self.power(node, "back"))
        else:
            self.deployment.cloud.start(node)
            self.deployment.wait_for_ssh([node])

    def apply(self, chapter: str) -> None:
        """Apply a chapter's plan, by its attribute: launch, mysql, greg, appserver, nginx."""
        verbs = getattr(self.deployment, chapter)
        if plan := verbs.plan():
            verbs.apply(plan)

    def _restart(self, nodes: Iterable[str]) -> None:
        for node in dict.fromkeys(nodes):
            startup.start(self.deployment.fleet(), self.deployment.context(), node, "restart")

    # cloud
    def door(self, group: str, port: int, source: str) -> None:
        """Open a port of a role's security group. `source`: a CIDR, a node (its address) or a role (its group)."""
        self._rule("authorize", group, port, source)
        self.undone.append(lambda: self._rule("revoke", group, port, source))

    def close_door(self, group: str, port: int, source: str) -> None:
        """Take a rule of a role's security group away; `source` as above."""
        self._rule("revoke", group, port, source)
        self.undone.append(lambda: self._rule("authorize", group, port, source))

    def _rule(self, verb: str, group: str, port: int, source: str) -> None:
        groups, nodes = self.deployment.cloud.observe().groups, self.deployment.instances()
        peer = f"{nodes[source].address}/32" if source in nodes else groups[source].id if source in groups else source
        present = next((rule for rule in groups[group].permissions if (rule.from_port, rule.source) == (port, peer)), None)
        rule = present if verb == "revoke" and present else Permission("tcp", port, port, peer)
        call = getattr(self.deployment.cloud.aws.client("ec2"), f"{verb}_security_group_ingress")
        call(GroupId=groups[group].id, IpPermissions=[rule.as_request()])

    # machines
    def pin(self, node: str, of: str) -> None:
        """Pin another machine's host keys for a node: whoever wrote them down did not read them from this node's console."""
        vault = self.deployment.vault
        before, own = vault.get(pin_name(node)), Pinned.read(vault.get(pin_name(node)))
        self.undone.append(lambda: vault.put(pin_name(node), before, secure=False))
        vault.put(pin_name(node), Pinned(own.instance, Pinned.read(vault.get(pin_name(of))).keys).text(), secure=False)

    def unpin(self, node: str) -> None:
        """Forget the pinned host keys of a node: chapter 01's plan reads them from its console again."""
        self.deployment.vault.delete(pin_name(node))

    def metadata(self, node: str, tokens: str) -> None:
        """Say whether a machine's metadata service asks for a session token: `required` (IMDSv2 only) or `optional`."""
        machine = self.deployment.instances()[node].id
        before = "optional" if tokens == "required" else "required"
        call = self.deployment.cloud.aws.client("ec2").modify_instance_metadata_options
        self.undone.append(lambda: call(InstanceId=machine, HttpTokens=before, HttpEndpoint="enabled"))
        call(InstanceId=machine, HttpTokens=tokens, HttpEndpoint="enabled")

    # users
    def permit(self, login: list[str]) -> None:
        """Everybody may sign in: the role that all have gets the login permissions of these."""
        self._sql(
            "INSERT INTO UM_ROLE_PERMISSION (UM_PERMISSION_ID, UM_ROLE_NAME, UM_IS_ALLOWED, UM_TENANT_ID, UM_DOMAIN_ID)"
            " SELECT p.UM_ID, 'everyone', 1, -1234, d.UM_DOMAIN_ID FROM UM_PERMISSION p, UM_DOMAIN d"
            f" WHERE d.UM_DOMAIN_NAME = 'INTERNAL' AND p.UM_RESOURCE_ID IN ({_paths(login)})"
        )
        self.undone.append(lambda: self.forbid(login))

    def forbid(self, login: list[str]) -> None:
        """The reverse of `permit`."""
        self._sql(
            "DELETE g FROM UM_ROLE_PERMISSION g, UM_PERMISSION p, UM_DOMAIN d WHERE g.UM_PERMISSION_ID = p.UM_ID"
            " AND g.UM_ROLE_NAME = 'everyone' AND g.UM_DOMAIN_ID = d.UM_DOMAIN_ID"
            f" AND d.UM_DOMAIN_NAME = 'INTERNAL' AND p.UM_RESOURCE_ID IN ({_paths(login)})"
        )

    def account(self, roles: list[str]) -> None:
        """Make a user of the exercise with these roles, and tell its name and password. They are for this exercise alone and stored nowhere else."""
        login = self.new_account(roles)
        self.told.append(f"your account, with {' and '.join(roles) or 'no role'}: user {login.user}, password {login.password}")

    def new_account(self, roles: Iterable[str]) -> Login:
        """Make a user of the exercise with these roles and return its name and password."""
        login = Login(f"proof-learner-{secrets.token_hex(3)}", "Pw1-" + secrets.token_urlsafe(9))
        self._users().add(login, tuple(roles))
        self.undone.append(lambda: self._users().remove(login.user))
        return login

    def no_accounts(self) -> None:
        """Remove every user that an exercise made."""
        store = self._users()
        if left := [user for user in store.users("proof-learner-*") if ACCOUNT.fullmatch(user)]:
            store.remove(*left)

    def _users(self) -> UserStore:
        scene = scene_of(self.deployment)
        return UserStore(scene, scene.machines[0])

    # helpers
    def _words(self, node: str = "") -> dict[str, str]:
        words = words_for(self.deployment.topology)
        return {**words, "node": words.get(node, "")}

    def _sql(self, text: str) -> str:
        return self._sh(self.deployment.topology.db.name, "sudo mysql --default-character-set=utf8 WSO2_USER_DB", text)

    def _sh(self, node: str, command: str, stdin: str = "") -> str:
        done = self.deployment.fleet()[node].run(command, stdin.encode(), timeout=60)
        if not done.succeeded:
            raise HostError(f"{command}: {done.stderr[-500:]}", node, "exercise reset puts the deployment back")
        return done.stdout


def _paths(login: Iterable[str]) -> str:
    return ", ".join(f"'{LOGIN[one]}'" for one in login)


def _found(there: object, what: str, where: str) -> None:
    if not there:
        raise RunbookError(f"nothing like {what!r} is there", where, "has it been changed already? `plan` shows what differs")


@contextlib.contextmanager
def changed(deployment: Any, actions: Iterable[Mapping[str, Any]]) -> Iterator[Actions]:
    """The deployment with these actions done; all of them undone afterwards, whatever happens."""
    hands = Actions(deployment)
    try:
        hands.do(actions)
        yield hands
    finally:
        hands.undo()
