"""The images: the trees below the machines' disks, each built once by mmdebstrap and cached by a hash of its recipe."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from ec2lab.errors import LabError, lab_command
from ec2lab.paths import CACHE
from ec2lab.shell import lines, run

ARCHITECTURES = {"x86_64": ("amd64", "x86_64"), "aarch64": ("arm64", "arm64")}  # machine -> (Debian's, EC2's) name
DEFAULT = "debian-12"
PACKAGES = [
    *("systemd", "systemd-sysv", "dbus", "libpam-systemd", "openssh-server", "cloud-init", "sudo", "python3"),
    *("ca-certificates", "iproute2", "iputils-ping", "procps", "curl", "wget", "unzip", "xz-utils", "less", "vim-tiny"),
    *("apt-utils", "unattended-upgrades"),
]

# Files of an image beside those of its packages. `manage_etc_hosts` and the first user are as in the publishers' own EC2 images;
# unlike there, no RSA host key is generated: it took half of the time that six machines need to start on two cores.
FILES = {
    "etc/apt/apt.conf.d/80expired": 'Acquire::Check-Valid-Until "false";  # of a mirror that lags behind, or a suite in the archive\n',
    "etc/default/locale": "LANG=C.UTF-8\n",
    "etc/fstab": "",
    "etc/hostname": "debian\n",
    "etc/machine-id": "",
    "etc/resolv.conf": "# names are resolved by /etc/hosts\n",
    "etc/systemd/journald.conf.d/size.conf": "[Journal]\nRuntimeMaxUse=32M\nSystemMaxUse=64M\n",
}
CLOUD_INIT = """\
datasource_list: [ NoCloud ]
network: {config: disabled}
locale: false
manage_etc_hosts: true
apt: {preserve_sources_list: true}
grub_dpkg: {enabled: false}
ssh_genkeytypes: [ed25519, ecdsa]
system_info:
  distro: DISTRO
  default_user: {name: USER, lock_passwd: true, gecos: Debian, groups: [adm], shell: /bin/bash,
                 sudo: ["ALL=(ALL) NOPASSWD:ALL"]}
"""
# Units that have nothing to do in a machine without hardware, or that would start work at unpredictable times.
MASKED = [
    *("apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "man-db.timer"),
    *("e2scrub_all.timer", "fstrim.timer", "systemd-pstore.service", "systemd-networkd.service"),
    *("systemd-timesyncd.service", "cloud-init-hotplugd.socket", "getty.target"),
]
SECRETS = ("etc/ssh/ssh_host_*", "var/lib/systemd/random-seed", "var/lib/dbus/machine-id")


@dataclass(frozen=True)
class Distribution:
    """A distribution, and where its packages come from.

    `variable`: environment variable with the archive's URI, needed where this machine's apt knows none. `components`: parts of the
    archive that machines may use.
    """

    name: str
    variable: str
    components: str


DEBIAN = Distribution("debian", "EC2LAB_DEBIAN_MIRROR", "main")
UBUNTU = Distribution("ubuntu", "EC2LAB_UBUNTU_MIRROR", "main universe")


@dataclass(frozen=True)
class Recipe:
    """An operating system that an image can be built of.

    `owner`, `published`, `parameter`: its publisher's AWS account, the image's name there ({0}: architecture, {1}: version) and its
    public SSM parameter ("" where there is none). `user`: the first user. `pockets`: suffixes of the suites beside the first.
    """

    suite: str
    owner: str
    published: str
    parameter: str
    user: str = "admin"
    root_device: str = "/dev/xvda"
    distribution: Distribution = DEBIAN
    pockets: tuple[str, ...] = ("-updates", "-security")


# Debian: wiki.debian.org/Cloud/AmazonEC2Image; unstable has daily images only, of another account. Ubuntu: Canonical's page "Find
# Ubuntu images on AWS". Unstable is there for packages that no release has: a MySQL server, and Java 8.
RECIPES = {
    "debian-11": Recipe("bullseye", "136693071363", "debian-11-{0}-{1}", "/aws/service/debian/release/11/latest/{0}"),
    "debian-12": Recipe("bookworm", "136693071363", "debian-12-{0}-{1}", "/aws/service/debian/release/12/latest/{0}"),
    "debian-13": Recipe("trixie", "136693071363", "debian-13-{0}-{1}", "/aws/service/debian/release/13/latest/{0}"),
    "debian-sid": Recipe("sid", "903794441882", "debian-sid-{0}-daily-{1}", "", pockets=()),
    "ubuntu-22.04": Recipe(
        "jammy", "099720109477", "ubuntu/images/hvm-ssd/ubuntu-jammy-22.04-{0}-server-{1}",
        "/aws/service/canonical/ubuntu/server/22.04/stable/current/{0}/hvm/ebs-gp2/ami-id", "ubuntu", "/dev/sda1", UBUNTU,
    ),
    "ubuntu-24.04": Recipe(
        "noble", "099720109477", "ubuntu/images/hvm-ssd-gp3/ubuntu-noble-24.04-{0}-server-{1}",
        "/aws/service/canonical/ubuntu/server/24.04/stable/current/{0}/hvm/ebs-gp3/ami-id", "ubuntu", "/dev/sda1", UBUNTU,
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Image:
    """A built tree. `name` is that of its recipe in RECIPES, `key` a hash of the recipe."""

    name: str
    key: str
    tree: Path
    architecture: str

    @property
    def ami(self) -> str:
        return "ami-" + hashlib.sha256(f"{self.name} {self.key}".encode()).hexdigest()[:17]

    @property
    def recipe(self) -> Recipe:
        return RECIPES[self.name]


def first_user(instance: Mapping[str, Any]) -> str:
    """Return the first user of a machine by its instance's root device, as in DescribeInstances. An image made of a machine has that of the recipe below."""
    return next((recipe.user for recipe in RECIPES.values() if recipe.root_device == instance.get("RootDeviceName")), Recipe.user)


