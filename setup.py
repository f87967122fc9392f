"""What pyproject.toml cannot say: notebooks, exercises, params and docs go into the package, where `runbook new` finds them."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

HERE = Path(__file__).resolve().parent


class WithWorkspace(build_py):
    def run(self) -> None:
        super().run()
        goal = Path(self.build_lib) / "runbook_lib" / "workspace"
        for name in ("notebooks", "exercises", "params", "docs"):
            shutil.rmtree(goal / name, ignore_errors=True)
            shutil.copytree(HERE / name, goal / name, ignore=shutil.ignore_patterns(".*", "__pycache__"))


setup(cmdclass={"build_py": WithWorkspace})
