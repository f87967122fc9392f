"""Checks that an asset stored at the Publisher is shown in the Store, through Nginx and on every Store node itself.

It is a new one that nobody published: the Store shows who is signed in assets in every state (facts 12.8).
The product indexes with a delay (35 s after a node's start, then every 3 s; facts 1.4), so the checks poll for at most 90 s.
A visitor who is not signed in sees no asset: wso2.anonymous.role may not read them (facts 12.3). A test user of the proof
makes and removes the asset; its name begins with `proof-asset-`.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Mapping

from runbook_lib.check import Check, CheckTable
from runbook_lib.checks.sso.environment import Login, Scene, refuse_unagreed
from runbook_lib.checks.sso.proof import CHAPTER
from runbook_lib.checks.sso.proof_users import test_users
from runbook_lib.waiting import wait_until
from runbook_lib.webclient.client import Client
from runbook_lib.webclient.response import Answer

TYPE = "restservice"
ASSETS = f"/apis/assets?type={TYPE}"
STORES = "A Publisher user stores an asset"
UNASKED = "Who is not signed in sees no asset"
SECONDS = 90.0
PAUSE = 0.5  # seconds between two requests while polling


def verify_published(scene: Scene, *, agreed: bool = False) -> CheckTable:
    """Store an asset, look for it at Nginx and at every Store node, remove it, and return the checks.

    Raises `RunbookError` when the scene asks first and nobody agreed, or when the test users cannot be made.
    """
    refuse_unagreed(scene.ask_first, agreed)
    with test_users(scene) as logins:
        rows = _published(scene, logins)
    return CheckTable([*rows, logins.check(CHAPTER, "publishing")])


def _published(scene: Scene, logins: Mapping[str, Login]) -> CheckTable:
    name = f"proof-asset-{secrets.token_hex(4)}"
    where = f"https://{scene.hosts['publisher']}/publisher"
    author = scene.visitor()
    fields = {"overview_name": name, "overview_context": f"/{name}", "overview_version": "1.0.0"}
    try:
        flow = author.sign_in_at(scene.hosts["publisher"], "publisher", *_pair(logins["publisher-only"]))
    except OSError as error:
        return CheckTable([_row("asset-published", STORES, "fail", "made", f"nobody could sign in: {error}", where)])
    try:
        made = author.request("POST", where + ASSETS, form=fields)
    except OSError as error:  # it may have been made: it is looked for, and removed
        rows = [_row("asset-published", STORES, "fail", "made", f"no answer in time: {error}; whether {name} was made is not known", where)]
        asset = _found_id(author, where, name)
        return CheckTable([*rows, _removed(author, where, asset)] if asset else rows)
    asset = made_id(made)
    if asset is None:
        seen = f"HTTP {made.status}; signed in: {flow.final.status} at {flow.final.url.split('?')[0]}"
        return CheckTable([_row("asset-published", STORES, "fail", "made", seen, where)])
    state = _made(made).get("lifecycleState")
    rows = [_row("asset-published", STORES, "pass", "made", f"made as {asset}{f', in the state {state}' if state else ''}", where)]
    try:
        rows += [_look(scene, place, visitor, name, logins["store-only"]) for place, visitor in _places(scene)]
        rows.append(_look_unasked(scene, name, known=all(row.ok for row in rows)))
    finally:
        rows.append(_removed(author, where, asset))
    return CheckTable(rows)


def _removed(author: Client, where: str, asset: str) -> Check:
    """Remove the asset and return the check that it is gone; it raises nothing about an answer that did not come."""
    try:
        gone = author.request("DELETE", f"{where}/apis/assets/{asset}?type={TYPE}")
    except OSError as error:
        status, seen = "fail", f"no answer in time: {error}; remove {asset} in the Publisher"
    else:
        status, seen = "fail" if gone.status >= 300 else "pass", str(gone.status)
    return _row("asset-removed", "The asset is removed again", status, "removed", seen, where)


def _found_id(author: Client, where: str, name: str) -> str | None:
    """Return the id of the asset of this name as the Publisher lists it within `SECONDS` seconds; None when it lists none, or does not answer."""

    def look() -> str | None:
        told = json.loads(author.get(where + ASSETS).text)
        listed = told.get("data") if isinstance(told, dict) else ()
        return next((str(one["id"]) for one in listed or () if one.get("name") == name), None)

    try:
        return wait_until(look, SECONDS, pause=PAUSE, again_after=lambda error: _silent(error) or isinstance(error, ValueError))
    except (OSError, ValueError):
        return None


def _pair(login: Login) -> tuple[str, str]:
    return login.user, login.password


def _places(scene: Scene) -> list[tuple[str, Client]]:
    """Return the places with a client each: the Store through Nginx, then each Store node under the Store's host name."""
    return [("store", scene.visitor()), *((node.name, scene.visitor_of(node)) for node in scene.nodes["store"])]


