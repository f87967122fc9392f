"""The hub's configuration, read by `jupyterhub --config`: everything in it follows from the classroom's own file."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from traitlets.config import get_config

from runbook_cli.classroom.hub.login import ClassroomAuthenticator
from runbook_cli.classroom.hub.spawner import LearnerSpawner
from runbook_cli.classroom.room import CERTIFICATE, ENVIRONMENT, INSTRUCTOR, KEY, ROOM, RUN, Room
from runbook_cli.classroom.software import proxy_command

PAGE = f"/services/{INSTRUCTOR}/"


def first_page(handler: Any) -> str:
    """Return where the instructor comes to after signing in; an empty text for others, whom the hub sends to their JupyterLab."""
    user = handler.current_user
    return PAGE if user is not None and user.name == INSTRUCTOR else ""


room = Room.read(ROOM)
c = get_config()  # type: ignore[no-untyped-call]

c.JupyterHub.bind_url = f"https://:{room.port}"
c.JupyterHub.ssl_cert, c.JupyterHub.ssl_key = str(CERTIFICATE), str(KEY)
c.JupyterHub.hub_bind_url = f"http://127.0.0.1:{room.hub_port}"
c.ConfigurableHTTPProxy.api_url = f"http://127.0.0.1:{room.proxy_port}"
c.ConfigurableHTTPProxy.command = list(map(str, proxy_command()))
c.ConfigurableHTTPProxy.pid_file = str(RUN / "proxy.pid")
c.JupyterHub.db_url = f"sqlite:///{RUN / 'hub.sqlite'}"
c.JupyterHub.cookie_secret_file = str(RUN / "cookie_secret")
c.JupyterHub.cleanup_servers = True
c.JupyterHub.default_url = first_page
c.JupyterHub.template_paths = [str(Path(__file__).parent / "templates")]
c.JupyterHub.template_vars = {"announcement_login": "A classroom of the WSO2 cluster runbook. Your instructor has your name and your password."}

c.JupyterHub.authenticator_class = ClassroomAuthenticator
c.Authenticator.allowed_users = {INSTRUCTOR, *(learner.name for learner in room.learners)}
# Not JupyterHub's administrator, whose role cannot be changed: it opens every server and makes tokens in everybody's name.
c.JupyterHub.load_roles = [
    {
        "name": INSTRUCTOR,
        "description": "Sees the learners, and stops and starts their servers",
        "scopes": ["admin-ui", "list:users", "read:users", "servers", "access:services"],
        "users": [INSTRUCTOR],
    }
]

c.JupyterHub.spawner_class = LearnerSpawner
c.Spawner.cmd = [str(ENVIRONMENT / "bin" / "jupyterhub-singleuser")]
c.Spawner.env_keep = []
c.LearnerSpawner.interrupt_timeout = c.LearnerSpawner.term_timeout = 3  # seconds, before a server is ended less gently
c.Spawner.start_timeout = 180  # seconds: eight servers that start together on two cores
c.Spawner.http_timeout = 120

c.JupyterHub.services = [
    {
        "name": INSTRUCTOR,
        "url": f"http://127.0.0.1:{room.page_port}",
        "command": [sys.executable, "-m", "runbook_cli.classroom.page.instructor"],
        "oauth_no_confirm": True,
    }
]
