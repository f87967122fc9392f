"""What the lab's own params files do not use: a JDK and a JDBC driver by URL, and a bastion between the operator and the machines."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runbook_lib import pki
from runbook_lib.chapters.deployment import Deployment
from runbook_lib.errors import HostError
from runbook_lib.ssh import Address, Host
from tests.support.drift_tools import as_root
from tests.support.lab_fixtures import Box, LabClient, Net
from tests.support.runtime_by_url import by_url
from tests.support.sso_deployments import deployed, subnet

pytestmark = pytest.mark.full
NUMBER = 46  # of its subnet in the lab's range


@pytest.fixture(scope="module")
def given(lab: LabClient) -> dict[str, Any]:
    return {**by_url(lab), "deployment": "other-ways"}


@pytest.fixture(scope="module")
def cluster(lab: LabClient, given: dict[str, Any]) -> Iterator[Deployment]:
    deployment = deployed(lab, NUMBER, "greg-single", **given)
    yield deployment
    deployment.destroy(confirm="other-ways")


def test_the_product_runs_on_a_jdk_that_came_as_an_archive(cluster: Deployment) -> None:
    cluster.greg.verify()
    node = cluster.fleet()["greg-1"]
    assert as_root(node, "readlink /proc/$(pgrep -u wso2carbon -f java | head -1)/exe").startswith("/opt/java/")
    assert not as_root(node, "dpkg-query -Wf '${Package}\n' '*jre*' '*jdk*' 2>/dev/null || true").strip()


def test_a_jdbc_driver_by_url_is_the_one_that_the_product_has(cluster: Deployment) -> None:
    jar = as_root(cluster.fleet()["greg-1"], "sha256sum /opt/wso2/greg/repository/components/lib/*.jar")
    assert jar.split()[0] == cluster.spec.database.driver.sha256


def test_archives_that_are_there_are_not_fetched_again(cluster: Deployment) -> None:
    assert not cluster.greg.plan()


@pytest.fixture
def bastion(cluster: Deployment, lab: LabClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Box]:
    """A jump host in the deployment's subnet, to which the operator has a key of its own in ~/.ssh."""
    key = pki.make_ssh_key()
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh/id_ed25519").write_text(key)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    found = lab.ec2.describe_instances(InstanceIds=[cluster.instances()["lb-1"].id])["Reservations"][0]["Instances"][0]
    group = lab.group(found["VpcId"], "bastion")
    lab.allow(group, 22)
    net = Net(found["VpcId"], found["SubnetId"], group, subnet(lab, NUMBER).removesuffix(".0/24"))
    box = lab.launch(net, 150)  # in the subnet of Nginx
    box.run(f"echo '{pki.ssh_public_key(key)}' >> ~/.ssh/authorized_keys")
    yield box
    box.terminate()
    box.gone()
    lab.ec2.delete_security_group(GroupId=group)


def test_through_a_bastion_the_machines_are_reached_and_in_no_other_way(cluster: Deployment, given: dict[str, Any], lab: LabClient, bastion: Box) -> None:
    jump = {
        "cloud.connect_via": "bastion",
        "cloud.bastion": f"admin@{bastion.address}",
        "cloud.bastion_host_keys": bastion.host_keys(),
        "cloud.operator_cidr": f"{bastion.address}/32",
    }
    through = deployed(lab, NUMBER, "greg-single", **given, **jump)
    through.greg.verify()
    through.nginx.verify()
    cluster.close()
    with pytest.raises(HostError, match="does not answer"):
        cluster.fleet()["lb-1"].transport()
    through.close()
    for_me_again = deployed(lab, NUMBER, "greg-single", **given)
    for_me_again.greg.verify()
    for_me_again.close()


def test_a_bastion_that_knows_none_of_our_keys_is_told_with_the_way_out(bastion: Box, tmp_path: Path) -> None:
    (tmp_path / ".ssh/id_ed25519").write_text(pki.make_ssh_key())
    jump = Address("bastion", bastion.address, "admin", tuple(bastion.host_keys()))
    with pytest.raises(HostError, match="accepts none of your own SSH keys") as told:
        Host(jump, None).transport()
    assert f"ssh admin@{bastion.address}" in (told.value.next_step or "")
