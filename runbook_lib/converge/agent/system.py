# Kinds: package, user, unit, exec. Only what follows the marker is sent; core.py precedes it.
from .core import *  # noqa: F403

# --- agent ---
# l: only list services that need a restart, and restart none on a live node
QUIET = {"DEBIAN_FRONTEND": "noninteractive", "NEEDRESTART_MODE": "l", "LC_ALL": "C"}
# Of apt-get. Translated descriptions, English ones among them, are two fifths of what an update of the lists fetches, and nobody reads them here.
OPTIONS = ["-q", "-y", "-o", "DPkg::Lock::Timeout=300", "-o", "Dpkg::Options::=--force-confold", "-o", "Acquire::Languages=none"]
AT_LAUNCH = "runbook-packages"  # the transient unit by which user data installs packages
LONGEST = 600  # seconds that it may take
INSTALLING = "/run/systemd/transient/%s.service" % AT_LAUNCH  # systemd removes the file when the unit has ended
LOADED = "/run/runbook/loaded"  # one empty file per unit; its mtime is the time of the agent's last start or reload of the unit


def installed_packages():
    """Return the version by name of all installed packages. Reading dpkg's file is 20 times faster than calling dpkg-query."""
    found = {}
    with open("/var/lib/dpkg/status", encoding="utf-8", errors="replace") as status:
        for block in status.read().split("\n\n"):
            fields = dict(line.split(": ", 1) for line in block.split("\n") if line[:8] in ("Package:", "Status: ", "Version:"))
            if fields.get("Status", "").endswith(" ok installed"):
                found[fields["Package"]] = fields.get("Version", "")
    return found


def await_launch():
    """Wait while user data installs packages: a plan of now would be overtaken in a moment. A word every few seconds: silence is taken for a lost host."""
    began = told = time.monotonic()
    while os.path.exists(INSTALLING) and time.monotonic() - began < LONGEST:
        time.sleep(0.1)
        if time.monotonic() - told > 5:
            told = time.monotonic()
            say(waiting="user data installs packages")


@handles("package")
class Packages:
    @staticmethod
    def probe(resources):
        await_launch()
        installed = installed_packages()
        return [{"version": installed.get(r["name"])} for r in resources]

    @staticmethod
    def apply(resources):
        names = [r["name"] for r in resources]
        # Nothing of ours takes another's place: apt would remove a database server for its rival, and its data would be moved away.
        install = ["apt-get", *OPTIONS, "--no-install-recommends", "--no-remove", "install", "--", *names]
        try:
            unlocked(install)
        except Failed:  # an earlier installation was interrupted, or the package lists are missing or older than the mirror
            unlocked(["dpkg", "--configure", "-a"])
            told = None
            try:
                unlocked(["apt-get", *OPTIONS, "update"])
            except Failed as error:  # of one repository, such as backports that left the mirrors: the lists of the others are new
                told = error
            try:
                unlocked(install)
            except Failed as error:
                raise told or error


def unlocked(command, seconds=300.0):
    """Run a command of dpkg or apt and return its output; wait up to `seconds` while another process, such as automatic upgrades, holds a lock.

    The option DPkg::Lock::Timeout waits for dpkg's own lock only, not for the locks of the package lists and of the archives.
    Raises Failed when the command fails or the lock is still held.
    """
    until = time.monotonic() + seconds
    while True:
        try:
            return run(command, env=QUIET)
        except Failed as error:
            held = any(words in str(error) for words in ("Could not get lock", "Unable to lock", "locked by another process"))
            if not held or time.monotonic() > until:
                raise
            time.sleep(1)


@handles("user")
class Users:
    @staticmethod
    def probe(resources):
        facts = []
        for r in resources:
            try:
                entry = pwd.getpwnam(r["name"])
                facts.append({"exists": True, "home": entry.pw_dir, "shell": entry.pw_shell})
            except KeyError:
                facts.append({"exists": False})
        return facts

    @staticmethod
    def apply(resources):
        for r in resources:
            exists = Users.probe([r])[0]["exists"]
            verb = ["usermod"] if exists else ["useradd", "--system", "--user-group"]
            run([*verb, "--home-dir" if not exists else "--home", r["home"], "--shell", r["shell"], r["name"]])


