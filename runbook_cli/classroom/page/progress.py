"""How far each learner is: his lab's machines, the chapters and exercises that its Parameter Store records, what his programs take, his last error.

Learners write all of this, so nothing of it is believed to be well-formed, every text is printable, and nothing waits for a lab that does not answer.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError
from ec2lab import access_key
from ec2lab.errors import LabError
from ec2lab.paths import REGION, Lab

from runbook_cli.classroom import labs
from runbook_cli.classroom.room import ENVIRONMENT, LIBRARY, Learner
from runbook_lib.errors import RunbookError
from runbook_lib.spec.chapters import CHAPTERS, chapters_of

PREFIX = "/runbook/"
MOST_DEPLOYMENTS, MOST_PAGES = 8, 20
LONGEST = 400  # characters of a text
RECENT = LIBRARY / "runbook_cli" / "classroom" / "page" / "recent.py"  # where learners can read it, as they can the environment
PATIENCE = Config(proxies={}, retries={"total_max_attempts": 1}, connect_timeout=2, read_timeout=4)
DONE, LEAKS, FAILED, APPLIED, CHANGED, OPEN = "verified", "leaks, as expected", "failed", "applied, not verified", "changed since", "to do"
EXERCISES = {"passed": "passed", "solved": "solution shown", "started": "started"}


@dataclass(frozen=True)
class DeploymentProgress:
    """One deployment: the state of each of its chapters by the chapter's name, and how many exercises are in which state."""

    name: str
    chapters: Mapping[str, str]
    exercises: Mapping[str, int]

    @property
    def verified(self) -> int:
        return sum(state in (DONE, LEAKS) for state in self.chapters.values())


@dataclass(frozen=True)
class LearnerProgress:
    """One learner, now. `trouble`: why his lab could not be asked; `machines`: name and state of each; memory in MB."""

    name: str
    number: int
    machines: tuple[tuple[str, str], ...] = ()
    deployments: tuple[DeploymentProgress, ...] = ()
    memory_mb: int = 0
    processes: int = 0
    error: Mapping[str, str] = field(default_factory=dict)
    trouble: str = ""

    @property
    def running(self) -> int:
        return sum(state == "running" for _, state in self.machines)


def of(learner: Learner) -> LearnerProgress:
    """Return the learner's progress. It takes a few seconds at most, also where his lab hangs."""
    memory, processes = labs.usage(learner)
    runs = _recent(learner)
    errors = sorted((found["error"] for found in runs.values() if isinstance(found.get("error"), dict)), key=lambda error: str(error.get("utc")))
    error = {name: printable(errors[-1].get(name)) for name in ("utc", "chapter", "what")} if errors else {}
    known: dict[str, Any] = {"memory_mb": memory, "processes": processes, "error": error}
    try:
        machines = _machines(learner.lab)
        deployments = _deployments(_parameters(learner.lab), {name: str(found.get("pattern")) for name, found in runs.items()})
    except (LabError, BotoCoreError, ClientError, ResponseParserError, OSError) as problem:
        return LearnerProgress(learner.name, learner.number, trouble=f"the lab does not answer ({type(problem).__name__})", **known)
    return LearnerProgress(learner.name, learner.number, machines, deployments, **known)


def printable(text: object) -> str:
    """Return a learner's text so that any page and any terminal takes it: no control characters, no half of a pair of surrogates, and not without end."""
    return "".join(letter if letter.isprintable() else "?" for letter in str(text)[:LONGEST])


def _client(lab: Lab, service: str) -> Any:
    key = access_key.read(lab)
    credentials = {"aws_access_key_id": key.id, "aws_secret_access_key": key.secret}
    return boto3.client(service, endpoint_url=lab.endpoint, region_name=REGION, config=PATIENCE, **credentials)  # type: ignore[call-overload]


def _machines(lab: Lab) -> tuple[tuple[str, str], ...]:
    reservations = _client(lab, "ec2").describe_instances()["Reservations"]
    found = [each for reservation in reservations for each in reservation["Instances"] if each["State"]["Name"] != "terminated"]
    return tuple(sorted((printable(_name(each)), printable(each["State"]["Name"])) for each in found))


def _name(instance: Mapping[str, Any]) -> str:
    tags = {tag["Key"]: tag["Value"] for tag in instance.get("Tags", [])}
    return str(tags.get("runbook:node") or instance["InstanceId"])


def _parameters(lab: Lab) -> dict[str, str]:
    """Return the parameters that are in clear, by name."""
    client = _client(lab, "ssm")
    found: dict[str, str] = {}
    more: dict[str, str] = {}
    for _ in range(MOST_PAGES):
        page = client.get_parameters_by_path(Path=PREFIX, Recursive=True, WithDecryption=False, **more)
        found |= {each["Name"]: each["Value"] for each in page["Parameters"] if each["Type"] == "String"}
        if not page.get("NextToken"):
            break
        more = {"NextToken": page["NextToken"]}
    return found


def _deployments(parameters: Mapping[str, str], patterns: Mapping[str, str]) -> tuple[DeploymentProgress, ...]:
    """Return the deployments that the parameters belong to. `patterns`: as the newest runs name them; else the chapters that have a record."""
    names = sorted({name.removeprefix(PREFIX).split("/")[0] for name in parameters})[:MOST_DEPLOYMENTS]
    return tuple(_deployment(name, parameters, patterns.get(name, "")) for name in names)


def _deployment(name: str, parameters: Mapping[str, str], pattern: str) -> DeploymentProgress:
    records = {kind: _below(parameters, f"{PREFIX}{name}/{kind}/") for kind in ("chapters", "exercises")}
    wanted = set(records["chapters"])
    with suppress(RunbookError):
        wanted |= {chapter.name for chapter in chapters_of(pattern)}
    states = {chapter: _state(records["chapters"].get(chapter)) for chapter in CHAPTERS if chapter in wanted}
    exercises = [str(record.get("state")) for record in records["exercises"].values()]
    return DeploymentProgress(printable(name), states, {words: exercises.count(state) for state, words in EXERCISES.items() if state in exercises})


def _below(parameters: Mapping[str, str], prefix: str) -> dict[str, dict[str, Any]]:
    """Return the JSON objects below a prefix by the rest of their names; what is none is an empty one."""
    found: dict[str, dict[str, Any]] = {}
    for name, text in parameters.items():
        if name.startswith(prefix):
            found[name.removeprefix(prefix)] = {}
            with suppress(ValueError, RecursionError):
                value = json.loads(text)
                found[name.removeprefix(prefix)] = value if isinstance(value, dict) else {}
    return found


def _state(record: Mapping[str, Any] | None) -> str:
    if record is None:
        return OPEN
    if record.get("ok"):
        return LEAKS if record.get("leaks") else DONE
    return CHANGED if record.get("changed") else APPLIED if record.get("applied") else FAILED


def _recent(learner: Learner, run: Callable[..., Any] = subprocess.run) -> dict[str, dict[str, Any]]:
    """Return what `recent.py` prints when it runs as the learner; nothing where it fails or takes too long."""
    command = [str(ENVIRONMENT / "bin" / "python"), "-I", "-S", str(RECENT), str(learner.workspace / "runs")]
    with suppress(OSError, ValueError, subprocess.TimeoutExpired):
        done = run(command, capture_output=True, timeout=10, cwd="/", env={}, user=learner.uid, group=learner.uid, extra_groups=[])
        found = json.loads(done.stdout or b"{}")
        return {str(name): value for name, value in found.items() if isinstance(value, dict)}
    return {}
