"""The endpoint: what any AWS client sees."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest
import yaml
from botocore.exceptions import ClientError
from ec2lab import cleanup

from tests.conftest import ROOT, need
from tests.support.lab_fixtures import IMAGE_PARAMETER, RANGE, eventually

REFUSALS = yaml.safe_load(Path(__file__).with_name("lab_refusals.yaml").read_text())
SCRIPT = """
import boto3
print(boto3.client("sts").get_caller_identity()["Account"], boto3.client("ec2").describe_vpcs()["Vpcs"] is not None)
"""


def refused(call, **parameters) -> str:
    with pytest.raises(ClientError) as caught:
        call(**parameters)
    return caught.value.response["Error"]["Code"]


@pytest.fixture(scope="module")
def words(lab, net):
    outside, inside = (lab.ec2.create_vpc(CidrBlock=cidr)["Vpc"]["VpcId"] for cidr in ("10.9.0.0/16", RANGE))
    of_net = [{"Name": "vpc-id", "Values": [net.vpc]}]
    default = lab.ec2.describe_security_groups(Filters=[*of_net, {"Name": "group-name", "Values": ["default"]}])["SecurityGroups"][0]["GroupId"]
    return {
        "default": default,
        "main": lab.ec2.describe_route_tables(Filters=of_net)["RouteTables"][0]["RouteTableId"],
        "long": "k" * 129,
        "data": "#" * 16385,
        "prefix": net.prefix,
        "vpc": net.vpc,
        "group": net.group,
        "outside": outside,
        "inside": inside,
        "key": lab.key_name,
        "gateway": f"{lab.lab.network.network_address}/24",
    }


def filled(value, words):
    if isinstance(value, dict):
        return {name: filled(one, words) for name, one in value.items()}
    if isinstance(value, list):
        return [filled(one, words) for one in value]
    return value.format(**words) if isinstance(value, str) and "{" in value else value


@pytest.mark.parametrize("case", REFUSALS, ids=[case["it"] for case in REFUSALS])
def test_refused_with_the_code_of_aws(lab, net, words, case):
    parameters = {name: filled(value, words) for name, value in case["with"].items()}
    if case["call"] == "run_instances":
        parameters = lab.request(net, 99, **parameters)
    assert refused(getattr(lab.ec2, case["call"]), **parameters) == case["code"]
    assert not lab.ec2.describe_instances(Filters=[{"Name": "vpc-id", "Values": [net.vpc]}])["Reservations"]


def test_a_standard_parameter_holds_4_kb_and_an_advanced_one_8(lab):
    put = partial(lab.ssm.put_parameter, Name="/test/long", Type="String", Overwrite=True)
    put(Value="x" * 4096)
    assert refused(put, Value="x" * 4097) == "ValidationException"
    put(Value="x" * 8192, Tier="Advanced")
    assert refused(put, Value="x" * 8193, Tier="Advanced") == "ValidationException"


def test_a_launch_template_fills_in_what_the_call_leaves_out(lab, net, launch):
    request = lab.request(net, 50)
    data = {name: request[name] for name in ("ImageId", "InstanceType", "KeyName", "SecurityGroupIds")}
    tags = [{"ResourceType": "instance", "Tags": [{"Key": "Name", "Value": "of the template"}]}]
    template = lab.ec2.create_launch_template(LaunchTemplateName="all", LaunchTemplateData={**data, "TagSpecifications": tags})["LaunchTemplate"]
    asked = {"LaunchTemplateId": template["LaunchTemplateId"]}
    [made] = lab.ec2.run_instances(LaunchTemplate=asked, MinCount=1, MaxCount=1, SubnetId=net.subnet, InstanceType="t3.micro")["Instances"]
    lab.ec2.terminate_instances(InstanceIds=[made["InstanceId"]])
    assert (made["ImageId"], made["KeyName"], made["InstanceType"]) == (lab.image, lab.key_name, "t3.micro")
    assert {"Key": "Name", "Value": "of the template"} in made["Tags"] and made["SecurityGroups"][0]["GroupId"] == net.group
    lab.ec2.delete_launch_template(LaunchTemplateId=template["LaunchTemplateId"])


def test_an_instance_that_may_not_be_stopped_stays_until_it_may(lab, launch):
    box = launch(51, DisableApiStop=True).wait("running")
    assert refused(lab.ec2.stop_instances, InstanceIds=[box.id]) == "OperationNotPermitted"
    lab.ec2.modify_instance_attribute(InstanceId=box.id, Attribute="disableApiStop", Value="false")
    lab.ec2.stop_instances(InstanceIds=[box.id], SkipOsShutdown=True)
    box.wait("stopped")


def test_what_is_not_deleted_on_termination_stays(lab, net):
    disk = {"DeviceName": "/dev/sdf", "Ebs": {"VolumeSize": 3, "DeleteOnTermination": False}}
    nic = {"DeviceIndex": 0, "SubnetId": net.subnet, "Groups": [net.group], "PrivateIpAddress": net.address(52), "DeleteOnTermination": False}
    request = {name: lab.request(net, 52)[name] for name in ("ImageId", "MinCount", "MaxCount", "InstanceType", "KeyName")}
    [made] = lab.ec2.run_instances(**request, NetworkInterfaces=[nic], BlockDeviceMappings=[disk])["Instances"]
    of_it = [{"Name": "attachment.instance-id", "Values": [made["InstanceId"]]}]
    volumes = {each["Attachments"][0]["Device"]: each for each in lab.ec2.describe_volumes(Filters=of_it)["Volumes"]}
    assert volumes.keys() == {"/dev/xvda", "/dev/sdf"} and volumes["/dev/xvda"]["SnapshotId"].startswith("snap-")
    lab.ec2.terminate_instances(InstanceIds=[made["InstanceId"]])
    lab.ec2.get_waiter("instance_terminated").wait(InstanceIds=[made["InstanceId"]], WaiterConfig={"Delay": 1, "MaxAttempts": 300})
    kept = lab.ec2.describe_volumes(VolumeIds=[volumes["/dev/sdf"]["VolumeId"]])["Volumes"][0]
    assert kept["State"] == "available"
    assert refused(lab.ec2.describe_volumes, VolumeIds=[volumes["/dev/xvda"]["VolumeId"]]) == "InvalidVolume.NotFound"
    interface = made["NetworkInterfaces"][0]["NetworkInterfaceId"]
    assert lab.ec2.describe_network_interfaces(NetworkInterfaceIds=[interface])["NetworkInterfaces"][0]["Status"] == "available"
    assert refused(lab.ec2.run_instances, **lab.request(net, 52)) == "InvalidIPAddress.InUse"
    lab.ec2.delete_volume(VolumeId=kept["VolumeId"])
    [again] = lab.ec2.run_instances(**request, NetworkInterfaces=[{"DeviceIndex": 0, "NetworkInterfaceId": interface}])["Instances"]
    assert again["PrivateIpAddress"] == net.address(52)
    assert refused(lab.ec2.delete_network_interface, NetworkInterfaceId=interface) == "InvalidParameterValue"
    lab.ec2.terminate_instances(InstanceIds=[again["InstanceId"]])
    lab.ec2.get_waiter("instance_terminated").wait(InstanceIds=[again["InstanceId"]], WaiterConfig={"Delay": 1, "MaxAttempts": 300})
    lab.ec2.delete_network_interface(NetworkInterfaceId=interface)
    last = lab.ec2.create_network_interface(SubnetId=net.subnet, PrivateIpAddress=net.address(52))["NetworkInterface"]
    assert last["PrivateIpAddress"] == net.address(52)
    lab.ec2.delete_network_interface(NetworkInterfaceId=last["NetworkInterfaceId"])


def test_a_range_in_a_rule_is_its_network(lab, net):
    group = lab.group(net.vpc, "ranges")
    lab.allow(group, 80, "10.1.2.3/8")
    [found] = lab.ec2.describe_security_groups(GroupIds=[group])["SecurityGroups"]
    assert found["IpPermissions"][0]["IpRanges"] == [{"CidrIp": "10.0.0.0/8"}]
    lab.ec2.delete_security_group(GroupId=group)


def test_a_filter_that_the_lab_has_not_is_unsupported_and_no_failure(lab):
    assert refused(lab.ec2.describe_instances, Filters=[{"Name": "ramdisk-id", "Values": ["x"]}]) == "UnsupportedOperation"


def test_other_regions_are_refused(lab):
    assert refused(lab.boto3_client("ec2", "eu-west-1").describe_instances) == "OptInRequired"


def test_an_unchanged_script_works_with_the_shared_config_file_alone(lab):
    bare = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    environment = bare | {"AWS_CONFIG_FILE": str(lab.aws_config)}
    done = subprocess.run([sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["123456789012", "True"]


def test_debian_s_awscli_works_with_what_lab_env_prints(lab):
    need(Path("/usr/bin/aws").exists(), "no /usr/bin/aws (apt-get install awscli)")
    exports = f"{sys.executable} -m ec2lab env --name {lab.lab.name}"
    script = f'set -e; eval "$({exports})"; /usr/bin/aws --endpoint-url "$AWS_ENDPOINT_URL" ec2 describe-images'
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert lab.image in [image["ImageId"] for image in json.loads(done.stdout)["Images"]]


def test_the_public_parameter_leads_to_debian_12_under_debians_name(lab):
    value = lab.ssm.get_parameter(Name=IMAGE_PARAMETER)["Parameter"]["Value"]
    (image,) = lab.ec2.describe_images(ImageIds=[value])["Images"]
    assert image["ImageId"] == value
    assert image["Name"].startswith("debian-12-amd64-")
    assert image["OwnerId"] == "136693071363"
    found = lab.ec2.describe_images(Owners=["136693071363"], Filters=[{"Name": "name", "Values": ["debian-12-amd64-*"]}])["Images"]
    assert [each["ImageId"] for each in found] == [value]


def test_one_client_token_makes_one_instance_and_never_another(lab, net, launch):
    first = launch(40, ClientToken="once")
    again = lab.ec2.run_instances(**lab.request(net, 40, ClientToken="once"))["Instances"][0]["InstanceId"]
    assert again == first.id
    other = lab.request(net, 41, ClientToken="once")
    assert refused(lab.ec2.run_instances, **other) == "IdempotentParameterMismatch"


def test_a_client_token_whose_instance_has_ended_is_refused(lab, net, launch):
    lab.ec2.terminate_instances(InstanceIds=[launch(48, ClientToken="spent").id])
    assert refused(lab.ec2.run_instances, **lab.request(net, 48, ClientToken="spent")) == "IdempotentInstanceTerminated"
    assert refused(lab.ec2.run_instances, **lab.request(net, 48, ClientToken="t" * 65)) == "InvalidParameterValue"


def test_launch_options_are_accepted_and_shown(lab, launch):
    box = launch(
        42,
        MetadataOptions={"HttpTokens": "required", "HttpPutResponseHopLimit": 1},
        BlockDeviceMappings=[{"DeviceName": "/dev/xvda", "Ebs": {"VolumeSize": 20, "VolumeType": "gp3", "Encrypted": True}}],
        EbsOptimized=True,
        TagSpecifications=[{"ResourceType": "instance", "Tags": [{"Key": "runbook:node", "Value": "store-1"}]}],
    )
    assert box.state in ("pending", "running")
    shown = box.describe()
    assert shown["MetadataOptions"]["HttpTokens"] == "required"
    assert shown["Tags"] == [{"Key": "runbook:node", "Value": "store-1"}]
    assert "PublicIpAddress" not in shown


def test_a_machine_launched_with_an_interface_specification_gets_its_groups_and_no_public_address(lab, net):
    nic = {"DeviceIndex": 0, "SubnetId": net.subnet, "Groups": [net.group], "PrivateIpAddress": net.address(43)}
    request = lab.request(net, 43, NetworkInterfaces=[nic | {"AssociatePublicIpAddress": True}])
    for name in ("SubnetId", "PrivateIpAddress", "SecurityGroupIds"):
        del request[name]
    instance = lab.ec2.run_instances(**request)["Instances"][0]
    assert instance["PrivateIpAddress"] == net.address(43)
    assert [group["GroupId"] for group in instance["SecurityGroups"]] == [net.group]
    assert "PublicIpAddress" not in instance
    lab.ec2.terminate_instances(InstanceIds=[instance["InstanceId"]])


def test_without_groups_a_machine_is_in_its_network_s_default_group(lab, net):
    request = lab.request(net, 44)
    del request["SecurityGroupIds"]
    instance = lab.ec2.run_instances(**request)["Instances"][0]
    assert [group["GroupName"] for group in instance["SecurityGroups"]] == ["default"]
    lab.ec2.terminate_instances(InstanceIds=[instance["InstanceId"]])


def test_an_address_in_use_is_refused(lab, net, launch):
    launch(45)
    assert refused(lab.ec2.run_instances, **lab.request(net, 45)) == "InvalidIPAddress.InUse"


def test_a_zone_that_does_not_offer_a_type_launches_none_of_it(lab, net):
    prefix = f"{lab.lab.network.network_address + 256 * 98}".removesuffix(".0")
    vpc = lab.ec2.create_vpc(CidrBlock=f"{prefix}.0/24")["Vpc"]["VpcId"]
    subnet = lab.ec2.create_subnet(VpcId=vpc, CidrBlock=f"{prefix}.0/24", AvailabilityZone="us-east-1e")["Subnet"]["SubnetId"]
    group = lab.group(vpc, "none")
    elsewhere = {"SubnetId": subnet, "PrivateIpAddress": f"{prefix}.10", "SecurityGroupIds": [group]}
    assert refused(lab.ec2.run_instances, **lab.request(net, 10) | elsewhere) == "Unsupported"
    lab.ec2.delete_security_group(GroupId=group)
    lab.ec2.delete_subnet(SubnetId=subnet)
    lab.ec2.delete_vpc(VpcId=vpc)


def test_a_disk_grows_and_never_shrinks(lab, launch):
    box = launch(49)
    volume = box.describe()["BlockDeviceMappings"][0]["Ebs"]["VolumeId"]
    size = lab.ec2.describe_volumes(VolumeIds=[volume])["Volumes"][0]["Size"]
    lab.ec2.modify_volume(VolumeId=volume, Size=size + 8)
    assert lab.ec2.describe_volumes(VolumeIds=[volume])["Volumes"][0]["Size"] == size + 8
    assert refused(lab.ec2.modify_volume, VolumeId=volume, Size=size) == "InvalidParameterValue"


def test_a_type_is_changed_while_the_machine_is_stopped_only(lab, launch):
    box = launch(48).wait("running")
    before = box.describe()
    change = {"InstanceId": box.id, "InstanceType": {"Value": "t3.large"}}
    assert refused(lab.ec2.modify_instance_attribute, **change) == "IncorrectInstanceState"
    assert refused(lab.ec2.modify_instance_attribute, InstanceId=box.id, Attribute="instanceType", Value="t3.large") == "IncorrectInstanceState"
    lab.ec2.stop_instances(InstanceIds=[box.id])
    box.wait("stopped")
    lab.ec2.modify_instance_attribute(**change)
    lab.ec2.start_instances(InstanceIds=[box.id])
    after = box.wait("running").describe()
    assert (before["InstanceType"], after["InstanceType"]) == ("t3.small", "t3.large")
    assert after["PrivateIpAddress"] == before["PrivateIpAddress"]
    box.run("true")  # by the host keys that its first console showed


def test_groups_subnets_and_networks_go_only_when_nothing_needs_them(lab):
    net = lab.net()
    gateway = lab.ec2.create_internet_gateway()["InternetGateway"]["InternetGatewayId"]
    lab.ec2.attach_internet_gateway(InternetGatewayId=gateway, VpcId=net.vpc)
    other = lab.group(net.vpc, "other")
    lab.allow(other, 80, net.group)
    box = lab.launch(net, 10)
    assert refused(lab.ec2.delete_security_group, GroupId=net.group) == "DependencyViolation"
    assert refused(lab.ec2.delete_subnet, SubnetId=net.subnet) == "DependencyViolation"
    box.terminate()
    box.gone()
    assert refused(lab.ec2.delete_security_group, GroupId=net.group) == "DependencyViolation"  # a rule of `other`
    lab.ec2.delete_subnet(SubnetId=net.subnet)
    assert refused(lab.ec2.delete_vpc, VpcId=net.vpc) == "DependencyViolation"  # groups and gateway
    lab.ec2.delete_security_group(GroupId=other)
    lab.ec2.delete_security_group(GroupId=net.group)
    assert refused(lab.ec2.delete_vpc, VpcId=net.vpc) == "DependencyViolation"  # gateway
    lab.ec2.detach_internet_gateway(InternetGatewayId=gateway, VpcId=net.vpc)
    lab.ec2.delete_internet_gateway(InternetGatewayId=gateway)
    lab.ec2.delete_vpc(VpcId=net.vpc)
    bridge = Path("/sys/class/net", lab.lab.vpc_bridge(net.vpc))
    eventually(lambda: not bridge.exists(), "the network's bridge to go")


def test_an_s3_endpoint_of_the_network_can_be_made(lab, net):
    made = lab.ec2.create_vpc_endpoint(VpcId=net.vpc, ServiceName="com.amazonaws.us-east-1.s3", VpcEndpointType="Gateway")
    assert made["VpcEndpoint"]["State"] in ("available", "Available")
    lab.ec2.delete_vpc_endpoints(VpcEndpointIds=[made["VpcEndpoint"]["VpcEndpointId"]])


def test_a_presigned_url_works_inside_a_machine_and_expires_with_its_signature(lab, net, launch):
    lab.s3.put_object(Bucket="runbook-packs", Key="words.txt", Body=b"from the bucket")
    url = lab.s3.generate_presigned_url("get_object", Params={"Bucket": "runbook-packs", "Key": "words.txt"})
    box = launch(46)
    lab.internet(net.vpc)
    lab.elastic_ip(box)
    assert box.run(f"curl -sf '{url}'") == "from the bucket"


def test_the_practice_packs_are_in_the_bucket(lab):
    keys = {each["Key"] for each in lab.s3.list_objects_v2(Bucket="runbook-packs").get("Contents", [])}
    assert {"wso2greg-5.1.0.zip", "wso2as-5.3.0.zip"} <= keys


def test_secure_parameters_are_kept(lab):
    lab.ssm.put_parameter(Name="/test/secret", Value="a value", Type="SecureString")
    hidden = lab.ssm.get_parameter(Name="/test/secret")["Parameter"]["Value"]
    shown = lab.ssm.get_parameter(Name="/test/secret", WithDecryption=True)["Parameter"]["Value"]
    assert shown == "a value" and hidden != shown


def test_an_imported_key_pair_opens_the_machine(lab, launch):
    lab.ec2.import_key_pair(KeyName="imported", PublicKeyMaterial=f"ssh-ed25519 {lab.key.get_base64()}".encode())
    assert launch(47, KeyName="imported").run("echo in").strip() == "in"


def test_everything_listens_on_the_gateway_address_only(lab):
    (daemon,) = cleanup.daemons(lab.lab)
    inodes = set()
    for link in Path(f"/proc/{daemon}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            inodes.add(os.readlink(link))
    listening = []
    for family in ("tcp", "tcp6", "udp", "udp6"):
        for line in Path(f"/proc/{daemon}/net/{family}").read_text().splitlines()[1:]:
            fields = line.split()
            if f"socket:[{fields[9]}]" in inodes and fields[3] in ("0A", "07"):
                listening.append((family, fields[1].split(":")[0]))
    gateway = "".join(f"{int(part):02X}" for part in reversed(str(lab.lab.gateway).split(".")))
    assert listening == [("tcp", gateway)] * 4, "API, packages, data channels of sessions, instance metadata"


def test_many_machines_of_one_call(lab, net):
    request = lab.request(net, 0, MinCount=1, MaxCount=3)
    del request["PrivateIpAddress"]
    made = lab.ec2.run_instances(**request)["Instances"]
    assert len({each["PrivateIpAddress"] for each in made}) == 3
    waiter = lab.ec2.get_waiter("instance_running")
    waiter.wait(InstanceIds=[each["InstanceId"] for each in made], WaiterConfig={"Delay": 1, "MaxAttempts": 300})
    lab.ec2.terminate_instances(InstanceIds=[each["InstanceId"] for each in made])


def test_a_range_with_host_bits_is_its_network(lab, net):
    vpc = lab.ec2.create_vpc(CidrBlock=RANGE)["Vpc"]["VpcId"]
    subnet = lab.ec2.create_subnet(VpcId=vpc, CidrBlock=f"{RANGE.rsplit('.', 2)[0]}.50.7/25")["Subnet"]
    assert subnet["CidrBlock"] == f"{RANGE.rsplit('.', 2)[0]}.50.0/25"
    lab.ec2.delete_subnet(SubnetId=subnet["SubnetId"])
    lab.ec2.delete_vpc(VpcId=vpc)


@pytest.mark.parametrize("path", ["/moto-api/reset", "/moto-api/", "//moto-api/data.json", "/MOTO-API/reset"])
def test_nobody_can_empty_the_lab_by_motos_own_pages(lab, net, path):
    request = urllib.request.Request(f"{lab.lab.endpoint}{path}", method="POST", data=b"")
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=10)
    assert lab.ec2.describe_vpcs(VpcIds=[net.vpc])["Vpcs"]
