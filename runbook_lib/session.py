"""One opened deployment: parameters, topology, cloud, secrets, hosts and lock. State is read from the cloud, never from local files."""

from __future__ import annotations

import getpass
import os
import socket
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, TypeVar

from runbook_lib.aws import packs, rotation
from runbook_lib.aws.host_keys import pin_name
from runbook_lib.aws.lock import Lock, owner_here
from runbook_lib.aws.packs import Pack
from runbook_lib.aws.parameter_store import Vault
from runbook_lib.aws.s3.staging import stage
from runbook_lib.errors import HostError, PackError, RunbookError
from runbook_lib.evidence import provenance
from runbook_lib.evidence.journal import Journal
from runbook_lib.launch import secrets
from runbook_lib.launch.cloud import PROBE, Cloud
from runbook_lib.launch.inventory import Instance
from runbook_lib.notebook import progress
from runbook_lib.roles.context import Context, Download
from runbook_lib.spec.model import Spec
from runbook_lib.ssh import Address, Dial, Fleet, fleet
from runbook_lib.topology.model import Node, Topology, topology_of

T = TypeVar("T")
EVERY_PACK = ("bin/wso2server.sh", "dbscripts/mysql.sql", "repository/conf/carbon.xml")  # files that every WSO2 pack contains
VERSION_FILE = "bin/version.txt"
FIRST_BOOT = "runbook:first-boot"  # tag of a machine whose first boot was seen to be complete; its value is the time
IN_USE = "in-use"  # the same of the deployment, in Parameter Store: tags go with their machines
RESTORING = "restoring"  # likewise: the folder of the backup that is being restored, until databases, nodes and archives are there
SIGNED_SECONDS = 300.0  # how old a URL may be that machines get: it ends with its session token, which botocore renews ten minutes before that ends


class Unknown(dict[str, str]):
    """Secrets by name. A missing one, as before the first launch, is replaced by its name in brackets, so that a plan can be shown."""

    def __missing__(self, name: str) -> str:
        return f"[{name}]"


def version_file(pack: Download | Pack) -> str:
    """Return what the product's own bin/version.txt says, on one line; "" when the pack has no such file."""
    try:
        return " ".join(pack.member(VERSION_FILE).decode("utf-8", "replace").split()) if pack.member else ""
    except KeyError:
        return ""


