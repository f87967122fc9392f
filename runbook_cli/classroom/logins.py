"""Passwords of the classroom: made, printed once, and kept as salted hashes. The system users have none: nobody signs in but through the hub."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path

LETTERS = "abcdefghjkmnpqrstuvwxyz23456789"  # none that look alike: passwords are read from paper
GROUPS, IN_GROUP = 4, 4  # 79 bits


def make(names: Sequence[str]) -> dict[str, str]:
    """Return a new password for each name."""
    return {name: "-".join("".join(secrets.choice(LETTERS) for _ in range(IN_GROUP)) for _ in range(GROUPS)) for name in names}


def store(passwords: Mapping[str, str], file: Path) -> None:
    """Write salt and hash of each password, for root alone."""
    rows = {}
    for name, password in passwords.items():
        salt = secrets.token_bytes(16)
        rows[name] = [salt.hex(), _hash(password, salt).hex()]
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
        json.dump(rows, out)


def fits(name: str, password: str, file: Path) -> bool:
    """Return whether it is the password of that login. A name that there is not takes as long as one that there is."""
    rows: dict[str, list[str]] = json.loads(file.read_text())
    salt, wanted = rows.get(name, ["00" * 16, ""])
    return hmac.compare_digest(_hash(password, bytes.fromhex(salt)).hex(), wanted)


def listed(passwords: Mapping[str, str]) -> str:
    """Return the logins as lines of text."""
    width = max(map(len, passwords))
    return "\n".join(f"{name.ljust(width)}  {password}" for name, password in passwords.items())


def _hash(password: str, salt: bytes) -> bytes:
    return hashlib.scrypt(password.encode(errors="replace"), salt=salt, n=2**14, r=8, p=1)
