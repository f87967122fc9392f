"""Looks for secrets wherever a run could have left them: every value of a vault in every form that redaction knows."""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path

from runbook_lib.aws.parameter_store import PUBLIC
from runbook_lib.redaction import PRIVATE_KEY, Redactor
from runbook_lib.ssh import Host

# Below these lies what a run, or what it started, may have written; the rest of a machine comes from its image.
WRITTEN = "/etc /home /opt /root /run /srv /tmp /usr/local /var"
# As nobody, who may read what everybody may read; values come over stdin and are never written on the machine.
READABLE = f"cd / && exec setpriv --reuid=nobody --regid=nogroup --clear-groups grep -rlaF -D skip -f - {WRITTEN} 2>/dev/null"
JOURNAL = """
journalctl --no-pager -o cat -a
dmesg 2>/dev/null
cat /var/log/*.log /var/log/*/*.log 2>/dev/null
"""


class Secrets:
    """The values of a vault that nobody may see.

    Certificates that stand beside a key in one bundle are public, and so is the end of that key: its public half, which the certificate has, too.
    """

    def __init__(self, stored: Mapping[str, str]):
        self._redactor = Redactor()
        self._public = "".join(PRIVATE_KEY.sub("", value) for value in stored.values() if "-----BEGIN CERTIFICATE-----" in value)
        for name, value in stored.items():
            if not name.startswith(PUBLIC):
                self._redactor.add(name, _private(value))

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(self._redactor._forms.values()))

    @property
    def forms(self) -> tuple[str, ...]:
        """Each form on one line, as grep takes it."""
        return tuple(form for form in self._redactor._forms if "\n" not in form and not form.startswith("-----") and form not in self._public)

    def found_in(self, text: str) -> tuple[str, ...]:
        """Names of the values that stand in `text`."""
        return tuple(dict.fromkeys(name for form, name in self._redactor._forms.items() if form in text and form not in self._public))

    def in_files(self, folder: Path) -> dict[str, tuple[str, ...]]:
        """File -> names of the values in it, of everything below `folder`."""
        texts = {str(p.relative_to(folder)): p.read_bytes().decode("latin-1") for p in folder.rglob("*") if p.is_file()}
        assert texts, f"nothing to look at in {folder}"
        return {name: found for name, text in texts.items() if (found := self.found_in(text))}

    def readable_on(self, host: Host) -> list[str]:
        """Files on a machine that hold a value and that every user there may read."""
        done = host.run(f"sudo -n sh -c '{READABLE}'", "\n".join(self.forms).encode(), timeout=300)
        assert done.rc in (0, 1, 2), done.stderr  # 1: nothing found; 2: there were files that it may not read
        return done.stdout.splitlines()

    def logged_on(self, host: Host) -> tuple[str, ...]:
        """Names of the values in the journal, the kernel's messages and the log files of a machine."""
        text = host.run("sudo -n sh", JOURNAL.encode(), timeout=300).stdout
        assert len(text) > 1000, "a machine that booted has a journal"
        return self.found_in(text)

    def in_histories_of(self, host: Host) -> tuple[str, ...]:
        """Names of the values in the histories of shells and clients (`.bash_history`, `.mysql_history`, …)."""
        script = "find / -xdev \\( -name proc -o -name sys \\) -prune -o -name '.*history' -type f -exec cat {} +"
        return self.found_in(host.run("sudo -n sh", script.encode(), timeout=120).stdout)


def _private(value: str) -> str:
    found = PRIVATE_KEY.search(value)
    return found[0] if found else value


class ProcessWatch:
    """Every command line and environment that any user of this machine could see while it watched.

    The machines of a lab are containers: their processes are among this machine's own.
    """

    def __init__(self, pause: float = 0.1):
        self.seen: set[str] = set()
        self._pause, self._done = pause, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> ProcessWatch:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        known: dict[str, bytes] = {}
        while not self._done.wait(self._pause):
            for folder in Path("/proc").glob("[0-9]*"):
                with contextlib.suppress(OSError):
                    command = (folder / "cmdline").read_bytes()
                    if known.get(folder.name) != command:
                        known[folder.name] = command
                        self._keep(command, (folder / "environ").read_bytes())

    def _keep(self, *texts: bytes) -> None:
        self.seen.update(text.decode("latin-1").replace("\0", " ") for text in texts)

    def found(self, secrets: Secrets) -> dict[str, tuple[str, ...]]:
        """What was seen with a value in it -> names of the values."""
        return {text[:200]: names for text in self.seen if (names := secrets.found_in(text))}


def paths_of_this_machine(text: str, ours: Iterable[str]) -> list[str]:
    """Absolute paths in `text` that mean something on this machine only."""
    return [path for path in ours if re.search(rf"(?<![\w/.]){re.escape(path)}(?![\w-])", text)]
