"""A small package with a service, on machines, and an archive on each of them that has a newer version as a security update: real runs of apt."""

from __future__ import annotations

from collections.abc import Collection

from runbook_lib.chapters.deployment import Deployment
from tests.support.deployments import on

NAME = "runbook-small"
UNIT = f"{NAME}.service"
ARCHIVE = "/opt/small-archive"
LIST = "/etc/apt/sources.list.d/small.list"
# The service's program is a copy of sleep, another one with each version: who runs the former one uses a file that is gone.
MAKE = r"""
version={version} tree=$(mktemp -d) archive={archive}
mkdir -p $tree/DEBIAN $tree/usr/lib/{name} $tree/usr/lib/systemd/system $archive
cp /usr/bin/sleep $tree/usr/lib/{name}/serve
printf '\n%s\n' $version >> $tree/usr/lib/{name}/serve
printf '[Service]\nExecStart=/usr/lib/{name}/serve infinity\n[Install]\nWantedBy=multi-user.target\n' > $tree/usr/lib/systemd/system/{unit}
printf 'Package: {name}\nVersion: %s\nArchitecture: all\nMaintainer: tests <tests@lab.test>\nDescription: a small package\n' $version > $tree/DEBIAN/control
if [ -n "{asks}" ]; then
  printf '#!/bin/sh\ntouch /run/reboot-required\necho {name} >> /run/reboot-required.pkgs\n' > $tree/DEBIAN/postinst
  chmod 755 $tree/DEBIAN/postinst
fi
chmod 755 $tree
dpkg-deb --root-owner-group -Znone -b $tree $archive/{name}.deb >/dev/null
cd $archive
{{ cat $tree/DEBIAN/control
  echo "Filename: ./{name}.deb"; echo "Size: $(stat -c %s {name}.deb)"; echo "SHA256: $(sha256sum {name}.deb | cut -d' ' -f1)"; }} > Packages
printf 'Origin: Debian\nLabel: Debian-Security\nSuite: stable-security\nCodename: bookworm-security\nVersion: 12\nArchitectures: all amd64 arm64\n' > Release
echo " $(sha256sum Packages | cut -d' ' -f1) $(stat -c %s Packages) Packages" | sed '1i SHA256:' >> Release
echo "deb [trusted=yes] file:$archive ./" > {list}
rm -rf $tree
"""
INSTALL = f"apt-get -q update >/dev/null; DEBIAN_FRONTEND=noninteractive apt-get -q -y install {NAME} >/dev/null; systemctl enable -q --now {UNIT}"
REMOVE = (
    f"systemctl disable -q --now {UNIT}; DEBIAN_FRONTEND=noninteractive apt-get -q -y purge {NAME} >/dev/null; rm -rf {ARCHIVE} {LIST} /run/reboot-required*"
)


def publish(deployment: Deployment, nodes: Collection[str], version: str, asks_for_reboot: Collection[str] = ()) -> None:
    """Put a version into the archives of these machines. On `asks_for_reboot` it asks for a reboot when it is installed, as a kernel does."""
    for node in nodes:
        words = {"version": version, "archive": ARCHIVE, "name": NAME, "unit": UNIT, "list": LIST, "asks": "yes" if node in asks_for_reboot else ""}
        on(deployment, node, MAKE.format(**words))


def install(deployment: Deployment, nodes: Collection[str], version: str) -> None:
    """Install a version, whose service then runs."""
    publish(deployment, nodes, version)
    for node in nodes:
        on(deployment, node, INSTALL)


def remove(deployment: Deployment, nodes: Collection[str]) -> None:
    for node in nodes:
        on(deployment, node, REMOVE)


def installed(deployment: Deployment, node: str) -> str:
    return on(deployment, node, f"dpkg-query -W -f '${{Version}}' {NAME}")


def running(deployment: Deployment, node: str) -> str:
    """The version whose program the service runs."""
    return on(deployment, node, f"tail -c 20 /proc/$(systemctl show -p MainPID --value {UNIT})/exe | tail -1").strip()


def boot(deployment: Deployment, node: str) -> str:
    return on(deployment, node, "cat /proc/sys/kernel/random/boot_id")
