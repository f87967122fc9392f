"""What a disaster drill writes and reads meanwhile: assets at the Publisher, or accounts at the manager of an AS cluster.

All of it goes through Nginx, as users do it: connections to single machines would end with them. Names begin with `drill-`, so that whoever
finds one knows where it is from, and the next drill removes what one that was killed has left.
"""

from __future__ import annotations

import contextlib
import json
import re
import secrets
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Protocol

from lxml import etree

from runbook_lib.checks.drill.outage import Trial, Write
from runbook_lib.checks.secrets import user_store
from runbook_lib.checks.sso.environment import Login, Scene
from runbook_lib.checks.sso.publishing import ASSETS, TYPE, made_id
from runbook_lib.errors import RunbookError
from runbook_lib.operations import demo_app
from runbook_lib.redaction import redactor
from runbook_lib.waiting import wait_until
from runbook_lib.webclient.client import Client
from runbook_lib.webclient.response import Answer

NAME = re.compile(r"drill-[0-9a-f]{6}-\d{4}")
EVERY = 1.0  # seconds from one write to the next, and between two looks
MANY = 1000  # entries of a list that are asked for
VERSION = "1.0.0"


class Data(Protocol):
    """What is written and read. A method that is refused raises RunbookError, one without an answer OSError."""

    what: str  # in the plural, such as "assets"

    def write(self, name: str) -> None:
        """Write one; it returns when the product has said that it is done."""

    def look(self, name: str) -> None:
        """Do what a user does, as a new one: sign in everywhere, and find `name`. Raises where any of it fails."""

    def found(self) -> dict[str, str]:
        """Return what is there of all drills by name: "" where it is whole, else what is wrong with it."""

    def remove(self) -> None:
        """Remove what is there of all drills."""


def stem() -> str:
    """Return the beginning of the names of a new drill."""
    return f"drill-{secrets.token_hex(3)}"


