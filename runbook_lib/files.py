"""Where this process finds notebooks and parameters, and how a file is replaced as a whole."""

from __future__ import annotations

import os
import sys
from importlib.resources import files
from importlib.resources.abc import Traversable
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
COPIED = ("notebooks", "params", "docs")  # what a workspace is made of


def templates(name: str) -> Traversable:
    """A folder of `COPIED` as it came with this installation; in a clone it is the clone's own."""
    packed = files("runbook_lib") / "workspace" / name
    return packed if packed.is_dir() else ROOT / name


def make_workspace(folder: Path) -> list[Path]:
    """Copy notebooks, params and docs into `folder`; a file that is there already stays as it is. Returns the new files."""
    made: list[Path] = []

    def copy(source: Traversable, target: Path) -> None:
        for entry in source.iterdir():
            path = target / entry.name
            if entry.is_dir():
                copy(entry, path)
            elif path.suffix in (".ipynb", ".yaml", ".md", ".png", ".svg") and not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(entry.read_bytes())
                made.append(path)

    for name in COPIED:
        copy(templates(name), folder / name)
    return made


def write_whole(path: Path, text: str) -> None:
    """Replace a file in one step, so that nobody ever reads half of it."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.write_text(text, encoding="utf-8")
    os.replace(beside, path)
