"""The chapters' first line in the kernels that there may be: with the library, without it, and with what it needs but not itself."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from runbook_lib.notebook.work_copies import work_copies
from tests.conftest import ROOT

FIRST_LINE = "from runbook_lib import open_deployment; import runbook_lib; print(runbook_lib.__file__, open_deployment.__module__)"


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A clone without an environment."""
    for name in ("notebooks", "params", "docs", "runbook_lib"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("kernel-ipc*", "__pycache__"))
    return tmp_path


def kernel(folder: Path, *options: str, before: str = "") -> subprocess.CompletedProcess[str]:
    """The first line as a kernel runs it: the folder of the notebook is the first in sys.path."""
    program = f"import sys; sys.path.insert(0, ''); {before}{FIRST_LINE}"
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "RUNBOOK_HOME")}
    return subprocess.run([sys.executable, *options, "-c", program], cwd=folder, env=environment, capture_output=True, text=True)


WITHOUT_OURS = f"sys.path = [path for path in sys.path if not path.startswith({str(ROOT)!r}) or 'site-packages' in path]; "


def test_a_kernel_with_the_library_has_the_library() -> None:
    assert kernel(ROOT / "notebooks").stdout.split() == [str(ROOT / "runbook_lib" / "__init__.py"), "runbook_lib.chapters.deployment"]


@pytest.mark.parametrize("folder", ["notebooks", "a work copy"])
def test_a_kernel_with_what_the_library_needs_takes_the_clones(clone: Path, folder: str) -> None:
    where = clone / "notebooks" if folder == "notebooks" else work_copies(clone / "params" / "greg-single.lab.yaml", "mine", "greg-single", clone)
    done = kernel(where, before=WITHOUT_OURS)
    assert done.stdout.split()[:1] == [str(clone / "runbook_lib" / "__init__.py")], done.stderr


def test_a_kernel_without_what_it_needs_says_which_kernel_to_choose(clone: Path) -> None:
    words = kernel(clone / "notebooks", "-S").stderr.strip().splitlines()[-1]
    assert words.startswith("runbook_lib.WrongKernel: this kernel (Python 3.") and "lacks " in words
    assert "Select Kernel" in words and "./runbook open" in words


def test_a_kernel_far_from_any_clone_says_so_too(tmp_path: Path) -> None:
    shutil.copyfile(ROOT / "notebooks" / "runbook_lib.py", tmp_path / "runbook_lib.py")
    assert "does not have the runbook's library" in kernel(tmp_path, "-S").stderr


def test_in_a_notebook_it_is_one_line_without_a_traceback(clone: Path) -> None:
    code = "from IPython.core.interactiveshell import InteractiveShell as Shell; import sys; sys.path.insert(0, ''); sys.version_info = (3, 10)\n"
    code += "Shell.instance(colors='nocolor').run_cell('from runbook_lib import open_deployment')"
    done = subprocess.run([sys.executable, "-c", code], cwd=clone / "notebooks", capture_output=True, text=True)
    lines = (done.stdout + done.stderr).strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("WrongKernel: this kernel (Python 3.10 at "), lines
