"""What stands at the top of the repository: licence, changes, hooks, templates."""

from __future__ import annotations

import re
import shlex
import tomllib

import yaml

from runbook_lib import __version__
from runbook_lib.aws import rotation
from runbook_lib.aws.parameter_store import Vault
from runbook_lib.launch import secrets
from tests.conftest import ROOT

CHANGES = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_the_licence_is_the_one_that_the_package_names() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert project["license"] == "Apache-2.0" and project["license-files"] == ["LICENSE"]
    assert "Apache License\n" in text and "Version 2.0, January 2004" in text and "END OF TERMS AND CONDITIONS" in text


def test_the_newest_version_in_the_list_of_changes_is_this_one() -> None:
    headings = re.findall(r"^## \[(.+?)\](?: - \d{4}-\d\d-\d\d)?$", CHANGES, re.MULTILINE)
    assert headings[0] == "Unreleased" and headings[1] == __version__
    kinds = set(re.findall(r"^### (.+)$", CHANGES, re.MULTILINE))
    assert kinds <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


def test_every_hook_runs_a_tool_of_the_environment() -> None:
    repos = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert [repo["repo"] for repo in repos] == ["local"], "a hook from elsewhere brings a version of its own"
    for hook in repos[0]["hooks"]:
        assert hook["language"] == "system" and shlex.split(hook["entry"])[0] == ".venv/bin/python", hook["id"]


def test_the_files_that_the_guide_names_are_there() -> None:
    """CONTRIBUTING.md leads to a place by names of files: they must be where it says."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    named = [
        name
        for name in re.findall(r"`([\w./-]+/[\w.-]*)`", text)
        if name.split("/")[0] in ("runbook_lib", "runbook_cli", "lab", "practice", "tests", "docs", "notebooks", "params")
    ]
    assert len(named) > 15
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_the_commands_that_lead_into_a_cluster_name_what_chapter_01_stores() -> None:
    section = (ROOT / "docs/command-line.md").read_text(encoding="utf-8").partition("## Into the cluster")[2].partition("\n## ")[0]
    prefix = Vault(None, "mine").prefix
    named = dict(re.findall(r"aws ssm get-parameter --name (\S+) (--with-decryption|)", section))
    assert named == {prefix + rotation.CA: "", prefix + secrets.ADMIN_PASSWORD: "--with-decryption"}


def test_the_worked_example_is_true() -> None:
    template = (ROOT / "runbook_lib/roles/nginx.conf.j2").read_text(encoding="utf-8")
    section = template.partition("When a node is gone")[2].partition("# ---")[0]
    assert all(f"{name}_timeout " in section for name in ("proxy_connect", "proxy_send", "proxy_read"))
