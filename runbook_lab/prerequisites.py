"""What a machine needs to run the lab, and how to get it."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from runbook_lib.errors import LabError

COMMANDS = {  # command: Debian package
    "mmdebstrap": "mmdebstrap",
    "systemd-nspawn": "systemd-container",
    "ip": "iproute2",
    "nft": "nftables",
    "nsenter": "util-linux",
    "mount": "mount",
    "ssh": "openssh-client",
    "javac": "openjdk-17-jdk-headless",
}
FILES = {  # file: Debian package (to build the practice packs; the keyring to trust Debian's mirror)
    "/usr/share/java/tomcat9-coyote.jar": "libtomcat9-java",
    "/usr/share/java/mariadb-java-client.jar": "libmariadb-java",
    "/usr/share/java/h2.jar": "libh2-java",
    "/usr/share/keyrings/debian-archive-keyring.gpg": "debian-archive-keyring",
}

TESTS = (  # Debian packages that only the tests need; `.ci/run` installs them with all of the above
    "awscli",
    "chromium",
    "fonts-dejavu-core",
    "libnginx-mod-http-echo",
    "libnss3-tools",
    "mariadb-client",
    "mariadb-server-core",
    "nginx-light",
    "procps",
    "sudo",
)


def missing_packages() -> list[str]:
    """The Debian packages to install before the lab can run."""
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    lacking = {package for command, package in COMMANDS.items() if not shutil.which(command, path=path)}
    return sorted(lacking | {package for file, package in FILES.items() if not Path(file).exists()})


def install(packages: list[str], say: Callable[[str], None] = print) -> None:
    """Install Debian packages. Raises LabError where there is no apt, or when it fails."""
    command = ["apt-get", "install", "--yes", "--no-install-recommends", *packages]
    if not shutil.which("apt-get"):
        raise LabError(
            f"these Debian packages are missing and there is no apt-get here: {' '.join(packages)}",
            next_step="install what your distribution calls them",
        )
    say("installing " + " ".join(packages))
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    for attempt in (["apt-get", "update", "--quiet"], command):
        done = subprocess.run(attempt, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        raise LabError(f"apt-get failed: {done.stderr.strip()[-400:]}", " ".join(command), "repair apt, then try again")


def check_machine() -> None:
    """Raise LabError, with the way out, for what no package can give."""
    if sys.platform != "linux":
        raise LabError(f"the lab's machines need Linux; this is {platform.system()}", next_step="run it in a Linux virtual machine")
    if os.geteuid() != 0:
        raise LabError("the lab makes machines and networks, which needs root", next_step="sudo ./runbook lab up")
    from runbook_lab.image import ARCHITECTURES

    if os.uname().machine not in ARCHITECTURES:
        raise LabError(f"no image for {os.uname().machine}", next_step=f"use one of {', '.join(ARCHITECTURES)}")
    for test, what, way_out in _KERNEL:
        if not test():
            raise LabError(f"this kernel or container has no {what}", next_step=way_out)
    _warn_of_bridge_filter()


def _has_overlay() -> bool:
    if "overlay" not in Path("/proc/filesystems").read_text():
        subprocess.run(["modprobe", "overlay"], capture_output=True, check=False)
    return "overlay" in Path("/proc/filesystems").read_text()


def _has_cgroups() -> bool:
    from runbook_lab.cgroups import hierarchies

    return any(os.access(root, os.W_OK) for root in hierarchies())


_KERNEL: list[tuple[Callable[[], bool], str, str]] = [
    (_has_overlay, "overlayfs", "sudo modprobe overlay; in a container, start it privileged"),
    (_has_cgroups, "writable control groups", "mount /sys/fs/cgroup; in a container, start it privileged"),
    (lambda: Path("/proc/self/ns/net").exists(), "network namespaces", "use a kernel with CONFIG_NET_NS"),
]


def _warn_of_bridge_filter() -> None:
    """Docker sets this and drops what it does not know: machines then cannot reach each other."""
    switch = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")
    if switch.exists() and switch.read_text().strip() == "1" and shutil.which("iptables"):
        policy = subprocess.run(["iptables", "-S", "FORWARD"], capture_output=True, text=True, check=False).stdout
        if policy.startswith("-P FORWARD DROP"):
            raise LabError(
                "this machine's firewall drops traffic inside bridges (Docker sets it so): machines could not talk",
                str(switch),
                "sudo sysctl net.bridge.bridge-nf-call-iptables=0",
            )


if __name__ == "__main__":  # for .ci/run, before there is any environment: everything that lab and tests need
    print(*sorted({*COMMANDS.values(), *FILES.values(), *TESTS}), sep="\n")
