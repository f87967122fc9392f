"""The attempts that nobody wrote down, sent to a real Nginx before stub nodes that answer everything with 200.

So whatever Nginx passes on comes through; each break of the guard must be found, in its application and nowhere else.
"""

from __future__ import annotations

import os

import pytest

from runbook_lib.checks.sso.contents import Contents
from runbook_lib.checks.sso.environment import Login, Scene
from runbook_lib.checks.sso.generated import KNOWN, REST, SPELLINGS, Scan, generate, scan
from runbook_lib.spec import front_doors
from tests.support.nginx_process import HTTPS, Site, site, with_secrets

NET = 20 + os.getpid() % 40
SIDE_DOOR = "/publisher/extensions/app/publisher-apis/apis/authenticate.jag"
CONTENTS = Contents(
    files=(
        SIDE_DOOR, "/publisher/config/publisher.json", "/publisher/modules/store.js", "/publisher/themes/default/partials/list.hbs",
        "/publisher/themes/default/css/style.css", "/store/extensions/app/store-apis/apis/authenticate.jag", "/store/config/store.json",
        "/store/controllers/logout.jag", "/sso/views/register.jag", "/sso/views/css/login.css", "/social/apis/object.jag", "/other/index.jag",
    ),
    mappings=("/publisher/apis/*", "/publisher/test/*", "/store/t/*", "/sso/register", "/social/acs"),
    roots=("/governance/",),
)  # fmt: skip
# name: what the break puts into the configuration, and the applications whose requests then come through
BREAKS = {
    "publisher": ("$front_door_publisher {", '"~^[A-Z]+ /publisher/.*[.]jag$" pass;'),
    "store": ("$front_door_store {", '"~^[A-Z]+ /store/.*[.]jag$" pass;'),
    "sso": ("$front_door_publisher {", '"~^[A-Z]+ /sso/.*[.]jag$" pass;'),
    "social": ("$front_door_store {", '"~^[A-Z]+ /social/.*[.]jag$" pass;'),
    "product": ("$front_door_store {", '"~^[A-Z]+ /carbon/" pass;'),
}


def doors(host: str) -> tuple[front_doors.Door, ...]:
    return front_doors.open_doors(with_secrets("greg-separated", "full").spec, host)


REQUESTS = generate(CONTENTS, doors("store"), doors("publisher"))


def scanned(found: Site) -> dict[str, Scan]:
    """What came of each application's requests."""
    front = f"{found.moved[found.lb.address]}:{HTTPS}"
    hosts = dict(found.ctx.spec.hosts)
    scene = Scene("full", "separated", hosts, dict.fromkeys(hosts, front), {}, Login("admin", "x"), ca=found.ca)
    return {app: scan(scene, chosen, {}) for app, chosen in REQUESTS.items()}


def came_through(scans: dict[str, Scan]) -> set[str]:
    return {app for app, found in scans.items() if found.passed}


def test_nginx_refuses_every_one_of_them(tmp_path):
    with site(with_secrets("greg-separated", "full"), tmp_path, NET) as found:
        scans = scanned(found)
    assert came_through(scans) == set()
    assert all(one.made == one.wanted > 0 for one in scans.values())


@pytest.mark.parametrize("app", BREAKS)
def test_a_break_of_one_applications_guard_is_found_there_and_nowhere_else(app, tmp_path):
    mark, row = BREAKS[app]
    with site(with_secrets("greg-separated", "full"), tmp_path, NET + 1, change=(mark, f"{mark} {row}")) as found:
        scans = scanned(found)
    assert came_through(scans) == {app}


def test_a_guard_of_known_dangers_lets_the_side_door_through_by_its_own_path_and_by_other_spellings(tmp_path):
    with site(with_secrets("greg-separated", "allow-list"), tmp_path, NET + 2) as found:
        passed = {one.request.target for one in scanned(found)["publisher"].passed}
    tricks = {"an encoded letter", "an encoded dot", "a doubled slash", "a parameter at the end", "something behind it", "capitals"}
    assert {SIDE_DOOR, *(SPELLINGS[name](SIDE_DOOR) for name in tricks)} <= passed
    assert not {SPELLINGS[name](SIDE_DOOR) for name in ("a detour", "a parameter inside", "out of the sign-on")} & passed


def test_an_nginx_without_a_guard_lets_everything_through_that_is_a_path(tmp_path):
    with site(with_secrets("greg-separated", "hosts"), tmp_path, NET + 3) as found:
        scans = scanned(found)
    assert came_through(scans) == {*KNOWN, REST}
    refused = {app: one.made - len(one.passed) for app, one in scans.items()}
    assert all(count < scans[app].made / 3 for app, count in refused.items())  # an encoded zero or a way out of the root is no request for Nginx


def test_a_node_that_answers_with_an_error_of_its_own_has_still_been_reached(tmp_path):
    with site(with_secrets("greg-separated", "hosts"), tmp_path, NET + 4) as found:
        for node in found.nodes.values():
            node.stop()
        assert "-> 502" in str(scanned(found)["sso"])
