"""Diagnosis of what is missing on this machine, in the account and in the parameters, each with the fix."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from runbook_lib.checks.sso.screenshots import program
from runbook_lib.errors import RunbookError
from runbook_lib.headless.doctor.finding import Finding

if TYPE_CHECKING:
    from runbook_lib.spec.model import Spec


def examine(params: str | None, overrides: Mapping[str, Any], say: Callable[[str], None]) -> int:
    """Print every finding with `say` and return 1 when something needed is missing, else 0."""
    lacking = False
    for finding in (*_machine(), *(_deployment(params, overrides) if params else ())):
        say(str(finding))
        lacking |= finding.needed and not finding.ok
    return int(lacking)


def _machine() -> Iterator[Finding]:
    version = ".".join(map(str, sys.version_info[:3]))
    yield Finding("Python", sys.version_info >= (3, 11), version, "install Python 3.11 or newer and run ./runbook again")
    lacking = [name for name in ("boto3", "paramiko", "papermill", "jupyterlab", "ipywidgets") if not _importable(name)]
    yield Finding(
        "packages",
        not lacking,
        f"lacking: {', '.join(lacking)}" if lacking else "all there",
        "rm -r .venv; ./runbook doctor",
    )
    browser = program()
    yield Finding(
        "browser for the proof's screenshots",
        bool(browser),
        browser or "none found: chapter 07 goes on without",
        "apt-get install chromium-headless-shell",
        False,
    )
    free = shutil.disk_usage(".").free / 2**30
    yield Finding("disk", free > 2, f"{free:.0f} GiB free here", "the evidence of runs and the package cache need about 2 GiB")


def _deployment(params: str, overrides: Mapping[str, Any]) -> Iterator[Finding]:
    """Yield the findings about the parameters, then the account and the pack, then the machines."""
    from runbook_lib.chapters.deployment import open_deployment
    from runbook_lib.headless.doctor import account
    from runbook_lib.spec.loader import load_spec

    try:
        spec = load_spec(params, overrides)
        yield Finding("params", True, f"{spec.deployment}, pattern {spec.pattern}")
        yield from _parameters(spec)
        deployment = open_deployment(spec)
        yield Finding("AWS account", True, f"{deployment.cloud.identity()}")
        yield from account.findings(deployment.cloud)
        yield Finding("pack", True, f"{spec.product.pack} is there and is what it should be ({deployment.pack.sha256[:12]}…)")
    except RunbookError as error:
        yield Finding(
            "params and account",
            False,
            error.what + (f" ({error.where})" if error.where else ""),
            error.next_step or "",
        )
        return
    yield Finding("machines", True, deployment.status().headline, needed=False)


def _parameters(spec: Spec) -> Iterator[Finding]:
    """Say where a separated Publisher is open to everybody: the product has a hole that no setting closes (facts 6.3)."""
    if spec.expect == "separated" and "0.0.0.0/0" in spec.publisher_allow_cidr:
        words = "everybody may reach the Publisher; on the real product, by its source, any account can become its administrator"
        yield Finding("publisher_allow_cidr", False, words, "name the addresses of those who publish; docs/security.md, what stays open", needed=False)


def _importable(name: str) -> bool:
    return importlib.util.find_spec(name) is not None
