"""What moto looks up by going through everything, looked up by name: its answers are the same, and do not take longer the more machines there are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from types import SimpleNamespace
from typing import Any

from moto import backends
from moto.ec2.models.tags import TagBackend

from ec2lab.api.patches import corrects

WILDCARDS = frozenset("*?\\[")

# every request of another host's name lists the folder of moto's services anew
backends.list_of_moto_modules = cache(lambda listed=backends.list_of_moto_modules: frozenset(listed()))


@corrects(TagBackend, "describe_tags")
def describe_tags(original: Callable[..., Any], self: Any, filters: Mapping[str, list[str]] | None = None) -> Any:
    """Look at the tags of the resources that a filter names. Each description of one resource asks so, and moto goes through the tags of all."""
    named = (filters or {}).get("resource-id", [])
    if not named or any(WILDCARDS & set(name) for name in named):
        return original(self, filters)
    theirs = {name: self.tags[name] for name in dict.fromkeys(named) if name in self.tags}
    return original(SimpleNamespace(tags=theirs, VALID_TAG_FILTERS=self.VALID_TAG_FILTERS), filters)