def _look(scene: Scene, place: str, visitor: Client, name: str, login: Login) -> Check:
    """Sign in at one place as a Store user, poll for the asset up to `SECONDS` seconds, and return the check. A request without an answer is made again."""
    url = _list_of(scene)
    started = time.monotonic()
    found, said = False, ""
    try:
        flow = wait_until(
            lambda: visitor.sign_in_at(scene.hosts["store"], "store", *_pair(login)), SECONDS, pause=PAUSE, enough=lambda _: True, again_after=_silent
        )
        said = f"signed in: {flow.final.status} at {flow.final.url.split('?')[0]}"
        found = wait_until(lambda: f'"{name}"' in visitor.get(url).text, started + SECONDS - time.monotonic(), pause=PAUSE, again_after=_silent)
    except OSError as error:
        said = "; ".join(filter(None, (f"no answer in time: {error}", said)))
    spent = time.monotonic() - started
    seen = f"seen after {spent:.1f} s" if found else f"not seen in {spent:.0f} s; {said}"
    title = "The Store shows it to a Store user" if place == "store" else f"{place} shows it to a Store user"
    return _row(f"asset-seen-{place}", title, "pass" if found else "fail", f"seen within {SECONDS:.0f} s", seen, url if place == "store" else place)


def _silent(error: BaseException) -> bool:
    """Return whether a request got no answer: load is silent too, so it is made again."""
    return isinstance(error, OSError)


def _look_unasked(scene: Scene, name: str, known: bool) -> Check:
    """Return the check that a visitor who is not signed in sees no asset.

    `known`: every place shows the asset to a Store user; otherwise not seeing it proves nothing and the check is undecided.
    """
    url = _list_of(scene)
    try:
        answer = scene.visitor().get(url)
    except OSError as error:
        return _row("asset-anonymous", UNASKED, "undecided", "HTTP 200, not the asset", f"no answer in time: {error}", url)
    shown = f'"{name}"' in answer.text
    seen = f"HTTP {answer.status}, {'the asset' if shown else 'not the asset'}{'' if known else ', but the Store does not have it everywhere'}"
    status = "fail" if shown else "pass" if answer.status == 200 and known else "undecided"
    return _row("asset-anonymous", UNASKED, status, "HTTP 200, not the asset", seen, url)


def _list_of(scene: Scene) -> str:
    """Return the URL of the Store's list of assets."""
    return f"https://{scene.hosts['store']}/store{ASSETS}"


def made_id(answer: Answer) -> str | None:
    """Return the id of the asset that was made, from the top of the JSON response or below `data`; None when there is none."""
    found = _made(answer).get("id")
    return str(found) if found else None


def _made(answer: Answer) -> Mapping[str, object]:
    """Return what a response tells of the asset that was made; nothing when none was."""
    try:
        told = json.loads(answer.text)
    except ValueError:
        return {}
    if answer.status not in (200, 201) or not isinstance(told, dict):
        return {}
    inner = told.get("data")
    return inner if isinstance(inner, dict) and not told.get("id") else told


def _row(id: str, title: str, status: str, expected: str, observed: str, where: str) -> Check:
    return Check(id, title, status, expected, observed, where, CHAPTER)  # type: ignore[arg-type]
