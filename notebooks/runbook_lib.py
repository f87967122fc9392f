"""Stands before the library where the chapters run, so that a kernel that cannot load it says what to do instead of ModuleNotFoundError.

A kernel that has the library, or what the library needs, gets the library itself: the one that is installed, else this clone's.
"""

import os
import sys
from importlib import import_module
from importlib.machinery import PathFinder
from importlib.util import module_from_spec
from pathlib import Path

OLDEST = (3, 11)


class WrongKernel(ImportError):
    """The kernel's Python cannot load the library. It is shown without a traceback."""

    def _render_traceback_(self) -> list[str]:
        return [f"{type(self).__name__}: {self}"]


def _words(lacking: str) -> str:
    python = f"Python {sys.version_info[0]}.{sys.version_info[1]} at {sys.executable}"
    way = "choose the kernel of .venv in this clone (VS Code: Select Kernel, Python Environments, .venv), or start JupyterLab with ./runbook open"
    return f"this kernel ({python}) {lacking}; {way}. Where there is no .venv yet, ./runbook doctor makes it."


def _load_library() -> None:
    """Put the library in this module's place. Raises WrongKernel."""
    if sys.version_info < OLDEST:
        raise WrongKernel(_words(f"is older than {OLDEST[0]}.{OLDEST[1]}"))
    here = Path(__file__).resolve().parent
    clone = next((str(folder) for folder in Path(__file__).absolute().parents if (folder / "runbook_lib" / "__init__.py").is_file()), None)
    places = [path for path in sys.path if Path(path or os.curdir).resolve() not in (here, Path(__file__).absolute().parent)]
    spec = PathFinder.find_spec("runbook_lib", places) or PathFinder.find_spec("runbook_lib", [clone] if clone else [])
    if spec is None or spec.loader is None:
        raise WrongKernel(_words("does not have the runbook's library"))
    itself = sys.modules[__name__]
    library = sys.modules[__name__] = module_from_spec(spec)
    try:
        spec.loader.exec_module(library)
        import_module("runbook_lib.chapters.deployment")  # what it needs is found missing here, and not in the middle of a chapter
    except ModuleNotFoundError as error:
        sys.modules[__name__] = itself
        raise WrongKernel(_words(f"lacks {error.name}, which the runbook's library needs")) from None


_load_library()
