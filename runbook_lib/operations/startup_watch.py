# Runs on a WSO2 node (sent over stdin, standard library only): starts the product, follows the log of this very
# start, ends when it is ready, broken or silent. One JSON object per line on stdout; the last one is the result. See
# startup.py for the meaning.
import contextlib
import glob
import http.client
import json
import os
import re
import shutil
import ssl
import subprocess
import sys
import threading
import time

LINGER = 1.0  # seconds to wait for the lines that follow a failure (`Caused by: …`)
QUICK = 1.0  # seconds that an answer may take (see serve)
LAST = 20  # lines of log that go with a failure
PULSE = 5.0  # seconds between two signs of life
ONE_AT_A_TIME = threading.Lock()


def say(**message):
    """Write one message. When the caller is gone, the start is followed to its end all the same: the next run finds its mark."""
    with ONE_AT_A_TIME, contextlib.suppress(BrokenPipeError):
        sys.stdout.write(json.dumps(message) + "\n")
        sys.stdout.flush()


def pulse():
    """Send a sign of life every PULSE seconds while a call blocks: a machine whose power was cut sends none."""
    while True:
        time.sleep(PULSE)
        say(alive=True)


def systemctl(*words):
    return subprocess.run(["systemctl", *words], capture_output=True, text=True)


def state(unit):
    """Return the unit's state as systemd's properties."""
    text = systemctl("show", "-p", "ActiveState,SubState,Result,ExecMainStatus", unit).stdout
    return dict(line.split("=", 1) for line in text.split())


def invocation(unit):
    """Return what systemd calls this very start of the unit."""
    return systemctl("show", "-p", "InvocationID", "--value", unit).stdout.strip()


def journal(unit):
    """Return the last lines of a unit's journal: its script's and systemd's own."""
    command = ["journalctl", "-u", unit, "-n", "15", "--no-pager", "-o", "cat"]
    return subprocess.run(command, capture_output=True, text=True).stdout.splitlines()


def write(path, text):
    """Replace a file so that it is never half written, even when the power is cut."""
    with open(path + ".part", "w") as out:
        out.write(text)
        out.flush()
        os.fsync(out.fileno())
    os.replace(path + ".part", path)


def keep_shipped_database(home):
    """Copy the local database as the pack shipped it, for a first boot that has to be repeated."""
    shipped, kept = home + "/repository/database", home + "/.runbook-database"
    if os.path.isdir(shipped) and not os.path.isdir(kept):
        shutil.rmtree(kept + ".part", ignore_errors=True)
        subprocess.run(["cp", "-a", shipped, kept + ".part"], check=True)
        os.rename(kept + ".part", kept)


class Log:
    """The lines that the present start wrote.

    The unit records the log's size and inode before each start: at midnight the file gets the date as suffix, and the log
    continues in a new one. `kept` is false when the file that the start was logged to no longer exists.
    """

    def __init__(self, path, note):
        self.path, self.rest, self.lines, self.days, self.kept = path, b"", [], [], True
        try:
            with open(note) as noted:
                self.at, inode = (int(number) for number in (noted.read() + " 0").split()[:2])
        except (OSError, ValueError):
            self.at = inode = 0
        if inode and not self._is(path, inode):
            days = sorted(glob.glob(glob.escape(path) + ".*"))
            first = next((day for day in days if self._is(day, inode)), None)
            self.kept = first is not None
            self.days = days[days.index(first) :] if first else []
            self.at = self.at if first else 0

    @staticmethod
    def _is(path, inode):
        return os.path.exists(path) and os.stat(path).st_ino == inode

    def more(self):
        """Return the lines that were written since the last call."""
        data = b""
        for day in self.days:
            with open(day, "rb") as source:
                source.seek(self.at)
                data += source.read()
            self.at = 0
        self.days = []
        try:
            with open(self.path, "rb") as source:
                if source.seek(0, os.SEEK_END) < self.at:  # emptied, or renamed while we look
                    self.at = 0
                source.seek(self.at)
                today = source.read()
        except FileNotFoundError:
            today = b""
        self.at += len(today)
        *whole, self.rest = (self.rest + data + today).split(b"\n")
        fresh = [line.decode(errors="replace").rstrip() for line in whole]
        self.lines = (self.lines + fresh)[-LAST:]
        return fresh


