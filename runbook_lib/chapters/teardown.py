"""Chapter 99: remove everything that carries the deployment's tag."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from runbook_lib.chapters.base import banner
from runbook_lib.errors import ChecksFailed, RunbookError
from runbook_lib.launch import teardown
from runbook_lib.notebook import display
from runbook_lib.notebook import progress as progress_

if TYPE_CHECKING:
    from runbook_lib.session import Session


def destroy(deployment: Session, confirm: str, backups: bool = False) -> Any:
    """Remove everything that is tagged with the deployment, and return the checks that nothing is left. `backups`: those in S3 as well.

    Raises RunbookError unless `confirm` is the deployment's name, LockHeld while somebody else has the lock, ChecksFailed when something is left.
    """
    if confirm != deployment.spec.deployment:
        raise RunbookError(f"everything of {deployment.spec.deployment} is to be removed", "confirm", f'say so: confirm = "{deployment.spec.deployment}"')
    display.show(banner(deployment))
    with deployment.writing(), deployment.journal.attempt("99_tear_down", "destroy"), progress_.progress("Tear down", []) as progress:
        deployment.close()
        deployment.signing_key()  # read before it is deleted: the run of the teardown is signed too
        gone = teardown.destroy(deployment.cloud, progress, backups)
        deployment.journal.checked("99_tear_down", gone)
        if left := gone.failed():
            words = "; ".join(f"{check.title}: {check.observed}" for check in left)
            error = ChecksFailed(f"something of {deployment.spec.deployment} is left: {words}", left[0].where, "run this again; remove by hand what stays")
            error.table = gone
            raise error
        return gone
