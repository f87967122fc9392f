"""An AWS profile: its settings in a config file, and the MFA code that its role may ask for, once for all chapters.

The session that a code gave is kept where the AWS CLI keeps its own (~/.aws/cli/cache, readable by the user only), and found there by every
kernel, by the command line, and by the AWS CLI, until it ends.
"""

from __future__ import annotations

import configparser
import getpass
import logging
import sys
from pathlib import Path

import botocore.session
from botocore.utils import JSONFileCache

from runbook_lib.errors import CloudError

LABS = Path("/run/ec2lab")  # a lab's own folder has its name
CACHE = ".aws/cli/cache"  # below the home directory
ROLES = "assume-role"  # botocore's name of the provider


def settings_of(path: Path, profile: str) -> dict[str, str]:
    """Return the settings of a profile in an AWS shared config file. Raises CloudError when file or profile does not exist."""
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CloudError(
            f"there is no AWS config file {path}",
            "cloud.aws_config",
            f"{_lab_up(path)} (for the lab), or name the right file",
        ) from None
    except PermissionError:
        raise CloudError(
            f"the AWS config file {path} is another user's",
            "cloud.aws_config",
            "be the user who started the lab (the one who called sudo), or start a lab of your own: --name, --range",
        ) from None
    except (OSError, UnicodeDecodeError, configparser.Error) as error:
        raise CloudError(f"the AWS config file cannot be read: {error}", str(path), "compare it with AWS's documentation") from None
    for section in (profile, f"profile {profile}"):
        if parser.has_section(section):
            return dict(parser[section])
    raise CloudError(f"no profile {profile}", str(path), f"there is: {', '.join(parser.sections()) or 'none'}")


def _lab_up(path: Path) -> str:
    """Return the command that brings up the lab whose file this is; one that is not the default lab is named by its folder."""
    name = path.parent.name
    return f"./runbook lab up --name {name} and its --range" if path.parent.parent == LABS and name != "lab" else "./runbook lab up"


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
