"""What may happen to a person in the middle of an apply: Cancel, an interrupt, a closed browser, a colleague.

The load balancer loses a package and a file is changed by hand; while somebody else (this test) holds dpkg's lock there, an
apply stands still in its first stage for as long as the test wants: nothing here hangs on how fast a machine is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runbook_lib.aws.lock import holder
from tests.support.deployments import Deployed
from tests.support.jupyterlab_server import Desk, chapters_for, chromium_running, clone, idle, jupyterlab, menu, open_chapter, picture
from tests.support.lab_fixtures import eventually

NGINX = "05_configure_nginx"
HOLD = "import fcntl, time; f = open('/var/lib/dpkg/lock-frontend', 'w'); fcntl.lockf(f, fcntl.LOCK_EX); print('held', flush=True); time.sleep(600)"


class Balancer:
    """lb-1, with a hand on its package manager."""

    def __init__(self, deployed: Deployed):
        self.deployed = deployed
        self.host = deployed.open().fleet()["lb-1"]

    def sh(self, script: str) -> str:
        done = self.host.run("sudo -n sh", script.encode())
        assert done.rc == 0, done.stderr
        return done.stdout

    def spoil(self) -> None:
        """Two stages to repair: a package is gone, and a file has another line."""
        self.sh("DEBIAN_FRONTEND=noninteractive apt-get -q -y remove nginx >/dev/null 2>&1; echo '# by hand' >> /etc/nginx/nginx.conf")
        self.sh(f'systemd-run -q --unit=hold-dpkg python3 -c "{HOLD}"; until journalctl -u hold-dpkg | grep -q held; do sleep 0.1; done')

    def let_go(self) -> None:
        self.sh("systemctl stop hold-dpkg 2>/dev/null || true; systemctl reset-failed hold-dpkg 2>/dev/null || true")

    def whole(self) -> bool:
        return not self.deployed.open().nginx.plan()


@pytest.fixture
def balancer(separated: Deployed) -> Iterator[Balancer]:
    """The load balancer in need of an apply that stands still; whole again afterwards."""
    found = Balancer(separated)
    found.spoil()
    try:
        yield found
    finally:
        found.let_go()
        deployment = separated.open()
        eventually(lambda: (held := holder(deployment.vault)) is None or held.expired, "the lock is free again", 120)
        if plan := deployment.nginx.plan():
            deployment.nginx.apply(plan)


@pytest.fixture
def browser() -> Iterator[Any]:
    with chromium_running() as found:
        yield found


def applying(page: Any) -> None:
    """Until the apply is under way, and stands still."""
    page.locator(".rb-progress").get_by_text(re.compile("package nginx")).first.wait_for()


def the_card(page: Any, words: str) -> None:
    """Until one amber card says so; there is no other, and no traceback."""
    card = page.locator(".rb-stopped")
    card.get_by_text(words).wait_for()
    assert "it goes on from here" in card.inner_text()
    assert (card.count(), page.locator(".rb-error").count(), page.get_by_text("Traceback").count()) == (1, 0, 0)


def finishes(page: Any, balancer: Balancer) -> None:
    """The cell once more, which goes on by itself, then the rest: the chapter ends as if nothing had happened."""
    cell = page.locator(".jp-CodeCell", has_text="nginx.apply(plan)")
    cell.locator(".cm-content").click()
    menu(page, "Run", "Run Selected Cell")
    cell.get_by_text("this plan was applied half way").wait_for()
    cell.get_by_text(re.compile("resources? changed on 1 host")).wait_for()
    menu(page, "Run", "Run Selected Cell and All Below")
    page.get_by_text(re.compile(r"(\d+) of \1 checks passed")).first.wait_for()
    idle(page)
    assert page.locator(".rb-error").count() == 0
    assert balancer.whole()


def test_cancel_stops_at_the_next_stage_and_the_cell_again_finishes(browser: Any, desk: Desk, balancer: Balancer) -> None:
    page = open_chapter(browser, desk, NGINX)
    applying(page)
    page.locator("button:has-text('Cancel')").click()
    page.locator("button:has-text('Stopping')").wait_for()
    picture(page, "05-cancelled")
    balancer.let_go()
    the_card(page, "stopped before configuration on lb-1, as asked")
    idle(page)
    assert "by hand" in balancer.sh("cat /etc/nginx/nginx.conf")
    finishes(page, balancer)


def test_a_kernel_interrupted_during_an_apply_does_no_harm_and_the_cell_again_finishes(browser: Any, desk: Desk, balancer: Balancer) -> None:
    page = open_chapter(browser, desk, NGINX)
    applying(page)
    menu(page, "Kernel", "Interrupt Kernel")
    page.locator("button:has-text('Cancel')").wait_for()
    balancer.let_go()
    the_card(page, "Nginx: interrupted")
    idle(page)
    assert "by hand" in balancer.sh("cat /etc/nginx/nginx.conf")
    assert holder(balancer.deployed.open().vault) is None
    finishes(page, balancer)


def test_a_browser_closed_during_an_apply_finds_the_state_again_and_a_colleague_is_told_who_is_at_work(
    browser: Any, desk: Desk, balancer: Balancer, tmp_path: Path
) -> None:
    first = open_chapter(browser, desk, NGINX)
    applying(first)
    first.close()
    other = clone(tmp_path / "clone")
    chapters_for(balancer.deployed, other)
    with jupyterlab(other, {"PYTHONPATH": str(other), "LOGNAME": "colleague"}) as second:
        page = open_chapter(browser, second, NGINX)
        page.get_by_text(re.compile("△ at work: .*, since 20")).first.wait_for()
        page.locator(".rb-error").get_by_text(re.compile("has been working on .* since 20")).wait_for()
        picture(page, "05-colleague-at-work")
        again = open_chapter(browser, desk, NGINX, run=False)
        menu(again, "Run", "Run All Cells")  # waits for the kernel, which still applies
        balancer.let_go()
        again.get_by_text(re.compile(r"(\d+) of \1 checks passed")).first.wait_for()
        idle(again)
        assert balancer.whole()
        menu(page, "Run", "Run All Cells")
        page.wait_for_function("document.querySelectorAll('.rb-error').length == 0")
        page.get_by_text(re.compile(r"(\d+) of \1 checks passed")).first.wait_for()
        idle(page)
        assert again.locator(".rb-error").count() == page.locator(".rb-error").count() == 0
        assert table(page) == table(open_again(browser, desk))


def table(page: Any) -> list[str]:
    """Machines and chapters of the board, without what each person's own run adds to them."""
    rows: list[str] = page.locator(".rb-status .rb-table tbody tr").all_inner_texts()
    return [row.split("\t20")[0] for row in rows]


def open_again(browser: Any, desk: Desk) -> Any:
    page = open_chapter(browser, desk, NGINX)
    page.get_by_text(re.compile(r"(\d+) of \1 checks passed")).first.wait_for()
    idle(page)
    return page
