"""The API's state on disk, so that it outlives the daemon: after each change, before the caller has its answer.

moto holds everything in Python objects. They are pickled as they are, in one file that only root may read; the objects in buckets, which may be
large, are files of their own and written once. What pickle cannot take of itself (keys of cryptography, functions without a name, locks) is put
into words here.
"""

from __future__ import annotations

import io
import logging
import marshal
import os
import pickle
import sys
import threading
import types
import uuid
import weakref
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, get_args

from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes, PublicKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_private_key,
    load_der_public_key,
)
from moto.backends import get_backend
from moto.core.base_backend import BackendDict
from moto.s3.models import FakeKey, s3_backends

log = logging.getLogger("state")
PRIVATE_KEYS, PUBLIC_KEYS = get_args(PrivateKeyTypes), get_args(PublicKeyTypes)
LOCK, RLOCK = type(threading.Lock()), type(threading.RLock())
ATTEMPTS = 20  # a call beside may change what is being written


class Body:
    """What an object in a bucket holds, as the file of this name."""

    def __init__(self, name: str):
        self.name = name


class State:
    """What the daemon knows, in `folder`. `beside`: returns what is to be kept besides moto's backends; `guard`: held while EC2's are read."""

    def __init__(self, folder: Path, guard: Any, beside: Callable[[], Mapping[str, Any]]):
        self.file, self.bodies = folder / "state", folder / "objects"
        self._guard, self._beside = guard, beside
        self._lock = threading.Lock()
        self._asked = self._saved = 0
        self._names: weakref.WeakKeyDictionary[Any, tuple[str, Any]] = weakref.WeakKeyDictionary()

    def save(self) -> None:
        """Write everything, unless a save that began later has done it. State that cannot be written is removed: a wrong one must not come back."""
        self._asked += 1
        mine = self._asked
        with self._guard, self._lock:
            if self._saved >= mine:
                return
            upto = self._asked
            try:
                content, used = self._pickled()
                self._write(content)
                self._saved = upto
                for file in self.bodies.glob("*"):  # only now: the state before names others
                    if file.name not in used:
                        file.unlink()
            except Exception:
                log.exception("the API's state cannot be kept: the machines end with the daemon")
                self.file.unlink(missing_ok=True)

    def _pickled(self) -> tuple[bytes, set[str]]:
        """Return the state, and the names of the bodies in it."""
        for attempt in range(ATTEMPTS):
            buffer = io.BytesIO()
            used: set[str] = set()
            try:
                _Pickler(buffer, self._body_of, used).dump({"services": _services(), "buckets": dict(s3_backends.bucket_accounts), **self._beside()})
            except RuntimeError as changed:  # a dictionary grew meanwhile, by a call of another service
                if attempt == ATTEMPTS - 1:
                    raise
                log.info("once more: %s", changed)
                continue
            return buffer.getvalue(), used
        raise AssertionError("not reached")

    def _write(self, content: bytes) -> None:
        half = self.file.with_suffix(".new")
        with open(os.open(half, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(content)
        half.rename(self.file)

    def _body_of(self, key: Any) -> str:
        mark = (key.last_modified, key.contentsize)
        name, written = self._names.get(key, ("", None))
        if written != mark:
            name = uuid.uuid4().hex
            self.bodies.mkdir(mode=0o700, exist_ok=True)
            (self.bodies / name).write_bytes(key.value)
            self._names[key] = (name, mark)
        return name

    def restore(self) -> dict[str, Any]:
        """Put what was saved into moto's backends, and return what was kept besides; empty when nothing was saved."""
        if not self.file.exists():
            return {}
        with open(self.file, "rb") as file:
            found: dict[str, Any] = _Unpickler(file, self.bodies).load()
        for service, accounts in found.pop("services").items():
            for account, regions in accounts.items():
                for region, backend in regions.items():
                    get_backend(service)[account][region] = backend
        s3_backends.bucket_accounts.update(found.pop("buckets"))
        return found


def _services() -> dict[str, dict[str, dict[str, Any]]]:
    """Return the backends in use, by service, account and region."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for backends in list(BackendDict._instances):  # type: ignore[misc]
        for account, region, backend in list(backends.iter_backends()):
            found.setdefault(backends.service_name, {}).setdefault(account, {})[region] = backend
    return found


class _Pickler(pickle.Pickler):
    def __init__(self, file: io.BytesIO, body_of: Callable[[Any], str], used: set[str]):
        super().__init__(file, protocol=5)
        self._body_of, self._used = body_of, used

    def persistent_id(self, thing: Any) -> str | None:
        return thing.name if isinstance(thing, Body) else None

    def reducer_override(self, thing: Any) -> Any:
        if isinstance(thing, FakeKey):
            name = self._body_of(thing)
            self._used.add(name)
            without = {field: value for field, value in vars(thing).items() if field not in ("_value_buffer", "lock")}
            return object.__new__, (type(thing),), {**without, "value": Body(name)}
        if isinstance(thing, PRIVATE_KEYS):
            return _private_key, (thing.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()),)
        if isinstance(thing, PUBLIC_KEYS):
            return _public_key, (thing.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),)
        if isinstance(thing, types.FunctionType) and "<" in thing.__qualname__:
            cells = tuple(cell.cell_contents for cell in thing.__closure__ or ())
            return _function, (marshal.dumps(thing.__code__), thing.__module__, thing.__name__, thing.__defaults__, cells)
        if isinstance(thing, defaultdict) and type(thing) is not defaultdict:  # one of moto's own, whose __init__ takes something else
            members = (dict(vars(thing)), {"default_factory": thing.default_factory})
            return type(thing).__new__, (type(thing),), members, None, iter(list(dict.items(thing)))
        if isinstance(thing, LOCK | RLOCK):
            return (threading.Lock if isinstance(thing, LOCK) else threading.RLock), ()
        return NotImplemented


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: Any, bodies: Path):
        super().__init__(file)
        self._bodies = bodies

    def persistent_load(self, name: str) -> bytes:
        return (self._bodies / name).read_bytes()


def _private_key(der: bytes) -> Any:
    """Make a key again. (A function of cryptography's own cannot be named in a pickle: it says that it is of a module that there is not.)"""
    return load_der_private_key(der, None)


def _public_key(der: bytes) -> Any:
    return load_der_public_key(der)


def _function(code: bytes, module: str, name: str, defaults: Any, cells: tuple[Any, ...]) -> Any:
    """Make a function without a name of its own again, such as the default of one of moto's dictionaries."""
    return types.FunctionType(marshal.loads(code), vars(sys.modules[module]), name, defaults, tuple(map(types.CellType, cells)))
