"""What AWS refuses while it is not done with an earlier change: for a lab that is as slow as AWS."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from moto.iam.exceptions import DeleteConflictException
from moto.iam.responses import IamResponse
from moto.s3.exceptions import S3ClientError
from moto.s3.models import S3Backend
from moto.s3.responses import S3Response
from moto.ssm.exceptions import ParameterAlreadyExists
from moto.ssm.responses import SimpleSystemManagerResponse

from ec2lab.api.patches import corrects, pace

Things = Callable[..., list[str]]


class BucketOperationAborted(S3ClientError):
    code = "OperationAborted"

    def __init__(self) -> None:
        super().__init__("A conflicting conditional operation is currently in progress against this resource. Please try again.")


def _of_iam(**parameters: str) -> Things:
    return lambda self: [f"{kind} {self._get_param(parameter)}" for kind, parameter in parameters.items()]


def _deleted(self: Any) -> list[str]:
    return [f"parameter {name}" for name in self._get_param("Names") or [self._get_param("Name")]]


def _created(self: Any) -> list[str]:
    return [] if self._get_param("Overwrite") else _deleted(self)


# What a call changes, and how it is refused while an earlier change of that is not done.
TABLE: tuple[tuple[type, str, Things, Callable[[], Exception] | None], ...] = (
    # "DeleteParameter", Systems Manager API reference: wait for 30 seconds. Until then the name is taken, and has no value.
    (SimpleSystemManagerResponse, "delete_parameter", _deleted, None),
    (SimpleSystemManagerResponse, "delete_parameters", _deleted, None),
    (SimpleSystemManagerResponse, "put_parameter", _created, ParameterAlreadyExists),
    # "Changes that I make are not always immediately visible", IAM user guide: what was just taken out of it is still there
    (IamResponse, "remove_role_from_instance_profile", _of_iam(profile="InstanceProfileName", role="RoleName"), None),
    (IamResponse, "delete_role_policy", _of_iam(role="RoleName"), None),
    (IamResponse, "delete_instance_profile", _of_iam(profile="InstanceProfileName"), lambda: DeleteConflictException("Cannot delete entity, it has roles.")),
    (IamResponse, "delete_role", _of_iam(role="RoleName"), lambda: DeleteConflictException("Cannot delete entity, it is in use or has policies.")),
    # "Conflicting conditional operation", AWS re:Post: a deleted bucket's name can take hours
    (S3Response, "delete_bucket", lambda self: [f"bucket {self.bucket_name}"], None),
    (S3Backend, "create_bucket", lambda self, name, *more, **named: [f"bucket {name}"], BucketOperationAborted),
)


def _held(things: Things, refusal: Callable[[], Exception] | None) -> Callable[..., Any]:
    def answer(original: Callable[..., Any], self: Any, *given: Any, **named: Any) -> Any:
        slow = pace()
        if slow is None:
            return original(self, *given, **named)
        changed = things(self, *given, **named)
        if refusal and any(map(slow.changes, changed)):
            raise refusal()
        made = original(self, *given, **named)
        for thing in changed:
            slow.change(thing)
        return made

    return answer


for _owner, _method, _things, _refusal in TABLE:
    corrects(_owner, _method)(_held(_things, _refusal))
