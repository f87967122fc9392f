"""The way to AWS: which settings count, and that every failure is one error with a next step."""

from __future__ import annotations

import json
import os
import re
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, ClassVar

import boto3
import botocore.session
import pytest
import yaml
from botocore import exceptions, xform_name
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from runbook_lib.aws import host_keys, images, operator_cidr
from runbook_lib.aws.client import Api, Aws, translate
from runbook_lib.aws.images import RELEASES, find_image
from runbook_lib.errors import CloudError
from runbook_lib.launch.cloud import Cloud
from runbook_lib.spec.loader import load_spec
from runbook_lib.spec.sections import CloudSpec
from tests.conftest import ROOT

pytest_plugins = ["tests.support.aws_endpoint"]
CASES = yaml.safe_load((Path(__file__).parent / "aws_errors.yaml").read_text())
KEYS = "aws_access_key_id = a\naws_secret_access_key = b\n"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.get("code") or case["raises"])
def test_a_refusal_becomes_one_error_that_says_what_to_do(case: dict[str, Any]) -> None:
    if "code" in case:
        error: Exception = exceptions.ClientError({"Error": {"Code": case["code"], "Message": "said so"}}, "RunInstances")
    else:
        error = getattr(exceptions, case["raises"])(**case.get("with", {}))
    found = translate(error, "ec2:run_instances", "AWS us-east-1")
    assert case["what"] in found.what
    assert case["next"] in (found.next_step or "")
    assert found.where == "ec2:run_instances at AWS us-east-1"
    assert found.code == case.get("code", "")
    assert found.transient == case.get("transient", False)


def config(tmp_path: Path, text: str) -> CloudSpec:
    path = tmp_path / "aws-config"
    path.write_text(text)
    return CloudSpec(aws_config=str(path))


@pytest.mark.parametrize(
    ("path", "command"),
    [("/run/nowhere", "./runbook lab up ("), ("/run/ec2lab/lab/nowhere", "./runbook lab up ("), ("/run/ec2lab/two/nowhere", "./runbook lab up --name two ")],
)
def test_a_missing_config_file_points_to_the_lab_that_it_is_of(path: str, command: str) -> None:
    with pytest.raises(CloudError, match=f"no AWS config file {path}") as caught:
        Aws(CloudSpec(aws_config=path))
    assert command in (caught.value.next_step or "")


def test_a_config_file_of_another_user_is_told(tmp_path: Path) -> None:
    spec, me = config(tmp_path, f"[default]\n{KEYS}"), os.geteuid()
    Path(str(spec.aws_config)).chmod(0)
    if me == 0:
        os.seteuid(65534)  # root is refused nothing
    try:
        with pytest.raises(CloudError, match="is another user's") as caught:
            Aws(spec)
    finally:
        os.seteuid(me)
    assert "who called sudo" in (caught.value.next_step or "")


def test_an_error_names_the_parameters_that_chose_the_credentials(tmp_path: Path) -> None:
    spec = CloudSpec(aws_config=config(tmp_path, f"[profile work]\n{KEYS}").aws_config, profile="work")
    assert Aws(spec).about == f"AWS us-east-1 (cloud.aws_config: {spec.aws_config}, cloud.profile: work)"


def test_a_missing_profile_is_told_with_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(CloudError, match="no profile default") as caught:
        Aws(config(tmp_path, "[profile other]\nregion = us-east-1\n"))
    assert "profile other" in (caught.value.next_step or "")


def test_keys_of_the_config_file_are_used_with_their_session_s_token_whatever_else_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws/credentials").write_text("[default]\naws_access_key_id = of-the-home\naws_secret_access_key = b\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "of-the-environment")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    aws = Aws(config(tmp_path, f"[default]\n{KEYS}aws_session_token = a-token\n"))
    url = aws.client("s3").generate_presigned_url("get_object", Params={"Bucket": "packs", "Key": "x"})
    keys = aws.session.get_credentials()
    assert "Credential=a%2F" in url and "X-Amz-Security-Token=a-token" in url and keys and (keys.access_key, keys.token) == ("a", "a-token")


