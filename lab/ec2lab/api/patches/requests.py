"""What EC2 refuses of any request: filters that the action does not have, reserved and overlong tags. And calls that moto cannot answer."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any

from botocore.session import get_session
from moto.core.responses import ActionResult
from moto.ec2.exceptions import EC2ClientError
from moto.ec2.responses import EC2Response

from ec2lab.api.patches import corrects

log = logging.getLogger("api")


@corrects(EC2Response, "call_action")
def call_action(original: Callable[..., Any], self: Any) -> Any:
    """Answer every call with a result or an error of EC2: moto raises Python's own errors for what it has not, which reach the caller as a web page."""
    action = self._get_action()
    try:
        _refuse_filters(action, self.params)
        _refuse_tags(action, self.params)
        return original(self)
    except EC2ClientError as refusal:
        return self.serialized(ActionResult(refusal))
    except NotImplementedError as lacking:
        return self.serialized(ActionResult(EC2ClientError("UnsupportedOperation", f"The lab has not this part of {action}: {lacking}")))
    except Exception as problem:
        log.exception("%s failed", action)
        answer = self.serialized(ActionResult(EC2ClientError("InternalError", f"An internal error has occurred: {type(problem).__name__}")))
        return 500, *answer[1:]


def _refuse_filters(action: str, params: Mapping[str, Any]) -> None:
    """Refuse filters that the API reference does not list for the action ("Error codes for the Amazon EC2 API": InvalidParameterValue)."""
    known = known_filters(action)
    for each in params.get("Filters") or params.get("Filter") or []:
        name = str(each.get("Name", "null")) if isinstance(each, Mapping) else "null"
        if name == "null" or (known and name not in known and name not in UNDOCUMENTED and not name.startswith("tag:")):
            raise EC2ClientError("InvalidParameterValue", f"The filter '{name}' is invalid")


UNDOCUMENTED = ("tag-key", "tag-value", "domain")  # that EC2 takes and the reference has dropped, as moto's tests know them


@cache
def known_filters(action: str) -> frozenset[str]:
    """Return the names of the filters that the API reference, which comes with botocore, lists for an action; none where it lists none."""
    model = get_session().get_service_model("ec2")
    shape = model.operation_model(action).input_shape if action in model.operation_names else None
    member = shape and (shape.members.get("Filters") or shape.members.get("Filter"))
    text = member.documentation if member else ""
    return frozenset(re.findall(r"<code>([^<]+)</code>", text) if re.search(r"<li>\s*<p>\s*<code>", text) else ())


TAG_KEY, TAG_VALUE = 128, 256  # characters; "Tag your Amazon EC2 resources", restrictions


def _refuse_tags(action: str, params: Mapping[str, Any]) -> None:
    """Refuse what EC2 refuses of tags to make ("Tag your Amazon EC2 resources", restrictions): moto takes any on most resources."""
    if action == "DeleteTags":
        return
    for tag in _tags(params):
        key, value = str(tag.get("Key", "")), str(tag.get("Value", ""))
        if key.lower().startswith("aws:"):
            raise EC2ClientError("InvalidParameterValue", "Tag keys starting with 'aws:' are reserved for internal use")
        if not 1 <= len(key) <= TAG_KEY:
            raise EC2ClientError("InvalidParameterValue", f"Tag key exceeds the maximum length of {TAG_KEY} characters, or is empty: '{key[:20]}'")
        if len(value) > TAG_VALUE:
            raise EC2ClientError("InvalidParameterValue", f"Tag value exceeds the maximum length of {TAG_VALUE} characters: '{value[:20]}'")


def _tags(params: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for given in (params, *(params.get("TagSpecifications") or []), *(params.get("TagSpecification") or [])):
        tags = (given.get("Tags") if isinstance(given, Mapping) else None) or []
        yield from (tag for tag in tags if isinstance(tag, Mapping))
