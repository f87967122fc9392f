"""What tests of the cloud side share: an AWS endpoint in this process, machines with host keys on their consoles.

The account is emptied after each module. In a module each test has deployments of its own, and the library promises to keep those apart.
"""

from __future__ import annotations

import itertools
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from runbook_lib.aws.images import Ami
from runbook_lib.launch import host_keys
from runbook_lib.launch.cloud import Cloud
from runbook_lib.launch.instances import launching
from runbook_lib.spec.loader import load_spec

OPERATOR = "10.213.0.1/32"
NUMBERS = itertools.count(1)


@pytest.fixture(scope="session")
def served() -> Iterator[str]:
    """moto on loopback, one for all tests."""
    os.environ.setdefault("MOTO_EC2_LOAD_DEFAULT_AMIS", "false")  # 1301 images that nobody asks for
    server_module = pytest.importorskip("moto.server")
    _keep_the_rules_of_tokens()
    _let_interfaces_go_with_their_machines()
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = server_module.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(scope="module")
def endpoint(served: str) -> Iterator[str]:
    """Its URL, with an empty account: what is there makes every later question slower, and quotas are for all of it."""
    yield served
    from moto.moto_api._internal.models import moto_api_backend

    moto_api_backend.reset()


def _keep_the_rules_of_tokens() -> None:
    """moto makes another machine for each request, whatever its ClientToken; the lab's rules, which are EC2's, replace that."""
    from ec2lab.api.client_tokens import SeenTokens
    from moto.core.responses import ActionResult
    from moto.ec2.responses.instances import InstanceResponse

    tokens, original = SeenTokens(), InstanceResponse.run_instances

    def run_instances(self: Any) -> Any:
        token = self._get_param("ClientToken")
        if (reservation := tokens.recall(token, self.params)) is not None:
            return ActionResult(reservation)
        made = original(self)
        tokens.note(token, self.params, made.result)
        return made

    InstanceResponse.run_instances = run_instances  # type: ignore[method-assign]


def _let_interfaces_go_with_their_machines() -> None:
    """moto leaves the interface that a launch made in use for ever; EC2 deletes it after its machine ended (InstanceNetworkInterfaceSpecification)."""
    from moto.ec2.models.instances import Instance

    original = Instance.terminate

    def terminate(self: Any) -> Any:
        for nic in self.nics.values():
            nic.delete_on_termination = True
        return original(self)

    Instance.terminate = terminate  # type: ignore[method-assign]


@pytest.fixture(scope="module")
def aws_config(endpoint: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An AWS config file of the kind that the lab writes."""
    path = tmp_path_factory.mktemp("aws") / "aws-config"
    keys = "aws_access_key_id = test\naws_secret_access_key = test"
    path.write_text(f"[default]\nregion = us-east-1\n{keys}\nendpoint_url = {endpoint}\n")
    return path


@pytest.fixture(scope="module")
def machines() -> Iterator[None]:
    """moto's machines never boot: their host keys come from here, each its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(host_keys, "wait_for_keys", lambda ec2, name, id_, seconds: (f"ssh-ed25519 AAAAC3Nza{id_[2:]}",))
        patch.setattr(launching, "find_image", lambda *args: Ami("ami-0123456789abcdef0", "/dev/xvda", "admin"))
        yield


@pytest.fixture
def forget() -> Callable[[str], None]:
    """`forget(id)`: EC2 shows a machine that has ended no more, as after an hour; moto would keep it, and its address, for ever."""

    def remove(machine_id: str) -> None:
        from moto.ec2.models import ec2_backends

        for backend in (account["us-east-1"] for account in ec2_backends.values()):
            for reservation in list(backend.reservations.values()):
                for instance in [one for one in reservation.instances if one.id == machine_id]:
                    backend.get_subnet(instance.subnet_id).del_subnet_ip(instance.private_ip)
                    backend.reservations.pop(reservation.id)

    return remove


@pytest.fixture
def make_cloud(aws_config: Path, machines: None) -> Callable[..., Cloud]:
    """`make_cloud("greg-separated", {"nodes.store": 3})`: the same pattern gives the same deployment within a test."""
    number = next(NUMBERS)

    def make(pattern: str = "greg-single", overrides: dict[str, Any] | None = None) -> Cloud:
        own = {
            "deployment": f"{pattern}-{number}",
            "cloud.aws_config": str(aws_config),
            "cloud.operator_cidr": OPERATOR,
        }
        return Cloud(load_spec(f"params/{pattern}.lab.yaml", own | (overrides or {})))

    return make