def unit_state(names):
    """Return the properties of these units in the order of `names`, from one call of systemctl."""
    times = "ExecMainStartTimestampMonotonic,ActiveEnterTimestampMonotonic"
    wanted = "Id,Names,LoadState,ActiveState,SubState,UnitFileState,NeedDaemonReload,Result," + times
    _, text = asked(["systemctl", "show", "-p", wanted, *names])
    return [dict(line.split("=", 1) for line in block.splitlines()) for block in text.strip().split("\n\n")]


def newest_change(paths):
    """Return the Unix time of the newest change of these files, 0.0 when none exists. It is the ctime, so that a rename counts as a change."""
    found = [os.stat(p).st_ctime for p in paths if os.path.exists(p)]
    return max(found) if found else 0.0


@handles("unit")
class Units:
    @staticmethod
    def probe(resources):
        facts = []
        for r, state in zip(resources, unit_state([r["name"] for r in resources])):
            since = state.get("ExecMainStartTimestampMonotonic") or state.get("ActiveEnterTimestampMonotonic")  # a timer has no process
            started = time.time() - (time.monotonic() - int(since or 0) / 1e6)
            loaded = os.path.join(LOADED, r["name"])
            if r.get("reload") and os.path.exists(loaded):
                started = max(started, os.stat(loaded).st_mtime)
            active = state.get("ActiveState") in ("active", "activating", "reloading")
            facts.append({
                "load": state.get("LoadState"), "active": active, "state": "%s/%s" % (state.get("ActiveState"), state.get("SubState")),
                "enabled": state.get("UnitFileState") in ("enabled", "static", "enabled-runtime", "alias"),
                "stale": active and newest_change(r.get("watches", ())) > started,
            })  # fmt: skip
        return facts

    @staticmethod
    def apply(resources):
        if any(state.get("NeedDaemonReload") == "yes" or state.get("LoadState") != "loaded" for state in unit_state([r["name"] for r in resources])):
            run(["systemctl", "daemon-reload"])
        for r, fact in zip(resources, Units.probe(resources)):
            Units.apply_one(r, fact)

    @staticmethod
    def apply_one(r, fact):
        name = r["name"]
        if fact["load"] == "not-found":
            raise Failed("systemd knows no unit %s" % name)
        if r["enabled"] != fact["enabled"]:
            run(["systemctl", "enable" if r["enabled"] else "disable", name])
        if r["running"] is False:
            run(["systemctl", "stop", name])
        elif r["running"] and not fact["active"]:
            with contextlib.suppress(Failed):
                run(["systemctl", "reset-failed", name])
            Units.start("start", name)
        elif r["running"] and fact["stale"]:
            Units.start("reload" if r.get("reload") else "restart", name)

    @staticmethod
    def start(verb, name):
        """Start, restart or reload the unit and record the time. Raises Failed with the last lines of its journal when that fails."""
        before = time.time()
        try:
            run(["systemctl", verb, name])
        except Failed as error:
            words = subprocess.run(["journalctl", "-u", name, "-n", "15", "--no-pager", "-o", "cat"], capture_output=True, text=True).stdout
            raise Failed("%s\n%s" % (error, words.strip()))
        os.makedirs(LOADED, exist_ok=True)
        stamp = os.path.join(LOADED, name)
        open(stamp, "w").close()
        os.utime(stamp, (before, before))  # the time before the call: a file that changes during the reload is newer than this


@handles("exec")
class Execs:
    """Commands for sh. A resource needs no action when its command `unless` exits with 0."""

    @staticmethod
    def probe(resources):
        return [{"done": asked(["sh", "-c", r["unless"]])[0] == 0} for r in resources]

    @staticmethod
    def apply(resources):
        for r in resources:
            run(["sh", "-euc", r["run"]], stdin=(r.get("stdin") or "").encode())
