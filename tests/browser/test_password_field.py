"""A password typed into chapter 00 is in SSM afterwards, and nowhere in what JupyterLab keeps: not even with its widget state."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.deployments import Deployed, in_lab
from tests.support.jupyterlab_server import PATIENCE, Desk, chapters_for, chromium_running, idle, jupyterlab, open_chapter, picture, save

ADMIN = "carbon-admin-password"
TYPED = "Typed0In1The2Browser"
WIDGETS = "@jupyter-widgets/jupyterlab-manager/plugin"


@pytest.fixture
def planned(lab: Any) -> Iterator[Deployed]:
    """A deployment of which there is nothing yet."""
    deployed = in_lab(lab, "greg-single", "test-passwords", 8)
    yield deployed
    deployed.open().vault.delete_all()


@pytest.fixture
def desk(planned: Deployed, tmp_path: Path) -> Iterator[Desk]:
    """JupyterLab of a person who has it save widget state into notebooks (by default it does not)."""
    chapters_for(planned, tmp_path)
    with jupyterlab(tmp_path) as found:
        found.setting(WIDGETS, '{"saveState": true}')
        yield found


def test_a_typed_password_is_in_ssm_and_in_nothing_that_jupyterlab_keeps(desk: Desk, planned: Deployed) -> None:
    from playwright.sync_api import expect

    with chromium_running() as browser:
        page = open_chapter(browser, desk, "00_start_here")
        field = page.get_by_label(ADMIN)
        field.wait_for()
        idle(page)
        assert field.get_attribute("type") == "password"
        field.fill(TYPED)
        field.press("Enter")
        page.get_by_text(f"{ADMIN} is stored in SSM").wait_for()
        page.locator(".widget-hbox", has=field).get_by_text("● set").wait_for()
        expect(field).to_have_value("", timeout=PATIENCE)
        page.get_by_label("db/wso2_user").fill("wrong one")
        page.get_by_label("db/wso2_user").press("Enter")
        page.locator(".rb-error", has_text="allowed: 12 to 30").wait_for()
        picture(page, "00-passwords")
        saved = save(page, desk, "00_start_here")
    assert "application/vnd.jupyter.widget-state+json" in saved  # the widgets' state is in the file: what follows can fail
    assert re.search(r'"model_name": "PasswordModel"', saved)
    vault = planned.open().vault
    assert vault.get(ADMIN) == TYPED
    assert vault.ssm.get_parameter(Name=f"{vault.prefix}{ADMIN}")["Parameter"]["Type"] == "SecureString"
    assert "db/wso2_user" not in vault.names()
    holding = [path.name for path in desk.root.rglob("*") if path.is_file() and TYPED.encode() in path.read_bytes()]
    assert holding == []
    assert "wrong one" not in saved
