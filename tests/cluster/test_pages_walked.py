"""The walk through the applications on a real cluster: everything passes, and what Nginx is made to refuse is named."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from runbook_lib.chapters.deployment import Deployment
from runbook_lib.chapters.exercises.actions import changed
from runbook_lib.checks.sso import screenshots
from runbook_lib.errors import ChecksFailed
from tests.conftest import need
from tests.support.sso_deployments import deployed

pytestmark = pytest.mark.full
NUMBER = 48  # of its subnet in the lab's range


@pytest.fixture(scope="module")
def cluster(lab) -> Iterator[Deployment]:
    need(not screenshots.missing(), screenshots.missing())
    operator = f"{lab.lab.gateway}/32"  # where this machine's own connections come from
    small = {"nodes.store": 1, "nodes.publisher": 1, "publisher_allow_cidr": [operator]}
    deployment = deployed(lab, NUMBER, deployment="pages-walked", **small)
    yield deployment
    deployment.close()


def test_every_page_of_every_user_passes(cluster: Deployment) -> None:
    found = cluster.sso.walk_pages()
    assert found.ok, found


def test_a_page_or_a_template_that_nginx_refuses_is_named_and_the_chapter_stops(cluster: Deployment) -> None:
    pages = {"store": "/store/pages/top-assets", "publisher": "/publisher/themes/default/partials/list_assets_table_body.hbs"}
    refuse = [{"nginx": {"host": host, "add": f"location = {path} {{ return 404; }}"}} for host, path in pages.items()]
    named = ".*".join(rf"GET {path} 404 \(asked by " for path in pages.values())
    with changed(cluster, refuse), pytest.raises(ChecksFailed, match=rf"(?s){named}.*also_allow"):
        cluster.sso.walk_pages()
