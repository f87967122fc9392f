"""Profiles whose role asks for an MFA code: who is asked, once for all chapters, and what is said where nobody can be asked.

The session that a code gave is kept where the AWS CLI keeps its own (~/.aws/cli/cache, readable by the user only), and found there by every
kernel, by the command line, and by the AWS CLI, until it ends.
"""

from __future__ import annotations

import getpass
import logging
import sys
from pathlib import Path

import botocore.session
from botocore.utils import JSONFileCache

from runbook_lib.errors import CloudError

CACHE = ".aws/cli/cache"  # below the home directory
ROLES = "assume-role"  # botocore's name of the provider


def share_sessions(session: botocore.session.Session, where: str) -> None:
    """Let the session's roles use the shared cache, and ask for a code where somebody can answer. `where`: this cloud in error messages."""
    provider = session.get_component("credential_provider").get_provider(ROLES)
    provider.cache = JSONFileCache(str(Path.home() / CACHE))
    provider._prompter = lambda prompt: ask(prompt, where)
    # botocore logs a refusal with its traceback, and then raises it: the error is told once, by us
    logging.getLogger("botocore.credentials").setLevel(logging.ERROR)


def ask(prompt: str, where: str) -> str:
    """Return the code that the user types in a terminal or in a notebook. Raises CloudError where nobody can be asked."""
    in_notebook = getpass.getpass.__module__ != "getpass"  # a kernel replaces it; where its frontend takes no input, that raises
    if in_notebook or (sys.stdin and sys.stdin.isatty()):
        try:
            return getpass.getpass(prompt).strip()
        except (RuntimeError, EOFError):
            pass
    raise CloudError(
        f"this AWS profile needs an MFA code, and nobody can be asked for it here ({prompt.strip().rstrip(':')})",
        f"cloud.profile at {where}",
        "sign in once in a terminal (./runbook doctor PARAMS, or aws sts get-caller-identity --profile NAME): all chapters then use that session",
    )