def test_a_config_file_that_is_none_is_told(tmp_path: Path) -> None:
    with pytest.raises(CloudError, match="cannot be read"):
        Aws(config(tmp_path, "region us-east-1\n"))


def test_an_endpoint_that_nobody_listens_on_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runbook_lib.aws.client.TIMEOUTS", {"connect_timeout": 1, "retries": {"total_max_attempts": 1}})
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: nobody else gets it, nobody answers
        aws = Aws(config(tmp_path, f"[default]\n{KEYS}endpoint_url = http://127.0.0.1:{taken.getsockname()[1]}\n"))
        with pytest.raises(CloudError, match="cannot be reached") as caught:
            aws.client("ec2").describe_vpcs()
    assert "aws-config" in (caught.value.where or "")


class Recorder(BaseHTTPRequestHandler):
    """Answers everything with a page that is not AWS's, and keeps what was asked."""

    asked: ClassVar[list[dict[str, str]]] = []

    def do_POST(self) -> None:
        self.asked.append(dict(self.headers))
        body = b"<html>welcome to the hotel's network</html>"
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def recorder() -> Iterator[str]:
    Recorder.asked.clear()
    server = HTTPServer(("127.0.0.1", 0), Recorder)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_keys_endpoint_and_proxy_of_the_environment_do_not_get_past_the_named_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recorder: str) -> None:
    for name, value in {
        "AWS_ACCESS_KEY_ID": "AKIAREALREALREAL",
        "AWS_SECRET_ACCESS_KEY": "real",
        "AWS_SESSION_TOKEN": "real-token",
        "AWS_ENDPOINT_URL": "http://192.0.2.1:9",
        "http_proxy": "http://192.0.2.1:9",
        "AWS_PROFILE": "production",
    }.items():
        monkeypatch.setenv(name, value)
    aws = Aws(config(tmp_path, f"[default]\n{KEYS}endpoint_url = {recorder}\n"))
    with pytest.raises(CloudError, match="does not speak as AWS does"):
        aws.client("sts").get_caller_identity()
    [headers] = Recorder.asked
    assert "AKIAREAL" not in str(headers) and "real-token" not in str(headers) and "Credential=a/" in headers["Authorization"]


def test_a_refusal_of_the_endpoint_carries_awss_own_code(make_cloud: Callable[..., Cloud]) -> None:
    with pytest.raises(CloudError) as caught:
        make_cloud().aws.client("ec2").describe_vpcs(VpcIds=["vpc-12345678"])
    assert caught.value.code == "InvalidVpcID.NotFound"


ED25519, ECDSA, RSA = (
    key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
    for key in (ed25519.Ed25519PrivateKey.generate(), ec.generate_private_key(ec.SECP256R1()), rsa.generate_private_key(65537, 2048))
)
BLOCK = f"""\
ci-info: no authorized keys
-----BEGIN SSH HOST KEY FINGERPRINTS-----
256 SHA256:abc root@x (ED25519)
-----END SSH HOST KEY FINGERPRINTS-----
-----BEGIN SSH HOST KEY KEYS-----
{ECDSA} root@x
{ED25519} root@x
-----END SSH HOST KEY KEYS-----
Cloud-init finished
"""
BOTH = (ECDSA, ED25519)
KERNEL = "[   41.318822] IPv6: ADDRCONF(NETDEV_CHANGE): ens5: link becomes ready\n"


