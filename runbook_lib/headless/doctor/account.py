"""What a launch will ask of the AWS account, asked before it: image, instance types, quotas, the operator's address, rights, and how old the prices are.

Nothing is changed. `QUESTIONS` is the table; a question that AWS does not answer becomes a finding too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

from runbook_lib.aws.images import find_image
from runbook_lib.aws.preflight.kms import refuse_unusable_key
from runbook_lib.checks.running_out import support
from runbook_lib.errors import CloudError
from runbook_lib.headless.doctor import permissions
from runbook_lib.headless.doctor.finding import Finding
from runbook_lib.launch import elastic_ips, network, routes
from runbook_lib.launch.cloud import Cloud
from runbook_lib.launch.inventory import by_tag
from runbook_lib.topology.cost import monthly_cost
from runbook_lib.topology.prices import stale

STANDARD = tuple("acdhimrtz")  # families that the vCPU quota of ordinary machines counts, by the first letter of the type
RAISE = "ask for more in AWS Service Quotas (code {code}), or free what is not needed, or choose another cloud.region"


def findings(cloud: Cloud) -> Iterator[Finding]:
    """Yield what the account says to each question."""
    for what, ask in QUESTIONS:
        try:
            yield from ask(cloud)
        except CloudError as error:
            yield Finding(what, False, error.what, error.next_step or "")


def _image(cloud: Cloud) -> Iterator[Finding]:
    spec = cloud.spec.cloud
    image = find_image(spec.image, spec.login_user, cloud.aws.client("ec2"), cloud.aws.client("ssm"))
    yield Finding("image", True, f"{spec.image} is {image.id} in {spec.region}")
    for level in support(spec.image):
        ended = level.left < level.least
        yield Finding("security updates of the image", not (ended or level.low), level.words, "choose a newer cloud.image", needed=ended)


def _instance_types(cloud: Cloud) -> Iterator[Finding]:
    """Every type must be had in the zone of its subnet, or all of them in one zone that can be chosen."""
    inventory = cloud.inventory()
    network.observe(inventory)
    network.choose_zone(inventory)
    types, zones = sorted({node.instance_type for node in cloud.topology.nodes}), (inventory.zone, cloud.spec.cloud.second_zone or "")
    yield Finding("instance types", True, f"{', '.join(types)}: offered in {' and '.join(filter(None, zones))}")


def _quotas(cloud: Cloud) -> Iterator[Finding]:
    """How much of each quota is used, how much a launch adds. A limit that cannot be read is told, and is no obstacle."""
    for what, service, code, count in QUOTAS:
        used, more = count(cloud)
        try:
            limit = cloud.aws.client("service-quotas").get_service_quota(ServiceCode=service, QuotaCode=code)["Quota"]["Value"]
        except CloudError as error:
            yield Finding(what, False, f"{used} used; the limit cannot be read ({error.what})", f"look it up in AWS Service Quotas (code {code})", False)
            continue
        yield Finding(what, used + more <= limit, f"{used} of {limit:.0f} used, {more} more to come", RAISE.format(code=code))


def _vcpus(cloud: Cloud) -> tuple[int, int]:
    """Return the vCPUs of the account's machines that run in this region, and of those that a launch adds."""
    ec2, there = cloud.aws.client("ec2"), cloud.describe()
    states = [{"Name": "instance-state-name", "Values": ["pending", "running"]}]
    running = Counter(machine["InstanceType"] for each in ec2.pages("describe_instances", "Reservations", Filters=states) for machine in each["Instances"])
    coming = Counter(node.instance_type for node in cloud.topology.nodes if node.name not in there or not there[node.name].running)
    types = sorted({*running, *coming})
    sizes = {item["InstanceType"]: item["VCpuInfo"]["DefaultVCpus"] for item in ec2.pages("describe_instance_types", "InstanceTypes", InstanceTypes=types)}
    counts = [sum(sizes.get(type_, 0) * count for type_, count in these.items() if type_.startswith(STANDARD)) for these in (running, coming)]
    return counts[0], counts[1]


def _vpcs(cloud: Cloud) -> tuple[int, int]:
    ec2 = cloud.aws.client("ec2")
    mine = ec2.pages("describe_vpcs", "Vpcs", Filters=by_tag(cloud.spec.deployment))
    return len(ec2.pages("describe_vpcs", "Vpcs")), 0 if mine or cloud.spec.cloud.vpc else 1


def _elastic_ips(cloud: Cloud) -> tuple[int, int]:
    inventory = cloud.inventory()
    elastic_ips.observe(inventory)
    return len(inventory.ec2.describe_addresses()["Addresses"]), len(set(elastic_ips.wanted(inventory)) - set(inventory.addresses))


def _nat_gateways(cloud: Cloud) -> tuple[int, int]:
    """Return those of the zone where this deployment is, or will be: that is what the quota counts. An existing network has its own way out."""
    if cloud.spec.cloud.vpc:
        return 0, 0
    inventory, live = cloud.inventory(), [{"Name": "state", "Values": list(routes.LIVE)}]
    for step in (network.observe, routes.observe, network.choose_zone):
        step(inventory)
    zones = {subnet["SubnetId"]: subnet["AvailabilityZone"] for subnet in inventory.ec2.pages("describe_subnets", "Subnets")}
    here = [each for each in inventory.ec2.pages("describe_nat_gateways", "NatGateways", Filter=live) if zones.get(each["SubnetId"]) == inventory.zone]
    return len(here), 0 if inventory.nat else 1


QUOTAS: tuple[tuple[str, str, str, Callable[[Cloud], tuple[int, int]]], ...] = (
    ("vCPUs of running machines", "ec2", "L-1216C47A", _vcpus),
    ("VPCs", "vpc", "L-F678F1CE", _vpcs),
    ("Elastic IPs", "ec2", "L-0263D0A3", _elastic_ips),
    ("NAT gateways in one zone", "vpc", "L-FE5A380F", _nat_gateways),
)


def _key(cloud: Cloud) -> Iterator[Finding]:
    if name := cloud.spec.cloud.kms_key:
        refuse_unusable_key(cloud.aws)
        yield Finding("KMS key", True, f"{name} is enabled, and encrypts for this identity")


def _operator(cloud: Cloud) -> Iterator[Finding]:
    yield Finding("operator's address", True, f"SSH is for {cloud.operator_cidr()} alone")


def _prices(cloud: Cloud) -> Iterator[Finding]:
    why = stale(cloud.spec.cloud.region)
    fix = f"python -m runbook_cli.refresh_prices --region {cloud.spec.cloud.region} reads AWS's public price list"
    yield Finding("prices", not why, "; ".join(filter(None, (monthly_cost(cloud.topology).words, why))), fix, needed=False)


QUESTIONS: tuple[tuple[str, Callable[[Cloud], Iterator[Finding]]], ...] = (
    ("image", _image),
    ("instance types", _instance_types),
    ("quotas", _quotas),
    ("KMS key", _key),
    ("operator's address", _operator),
    ("rights", permissions.findings),
    ("prices", _prices),
)
