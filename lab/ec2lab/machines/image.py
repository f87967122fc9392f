"""The image: the Debian 12 tree below every machine's disk, built once by mmdebstrap and cached by a hash of its recipe."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from ec2lab.errors import LabError, lab_command
from ec2lab.paths import CACHE
from ec2lab.shell import lines, run

SUITE = "bookworm"
MIRROR = "EC2LAB_DEBIAN_MIRROR"  # environment variable: the archive's URI, needed where this machine's apt has none, as on Ubuntu
OWNER = "136693071363"  # Debian's AWS account (wiki.debian.org/Cloud/AmazonEC2Image)
ARCHITECTURES = {"x86_64": ("amd64", "x86_64"), "aarch64": ("arm64", "arm64")}  # machine -> (Debian's, EC2's) name
PACKAGES = [
    *("systemd", "systemd-sysv", "dbus", "libpam-systemd", "openssh-server", "cloud-init", "sudo", "python3"),
    *("ca-certificates", "iproute2", "iputils-ping", "procps", "curl", "wget", "unzip", "xz-utils", "less", "vim-tiny"),
    *("apt-utils", "unattended-upgrades"),
]

# Files of the image beside those of its packages. `manage_etc_hosts` and `admin` are as in Debian's own EC2 image; unlike
# there, no RSA host key is generated: it took half of the time that six machines need to start on two cores.
FILES = {
    "etc/cloud/cloud.cfg.d/01_image.cfg": """\
datasource_list: [ NoCloud ]
network: {config: disabled}
locale: false
manage_etc_hosts: true
apt: {preserve_sources_list: true}
grub_dpkg: {enabled: false}
ssh_genkeytypes: [ed25519, ecdsa]
system_info:
  distro: debian
  default_user: {name: admin, lock_passwd: true, gecos: Debian, groups: [adm], shell: /bin/bash,
                 sudo: ["ALL=(ALL) NOPASSWD:ALL"]}
""",
    "etc/default/locale": "LANG=C.UTF-8\n",
    "etc/fstab": "",
    "etc/hostname": "debian\n",
    "etc/machine-id": "",
    "etc/resolv.conf": "# names are resolved by /etc/hosts\n",
    "etc/systemd/journald.conf.d/size.conf": "[Journal]\nRuntimeMaxUse=32M\nSystemMaxUse=64M\n",
}
# Units that have nothing to do in a machine without hardware, or that would start work at unpredictable times.
MASKED = [
    *("apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "man-db.timer"),
    *("e2scrub_all.timer", "fstrim.timer", "systemd-pstore.service", "systemd-networkd.service"),
    *("systemd-timesyncd.service", "cloud-init-hotplugd.socket", "getty.target"),
]
SECRETS = ("etc/ssh/ssh_host_*", "var/lib/systemd/random-seed", "var/lib/dbus/machine-id")


@dataclass(frozen=True)
class Image:
    """A built tree. `key` is a hash of its recipe."""

    key: str
    tree: Path
    architecture: str

    @property
    def ami(self) -> str:
        return "ami-" + hashlib.sha256(self.key.encode()).hexdigest()[:17]


def mirrors() -> dict[str, str]:
    """Return archive URIs by suite suffix: the mirror that the environment names, else those that this machine's apt uses.

    Raises LabError when neither names a Debian archive.
    """
    named = os.environ.get(MIRROR, "").rstrip("/")
    found = {"": named, "-security": f"{named}-security"} if named else {}
    for line in lines("apt-get", "indextargets", "--format", "$(SITE) $(RELEASE)", "Created-By: Packages"):
        site, _, release = line.partition(" ")
        suffix = release.removeprefix(SUITE)
        if release.startswith(SUITE) and suffix in ("", "-security") and "debian" in site:
            found.setdefault(suffix, site.rstrip("/"))
    if "" not in found:
        raise LabError(
            f"no mirror of Debian {SUITE} is known: this machine's apt has none",
            "apt's sources",
            f"name one: {MIRROR}=http://<mirror>/debian {lab_command('up')}",
        )
    return {"": found[""], "-security": found.get("-security", f"{found['']}-security")}


def sources(on_machine: bool) -> str:
    """Return the text of apt's sources.list, for a machine or for this host. Machines use plain HTTP, by way of the lab's package proxy."""
    at = {suffix: uri.replace("https://", "http://") if on_machine else uri for suffix, uri in mirrors().items()}
    return f"deb {at['']} {SUITE} main\ndeb {at['']} {SUITE}-updates main\ndeb {at['-security']} {SUITE}-security main\n"


def wanted() -> Image:
    """Return the image of the current recipe, whether or not it is built yet."""
    debian, ec2 = ARCHITECTURES[os.uname().machine]
    recipe = repr((SUITE, debian, PACKAGES, sorted(FILES.items()), MASKED, SECRETS, sources(on_machine=True)))
    key = hashlib.sha256(recipe.encode()).hexdigest()[:12]
    return Image(key, CACHE / "images" / f"debian-12-{key}", ec2)


@contextlib.contextmanager
def builders_lock() -> Iterator[IO[str]]:
    """Hold the lock for building images. The kernel releases it when its holder ends, so a killed build blocks nobody."""
    folder = CACHE / "images"
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "lock", "w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield handle


def ensure(say: Callable[[str], None] = print) -> Image:
    """Return the image, building it first when there is none. Raises LabError, with mmdebstrap's output, when the build fails."""
    image = wanted()
    if image.tree.is_dir():
        return image
    with builders_lock():
        if image.tree.is_dir():
            return image
        say(f"building the machines' image (Debian 12, about a minute, once) in {image.tree.parent}")
        _forget_killed_builds(image.tree.parent)
        building = image.tree.with_name(f".building-{os.getpid()}")
        _mmdebstrap(building)
        _furnish(building)
        building.rename(image.tree)
        _forget_older_images(image)
    return image


