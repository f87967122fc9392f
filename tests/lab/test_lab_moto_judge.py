"""moto's own tests of EC2 as a judge: what they find right in moto must be right in the lab, or stand in `lab_moto_allowed.yaml` with the reason.

The tests come from moto's source on PyPI, of the version that is installed, into a temporary folder. They run against a lab with a default VPC and
any networks. Put into their text are the lab's region, its image, and its root device.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
from importlib.metadata import version
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml
from ec2lab import access_key
from ec2lab.lifecycle import client
from ec2lab.paths import Lab

from tests.conftest import ROOT, need
from tests.support.lab_fixtures import IMAGE_PARAMETER

REASONS = yaml.safe_load(Path(__file__).with_name("lab_moto_allowed.yaml").read_text())
ALLOWED = {test: reason["because"] for reason in REASONS for test in reason["tests"]}
LEAST = 700  # tests that must pass: a suite that did not run would have no failure
WORKERS, SECONDS = "3", 3600


@pytest.fixture
def judge(tmp_path: Path) -> Path:
    """moto's tests of EC2, and what they import that we have not."""
    pip = [sys.executable, "-m", "pip", "--quiet"]
    try:
        subprocess.run([*pip, "download", "--no-binary", "moto", "--no-deps", f"moto=={version('moto')}", "--dest", str(tmp_path)], check=True, timeout=600)
        subprocess.run([*pip, "install", "--no-deps", "--target", str(tmp_path / "beside"), "freezegun"], check=True, timeout=600)
    except subprocess.SubprocessError as problem:
        need(False, f"moto's source cannot be fetched: {problem}")
    [source] = tmp_path.glob("moto-*.tar.gz")
    with tarfile.open(source) as archive:
        archive.extractall(tmp_path, filter="data")
    [tests] = tmp_path.glob("moto-*/tests")
    tests.rename(tmp_path / "tests")
    shutil.copy(ROOT / "tests/support/moto_judge.py", tmp_path)
    return tmp_path


def fit(judge: Path, image: str) -> None:
    """Put the lab's region, image and root device into the text of the tests."""
    for file in [judge / "tests/__init__.py", *(judge / "tests/test_ec2").rglob("*.py")]:
        text = re.sub(r'ami-(12c6146b|03cf127a)"', f'{image}"', file.read_text())
        text = re.sub(r"/aws/service/ami-amazon-linux-latest/[^\"]+", IMAGE_PARAMETER, text)
        file.write_text(re.sub(r'(?<!LocationConstraint": ")us-west-1', "us-east-1", text).replace("/dev/sda1", "/dev/xvda"))


def verdicts(judge: Path, lab: Lab) -> dict[str, str]:
    """Run the tests, and return what is wrong with each: empty for one that passes. Skipped ones are left out."""
    key = access_key.read(lab)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "MOTO_"))} | {
        "PYTHONPATH": f"{judge / 'beside'}:{judge}", "TEST_SERVER_MODE": "true", "TEST_SERVER_MODE_ENDPOINT": lab.endpoint, "MOTO_CALL_RESET_API": "false",
        "AWS_ACCESS_KEY_ID": key.id, "AWS_SECRET_ACCESS_KEY": key.secret, "AWS_DEFAULT_REGION": "us-east-1", "NO_PROXY": str(lab.gateway),
    }  # fmt: skip
    options = ["-q", "-n", WORKERS, "-p", "moto_judge", "-p", "no:cacheprovider", "--ignore-glob=*cloudformation*", "--junitxml=report.xml"]
    with open(judge / "log", "w") as log:
        command = [sys.executable, "-m", "pytest", "tests/test_ec2", *options]
        subprocess.run(command, cwd=judge, env=environment, stdout=log, stderr=log, timeout=SECONDS)
    found = {}
    for case in ElementTree.parse(judge / "report.xml").iter("testcase"):
        wrong = next((case.find(kind) for kind in ("failure", "error") if case.find(kind) is not None), None)
        if case.find("skipped") is None:
            name = f"{case.get('classname', '').rpartition('.')[2]}::{case.get('name')}"
            found[name] = "" if wrong is None else (wrong.get("message") or "an error")
    return found


@pytest.mark.full
@pytest.mark.timeout(SECONDS + 300)
def test_what_moto_s_tests_find_right_in_moto_is_right_in_the_lab_or_differs_for_a_reason(judge, any_lab):
    fit(judge, client(any_lab, "ssm").get_parameter(Name=IMAGE_PARAMETER)["Parameter"]["Value"])
    found = verdicts(judge, any_lab)
    wrong = {name: said for name, said in found.items() if said}
    unexplained = {name: said for name, said in wrong.items() if name not in ALLOWED}
    print(f"{len(found) - len(wrong)} pass, {len(wrong) - len(unexplained)} differ for a reason, {len(unexplained)} without")
    assert not unexplained
    assert len(found) - len(wrong) >= LEAST, (judge / "log").read_text()[-2000:]
