"""The workspace, which is the folder with the notebooks and parameters, the library's own tables, and the replacement of a file in one step."""

from __future__ import annotations

import os
import re
import sys
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any


def workspace() -> Path:
    """Return the folder that holds `notebooks/` and `params/`: a clone of the repository, or a folder made by `runbook new`.

    It is $RUNBOOK_HOME when that is set; otherwise the first such folder among the current one, its parents and the folder
    that contains the virtual environment of this Python; otherwise the current folder.
    """
    if given := os.environ.get("RUNBOOK_HOME"):
        return Path(given).resolve()
    here = Path.cwd().resolve()
    for folder in (here, *here.parents, Path(sys.prefix).parent):
        if (folder / "notebooks").is_dir() and (folder / "params").is_dir():
            return folder
    return here


ROOT = workspace()
COPIED = ("notebooks", "exercises", "params", "docs")  # the folders of a workspace
BEING_WRITTEN = re.compile(r"\..+\.\d+")  # how write_whole names a file until it is whole; one of a process that was killed stays


def templates(name: str) -> Traversable:
    """Return a folder of `COPIED` from the installed package; in a clone, the clone's own folder."""
    packed = files("runbook_lib") / "workspace" / name
    return packed if packed.is_dir() else ROOT / name


def make_workspace(folder: Path) -> list[Path]:
    """Copy notebooks, exercises, params and docs into `folder` and return the new files. Files that exist already are not changed."""
    made: list[Path] = []

    def copy(source: Traversable, target: Path) -> None:
        for entry in source.iterdir():
            path = target / entry.name
            if entry.is_dir():
                copy(entry, path)
            elif path.suffix in (".ipynb", ".py", ".yaml", ".md", ".json", ".png", ".svg") and not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(entry.read_bytes())
                made.append(path)

    for name in COPIED:
        copy(templates(name), folder / name)
    return made


def read_table(source: Traversable) -> Any:
    """Return what a YAML file of the library's own holds. It is read in C where PyYAML has that: large tables take a ninth of the time."""
    import yaml

    return yaml.load(source.read_text(encoding="utf-8"), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))


def write_whole(path: Path, text: str, mode: int | None = None) -> None:
    """Write `text` to the file in one step, so that no reader sees a partial file. `mode`: of the file; None: as the process makes files."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        beside.write_text(text, encoding="utf-8")
        if mode is not None:
            beside.chmod(mode)
        os.replace(beside, path)
    except BaseException:  # a disk that is full is no fuller by what was begun
        beside.unlink(missing_ok=True)
        raise
