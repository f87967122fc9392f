"""A deployment on machines that are, as far as Debian can be, like Ubuntu's: what differs there must not matter (docs/systems.md)."""

from __future__ import annotations

from typing import Any

import pytest

from runbook_lib.roles.mysql import DROP_INS
from tests.support.deployments import in_lab, made, on
from tests.support.lab_fixtures import LabClient, eventually

# As on Ubuntu: the first user is `ubuntu`; automatic upgrades hold the package lists' lock for a while after each boot; needrestart, which
# asks what to restart unless told otherwise, is there and set to restart by itself.
LOOKALIKE = """\
sudo bash -eu <<'ROOT'
apt-get update -q
DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends needrestart
tee /etc/needrestart/conf.d/ubuntu.conf <<< '$nrconf{restart} = "a";'
tee /etc/cloud/cloud.cfg.d/02_ubuntu.cfg <<< 'system_info: {default_user: {name: ubuntu, gecos: Ubuntu}}'
tee /usr/local/sbin/hold-lists <<'EOF'
import fcntl, time
with open("/var/lib/apt/lists/lock", "w") as lists, open("/var/cache/apt/archives/lock", "w") as archives:
    fcntl.lockf(lists, fcntl.LOCK_EX)
    fcntl.lockf(archives, fcntl.LOCK_EX)
    time.sleep(45)
EOF
tee /etc/systemd/system/upgrades.service <<'EOF'
[Service]
Type=exec
ExecStart=/usr/bin/python3 /usr/local/sbin/hold-lists
[Install]
WantedBy=multi-user.target
EOF
systemctl enable upgrades.service
find /var/lib/apt/lists -type f -delete
rm /etc/sudoers.d/90-cloud-init-users
userdel -rf admin || true
! id admin
ROOT
"""
SINCE = 'date -d "$(systemctl show -P {} {})" +%s'


@pytest.mark.full
def test_chapters_wait_for_upgrades_and_sign_in_as_the_images_user(lab: LabClient, launch: Any) -> None:
    box = launch(70).booted()
    box.run(LOOKALIKE)
    made_of_it = lab.ec2.create_image(InstanceId=box.id, Name="ubuntu-lookalike")["ImageId"]
    eventually(lambda: lab.ec2.describe_images(ImageIds=[made_of_it])["Images"][0]["State"] == "available", "the image")
    settings = {"cloud.image": made_of_it, "cloud.login_user": "ubuntu", "database.package": "mariadb-server"}
    with made(in_lab(lab, "greg-single", "test-ubuntu", 41, **settings), "--to", "02") as deployed:
        assert deployed.result["ok"]
        deployment = deployed.open()
        try:
            assert on(deployment, "db-1", "ls /home").split() == ["ubuntu"]
            released = int(on(deployment, "db-1", SINCE.format("InactiveEnterTimestamp", "upgrades.service")))
            server = int(on(deployment, "db-1", SINCE.format("ActiveEnterTimestamp", "mariadb.service")))
            assert server >= released, "the chapter did not have to wait: the lock was not held long enough"
        finally:
            deployment.close()
    lab.ec2.deregister_image(ImageId=made_of_it)


def test_a_mysql_server_confined_by_ubuntus_apparmor_profile_may_read_our_settings() -> None:
    """The profile usr.sbin.mysqld of Ubuntu's package lets it read what lies below /etc/mysql, and little else of /etc."""
    assert all(path.startswith("/etc/mysql/") for path in DROP_INS)
