"""Who may use a lab: its user. Not another user of this computer, and not what runs on its machines."""

from __future__ import annotations

import datetime
import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import botocore.auth
import pytest
from ec2lab import access_key, cleanup
from ec2lab.access_key import AccessKey
from ec2lab.shell import processes

from tests.support.lab_fixtures import Box, LabClient, Net, eventually
from tests.support.signed_requests import Sent, signed

NOBODY, DAEMON = 65534, 1
SECRET = "/runbook/access/carbon-admin-password"
READABLE = {"range", "images", "images.json", "daemon.pid", "allowed", "trouble"}  # of the lab's folder, for everybody


def as_user(uid: int, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", *command], capture_output=True, text=True)


def code_in(said: str) -> str:
    """AWS's code in what curl printed; the status where there is none, the content where it is 200."""
    body, _, status = said.rpartition(" ")
    found = re.search(r'<Code>(.*?)</Code>|"__type": ?"(.*?)"', body)
    return (found[1] or found[2]) if found else body if status == "200" else status


@pytest.fixture(scope="module")
def kept(lab: LabClient) -> Iterator[str]:
    """A secret in Parameter Store and an object in S3 of this name; the host of the endpoint."""
    lab.ssm.put_parameter(Name=SECRET, Value="a password", Type="SecureString", Overwrite=True)
    lab.s3.create_bucket(Bucket="access")
    lab.s3.put_object(Bucket="access", Key="kept.txt", Body=b"kept")
    yield lab.lab.endpoint.removeprefix("http://")
    lab.ssm.delete_parameter(Name=SECRET)


def asking(host: str, key: AccessKey) -> Sent:
    """A request for the secret."""
    target = {"Content-Type": "application/x-amz-json-1.1", "X-Amz-Target": "AmazonSSM.GetParameter"}
    return signed(host, "ssm", key, headers=target, body=json.dumps({"Name": SECRET, "WithDecryption": True}).encode())


def user_without_rights(lab: LabClient, name: str) -> AccessKey:
    iam = lab.boto3_client("iam")
    iam.create_user(UserName=name)
    made = iam.create_access_key(UserName=name)["AccessKey"]
    return AccessKey(made["AccessKeyId"], made["SecretAccessKey"])


FORGED = AccessKey("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
OLD = AccessKey("lab", "lab")  # of labs before they had keys of their own


def attempts(lab: LabClient, host: str, name: str) -> dict[str, tuple[str, str]]:
    """What somebody without a key may try, as commands, and what each gets."""
    key = lab.key_of_lab
    url = lab.s3.generate_presigned_url("get_object", Params={"Bucket": "access", "Key": "kept.txt"})
    with pytest.MonkeyPatch.context() as patch:
        yesterday = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
        patch.setattr(botocore.auth, "get_current_datetime", lambda: yesterday)
        old = lab.s3.generate_presigned_url("get_object", Params={"Bucket": "access", "Key": "kept.txt"})
    get = "curl -s -m 10 -w ' %{{http_code}}' '{}'".format
    return {
        "a forged key": (asking(host, FORGED).curl(), "UnrecognizedClientException"),
        "the key of an older lab": (asking(host, OLD).curl(), "UnrecognizedClientException"),
        "the lab's own key without its secret": (asking(host, AccessKey(key.id, "guessed")).curl(), "InvalidSignatureException"),
        "the key of a user without rights": (asking(host, user_without_rights(lab, name)).curl(), "AccessDeniedException"),
        "no key": (asking(host, key).without("Authorization").curl(), "MissingAuthenticationTokenException"),
        "another name in a signed request": (asking(host, key).curl().replace("carbon-admin-password", "ssh-private-key"), "InvalidSignatureException"),
        "an object without a signature": (get(f"http://{host}/access/kept.txt"), "AccessDenied"),
        "a bucket without a signature": (get(f"http://{host}/access"), "AccessDenied"),
        "all buckets": (get(f"http://{host}/"), "AccessDenied"),
        "a presigned address": (get(url), "kept"),
        "the same for another object": (get(url.replace("kept.txt", "other.txt")), "SignatureDoesNotMatch"),
        "the same for longer": (get(url.replace("X-Amz-Expires=3600", "X-Amz-Expires=604800")), "SignatureDoesNotMatch"),
        "a presigned address that has run out": (get(old), "AccessDenied"),
        "moto's own pages": (f"{get(f'http://{host}/moto-api/reset')} -X POST", "404"),
        "moto's data": (get(f"http://{host}/moto-api/data.json"), "404"),
        "moto's metadata service": (get(f"http://{host}/latest/meta-data/iam/security-credentials/"), "404"),
        "a role for nobody's word": (f"{get(f'http://{host}/')} -d Action=AssumeRoleWithWebIdentity -d Version=2011-06-15", "MissingAuthenticationToken"),
    }


def test_the_lab_s_own_user_reads_the_secret(lab: LabClient, kept: str) -> None:
    assert json.loads(asking(kept, lab.key_of_lab).send()[2])["Parameter"]["Value"] == "a password"


def test_another_user_of_this_computer_reads_no_key_and_no_secret(lab: LabClient, kept: str) -> None:
    eventually(lab.lab.trouble_file.exists, "the machines to be looked at for the first time")
    found = as_user(NOBODY, "find", str(lab.lab.run), str(lab.lab.disks), "-type", "f", "-readable").stdout.split()
    assert {Path(name).name for name in found} == READABLE, "and nothing else, below the lab's folders"
    assert as_user(NOBODY, "cat", str(lab.aws_config)).returncode != 0
    [daemon] = cleanup.daemons(lab.lab)
    for name in ("environ", "mem", "maps"):
        assert as_user(NOBODY, "cat", f"/proc/{daemon}/{name}").returncode != 0
    key = lab.key_of_lab
    for name in READABLE:
        text = (lab.lab.run / name).read_text()
        assert key.secret not in text and key.id not in text
    assert key.secret not in lab.lab.log.read_text()
    assert key.secret not in " ".join(word for _, words in processes() for word in words)


def test_another_user_of_this_computer_is_told_whose_lab_it_is(lab: LabClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, *words: Any, **more: Any) -> str:
        raise PermissionError(13, "Permission denied", str(self))  # as open() says to another user; root is refused nothing

    monkeypatch.setattr(Path, "read_text", refuse)
    with pytest.raises(Exception, match=f"lab {lab.lab.name} is another user's") as caught:
        access_key.read(lab.lab)
    assert "--name" in str(caught.value)


def test_who_called_sudo_reads_the_lab_s_files_and_nobody_else(lab: LabClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in (tmp_path, *tmp_path.parents):
        if folder.name.startswith(("pytest", tmp_path.name)):
            folder.chmod(0o755)
    assert (lab.aws_config.stat().st_mode & 0o7777, lab.lab.log.stat().st_mode & 0o7777) == (0o600, 0o600)
    file = tmp_path / "config"
    file.write_text("a key")
    monkeypatch.setenv("SUDO_UID", str(NOBODY))
    monkeypatch.setenv("SUDO_GID", str(NOBODY))
    access_key.give_to_user(file)
    assert as_user(NOBODY, "cat", str(file)).stdout == "a key"
    assert as_user(DAEMON, "cat", str(file)).returncode != 0


def test_another_user_of_this_computer_gets_nothing_from_the_api(lab: LabClient, kept: str) -> None:
    cases = attempts(lab, kept, "local")
    said = {what: code_in(as_user(NOBODY, "sh", "-c", command).stdout) for what, (command, _) in cases.items()}
    assert said == {what: expected for what, (_, expected) in cases.items()}


@pytest.fixture(scope="module")
def box(lab: LabClient, net: Net) -> Iterator[Box]:
    box = lab.launch(net, 12)
    lab.internet(net.vpc)
    lab.elastic_ip(box)
    yield box.booted()
    box.terminate()
    box.gone()


@pytest.mark.parametrize("who", ["a service's user", "root"])
def test_what_runs_on_a_machine_gets_from_the_api_what_was_presigned_for_it(lab: LabClient, kept: str, box: Box, who: str) -> None:
    cases = attempts(lab, kept, f"on-a-machine-as-{who.split()[-1]}")
    user = "root" if who == "root" else "www-data"
    with box.session() as session:
        said = {}
        for what, (command, _) in cases.items():
            stdin, out, _ = session.exec_command(f"sudo -u {user} sh")
            stdin.write(command)
            stdin.channel.shutdown_write()
            said[what] = code_in(out.read().decode())
    assert said == {what: expected for what, (_, expected) in cases.items()}


def test_what_runs_on_a_machine_reaches_no_other_service_of_this_computer(lab: LabClient, box: Box) -> None:
    ports = 'for port in 22 5001 8888 111; do timeout 2 bash -c "exec 3<>/dev/tcp/{}/$port" 2>/dev/null && echo $port; done; true'
    assert box.run(ports.format(lab.lab.gateway)).split() == []
    assert box.run("curl -s -g -m 2 'http://[fd00:ec2::254]/latest/' || echo none", check=False).split() == ["none"]


def test_a_user_s_key_works_from_a_machine_as_far_as_his_policy(lab: LabClient, kept: str, box: Box) -> None:
    key = user_without_rights(lab, "packs")
    policy = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::access/kept.txt"}]}
    lab.boto3_client("iam").put_user_policy(UserName="packs", PolicyName="own", PolicyDocument=json.dumps(policy))
    for path, expected in (("/access/kept.txt", "kept"), ("/access/other.txt", "AccessDenied"), ("/access", "AccessDenied")):
        assert code_in(box.run(signed(kept, "s3", key, path=path).curl())) == expected