def parse_names(text: str) -> tuple[str, ...]:
    """Return the images' names in a list with commas, without repetitions. Raises LabError for a name that has no recipe."""
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    for name in names:
        if name not in RECIPES:
            raise LabError(f"no image {name!r} can be built", "--images", f"there is: {', '.join(RECIPES)}")
    if not names:
        raise LabError("no image is named", "--images", f"there is: {', '.join(RECIPES)}")
    return names


def mirrors() -> dict[str, str]:
    """Return the URIs of the archives that this machine can reach, by "debian", "debian-security" and "ubuntu".

    An archive is where its environment variable says, else, for Debian, where this machine's apt gets a release from. Ubuntu has its
    security suite in the archive itself.
    """
    found = {each.name: os.environ.get(each.variable, "").rstrip("/") for each in (DEBIAN, UBUNTU)}
    found = {name: uri for name, uri in found.items() if uri}
    if "debian" in found:
        found["debian-security"] = f"{found['debian']}-security"
    suites = {recipe.suite for recipe in RECIPES.values() if recipe.distribution is DEBIAN}
    for line in lines("apt-get", "indextargets", "--format", "$(SITE) $(RELEASE)", "Created-By: Packages"):
        site, _, release = line.partition(" ")
        suite, _, pocket = release.partition("-")
        if suite in suites and pocket in ("", "security") and "debian" in site:
            found.setdefault(f"debian-{pocket}".rstrip("-"), site.rstrip("/"))
    if "debian" in found:
        found.setdefault("debian-security", f"{found['debian']}-security")
    return found


def sources(recipe: Recipe, on_machine: bool) -> str:
    """Return the text of apt's sources.list, for a machine or for this host. Machines use plain HTTP, by way of the lab's package proxy.

    Raises LabError when no mirror of the archive is known.
    """
    distribution, known = recipe.distribution.name, mirrors()
    if distribution not in known:
        raise LabError(
            f"no mirror of {distribution.capitalize()} {recipe.suite} is known: this machine's apt has none",
            "apt's sources",
            f"name one: {recipe.distribution.variable}=http://<mirror>/{distribution} {lab_command('up')}",
        )
    text = ""
    for pocket in ("", *recipe.pockets):
        uri = known.get(distribution + pocket, known[distribution])
        text += f"deb {uri.replace('https://', 'http://') if on_machine else uri} {recipe.suite}{pocket} {recipe.distribution.components}\n"
    return text