def broken_at(key: str, place: int) -> str:
    """The block in which the kernel speaks in the middle of a key."""
    return BLOCK.replace(key, key[:place] + KERNEL + key[place:])


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        (BLOCK, BOTH),
        (BLOCK.replace("\n", "\r\n"), BOTH),
        ("".join(f"[   12.3] cloud-init[411]: {line}\n" for line in BLOCK.splitlines()), BOTH),
        (BLOCK[: BLOCK.index("ssh-ed25519")], ()),
        ("", ()),
        (BLOCK.replace(ED25519, RSA) + BLOCK, BOTH),
        (BLOCK + "-----BEGIN SSH HOST KEY KEYS-----\nssh-ed25519 AAAAhalf", BOTH),
        (f"{ED25519} outside any block", ()),
        (BLOCK.replace(ECDSA, RSA), (RSA, ED25519)),
        (broken_at(ED25519, 40), (ECDSA,)),
        (broken_at(ED25519, len(ED25519) - 4), (ECDSA,)),
        (broken_at(ECDSA, 60), (ED25519,)),
        (broken_at(ED25519, 8), (ECDSA,)),
        (BLOCK.replace(ED25519, ED25519[:-8]), (ECDSA,)),
        (BLOCK.replace(ED25519, ED25519 + "AAAA"), (ECDSA,)),
        (BLOCK.replace(ECDSA, "ssh-ed25519 " + ECDSA.split()[1]), (ED25519,)),
    ],
    ids=[
        "plain",
        "carriage returns",
        "prefixed lines",
        "cut off",
        "empty",
        "two boots",
        "second boot under way",
        "no block",
        "an RSA key",
        "the kernel in the middle of a key",
        "the kernel before the last letters of a key",
        "the kernel in another key",
        "the kernel in the type",
        "a key without its end",
        "a key that is too long",
        "a key of another type than it says",
    ],
)
def test_host_keys_are_taken_from_the_last_complete_block_of_the_console(text: str, keys: tuple[str, ...]) -> None:
    assert host_keys.keys_in(text) == keys


class Ec2:
    """A console that fills with time."""

    about = "AWS us-east-1"

    def __init__(self, *texts: str, latest: bool = True, stopped: str = ""):
        self.texts, self.latest, self.stopped = list(texts), latest, stopped

    def pages(self, operation: str, key: str, Filters: list[dict[str, Any]]) -> list[dict[str, Any]]:
        machine = {"InstanceId": "i-1", "State": {"Name": "stopped"}, "StateReason": {"Message": self.stopped}}
        return [{"Instances": [machine]}] if self.stopped else []

    def get_console_output(self, **options: Any) -> dict[str, str]:
        if options.get("Latest") and not self.latest:
            error = CloudError("not on Xen")
            error.code = "UnsupportedOperation"
            raise error
        return {"Output": self.texts.pop(0) if len(self.texts) > 1 else self.texts[0]}


@pytest.mark.parametrize("latest", [True, False], ids=["nitro", "xen"])
def test_the_console_is_watched_until_the_keys_are_there(monkeypatch: pytest.MonkeyPatch, latest: bool) -> None:
    monkeypatch.setattr(host_keys, "FIRST_PAUSE", 0.001)
    assert host_keys.wait_for_keys(Ec2("", "booting\n", BLOCK, latest=latest), "store-1", "i-1", 30) == BOTH


def test_keys_that_do_not_come_are_told_with_the_consoles_last_words() -> None:
    with pytest.raises(CloudError, match="Kernel panic") as caught:
        host_keys.wait_for_keys(Ec2("booting\nKernel panic - not syncing\n\n"), "store-1", "i-1", 0)
    assert "store-1" in caught.value.what and "timeouts.console" in (caught.value.next_step or "")


def test_the_console_of_a_machine_that_stopped_is_not_watched_any_longer() -> None:
    with pytest.raises(CloudError, match=r"store-1 \(i-1\) is stopped \(Client.InstanceInitiatedShutdown\)") as caught:
        host_keys.wait_for_keys(Ec2("booting\n", stopped="Client.InstanceInitiatedShutdown"), "store-1", "i-1", 600)
    assert "run chapter 01" in (caught.value.next_step or "")


def test_keys_that_the_kernel_spoiled_are_told_with_the_way_out() -> None:
    spoiled = broken_at(ED25519, 40).replace(ECDSA, "")
    with pytest.raises(CloudError, match="in the middle of them") as caught:
        host_keys.wait_for_keys(Ec2(spoiled), "store-1", "i-1", 0)
    assert "terminate this machine" in (caught.value.next_step or "")


