# Kind: updates (security updates that are not installed, and what still runs without those that are). Only what follows the marker is sent.
from .core import *  # noqa: F403
from .system import *  # noqa: F403

# --- agent ---
import re  # noqa: E402

KERNELS = ("/vmlinuz", "/boot/vmlinuz")  # Debian and Ubuntu point them to the newest that is installed
FLAG = "/run/reboot-required"  # written by packages that say so themselves, the kernel's among them
PLANNED = re.compile(r"^Inst (\S+) (?:\[(\S+)\] )?\((\S+) (.*?) ?\[\w+\]\)", re.M)
OF_SYSTEM = ("/usr/", "/lib", "/bin/", "/sbin/")  # where packages put programs: nothing else is replaced by an update


def parse_simulation(text, told_apart):
    """Return what `apt-get -s upgrade` would install. A package that comes new with another one has no former version.

    `told_apart`: whether the machine has a suite of security updates at all; without one every update counts as one.
    """
    return [
        {"name": name, "old": old, "new": new, "from": origin, "security": not told_apart or "-security" in origin.lower()}
        for name, old, new, origin in PLANNED.findall(text)
    ]


def pending(suites):
    """Return what an upgrade would install. An update that another suite has superseded still brings the security fix it was made for."""
    simulate = ["apt-get", "-s", "-q", "--with-new-pkgs"]
    of_security = [suite for suite in suites if "-security" in suite]
    updates = parse_simulation(run([*simulate, "upgrade"], env=QUIET), bool(of_security))
    due = set()
    for suite in of_security:
        found = parse_simulation(run([*simulate, "-t", suite, "upgrade"], env=QUIET), True)
        due.update(each["name"] for each in found if each["security"])
    return [{**each, "security": each["security"] or each["name"] in due} for each in updates]


def interrupted():
    """Return what dpkg says of packages that are installed half."""
    return subprocess.run(["dpkg", "--audit"], capture_output=True, text=True).stdout.strip()


def kernel():
    """Return the running kernel and the newest that is installed; "" for that where none is, as in a container."""
    there = next((os.path.basename(os.path.realpath(path)) for path in KERNELS if os.path.exists(path)), "")
    return {"runs": os.uname().release, "installed": there.partition("vmlinuz-")[2]}


def text_of(path):
    with open(path, errors="replace") as source:
        return source.read()


def stale():
    """Return by service the files that it still uses although they were replaced or removed. Sessions of users end by themselves: they are left out."""
    found = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            unit = unit_of(text_of("/proc/%s/cgroup" % pid))
            for line in text_of("/proc/%s/maps" % pid).splitlines() if unit else ():
                path = line.partition("/")[2]
                if path.endswith(" (deleted)") and ("/" + path).startswith(OF_SYSTEM):
                    found.setdefault(unit, set()).add("/" + path[: -len(" (deleted)")])
    return {unit: sorted(files) for unit, files in found.items()}


def unit_of(cgroup):
    """Return the service that a process belongs to, by its control group; init.scope is systemd itself; "" for a user's session."""
    parts = cgroup.strip().rpartition(":")[2].split("/")
    if any(part == "user.slice" for part in parts):
        return ""
    return next((part for part in parts if part.endswith(".service") or part == "init.scope"), "")


@handles("updates")
class UpdatesHandler:
    """The machine's updates. A probe fetches the package lists anew: one of yesterday does not know what is pending."""

    @staticmethod
    def probe(resources):
        await_launch()
        unlocked(["apt-get", *OPTIONS, "-o", "APT::Update::Error-Mode=any", "update"])
        suites = set(run(["apt-get", "indextargets", "--format", "$(RELEASE)", "Created-By: Packages"]).split())
        packages = text_of(FLAG + ".pkgs").split() if os.path.exists(FLAG + ".pkgs") else []
        fact = {
            "updates": pending(sorted(suites)), "held": run(["apt-mark", "showhold"]).split(), "half": bool(interrupted()), "kernel": kernel(),
            "flag": os.path.exists(FLAG), "packages": sorted(set(packages)), "stale": stale(),
        }  # fmt: skip
        return [fact for _ in resources]

    @staticmethod
    def apply(resources):
        """Install updates (`packages`), after what an interrupted installation left; then restart services (`restart`)."""
        for r in resources:
            if r["half"]:
                unlocked(["dpkg", "--configure", "-a"])
            if r["packages"]:
                unlocked(["apt-get", *OPTIONS, "--only-upgrade", "install", "--", *r["packages"]])
            for unit in r["restart"]:
                run(["systemctl", "daemon-reexec"] if unit == "init.scope" else ["systemctl", "restart", unit])