def wanted(name: str = DEFAULT) -> Image:
    """Return the image of the current recipe of this name, whether or not it is built yet."""
    debian, ec2 = ARCHITECTURES[os.uname().machine]
    recipe = RECIPES[name]
    whole = repr((recipe, debian, PACKAGES, sorted(files(recipe).items()), MASKED, SECRETS))
    key = hashlib.sha256(whole.encode()).hexdigest()[:12]
    return Image(name, key, CACHE / "images" / f"{name}-{key}", ec2)


def files(recipe: Recipe) -> dict[str, str]:
    """Return the texts of the files that an image has beside those of its packages, by path."""
    cloud_init = CLOUD_INIT.replace("DISTRO", recipe.distribution.name).replace("USER", recipe.user)
    own = {"etc/cloud/cloud.cfg.d/01_image.cfg": cloud_init, "etc/apt/sources.list": sources(recipe, on_machine=True)}
    return FILES | own


@contextlib.contextmanager
def builders_lock() -> Iterator[IO[str]]:
    """Hold the lock for building images. The kernel releases it when its holder ends, so a killed build blocks nobody."""
    folder = CACHE / "images"
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "lock", "w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield handle


def ensure(say: Callable[[str], None] = print, name: str = DEFAULT) -> Image:
    """Return the image, building it first when there is none. Raises LabError, with mmdebstrap's output, when the build fails."""
    image = wanted(name)
    if image.tree.is_dir():
        return image
    with builders_lock():
        if image.tree.is_dir():
            return image
        say(f"building the machines' image ({name}, about a minute, once) in {image.tree.parent}")
        _forget_killed_builds(image.tree.parent)
        building = image.tree.with_name(f".building-{os.getpid()}")
        _mmdebstrap(image.recipe, building)
        _furnish(image.recipe, building)
        building.rename(image.tree)
        _forget_older_images(image)
    return image


@contextlib.contextmanager
def in_use(images: Iterable[Image]) -> Iterator[None]:
    """Hold a shared lock on each image for the block, whether or not it is built yet, so that no other lab with other recipes removes it."""
    with contextlib.ExitStack() as held:
        for image in images:
            image.tree.parent.mkdir(parents=True, exist_ok=True)
            fcntl.flock(held.enter_context(open(_use_file(image.tree), "w")), fcntl.LOCK_SH)
        yield


def _use_file(tree: Path) -> Path:
    return tree.with_name(f"{tree.name}.in-use")


def _forget_older_images(image: Image) -> None:
    """Remove images of former recipes of this name, unless a lab uses them."""
    for tree in image.tree.parent.glob(f"{image.name}-????????????"):
        with open(_use_file(tree), "w") as handle, contextlib.suppress(BlockingIOError):
            if tree != image.tree:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(tree)
                _use_file(tree).unlink()


def _forget_killed_builds(folder: Path) -> None:
    for left in folder.glob(".building-*"):
        shutil.rmtree(left)


def _mmdebstrap(recipe: Recipe, target: Path) -> None:
    """Build the tree. Raises LabError when that fails.

    It runs in mount and PID namespaces of its own, so that mounts and processes of a killed build vanish with these.
    """
    proxy = lines("apt-config", "dump", "--format", "%v%n", "Acquire::http::Proxy")
    options = [f'--aptopt=Acquire::http::Proxy "{proxy[0]}";'] if proxy and proxy[0] else []
    command = [
        *("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"),
        *("mmdebstrap", "--mode=root", "--variant=minbase", "--format=directory", f"--include={','.join(PACKAGES)}"),
        *options,
        '--aptopt=Acquire::Check-Valid-Until "false";',
        recipe.suite,
        str(target),
        "-",
    ]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        _, said = child.communicate(sources(recipe, on_machine=False), timeout=1800)
    except BaseException:
        child.send_signal(signal.SIGKILL)
        raise
    if child.returncode != 0:
        words = " / ".join(line for line in said.splitlines() if not line.startswith("I:"))[-600:]
        raise LabError(f"mmdebstrap failed: {words}", str(target), "see that apt-get update works on this machine, then try again")


def _furnish(recipe: Recipe, tree: Path) -> None:
    for name, text in files(recipe).items():
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
