"""Who may sign in at the hub: the learners and the instructor, by the passwords that `classroom up` made."""

from __future__ import annotations

from typing import Any

from jupyterhub.auth import Authenticator

from runbook_cli.classroom import logins
from runbook_cli.classroom.room import LOGINS


class ClassroomAuthenticator(Authenticator):
    """Compares with the hashes that root keeps. No system account has these passwords."""

    async def authenticate(self, handler: Any, data: dict[str, str]) -> str | None:
        """Return the name when the password is its own, else None."""
        name = data["username"]
        return name if logins.fits(name, data["password"], LOGINS) else None
