"""Work copies of the chapters: each deployment has a folder of its own, in which every chapter names its params file.

The notebooks of the repository are exemplars: a walk runs, saves and changes copies in `work/<deployment>/notebooks/`, which git ignores.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from runbook_lib.files import ROOT, write_whole
from runbook_lib.notebook.parameters_cell import START, here, takes_params, use_in, use_in_chapters

WORK = "work"
EXERCISES = "exercises"
BESIDE = ("docs", "params")  # what chapters and error cards link to, as it lies beside the exemplars
MARK = "runbook"  # in a copy's metadata: the exemplar that it was made from


def work_copies(params: Path, deployment: str, pattern: str, workspace: Path = ROOT) -> Path:
    """Return the folder with the deployment's work copies, in which every chapter of `pattern` names `params`. The exercises' copies lie beside it.

    Copies that are missing are made. One whose exemplar has changed since, or which can be given no parameters any more, is kept beside the new
    one, under a name with the time. A notebook that somebody made himself, here or beside the exemplars, is left alone.
    """
    folder = workspace / WORK / deployment / "notebooks"
    folder.mkdir(parents=True, exist_ok=True)
    for name in BESIDE:
        _link(folder.parent / name, workspace / name)
    beside = folder.parent / EXERCISES
    for copies in (folder, beside):
        copies.mkdir(exist_ok=True)
        for path in (workspace / copies.name).glob("*.py"):  # for kernels without the library
            shutil.copyfile(path, copies / path.name)
        for exemplar in _exemplars(workspace / copies.name):
            _renew(copies / exemplar.name, exemplar)
    opened = here() == folder  # the reader has its first chapter open: JupyterLab would find that changed behind it
    use_in_chapters(params, pattern, folder, () if opened else (START,))
    use_in(params, [beside / exemplar.name for exemplar in _exemplars(workspace / EXERCISES)])
    return folder


def _exemplars(folder: Path) -> list[Path]:
    """Return the notebooks that are shipped in a folder: each can be given parameters, and chapters have numbers."""
    return [path for path in sorted(folder.glob("*.ipynb")) if path.name[:2].isdigit() or takes_params(path)]


def _renew(copy: Path, exemplar: Path) -> None:
    text = exemplar.read_text(encoding="utf-8")
    digest = hashlib.sha256(text.encode()).hexdigest()
    if copy.exists():
        with suppress(ValueError, AttributeError):
            if takes_params(copy) and json.loads(copy.read_text(encoding="utf-8"))["metadata"].get(MARK, {}).get("exemplar") == digest:
                return
        copy.rename(copy.with_name(f"{copy.stem}.{datetime.now(UTC):%Y%m%dT%H%M%SZ}.ipynb"))
    book = json.loads(text)
    book["metadata"][MARK] = {"exemplar": digest}
    write_whole(copy, json.dumps(book, indent=1, ensure_ascii=False) + "\n")


def _link(link: Path, folder: Path) -> None:
    """Make `folder` reachable as `link`; where links cannot be made, copy it."""
    if link.exists():
        return
    try:
        link.symlink_to(Path("..", "..", folder.name), target_is_directory=True)
    except OSError:
        shutil.copytree(folder, link)
