"""`runbook verify-evidence`: whether a run's files are as they were when it was closed, which key signed them, and whether it is the deployment's own."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from runbook_lib.errors import RunbookError
from runbook_lib.evidence import manifest
from runbook_lib.evidence.runs import runs_folder
from runbook_lib.launch.secrets import EVIDENCE_KEY_PUBLIC

RUN = re.compile(r"\d{8}T\d{6}Z(-\d+)?")  # how the folder of a run is named (journal.unused)


def verify_evidence(run: Path, params: str | None, overrides: Mapping[str, Any], tell: Callable[[str], None]) -> int:
    """Say what was changed in a run's folder and who signed it; return 0 when it is whole, signed, and not by another key than the deployment's.

    `params`: the deployment whose Parameter Store is asked for the key; without it none is. Raises RunbookError when there is no such run.
    """
    if not (run / manifest.JOURNAL).is_file() and not (run / manifest.MANIFEST).is_file():
        raise RunbookError("there is no run in this folder", str(run), "name a folder below runs/<deployment>/, such as runs/greg-separated/latest")
    if overrides and not params:
        raise RunbookError("--set overrides a key of PARAMS, and no PARAMS are given", str(run), "give PARAMS, or leave --set out")
    found = manifest.verify(run)

    def say(line: str) -> None:
        """Say it in one line without escape codes: names and times are the run's own words, and could make lines that look like this command's."""
        tell("".join(letter if letter.isprintable() else "?" for letter in line))

    for problem in found.problems:
        say(f"✘ {problem}")
    if not found.problems:
        say(f"✔ {found.run}: {found.files} files and {found.rows} rows of the journal are as they were when the run was closed, {found.closed}")
    misplaced = _misplaced(run.resolve(), found.run, say)
    if not found.signed:
        say("✘ not signed: whoever can write these files can have changed them (the deployment had no evidence key, or not any more; chapter 01 makes it)")
        return 1
    say(f"signed by key {found.fingerprint}")
    same = _compared(found, params, overrides, say)
    return 0 if not found.problems and not misplaced and same is not False else 1


def _misplaced(folder: Path, signed: str, say: Callable[[str], None]) -> bool:
    """Say whether the folder is named otherwise than the run that was signed, and return whether that is certainly wrong.

    A copy may lie anywhere, such as in a folder of a learner's name, but not as another run, nor among the runs of this machine as another deployment's.
    """
    here, (deployment, _, time) = f"{folder.parent.name}/{folder.name}", signed.rpartition("/")
    if not signed or here == signed:
        return False
    another_run = RUN.fullmatch(folder.name) and folder.name != time
    another_deployment = folder.parent.name != deployment and folder.parent.parent == runs_folder().resolve()
    wrong = bool(another_run or another_deployment)
    why = "another run's files lie in its place" if wrong else "right for a copy that was put here"
    say(f"{'✘' if wrong else '△'} this folder is {here}, and these are the files of {signed}: {why}")
    return wrong


def _compared(found: manifest.Verification, params: str | None, overrides: Mapping[str, Any], say: Callable[[str], None]) -> bool | None:
    """Say whether Parameter Store has the key that signed; return None when it is not asked, cannot be, or has none any more.

    A run names its parameters too, but they are whoever's wrote it: an AWS configuration can name a program, and an endpoint answer with any key.
    """
    if not params:
        say("△ nobody was asked whose key that is: compare it with what the run's last lines showed, or give PARAMS, a params file of your own")
        return None
    from runbook_lib.launch.cloud import Cloud
    from runbook_lib.spec.loader import load_spec

    try:
        spec = load_spec(params, overrides)
        if (deployment := found.run.rpartition("/")[0]) != spec.deployment:
            say(f"✘ these are files of the deployment {deployment}, and PARAMS is {spec.deployment}")
            return False
        cloud = Cloud(spec)
        key, where = cloud.vault.find(EVIDENCE_KEY_PUBLIC), f"Parameter Store at {cloud.endpoint}, {cloud.vault.prefix}{EVIDENCE_KEY_PUBLIC}"
    except RunbookError as error:
        say(f"△ compare it with Parameter Store, /runbook/<deployment>/{EVIDENCE_KEY_PUBLIC}: it could not be asked ({error.what})")
        return None
    if key is None:
        say(f"△ {where}: there is no such key, as after a teardown; compare the fingerprint with what the run's last lines showed")
        return None
    if key.split()[:2] == found.public_key.split()[:2]:
        say(f"✔ {where} has the same key")
        return True
    say(f"✘ {where} has ANOTHER key: these files were not signed by this deployment")
    return False