def answers(probe):
    """Return (whether the page answers as expected and quickly, what it answered).

    Redirects are not followed: they lead to the public port.
    """
    began = time.monotonic()
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # asks only whether it serves; nothing is sent
    connection = http.client.HTTPSConnection(probe["address"], probe["port"], timeout=10, context=context)
    try:
        connection.request("GET", probe["path"])
        response = connection.getresponse()
        response.read()
        status, took = response.status, time.monotonic() - began
        good = not probe["status"] or status in probe["status"]
        return good and took <= QUICK, f"status {status}" + (f" after {took:.1f} s, more than {QUICK:.0f} s" if good and took > QUICK else "")
    except (OSError, http.client.HTTPException) as error:
        return False, str(error) or type(error).__name__
    finally:
        connection.close()


def ended(now, ours):
    """Return whether the start that is followed has ended. systemd makes the next one RestartSec later, and would go on with that for ever.

    `ours`: it was asked for here. Of another one, one that failed before Java began (the database's server did not answer yet) is left to systemd.
    """
    again = now.get("SubState", "").startswith("auto-restart") and (ours or now.get("Result") == "success")
    return bool(again) or now.get("ActiveState") not in ("active", "activating", "reloading")


def dead(request, log, since="while starting"):
    """Return a result when the start that is followed has ended, otherwise None. `since`: when that happened, in words."""
    now = state(request["unit"])
    if not ended(now, request["begun"]):
        return None
    log.more()
    words = "{ActiveState}, {Result}, exit status {ExecMainStatus}".format(**now)
    return {"dead": words, "since": since, "log": log.lines, "journal": journal(request["unit"])}


def follow(request, log, deadline):
    """Follow the log until the ready line and return it; otherwise return a result that names the failure."""
    failures = [re.compile(pattern) for pattern in request["failures"]]
    ready, tell = re.compile(request["ready"]), re.compile(request["tell"])
    found, looked = None, 0.0
    while time.monotonic() < deadline:
        for line in log.more():
            broken = next((index for index, pattern in enumerate(failures) if pattern.search(line)), None)
            if broken is not None and (found is None or broken < found["failed"]):
                found = {
                    "failed": broken,
                    "line": line,
                    "until": (found or {}).get("until") or time.monotonic() + LINGER,
                }
            if tell.search(line):
                say(line=line)
            if ready.search(line) and not found:
                return {"ready": line}
        if found and time.monotonic() > found["until"]:
            return {"failed": found["failed"], "line": found["line"], "log": log.lines}
        if time.monotonic() - looked > 1.0:
            looked = time.monotonic()
            if not found and (stopped := dead(request, log)):
                return stopped
        time.sleep(0.1)
    return {"silent": request["seconds"], "log": log.lines}


def serve(request, deadline):
    """Wait until every page asked for answers quickly, `row` times in a row; return None, or a result with the last bad answer.

    A node that visitors are sent to next needs many: what just started has nothing compiled. Visitors who come all at once then wait for
    each other until Nginx gives up (2 s for a connection and its handshake), come again, and the node never catches up. Hence a connection
    of its own for each answer: that is what costs most.
    """
    for probe in request["probes"]:
        row = 0
        while row < request["row"]:
            good, words = answers(probe)
            row = row + 1 if good else 0
            if not good:
                if time.monotonic() > deadline:
                    return {"mute": probe["path"], "words": words}
                time.sleep(0.3)
    return None


def main():
    request = json.loads(sys.stdin.buffer.read())
    began = time.monotonic()
    deadline = began + request["seconds"]
    threading.Thread(target=pulse, daemon=True).start()
    mark = request.get("mark")
    if mark:
        keep_shipped_database(request["home"])
        write(mark, "begun\n")
    if request["verb"] != "watch":
        systemctl("reset-failed", request["unit"])
        done = systemctl(request["verb"], request["unit"])
        if done.returncode:
            say(dead=done.stderr.strip(), log=[], journal=journal(request["unit"]))
            return
        request["begun"] = invocation(request["unit"])
        say(begun=request["begun"])
    elif request["begun"] not in (None, invocation(request["unit"])):
        say(dead="it was started anew meanwhile", log=[], journal=journal(request["unit"]))
        return
    log = Log(request["log"], request["note"])
    if request["verb"] == "watch" and not log.kept and state(request["unit"]).get("ActiveState") == "active":
        result = {"ready": "it runs since longer than its logs are kept"}  # then only its pages can tell
    else:
        result = follow(request, log, deadline)
    if "ready" in result:
        result = dead(request, log, "after it had started") or serve(request, max(deadline, time.monotonic() + 30)) or result
    if "ready" in result and mark:
        write(mark, "complete\n")
    say(**result, seconds=round(time.monotonic() - began, 1))


if __name__ == "__main__":
    main()