@contextlib.contextmanager
def in_use(image: Image) -> Iterator[None]:
    """Hold a shared lock on the image for the block, so that it is not removed."""
    with open(_use_file(image.tree), "w") as handle:
        fcntl.flock(handle, fcntl.LOCK_SH)
        yield


def _use_file(tree: Path) -> Path:
    return tree.with_name(f"{tree.name}.in-use")


def _forget_older_images(image: Image) -> None:
    """Remove images of other recipes, unless a lab uses them."""
    for tree in image.tree.parent.glob("debian-12-????????????"):
        with open(_use_file(tree), "w") as handle, contextlib.suppress(BlockingIOError):
            if tree != image.tree:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(tree)
                _use_file(tree).unlink()


def _forget_killed_builds(folder: Path) -> None:
    for left in folder.glob(".building-*"):
        shutil.rmtree(left)


def _mmdebstrap(target: Path) -> None:
    """Build the tree. Raises LabError when that fails.

    It runs in mount and PID namespaces of its own, so that mounts and processes of a killed build vanish with these.
    """
    proxy = lines("apt-config", "dump", "--format", "%v%n", "Acquire::http::Proxy")
    options = [f'--aptopt=Acquire::http::Proxy "{proxy[0]}";'] if proxy and proxy[0] else []
    command = [
        *("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"),
        *("mmdebstrap", "--mode=root", "--variant=minbase", "--format=directory", f"--include={','.join(PACKAGES)}"),
        *options,
        SUITE,
        str(target),
        "-",
    ]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        _, said = child.communicate(sources(on_machine=False), timeout=1800)
    except BaseException:
        child.send_signal(signal.SIGKILL)
        raise
    if child.returncode != 0:
        words = " / ".join(line for line in said.splitlines() if not line.startswith("I:"))[-600:]
        raise LabError(f"mmdebstrap failed: {words}", str(target), "see that apt-get update works on this machine, then try again")


def _furnish(tree: Path) -> None:
    for name, text in (FILES | {"etc/apt/sources.list": sources(on_machine=True)}).items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).unlink(missing_ok=True)  # resolv.conf and the like may be links
        (tree / name).write_text(text)
    for unit in MASKED:
        mask = tree / "etc/systemd/system" / unit
        mask.unlink(missing_ok=True)
        mask.symlink_to("/dev/null")
    for pattern in SECRETS:
        for secret in tree.glob(pattern):
            secret.unlink()
    run("sync", "--file-system", str(tree))
