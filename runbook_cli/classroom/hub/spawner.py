"""A learner's JupyterLab: his own user, his own loopback address, the control group of his lab, and his lab up before it starts."""

from __future__ import annotations

import asyncio
import os
import resource
from collections.abc import Callable
from typing import Any

from ec2lab.errors import LabError
from ec2lab.machines import cgroups
from jupyterhub.spawner import LocalProcessSpawner
from tornado.web import HTTPError

from runbook_cli.classroom import labs, users
from runbook_cli.classroom.room import ENVIRONMENT, ROOM, Learner, Room
from runbook_lib.errors import RunbookError

START = "/lab/tree/work/greg-single/notebooks/00_start_here.ipynb"


class LearnerSpawner(LocalProcessSpawner):
    """Starts servers for learners only: whoever else is a user of the hub or of this machine gets none."""

    def _learner(self) -> Learner:
        found = Room.read(ROOM).find(self.user.name)
        if found is None:
            raise HTTPError(403, f"{self.user.name} is no learner of this classroom and has no JupyterLab here")
        return found

    async def start(self) -> Any:
        """Bring the learner's lab up again if it was killed, then start his server."""
        learner, room = self._learner(), Room.read(ROOM)
        try:
            await asyncio.get_running_loop().run_in_executor(None, labs.ensure, learner, room.memory_mb, room.processes)
        except (LabError, RunbookError) as problem:
            self.log.error("%s", problem)
            raise HTTPError(500, f"the lab of {learner.name} does not start; tell your instructor") from None
        self.ip = str(learner.address)
        return await super().start()

    def get_args(self) -> list[str]:
        learner = self._learner()
        mine = [f"--ServerApp.root_dir={learner.workspace}", "--KernelManager.transport=ipc", f"--ServerApp.default_url={START}"]
        return [*super().get_args(), *mine, "--LabApp.news_url=None", "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate"]

    def user_env(self, env: dict[str, str]) -> dict[str, str]:
        """Return the server's environment: what the hub gives it, and the learner's own; nothing of root's."""
        return {**env, **users.environment(self._learner()), "JUPYTER_CONFIG_PATH": str(ENVIRONMENT / "etc" / "jupyter")}

    def make_preexec_fn(self, name: str) -> Callable[[], None]:
        """Return what the new process does first, as root: it joins the group with the learner's limits, and becomes the learner."""
        learner, most = self._learner(), Room.read(ROOM).processes
        become = super().make_preexec_fn(name)
        files = [] if cgroups.systemd_is_here() else [group / "cgroup.procs" for group in cgroups.groups(learner.lab, labs.ROOM_FOR_JUPYTER)]

        def enter() -> None:
            for file in files:
                file.write_text(str(os.getpid()))
            resource.setrlimit(resource.RLIMIT_NPROC, (most, most))
            os.umask(0o077)
            become()

        return enter
