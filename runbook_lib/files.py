"""Where this process finds notebooks and parameters, and how a file is replaced as a whole."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def workspace() -> Path:
    """The folder that holds `notebooks/` and `params/`: a clone of the repository, or what `runbook new` made.

    $RUNBOOK_HOME when it is set; else the nearest such folder from the current one upwards; else the one that the
    environment of this Python lies in (`.venv`); else the current folder.
    """
    if given := os.environ.get("RUNBOOK_HOME"):
        return Path(given).resolve()
    here = Path.cwd().resolve()
    for folder in (here, *here.parents, Path(sys.prefix).parent):
        if (folder / "notebooks").is_dir() and (folder / "params").is_dir():
            return folder
    return here


ROOT = workspace()


def write_whole(path: Path, text: str) -> None:
    """Replace a file in one step, so that nobody ever reads half of it."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.write_text(text, encoding="utf-8")
    os.replace(beside, path)
