"""Secrets in SSM Parameter Store, by name, below `/runbook/<deployment>/`. Every value that is read is registered for redaction.

Parameters of the standard tier hold 4096 bytes (AWS: "Managing parameter tiers"), so keys are stored as PEM and are
EC, or RSA of 2048 bits; nothing larger is stored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from runbook_lib.errors import CloudError
from runbook_lib.redaction import redactor
from runbook_lib.waiting import wait_until

LIMIT = 4096
DELETED = 60.0  # seconds after which the name of a deleted parameter must be free again
FIRST_PAUSE, LONGEST_PAUSE = 0.3, 5.0  # seconds between two tries, growing
PUBLIC = (
    "ca.pem",
    "evidence-key.pub",
    "host-keys/",
    "lock",
    "chapters/",
    "client-tokens",
    "exercises/",
    "in-use",
    "restoring",
    "rotating/ca.pem",
    "retired/ca.pem",
)  # in clear: certificates, public keys, who works here, what held


class Vault:
    """The values of one deployment. Values that were read are kept for the life of the object: they change only through `put`.

    `ssm` is an SSM client whose errors are already `CloudError` with a `code` (see `client.Api`). What is stored gets `tags`, and secrets
    are encrypted with `kms_key`, a key of KMS; without it with AWS's own.
    """

    def __init__(self, ssm: Any, deployment: str, tags: Mapping[str, str] | None = None, kms_key: str | None = None):
        self.ssm, self.deployment = ssm, deployment
        self._tags = [{"Key": key, "Value": value} for key, value in (tags or {}).items()]
        self._key = {"KeyId": kms_key} if kms_key else {}
        self.prefix = f"/runbook/{deployment}/"
        self._known: dict[str, str] = {}
        self._looking = self._whole = False  # in the block of `one_look`; whether `_known` is all that is stored

    def ensure(self, name: str, make: Callable[[], str], secure: bool = True) -> str:
        """Return the value of `name`, made and stored when there is none. Of two that do so at once, both get the value stored first."""
        if (found := self.find(name)) is not None:
            return found
        return value if self.create(name, value := make(), secure) else self.get(name)

    def get(self, name: str) -> str:
        """Return the value of `name`. Raises CloudError when there is none."""
        if (found := self.find(name)) is None:
            raise CloudError(
                f"{self.prefix}{name} is not in SSM Parameter Store",
                f"deployment {self.deployment}",
                "run chapter 01_launch_ec2: it makes every secret that later chapters read",
            )
        return found

    def find(self, name: str, fresh: bool = False) -> str | None:
        """Return the value of `name`, or None. `fresh`: read it again even when it was read before."""
        if name in self._known and not fresh:
            return self._known[name]
        try:
            answer = self.ssm.get_parameter(Name=self.prefix + name, WithDecryption=True)
        except CloudError as error:
            if error.code == "ParameterNotFound":
                self._known.pop(name, None)
                return None
            raise
        return self._remember(name, answer["Parameter"]["Value"])

    def put(self, name: str, value: str, secure: bool = True) -> str:
        """Store `value`, replacing any other, and return it. Raises CloudError when it is empty or larger than 4096 bytes."""
        return self._put(name, value, secure, overwrite=True)

    def create(self, name: str, value: str, secure: bool = True) -> bool:
        """Store `value` only where there is none yet; return False when there is one. SSM decides atomically.

        A name that was just deleted SSM may call taken for half a minute ("DeleteParameter", API reference) and yet know no value of it. This waits
        for it, and raises CloudError when that does not end.
        """

        def attempt() -> bool | None:
            try:
                self._put(name, value, secure, overwrite=False)
            except CloudError as error:
                if error.code == "ParameterAlreadyExists":
                    return None if self.find(name, fresh=True) is None else False
                raise
            return True

        made = wait_until(attempt, DELETED, pause=FIRST_PAUSE, longest=LONGEST_PAUSE, enough=lambda made: made is not None)
        if made is None:
            what = f"SSM says that {self.prefix}{name} is there, and has no value of it, for {DELETED:.0f} s after it was deleted"
            error = CloudError(what, f"deployment {self.deployment}", "wait a minute, then run this again")
            error.transient = True
            raise error
        return made

    def delete(self, name: str) -> bool:
        """Remove `name`; return False when it did not exist."""
        self._known.pop(name, None)
        try:
            self.ssm.delete_parameter(Name=self.prefix + name)
        except CloudError as error:
            if error.code == "ParameterNotFound":
                return False
            raise
        return True

    @contextmanager
    def one_look(self) -> Iterator[None]:
        """Let `read_all` and `names` ask SSM once in the block, in which nothing is stored or deleted."""
        self._whole, self._looking = False, True
        try:
            yield
        finally:
            self._looking = False

    def read_all(self) -> dict[str, str]:
        """Return all values by name (SSM returns ten at a time), so that a chapter reads them once and not one by one."""
        if self._looking and self._whole:
            return dict(self._known)
        found = {p["Name"].removeprefix(self.prefix): p["Value"] for page in self._pages(WithDecryption=True) for p in page}
        for name, value in found.items():
            self._remember(name, value)
        self._known, self._whole = found, True  # at once: several threads may read
        return dict(found)

    def names(self) -> tuple[str, ...]:
        """Return the names that are stored, sorted; values are not read."""
        if self._looking and self._whole:
            return tuple(sorted(self._known))
        found = [p["Name"].removeprefix(self.prefix) for page in self._pages(WithDecryption=False) for p in page]
        return tuple(sorted(found))

    def delete_all(self) -> tuple[str, ...]:
        """Remove everything of the deployment; return the names removed."""
        names = self.names()
        for start in range(0, len(names), 10):
            self.ssm.delete_parameters(Names=[self.prefix + name for name in names[start : start + 10]])
        self._known = {}
        return names

    def _pages(self, **options: Any) -> Any:
        token: dict[str, str] = {}
        while True:
            answer = self.ssm.get_parameters_by_path(Path=self.prefix, Recursive=True, **options, **token)
            yield answer["Parameters"]
            if not answer.get("NextToken"):
                return
            token = {"NextToken": answer["NextToken"]}

    def _put(self, name: str, value: str, secure: bool, overwrite: bool) -> str:
        size = len(value.encode())
        if not 0 < size <= LIMIT:
            raise CloudError(
                f"{name}: {size} bytes cannot be stored, SSM's standard tier takes 1 to {LIMIT}",
                self.prefix + name,
                "store a key as PEM, EC or RSA of 2048 bits",
            )
        clear = not secure or name.startswith(PUBLIC)
        kind: dict[str, Any] = {"Type": "String"} if clear else {"Type": "SecureString", **self._key}
        tags = {"Tags": self._tags} if self._tags and not overwrite else {}  # SSM refuses both in one call
        self.ssm.put_parameter(Name=self.prefix + name, Value=value, Overwrite=overwrite, **kind, **tags)
        if self._tags and overwrite:
            self.ssm.add_tags_to_resource(ResourceType="Parameter", ResourceId=self.prefix + name, Tags=self._tags)
        return self._remember(name, value)

    def _remember(self, name: str, value: str) -> str:
        if not name.startswith(PUBLIC):
            redactor.add(name, value)
        self._known[name] = value
        return value