class Session:
    """What the chapters share about one deployment: its parameters, cloud, secrets, SSH connections, lock and journal."""

    _restores = False  # in the block of `restoring`

    def __init__(self, spec: Spec, journal: Journal, topology: Topology | None = None):
        self.spec = spec
        self._signing_key: str | None = None
        self.journal = self.adopt(journal)
        self.topology: Topology = topology or topology_of(spec)
        self.cloud = Cloud(spec, self.topology)
        self._hosts: Fleet | None = None
        self._staged: dict[str, tuple[float, str]] = {}  # by an archive's URL: when that for the machines was signed, and it
        self._looking = False
        self._answers: dict[str, Future[Any]] = {}  # in the block of `one_look`

    @cached_property
    def vault(self) -> Vault:
        """The deployment's secrets in SSM. Every value that was read is redacted from then on."""
        return self.cloud.vault

    def adopt(self, journal: Journal) -> Journal:
        """Write to this journal from now on, and return it: its first line says where it comes from, and its run is signed with this deployment's key."""
        self.journal = journal
        journal.provenance = lambda: self.provenance
        journal.signing_key = self.signing_key
        return journal

    def signing_key(self) -> str | None:
        """Return the private key that signs this deployment's runs. None before chapter 01 has made it, or when it cannot be read.

        It is kept once it was read: the run of a teardown is signed after the key is gone from Parameter Store.
        """
        if self._signing_key is None:
            with suppress(RunbookError):
                self._signing_key = self.vault.find(secrets.EVIDENCE_KEY)
        return self._signing_key

    @cached_property
    def provenance(self) -> dict[str, Any]:
        """Where this session's evidence comes from, as the first line of its journal says. Asks STS once."""
        return provenance.head(self.spec, self.cloud.endpoint, self.cloud.caller())

    @property
    def on_aws(self) -> bool:
        """Whether this deployment is at AWS itself. A lab, or another double, has an endpoint of its own; a config file in the parameters says nothing."""
        return provenance.environment_of(self.cloud.endpoint, "")[0] == provenance.PRODUCTION

    @property
    def owner(self) -> str:
        """The owner named in the lock: $RUNBOOK_OWNER, which is the run of this kernel, otherwise this process."""
        return os.environ.get("RUNBOOK_OWNER") or owner_here()

    @property
    def person(self) -> str:
        """The user and the machine as text, `user@machine`."""
        return f"{getpass.getuser()}@{socket.gethostname()}"

    @contextmanager
    def writing(self, wait: float = 0.0) -> Iterator[None]:
        """Hold the deployment's lock, so that there is one writer at a time (design, decision 2).

        Raises LockHeld, which names the other writer, after `wait` seconds.

        Where somebody takes the lock over meanwhile, an apply in the block stops as after a Cancel, and LockHeld is raised.
        """
        with Lock(self.vault, self.owner, wait=wait, lost=progress.stop_all):
            yield

    def instances(self) -> Mapping[str, Instance]:
        """Return the machines by node name, as the cloud describes them now; in a block of `one_look`, as it described them first."""
        return self.answer("instances", self.cloud.describe)

    def answer(self, question: str, ask: Callable[[], T]) -> T:
        """Return what `ask` returns; in a block of `one_look`, what it returned to whoever put this question first, or raises what it raised."""
        if not self._looking:
            return ask()
        mine: Future[T] = Future()
        first = self._answers.setdefault(question, mine)
        if first is mine:
            try:
                mine.set_result(ask())
            except BaseException as error:
                mine.set_exception(error)
        found: T = first.result()
        return found

    @contextmanager
    def one_look(self) -> Iterator[None]:
        """Ask once for machines, secrets and what the databases hold in the block, which must change none of them: a plan has many questions about them."""
        if self._looking:
            yield
            return
        self._looking = True
        try:
            with self.vault.one_look():
                yield
        finally:
            self._looking = False
            self._answers.clear()

    def look(self) -> None:
        """Ask now what the block of `one_look` would ask when it needs it, so that several threads may plan in it. Who needs a machine that is down says so."""
        self.context()
        out_of_reach = self.out_of_reach()
        if len(out_of_reach) < len(self.topology.nodes):
            with suppress(HostError):
                self.fleet(without=out_of_reach)

    def public_addresses(self) -> dict[str, str]:
        """Return by node name the public address of its machine, or the node's own address where there is none. Makes one call to the cloud."""
        found = self.instances()
        return {node.name: (node.name in found and found[node.name].public_address) or node.address for node in self.topology.nodes}

    def fleet(self, without: Collection[str] = ()) -> Fleet:
        """Return SSH connections to all running machines, with the host keys pinned at launch. Raises HostError when a node's machine does not run.

        `without`: names of nodes that need not run. The connections are kept for the next call until an address or a key changes. A probe that
        belongs to a proof and not to the design is left out: it comes and goes meanwhile (`beside`). So is a machine that goes and whose key was
        never pinned, because its launch was cut short.
        """
        here, design = self.instances(), {node.name for node in self.topology.nodes}
        pinned = self.vault.names() if here.keys() - design else ()
        found = {name: instance for name, instance in here.items() if name in design or (instance.role != PROBE and pin_name(name) in pinned)}
        needed = [node.name for node in self.topology.nodes if node.name not in without]
        down = [name for name in needed if name not in found or found[name].state != "running"]
        if down:
            raise HostError(f"not running: {', '.join(down)}", self.spec.deployment, "run chapter 01: it launches and starts machines")
        wanted = {name: self._address(name, instance) for name, instance in found.items() if instance.state == "running" and name not in without}
        wanted = {name: at for name, at in wanted.items() if at.via in wanted or at.via not in here}  # what leads to the others does not run
        if self._hosts is None or {name: host.at for name, host in self._hosts.hosts.items()} != wanted:
            if self._hosts:
                self._hosts.close()
            self._hosts = fleet(wanted, self.vault.get("ssh-private-key"), self._bastion(), self._dial())
        return self._hosts

    def running(self) -> Fleet:
        """Return SSH connections as `fleet` does, to those machines of the design that run now and that one gets to; they may be none."""
        there = {name for name, machine in self.instances().items() if machine.state == "running"} - self.out_of_reach().keys()
        names = {node.name for node in self.topology.nodes}
        return self.fleet(without=names - there) if names & there else Fleet()

    def beside(self, name: str) -> Fleet:
        """Wait until a running machine accepts SSH, and return a connection of its own to it, beside those of `fleet`. Raises as `wait_for_ssh` does."""
        found = self.instances()
        at = self._address(name, found[name])
        leading = {at.via: self._address(at.via, found[at.via])} if at.via in found else {}
        made = fleet({**leading, name: at}, self.vault.get("ssh-private-key"), self._bastion(), self._dial())
        made.wait_for_ssh([name], self.spec.timeouts.ssh, self.cloud.refuse_stopped)
        return made

    def wait_for_ssh(self, names: Iterable[str]) -> None:
        """Wait until these machines accept SSH with the deployment's key, at most `timeouts.ssh`. Raises HostError; CloudError for one that has stopped."""
        self.fleet().wait_for_ssh(names, self.spec.timeouts.ssh, self.cloud.refuse_stopped)

    def _address(self, name: str, instance: Instance) -> Address:
        """How to reach a machine: where the operator comes over the internet, those without a public address through the first Nginx machine."""
        jump = self.cloud.bastion() or (self.topology.jump_host if instance.dial == instance.address else None)
        via = jump.name if jump and jump.name != name else ""
        return Address(name, instance.dial, self.cloud.login_user, self.cloud.host_keys(name, instance.id), via=via)

    def _bastion(self) -> Address | None:
        jump = self.cloud.bastion()
        return Address(jump.name, jump.address, jump.user, jump.host_keys, jump.port) if jump else None

    def _dial(self) -> Dial | None:
        """How to connect to a machine where that is by neither its address nor a bastion."""
        if self.spec.cloud.connect_via != "session-manager":
            return None
        from runbook_lib.aws import session_manager  # here, because it brings a WebSocket client along

        return lambda at, timeout: session_manager.connect(self.cloud.aws, at.name, at.address, at.port, timeout)

    def out_of_reach(self) -> dict[str, str]:
        """Return by name of the node, for those whose machine nobody can look at, why that is: it or what leads to it is not launched yet."""
        found = self.instances()
        if "ssh-private-key" not in self.vault.names():
            return {node.name: "the machine is not launched" if node.name not in found else "the deployment has no SSH key" for node in self.topology.nodes}
        why = {node.name: "the machine is not launched" for node in self.topology.nodes if node.name not in found}
        design = {node.name for node in self.topology.nodes}
        leading = {name: self._address(name, instance).via for name, instance in found.items() if name in design and instance.state == "running"}
        return why | {name: f"it is reached through {via}, which is not launched" for name, via in leading.items() if via in why}

    def context(self) -> Context:
        """Return the input from which the roles compute the desired state. Before the launch its secrets are placeholders, for plans only."""
        found = self.instances()
        booted = frozenset(name for name, instance in found.items() if FIRST_BOOT in instance.tags)
        operator = self.cloud.operator_cidr() if found else None
        values = self.vault.read_all()
        in_use, restoring = bool(booted) or IN_USE in values, "" if self._restores else values.get(RESTORING, "")
        former = rotation.former(values)
        return Context(self.spec, self.topology, Unknown(values), self.pack, self.jdk, self.driver, operator, booted, in_use, restoring, former)

    def record_first_boot(self, node: str) -> None:
        """Tag the node's machine with the time at which its first boot was seen to be complete. A machine that replaces it has no such tag."""
        self.cloud.tag(node, FIRST_BOOT, datetime.now(UTC).isoformat(timespec="seconds"))
        self.record_in_use()

    def record_in_use(self) -> None:
        """Record that the databases hold what users put there, so that nobody makes them anew without being asked. The tear-down deletes it."""
        self.vault.ensure(IN_USE, lambda: datetime.now(UTC).isoformat(timespec="seconds"), secure=False)

    def forget_first_boots(self) -> None:
        """Take the tags of the first boots off the machines: every node is due for one."""
        for node in self.topology.wso2_nodes:
            if node.name in self.instances():
                self.cloud.untag(node.name, FIRST_BOOT)

    def forget_use(self) -> None:
        """Take back what `record_in_use` and a restore that was cut short wrote: with consent the databases are made anew."""
        self.vault.delete(IN_USE)
        self.vault.delete(RESTORING)

    @contextmanager
    def restoring(self, backup: str) -> Iterator[None]:
        """In the block not all of the backup is there yet, and nobody but this session goes on. The record of it stays when the block does not end well."""
        self.record_in_use()
        self.vault.put(RESTORING, backup, secure=False)
        self._restores = True
        try:
            yield
        except RunbookError as error:
            error.next_step = f"the same restore again: before it has ended well nothing else goes on. Before that: {error.next_step or 'look at what is said'}"
            raise
        finally:
            self._restores = False
        self.vault.delete(RESTORING)

    @property
    def pack(self) -> Download:
        """The product's pack: verified once on this machine, downloaded by the hosts from a staged copy.

        Raises PackError when it cannot be fetched, has another sha256, or is an archive without the files of a WSO2 pack.
        """
        return self._download(self._pack)

    @property
    def jdk(self) -> Download | None:
        return self._download(self._jdk) if self._jdk else None

    @property
    def driver(self) -> Download | None:
        return self._download(self._driver) if self._driver else None

    @cached_property
    def _pack(self) -> Pack:
        found = self._fetch("product.pack", self.spec.product.pack, self.spec.product.sha256)
        for name in EVERY_PACK:  # checked before any plan, because a wrong archive would replace the product on every node
            found.member(name)
        self.journal.observed("", "pack", {"pack": f"{self.spec.product.pack}, sha256 {found.sha256}", "product": version_file(found)})
        return found

    @cached_property
    def _jdk(self) -> Pack | None:
        java = self.spec.java
        return self._fetch("java.archive", java.archive, java.sha256) if java.archive else None

    @cached_property
    def _driver(self) -> Pack | None:
        wanted = self.spec.database.driver
        return self._fetch("database.driver.url", wanted.url, wanted.sha256) if wanted.url else None

    def _fetch(self, key: str, url: str, sha256: str | None) -> Pack:
        """Fetch and verify the archive at `url`. Raises PackError, which names the parameter `key`."""
        try:
            return packs.fetch(url, sha256, self.cloud.aws)
        except PackError as error:
            error.where = f"{key}: {error.where or url}"
            raise

    def _download(self, found: Pack) -> Download:
        """Stage an archive, and return it with a URL that is at most `SIGNED_SECONDS` old: it ends with the session token that signed it."""
        signed, url = self._staged.get(found.url, (0.0, ""))
        if not url or time.monotonic() - signed > SIGNED_SECONDS:
            url = stage(found, self.cloud.aws, self.spec.deployment)
            self._staged[found.url] = (time.monotonic(), url)
        return Download(found.sha256, url, found.member, found.members, found.listing)

    def node(self, name: str) -> Node:
        return self.topology.node(name)

    def close(self) -> None:
        if self._hosts:
            self._hosts.close()
            self._hosts = None
