"""The instructor's page, a service of the hub: every learner's chapters, exercises, machines and last error. Only he gets it."""

from __future__ import annotations

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlparse

from jinja2 import Environment, PackageLoader
from jupyterhub.services.auth import HubOAuthCallbackHandler, HubOAuthenticated
from tornado.web import Application, HTTPError, RequestHandler, authenticated

from runbook_cli.classroom.page import progress
from runbook_cli.classroom.page.progress import LearnerProgress
from runbook_cli.classroom.room import INSTRUCTOR, ROOM, Learner, Room

PATIENCE = 5.0  # seconds after which a learner's row shows what was known before
MARKS = {progress.DONE: "✔", progress.LEAKS: "✔", progress.FAILED: "✘", progress.APPLIED: "△", progress.CHANGED: "△", progress.OPEN: "○"}


class Watch:
    """Asks the learners' labs, one thread for each, so that a lab that hangs delays its own row only."""

    def __init__(self, room: Room):
        self.room = room
        self._known = {learner.name: LearnerProgress(learner.name, learner.number, trouble="not asked yet") for learner in room.learners}
        self._asked: dict[str, asyncio.Future[None]] = {}
        self._pool = ThreadPoolExecutor(len(room.learners))

    async def rows(self) -> list[LearnerProgress]:
        """Return each learner's progress: as it is now, or the last known one of those who have not answered in time."""
        for learner in self.room.learners:
            if learner.name not in self._asked or self._asked[learner.name].done():
                self._asked[learner.name] = asyncio.get_running_loop().run_in_executor(self._pool, self._ask, learner)
        await asyncio.wait(self._asked.values(), timeout=PATIENCE)
        return [self._known[learner.name] for learner in self.room.learners]

    def _ask(self, learner: Learner) -> None:
        self._known[learner.name] = progress.of(learner)


class InstructorPage(HubOAuthenticated, RequestHandler):  # type: ignore[misc]
    """The page itself."""

    def initialize(self, watch: Watch, template: Any) -> None:
        self.watch, self.template = watch, template

    @authenticated
    async def get(self) -> None:
        if self.get_current_user()["name"] != INSTRUCTOR:
            raise HTTPError(403)
        self.set_header("Cache-Control", "no-store")
        self.set_header("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'")
        rows = await self.watch.rows()
        self.write(self.template.render(rows=rows, room=self.watch.room, marks=MARKS, xsrf=self.xsrf_token.decode(), now=f"{datetime.now(UTC):%H:%M:%S} UTC"))


def main() -> None:
    prefix = os.environ["JUPYTERHUB_SERVICE_PREFIX"]
    here = urlparse(os.environ["JUPYTERHUB_SERVICE_URL"])
    pages = Environment(loader=PackageLoader("runbook_cli.classroom.page", "."), autoescape=True)
    given = {"watch": Watch(Room.read(ROOM)), "template": pages.get_template("instructor.html.j2")}

    async def serve() -> None:
        handlers: list[Any] = [(prefix, InstructorPage, given), (f"{prefix}oauth_callback", HubOAuthCallbackHandler)]
        Application(handlers, cookie_secret=os.urandom(32)).listen(here.port or 0, here.hostname or "127.0.0.1")
        await asyncio.Event().wait()

    asyncio.run(serve())


if __name__ == "__main__":
    main()