class Assets:
    """Assets of the Governance Registry: written by a user of the Publisher, and read in Publisher and Store by users of each."""

    what = "assets"

    def __init__(self, scene: Scene, logins: Mapping[str, Login]):
        self._scene, self._logins = scene, logins
        self._author: Client | None = None
        self._publisher = f"https://{scene.hosts['publisher']}/publisher"
        self._lists = {app: f"https://{scene.hosts[app]}/{app}{ASSETS}&start=0&count={MANY}" for app in ("publisher", "store")}

    def write(self, name: str) -> None:
        author = self._author or self._signed_in("publisher")
        self._author = None  # until it has worked: a session may be of a node that is gone
        made = author.request("POST", self._publisher + ASSETS, form=_fields(name))
        if made_id(made) is None:
            raise _refused("the Publisher made no asset", made)
        self._author = author

    def look(self, name: str) -> None:
        for app in self._lists:
            if name not in self._listed(self._signed_in(app), app):
                raise RunbookError(f"the {app.title()} does not show {name}")

    def found(self) -> dict[str, str]:
        visitors = {app: self._signed_in(app) for app in self._lists}
        listed = {app: self._listed(visitor, app) for app, visitor in visitors.items()}
        there: dict[str, str] = {}
        for name in sorted({*listed["publisher"], *listed["store"]}):
            missing = [app for app, names in listed.items() if name not in names]
            there[name] = f"not in the {missing[0].title()}'s list" if missing else self._wrong(visitors["publisher"], name, listed)
        return there

    def _wrong(self, visitor: Client, name: str, listed: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> str:
        """Return what differs between what was written and what is shown: in both lists, and alone, as the registry has it; "" for nothing."""
        alone = visitor.get(f"{self._publisher}/apis/assets/{listed['publisher'][name].get('id')}?type={TYPE}")
        shown = {"the Publisher's list": listed["publisher"][name], "the Store's list": listed["store"][name], "the registry": _entry(alone)}
        wrong = [place for place, entry in shown.items() if {key: _attributes(entry).get(key) for key in _fields(name)} != _fields(name)]
        return f"not as it was written in {' and '.join(wrong)}" if wrong else ""

    def remove(self) -> None:
        visitor = self._signed_in("publisher")
        for entry in self._listed(visitor, "publisher").values():
            visitor.request("DELETE", f"{self._publisher}/apis/assets/{entry.get('id')}?type={TYPE}")

    def _signed_in(self, app: str) -> Client:
        visitor, login = self._scene.visitor(), self._logins[f"{app}-only"]
        flow = visitor.sign_in_at(self._scene.hosts[app], app, login.user, login.password)
        if flow.final.status != 200 or flow.final.login_form:
            raise _refused(f"the {app.title()} does not sign its user in", flow.final)
        return visitor

    def _listed(self, visitor: Client, app: str) -> dict[str, Mapping[str, Any]]:
        """Return the entries of an application's list that are of a drill, by name."""
        answer = visitor.get(self._lists[app])
        entries = _json(answer).get("data")
        if answer.status != 200 or not isinstance(entries, list):
            raise _refused(f"the {app.title()} shows no list", answer)
        return {str(entry["name"]): entry for entry in entries if isinstance(entry, dict) and NAME.fullmatch(str(entry.get("name")))}


class Accounts:
    """Accounts in the user store of an AS cluster: written and read at the manager, while the workers' application is visited.

    The product lists at most 100 names (`MaxUserNameListLength` of user-mgt.xml), so those that were written here are asked for by the hundred.
    """

    what = "accounts"

    def __init__(self, scene: Scene):
        self._scene = scene
        self._manager = f"https://{scene.hosts['mgt']}"
        self._password = f"Pw1-{secrets.token_urlsafe(15)}"
        self._hundreds = {"drill-"}  # how names begin
        redactor.add("drill/account", self._password)

    def write(self, name: str) -> None:
        self._hundreds.add(name[:-2])
        self._ask("addUser", userName=name, password=self._password)

    def look(self, name: str) -> None:
        page = self._scene.visitor().get(f"https://{self._scene.hosts['as']}{demo_app.PATH}")
        if page.status != 200:
            raise _refused("the application does not answer", page)
        if name not in self._names(name):
            raise RunbookError(f"the manager does not list {name}")

    def found(self) -> dict[str, str]:
        return {name: "" if self._signs_in(name) else "cannot sign in" for name in self._all()}

    def remove(self) -> None:
        for name in self._all():
            self._ask("deleteUser", userName=name)

    def _signs_in(self, name: str) -> bool:
        """Return whether the product takes the password: who has no role may ask for nothing but a change of his own, here to the same one."""
        return not user_store.change_password(user_store.AS, self._scene.visitor(), self._manager, name, self._password, self._password)

    def _all(self) -> list[str]:
        return sorted({name for begins in tuple(self._hundreds) for name in self._names(f"{begins}*")})

    def _names(self, like: str) -> list[str]:
        return [name for name in self._ask("listUsers", filter=like, limit="-1") if NAME.fullmatch(name)]

    def _ask(self, operation: str, **arguments: object) -> list[str]:
        """Call an operation of the user store and return what it says."""
        admin = self._scene.admin
        answer = user_store.ask(user_store.AS, self._scene.visitor(), self._manager, admin.user, admin.password, operation, **arguments)
        if answer.status not in user_store.DONE:
            raise _refused(f"the manager refuses {operation}", answer)
        root = etree.fromstring(answer.text.encode(), etree.XMLParser(resolve_entities=False, no_network=True)) if answer.text.strip() else None
        return [] if root is None else [found.text or "" for found in root.iter(f"{{{user_store.AS.namespace}}}return")]


@dataclass
class Observers:
    """A writer and a reader, each in a thread of its own within `with`, which ask again and again until the end.

    `clock`: seconds since the drill's beginning; `late`: by how many seconds at most this machine was late since such a second. `anchor` is the
    first one written, which the reader looks for.
    """

    data: Data
    stem: str
    clock: Callable[[], float]
    late: Callable[[float], float]
    writes: list[Write] = field(default_factory=list)
    looks: list[Trial] = field(default_factory=list)

    def __enter__(self) -> Observers:
        self._ended = threading.Event()
        self._error: BaseException | None = None
        self._threads = [threading.Thread(target=self._run, args=(work,), name=work.__name__, daemon=True) for work in (self._write, self._look)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """End both. Raises the error that ended one of them, unless the block raised one: it is an error of this program."""
        self._ended.set()
        for thread in self._threads:
            thread.join(60)
        if self._error and not error:
            raise self._error

    @property
    def anchor(self) -> str:
        """The name of the first one that was written, "" before."""
        return next((write.name for write in list(self.writes) if not write.failure), "")

    @property
    def alive(self) -> bool:
        return all(thread.is_alive() for thread in self._threads)

    def written(self, since: float = 0.0) -> list[Write]:
        """Return what was begun and done since that second."""
        return [write for write in list(self.writes) if not write.failure and write.at >= since]

    def _run(self, work: Callable[[float], None]) -> None:
        try:
            while not self._ended.is_set():
                due = self.clock()
                work(due)
                self._ended.wait(max(0.0, due + EVERY - self.clock()))
        except BaseException as error:  # raised again in the drill's own thread
            self._error = error
            self._ended.set()

    def _write(self, at: float) -> None:
        name = f"{self.stem}-{len(self.writes) + 1:04d}"
        failure = _outcome(lambda: self.data.write(name))
        self.writes.append(Write(at, self.clock() - at, failure, self.late(at), name))

    def _look(self, at: float) -> None:
        if anchor := self.anchor:
            failure = _outcome(lambda: self.data.look(anchor))
            self.looks.append(Trial(at, self.clock() - at, failure, self.late(at)))


def settled(data: Data, expected: Sequence[str], seconds: float, pause: float = EVERY) -> dict[str, str]:
    """Return what is there once all that is `expected` is there and whole, else what is there after `seconds`: lists come from indexes, which follow."""

    def there() -> dict[str, str]:
        with contextlib.suppress(OSError, RunbookError):
            return data.found()
        return {}

    return wait_until(there, seconds, pause=pause, enough=lambda found: {*expected} <= found.keys() and not any(found.values()))


def cleared(data: Data, seconds: float, pause: float = EVERY) -> list[str]:
    """Remove everything of all drills, and return what is still there after `seconds`. Raises RunbookError or OSError where nobody can look."""

    def left() -> list[str]:
        data.remove()
        return sorted(data.found())

    return wait_until(left, seconds, pause=pause, enough=lambda names: not names, again_after=lambda error: isinstance(error, OSError | RunbookError))


def _outcome(work: Callable[[], None]) -> str:
    """Return why it failed, "" when it did not."""
    try:
        work()
    except RunbookError as error:
        return error.what
    except OSError as error:
        return f"{type(error).__name__}: {error}".rstrip(": ")
    return ""


def _fields(name: str) -> dict[str, str]:
    """Return what is written of an asset. Each field follows from its name, so that what comes back can be compared."""
    return {"overview_name": name, "overview_context": f"/{name}", "overview_version": VERSION}


def _refused(what: str, answer: Answer) -> RunbookError:
    return RunbookError(f"{what}: HTTP {answer.status}", answer.url.split("?")[0])


def _json(answer: Answer) -> dict[str, Any]:
    with contextlib.suppress(ValueError):
        told = json.loads(answer.text)
        return told if isinstance(told, dict) else {}
    return {}


def _entry(answer: Answer) -> Mapping[str, Any]:
    """Return the asset of an answer, from its top or below `data`; {} when there is none."""
    told = _json(answer) if answer.status == 200 else {}
    inner = told.get("data")
    return inner if isinstance(inner, dict) else told


def _attributes(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    found = entry.get("attributes")
    return found if isinstance(found, dict) else {}