class Images:
    """A region's images and announcements."""

    about = "AWS us-east-1"

    def __init__(self, announced: str | None, *images: dict[str, str], partition: str = "aws"):
        self.announced, self.images, self.partition = announced, images, partition

    def get_parameter(self, Name: str) -> dict[str, Any]:
        if self.announced is None or Name != RELEASES["debian-12"].parameter:
            error = CloudError("no such parameter")
            error.code = "ParameterNotFound"
            raise error
        return {"Parameter": {"Value": self.announced}}

    def describe_images(self, ImageIds: tuple[str, ...] = (), Owners: tuple[str, ...] = (), Filters: Any = None) -> dict[str, Any]:
        if Owners:
            return {"Images": [image for image in self.images if image["OwnerId"] in Owners]}
        return {"Images": [image for image in self.images if image["ImageId"] in ImageIds]}


OLD = {"ImageId": "ami-01d", "OwnerId": "136693071363", "CreationDate": "2025-01-01", "RootDeviceName": "/dev/xvda"}
NEW = {"ImageId": "ami-0e3", "OwnerId": "136693071363", "CreationDate": "2026-01-01", "RootDeviceName": "/dev/sda1"}
FALSE = {"ImageId": "ami-bad", "OwnerId": "666666666666", "CreationDate": "2027-01-01", "RootDeviceName": "/dev/xvda"}


@pytest.mark.parametrize(
    ("region", "expected"),
    [
        (Images("ami-01d", OLD, NEW), ("ami-01d", "/dev/xvda")),
        (Images(None, OLD, NEW, FALSE), ("ami-0e3", "/dev/sda1")),
        (Images("ami-gone", OLD), ("ami-01d", "/dev/xvda")),
    ],
    ids=["announced", "newest of the publisher's own", "announced and withdrawn"],
)
def test_which_image_a_name_stands_for(region: Images, expected: tuple[str, str]) -> None:
    found = find_image("debian-12", None, region, region)
    assert (found.id, found.root_device, found.user) == (*expected, "admin")


def test_a_region_without_the_image_is_told() -> None:
    region = Images(None, FALSE)
    with pytest.raises(CloudError, match="no image debian-12"):
        find_image("debian-12", None, region, region)


@pytest.mark.parametrize(
    ("partition", "name", "found"),
    [
        ("aws-us-gov", "ubuntu-24.04", "513442679011"),
        ("aws-cn", "ubuntu-22.04", "837727238323"),
        ("aws", "ubuntu-22.04", "099720109477"),
        ("aws", "debian-sid", "903794441882"),
        ("aws-us-gov", "debian-13", None),
    ],
)
def test_in_each_partition_only_the_publishers_own_account_counts(partition: str, name: str, found: str | None) -> None:
    """Account numbers are given out by each partition for itself: Canonical's of one may be anybody's in another."""
    owners = ("099720109477", "513442679011", "837727238323", "903794441882", "136693071363", "666666666666")
    region = Images(None, *({"ImageId": f"ami-{owner}", "OwnerId": owner} for owner in owners), partition=partition)
    if found:
        assert find_image(name, None, region, region).id == f"ami-{found}"
        return
    with pytest.raises(CloudError, match="no image debian-13") as caught:
        find_image(name, None, region, region)
    assert "ubuntu-22.04, ubuntu-24.04;" in str(caught.value.next_step) and "debian-12" not in str(caught.value.next_step)


def test_the_partition_is_that_of_the_clients_region() -> None:
    regions = {"us-gov-west-1": "aws-us-gov", "cn-north-1": "aws-cn", "eu-central-1": "aws"}
    for region, partition in regions.items():
        client = boto3.client("ec2", region_name=region, aws_access_key_id="a", aws_secret_access_key="b")
        assert Api(client, region).partition == partition


def test_every_image_that_the_parameters_allow_can_be_looked_up() -> None:
    from runbook_lib.spec.validators import IMAGES

    assert set(IMAGES) == set(RELEASES)
    assert images.login_user("ubuntu-22.04", None) == "ubuntu" and images.login_user("ami-1", "ec2-user") == "ec2-user"


def spec_of(**cloud: Any) -> CloudSpec:
    return load_spec("params/greg-single.lab.yaml", {f"cloud.{key}": value for key, value in cloud.items()}).cloud


