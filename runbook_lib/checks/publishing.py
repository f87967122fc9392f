"""What is published at the Publisher is seen in the Store: by a visitor through Nginx, and on every Store node itself.

The product indexes with a delay (35 s after a node's start, then every 3 s; facts 1.4), so the rows poll, at most 90 s.
The asset is made and removed by the test user of the proof; its name says what it is.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Mapping

from runbook_lib.checks import Check, CheckTable
from runbook_lib.checks.answers import Answer
from runbook_lib.checks.scene import NODE, Login, Scene
from runbook_lib.checks.sso import CHAPTER
from runbook_lib.checks.users import test_users
from runbook_lib.checks.visitor import Visitor
from runbook_lib.errors import RunbookError

TYPE = "restservice"
ASSETS = f"/apis/assets?type={TYPE}"
PUBLISHES = "A Publisher user publishes an asset"
SECONDS = 90.0
PAUSE = 0.5  # seconds between two looks


def verify_published(scene: Scene, *, agreed: bool = False) -> CheckTable:
    """Publish an asset, look for it at every place where the Store is served, remove it again.

    Raises `RunbookError` where the user store is not ours alone and nobody agreed.
    """
    if scene.ask_first and not agreed:
        raise RunbookError("an asset is published by a test user, and nobody agreed to make one", next_step="say agreed=True")
    with test_users(scene) as logins:
        return _published(scene, logins)


def _published(scene: Scene, logins: Mapping[str, Login]) -> CheckTable:
    name = f"proof-asset-{secrets.token_hex(4)}"
    where = f"https://{scene.hosts['publisher']}/publisher"
    author = scene.visitor()
    flow = author.sign_in_at(scene.hosts["publisher"], "publisher", *_pair(logins["publisher-only"]))
    fields = {"overview_name": name, "overview_context": f"/{name}", "overview_version": "1.0.0"}
    made = author.request("POST", where + ASSETS, form=fields)
    asset = made_id(made)
    if asset is None:
        seen = f"HTTP {made.status}; signed in: {flow.final.status} at {flow.final.url.split('?')[0]}"
        return CheckTable([_row("asset-published", PUBLISHES, "fail", "made", seen, where)])
    try:
        rows = [_row("asset-published", PUBLISHES, "pass", "made", f"made as {asset}", where)]
        rows += [_look(place, url, visitor, name) for place, url, visitor in _places(scene)]
    finally:
        gone = author.request("DELETE", f"{where}/apis/assets/{asset}?type={TYPE}")
    status = "fail" if gone.status >= 300 else "pass"
    rows.append(
        _row(
            "asset-removed",
            "The asset is removed again",
            status,
            "removed",
            str(gone.status),
            where,
        )
    )
    return CheckTable(rows)


def _pair(login: Login) -> tuple[str, str]:
    return login.user, login.password


def _places(scene: Scene) -> list[tuple[str, str, Visitor]]:
    """The Store through Nginx, then at each of its nodes."""
    found = [("store", f"https://{scene.hosts['store']}/store{ASSETS}", scene.visitor())]
    return found + [(node.name, f"{node.origin}/store{ASSETS}", scene.visitor(NODE, node)) for node in scene.nodes["store"]]


def _look(place: str, url: str, visitor: Visitor, name: str) -> Check:
    started = time.monotonic()
    found = _until(lambda: f'"{name}"' in visitor.get(url).text, started + SECONDS)
    spent = time.monotonic() - started
    seen = f"seen after {spent:.1f} s" if found else f"not seen in {spent:.0f} s"
    title = "The Store shows it" if place == "store" else f"{place} shows it"
    return _row(f"asset-seen-{place}", title, "pass" if found else "fail", f"seen within {SECONDS:.0f} s", seen, url)


def _until(holds: Callable[[], bool], deadline: float) -> bool:
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(PAUSE)
    return True


def made_id(answer: Answer) -> str | None:
    """Id of the asset that was made; the product answers with it, at the top or below `data`."""
    try:
        told = json.loads(answer.text)
    except ValueError:
        return None
    if answer.status not in (200, 201) or not isinstance(told, dict):
        return None
    inner = told.get("data")
    found = told.get("id") or (inner.get("id") if isinstance(inner, dict) else None)
    return str(found) if found else None


def _row(id: str, title: str, status: str, expected: str, observed: str, where: str) -> Check:
    return Check(id, title, status, expected, observed, where, CHAPTER)  # type: ignore[arg-type]
