"""The resources of a MySQL or MariaDB server: databases, schemas, accounts, and the removal of every account that should not be there.

All of them are probed in one session as root over the server's socket (`agent/mysql.py`). Passwords are passed on stdin.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

from runbook_lib.changes import Change
from runbook_lib.converge.resources import Fact, Resource, Wire, pack, sha256

# Facts 2.2: MySQL 8 uses utf8mb4 with a collation of its own unless both are stated.
COLLATION = {"utf8": "utf8_general_ci", "utf8mb4": "utf8mb4_general_ci", "latin1": "latin1_swedish_ci"}
ALLOWED = ("utf8", "utf8mb4")  # by database.charset
# What the product needs at run time. The runbook creates the tables, so the product's accounts need no right to create or drop any.
RUNTIME = ("Select", "Insert", "Update", "Delete")


def canonical(charset_or_collation: str) -> str:
    """Return the name with `utf8` instead of `utf8mb3`, which is what MySQL 8.0.30 and MariaDB 10.6 call it."""
    return re.sub(r"^utf8mb3(?=_|$)", "utf8", charset_or_collation or "")


@dataclass(frozen=True)
class _Mysql(Resource):
    kind = "mysql"
    what = ""

    def question(self) -> Wire:
        return {**super().question(), "what": self.what}

    def change(self, fact: Fact) -> Change | None:
        if fact["server"] is None:
            return Change(self.key, "create", "once the database server answers")
        return self.difference(fact)

    def difference(self, fact: Fact) -> Change | None:
        """Return the difference on a server that answers; None when there is none."""
        raise TypeError(f"{type(self).__name__} cannot be compared")


@dataclass(frozen=True)
class MysqlDatabase(_Mysql):
    """A database with a stated character set and collation."""

    what = "database"
    name: str
    charset: str = "utf8"

    @property
    def key(self) -> str:
        return f"database {self.name}"

    @property
    def collation(self) -> str:
        return COLLATION[self.charset]

    def question(self) -> Wire:
        return {**super().question(), "name": self.name}

    def difference(self, fact: Fact) -> Change | None:
        if not fact["exists"]:
            return Change(self.key, "create", f"character set {self.charset}, collation {self.collation}")
        found, wanted = canonical(fact["collation"]), self.collation
        return None if found == wanted else Change(self.key, "alter", f"collation {found} -> {wanted}")

    def order(self, fact: Fact) -> Wire:
        settings = {"charset": self.charset, "collation": self.collation, "exists": bool(fact.get("exists"))}
        return {**self.question(), **settings}


@dataclass(frozen=True)
class MysqlAccount(_Mysql):
    """An account for one database, from one host, which is an address.

    The authentication plugin depends on the server: mysql_native_password where it exists (Connector/J 5.1 supports no
    other, facts 2.3), caching_sha2_password where it does not.
    """

    what = "account"
    user: str
    host: str
    database: str
    password: str = field(repr=False)
    privileges: tuple[str, ...] = RUNTIME

    @property
    def key(self) -> str:
        return f"account '{self.user}'@'{self.host}'"

    def question(self) -> Wire:
        who = {"user": self.user, "host": self.host, "database": self.database, "privileges": list(self.privileges)}
        return {**super().question(), **who, "password": self.password}

    def difference(self, fact: Fact) -> Change | None:
        rights = f"{', '.join(self.privileges)} on {self.database}"
        if not fact["exists"]:
            return Change(self.key, "create", rights)
        wrong = []
        if not fact["password"]:
            plugin, wanted = fact["plugin"], fact["wanted_plugin"]
            wrong.append("another password" if plugin == wanted else f"plugin {plugin} -> {wanted}")
        elif fact["plugin"] != fact["wanted_plugin"]:
            wrong.append(f"plugin {fact['plugin']} -> {fact['wanted_plugin']}")
        if not fact["grants"]:
            extra = f" (now also: {', '.join(fact['extra'])})" if fact["extra"] else ""
            wrong.append(f"rights -> {rights}{extra}")
        return Change(self.key, "change", "; ".join(wrong)) if wrong else None


@dataclass(frozen=True)
class MysqlSchema(_Mysql):
    """The tables of a database, loaded from one script of the pack into an empty database only.

    `origin` names the script in messages; `expected` is its number of tables. An interrupted load by this runbook is
    repaired automatically: no product has used that database, and it is dumped before it is created again. Any other
    incomplete database stops the step; the message names the call that recreates it.
    """

    what = "schema"
    database: MysqlDatabase
    origin: str
    expected: int
    script: bytes | None = field(default=None, repr=False)

    @property
    def key(self) -> str:
        return f"schema of {self.database.name}"

    @cached_property
    def tables(self) -> tuple[str, ...]:
        """The names of the tables that the script creates."""
        return table_names(self.script or b"")

    def question(self) -> Wire:
        digest = sha256(self.script) if self.script else None
        return {**super().question(), "name": self.database.name, "tables": list(self.tables), "sha256": digest}

    def difference(self, fact: Fact) -> Change | None:
        if fact["state"] == "restoring":
            return Change(self.key, "refuse", "a restore was cut short; ./runbook restore PARAMS again, or deployment.mysql.restore(dump, confirm=…)")
        if not fact["tables"]:
            return Change(self.key, "load", f"{self.expected} tables from {self.origin}")
        missing = len(fact["missing"]) or max(0, self.expected - fact["tables"])
        if fact["state"] == "loading":
            cut = f"an earlier load was cut short at {fact['tables']} tables"
            return Change(self.key, "reload", f"{cut}: dump, re-create, load again")
        if missing:
            named = f": {_some(fact['missing'])}" if fact["missing"] else ""
            half = f"half loaded: {missing} of {self.expected} tables are missing{named}"
            return Change(self.key, "refuse", f"{half}; {self._way_out}")
        wrong = [canonical(name) for name in fact["charsets"] if name and canonical(name) != self.database.charset]
        if wrong:
            other = f"tables in character set {', '.join(wrong)}, wanted {self.database.charset}; tables with rows are not converted"
            back = f"set database.charset back to {wrong[0]}, or " if wrong[0] in ALLOWED else ""
            return Change(self.key, "refuse", f"{other}: {back}{self._way_out}, without its rows")
        return None

    @property
    def _way_out(self) -> str:
        return f"deployment.mysql.recreate({self.database.name!r}, confirm=…) dumps it and makes it anew"

    def order(self, fact: Fact) -> Wire:
        settings = {"charset": self.database.charset, "collation": self.database.collation, "origin": self.origin}
        return {**self.question(), **settings, "script": pack(self.script or b"")}


@dataclass(frozen=True)
class OnlyAccounts(_Mysql):
    """The absence of accounts that nobody should sign in with, and of the test database that everyone may write to.

    These are anonymous accounts, root accounts for other hosts, which an installation leaves behind, and accounts called one of `users` for
    other hosts than `hosts`: of nodes that are gone.
    """

    what = "leftovers"
    users: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        return "no other accounts, remote root or test database"

    def question(self) -> Wire:
        return {**super().question(), "users": list(self.users), "hosts": list(self.hosts)}

    def difference(self, fact: Fact) -> Change | None:
        found = [*fact["accounts"], *(["database test"] if fact["test"] else [])]
        return Change(self.key, "remove", ", ".join(found)) if found else None


def table_names(script: bytes) -> tuple[str, ...]:
    """Return the names in `CREATE TABLE` statements in their order; comments are ignored."""
    text = re.sub(r"/\*.*?\*/|(--|#)[^\n]*", "", script.decode("utf-8", "replace"), flags=re.DOTALL)
    found = re.findall(r"\bCREATE\s+TABLE\s+(?:IF\s+NOT\s+EXISTS\s+)?[`\"]?(\w+)", text, flags=re.IGNORECASE)
    return tuple(dict.fromkeys(found))


def _some(names: Sequence[str], most: int = 3) -> str:
    return ", ".join(names[:most]) + (" …" if len(names) > most else "")
