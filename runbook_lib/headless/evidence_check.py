"""`runbook verify-evidence`: whether a run's files are as they were when it was closed, and whether the deployment's own key signed them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runbook_lib.errors import RunbookError
from runbook_lib.evidence import manifest, runs
from runbook_lib.launch.secrets import EVIDENCE_KEY_PUBLIC

if TYPE_CHECKING:
    from collections.abc import Callable

    from runbook_lib.launch.cloud import Cloud


def verify_evidence(run: Path, params: str | None, overrides: Mapping[str, Any], say: Callable[[str], None]) -> int:
    """Say what was changed in a run's folder and who signed it; return 0 when it is whole, signed, and not by another key than the deployment's.

    `params`: the deployment whose Parameter Store is asked for the key; without it, the one that the run itself names. Raises
    RunbookError when there is no such run.
    """
    if not (run / manifest.JOURNAL).is_file() and not (run / manifest.MANIFEST).is_file():
        raise RunbookError("there is no run in this folder", str(run), "name a folder below runs/<deployment>/, such as runs/greg-separated/latest")
    found = manifest.verify(run)
    for problem in found.problems:
        say(f"✘ {problem}")
    if not found.problems:
        say(f"✔ {found.files} files and {found.rows} rows of the journal are as they were when the run was closed, {found.closed}")
    if not found.signed:
        say("✘ not signed: whoever can write these files can have changed them (the deployment had no evidence key, or not any more; chapter 01 makes it)")
        return 1
    same = _compared(run, found, params, overrides, say)
    return 0 if not found.problems and same is not False else 1


def _compared(run: Path, found: manifest.Verification, params: str | None, overrides: Mapping[str, Any], say: Callable[[str], None]) -> bool | None:
    """Say whether Parameter Store has the key that signed; return None when it cannot be asked or has none any more."""
    say(f"signed by key {found.fingerprint}")
    try:
        cloud = _cloud(run, params, overrides)
        key, where = cloud.vault.find(EVIDENCE_KEY_PUBLIC), f"Parameter Store at {cloud.endpoint}, {cloud.vault.prefix}{EVIDENCE_KEY_PUBLIC}"
    except RunbookError as error:
        say(f"△ compare it with Parameter Store, /runbook/<deployment>/{EVIDENCE_KEY_PUBLIC}: it could not be asked ({error.what})")
        return None
    named = "" if params else "; the run itself names this place: give PARAMS to ask the deployment that you know"
    if key is None:
        say(f"△ {where}: there is no such key, as after a teardown; compare the fingerprint with what the run's last lines showed{named}")
        return None
    if key.split()[:2] == found.public_key.split()[:2]:
        say(f"✔ {where} has the same key{named}")
        return True
    say(f"✘ {where} has ANOTHER key: these files were not signed by this deployment{named}")
    return False


def _cloud(run: Path, params: str | None, overrides: Mapping[str, Any]) -> Cloud:
    """Return the cloud of `params`, or of the parameters that the run wrote down. Raises RunbookError."""
    from runbook_lib.launch.cloud import Cloud
    from runbook_lib.spec.loader import load_spec

    if params:
        return Cloud(load_spec(params, overrides))
    begin = next((entry for entry in runs.read(run) if entry["verb"] == "begin"), {})
    if not begin.get("parameters"):
        raise RunbookError("the run did not write down its parameters", str(run), "give PARAMS")
    return Cloud(load_spec({}, {**begin["parameters"], **overrides}))