def test_the_operators_range_is_the_address_of_the_route_to_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    source = operator_cidr._source_towards
    monkeypatch.setattr(operator_cidr, "_source_towards", lambda network: source("127.0.0.0/24"))
    assert operator_cidr.operator_cidr(spec_of()) == "127.0.0.1/32"


def test_a_range_that_is_given_is_taken_as_it_is() -> None:
    assert operator_cidr.operator_cidr(spec_of(operator_cidr="192.0.2.0/28", connect_via="public")) == "192.0.2.0/28"


@pytest.mark.parametrize(
    ("operator", "allowed", "via", "refused"),
    [
        ("192.0.2.7/32", ["0.0.0.0/0"], "private", False),
        ("192.0.2.7/32", ["10.0.0.0/8", "192.0.2.0/24"], "public", False),
        ("192.0.0.0/16", ["192.0.2.0/24"], "private", False),  # a part of it may, and which address is ours is not known
        ("192.0.2.7/32", ["192.0.3.0/24", "10.0.0.0/8"], "session-manager", True),
        ("192.0.2.7/32", ["192.0.3.0/24"], "bastion", False),  # the address of the bastion, not ours
    ],
)
def test_an_operator_whom_the_publishers_range_shuts_out_is_told(operator: str, allowed: list[str], via: str, refused: bool) -> None:
    cloud = spec_of().model_copy(update={"connect_via": via})
    if not refused:
        return operator_cidr.refuse_shut_out(operator, allowed, cloud)
    with pytest.raises(CloudError, match="may not open the Publisher") as caught:
        operator_cidr.refuse_shut_out(operator, allowed, cloud)
    assert "publisher_allow_cidr" in caught.value.where and operator in (caught.value.next_step or "")


@pytest.mark.parametrize(("answer", "expected"), [("198.51.100.7\n", "198.51.100.7/32"), ("<html>login</html>", None)])
def test_the_public_address_is_what_aws_sees(monkeypatch: pytest.MonkeyPatch, answer: str, expected: str | None) -> None:
    import httpx2

    response = httpx2.Response(200, text=answer, request=httpx2.Request("GET", operator_cidr.WHO_AM_I))
    monkeypatch.setattr(httpx2, "get", lambda url, timeout: response)
    if expected:
        assert operator_cidr.operator_cidr(spec_of(connect_via="public")) == expected
        return
    with pytest.raises(CloudError, match="not an IPv4 address") as caught:
        operator_cidr.operator_cidr(spec_of(connect_via="public"))
    assert "cloud.operator_cidr" in (caught.value.next_step or "")


def test_the_price_table_and_other_data_files_are_json_or_yaml_that_loads() -> None:
    from runbook_lib.topology.prices import prices

    assert all(len(entry) == 3 and entry[0] > 0 for entry in prices()["instances"].values())
    json.dumps(prices()["instances"])


def test_every_call_that_the_source_names_is_in_the_operator_s_policy() -> None:
    """Also those of rare paths, which the life in test_operator_policy.py may not take: it must then be taught to."""
    files = [file for folder in ("launch", "aws") for file in (ROOT / "runbook_lib" / folder).rglob("*.py")]
    words = set(re.findall(r"\b[a-z]+(?:_[a-z]+)+\b", " ".join(file.read_text() for file in files)))
    text = (ROOT / "docs/iam/operator.json").read_text()
    session = botocore.session.Session()
    for service in ("ec2", "ssm", "iam", "kms"):
        operations = session.get_service_model(service).operation_names
        used = {f'"{service}:{name}"' for name in operations if xform_name(name) in words}
        assert used, service
        assert not {name for name in used if name not in text}


@pytest.mark.parametrize("region", ["us-east-1", "eu-central-1"])
def test_a_presigned_url_names_the_region_of_its_bucket(region: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    url = Aws(CloudSpec(region=region)).client("s3").generate_presigned_url("get_object", Params={"Bucket": "packs", "Key": "x.zip"})
    assert url.startswith(f"https://packs.s3.{region}.amazonaws.com/x.zip?")
