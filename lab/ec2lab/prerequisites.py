"""The requirements of the lab on this machine, and the installation of missing packages."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from ec2lab.errors import LabError, lab_command

COMMANDS = {  # command: Debian package
    "mmdebstrap": "mmdebstrap",
    "systemd-nspawn": "systemd-container",
    "ip": "iproute2",
    "nft": "nftables",
    "nsenter": "util-linux",
    "mount": "mount",
    "ssh": "openssh-client",
}
FILES = {"/usr/share/keyrings/debian-archive-keyring.gpg": "debian-archive-keyring"}  # file: Debian package (to trust Debian's mirror)


def missing_packages(commands: Mapping[str, str] = COMMANDS, files: Mapping[str, str] = FILES) -> list[str]:
    """Return the Debian packages, sorted, of those commands and files that are missing (default: those that the lab needs)."""
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    lacking = {package for command, package in commands.items() if not shutil.which(command, path=path)}
    return sorted(lacking | {package for file, package in files.items() if not Path(file).exists()})


def offer(lacking: list[str], assume_yes: bool = False, say: Callable[[str], None] = print) -> None:
    """Install Debian packages after asking at the terminal, or with `assume_yes` without asking.

    Raises LabError when there is no terminal to ask at, when the answer is no, or when the installation fails.
    """
    if not lacking:
        return
    install_them = f"sudo apt-get install --no-install-recommends {' '.join(lacking)}"
    if not assume_yes:
        if not sys.stdin.isatty():
            raise LabError(f"Debian packages are missing: {' '.join(lacking)}", next_step=f"{install_them}  (or: {lab_command('up --yes')})")
        if input(f"The lab needs {' '.join(lacking)}. Install now? [y/N] ").strip().lower() not in ("y", "yes"):
            raise LabError("the lab needs these packages", next_step=install_them)
    install(lacking, say)


def install(packages: list[str], say: Callable[[str], None] = print) -> None:
    """Install Debian packages. Raises LabError when there is no apt-get, or when it fails."""
    words = ["apt-get", "install", "--yes", "--no-install-recommends", *packages]
    if not shutil.which("apt-get"):
        raise LabError(
            f"these Debian packages are missing and there is no apt-get here: {' '.join(packages)}",
            next_step="install what your distribution calls them",
        )
    say("installing " + " ".join(packages))
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    for attempt in (["apt-get", "update", "--quiet"], words):
        done = subprocess.run(attempt, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        raise LabError(f"apt-get failed: {done.stderr.strip()[-400:]}", " ".join(words), "repair apt, then try again")


def check_machine() -> None:
    """Raise LabError, with the next step, when this machine lacks something that no package provides."""
    if sys.platform != "linux":
        raise LabError(f"the lab's machines need Linux; this is {platform.system()}", next_step="run it in a Linux virtual machine, on Windows in WSL")
    if os.geteuid() != 0:
        raise LabError("the lab makes machines and networks, which needs root", next_step=f"sudo {lab_command('up')}")
    from ec2lab.machines.image import ARCHITECTURES

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
    from ec2lab.machines.cgroups import hierarchies

    return any(os.access(root, os.W_OK) for root in hierarchies())


_KERNEL: list[tuple[Callable[[], bool], str, str]] = [
    (_has_overlay, "overlayfs", "sudo modprobe overlay; in a container, start it privileged"),
    (_has_cgroups, "writable control groups", "mount /sys/fs/cgroup; in a container, start it privileged"),
    (lambda: Path("/proc/self/ns/net").exists(), "network namespaces", "use a kernel with CONFIG_NET_NS"),
]


def _warn_of_bridge_filter() -> None:
    """Raise LabError when iptables drops traffic inside bridges. Docker sets it so, and machines then cannot reach each other."""
    switch = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")
    if switch.exists() and switch.read_text().strip() == "1" and shutil.which("iptables"):
        policy = subprocess.run(["iptables", "-S", "FORWARD"], capture_output=True, text=True, check=False).stdout
        if policy.startswith("-P FORWARD DROP"):
            raise LabError(
                "this machine's firewall drops traffic inside bridges (Docker sets it so): machines could not talk",
                str(switch),
                "sudo sysctl net.bridge.bridge-nf-call-iptables=0",
            )
