"""The rules between parameters: counts, names, networks, URLs and checksums. No I/O; each rule names its key."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runbook_lib.pki import is_ssh_public_key
from runbook_lib.spec.patterns import PATTERNS, ROLE_OF_COUNT
from runbook_lib.spec.urls import check_source, refuse

if TYPE_CHECKING:
    from runbook_lib.spec.sections import CloudSpec, Parameters

HOST_NAME = re.compile(r"(?=.{4,253}$)([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]([a-z0-9-]{0,61}[a-z0-9])?")
INSTANCE_TYPE = re.compile(r"[a-z][a-z0-9-]*\.[a-z0-9-]+")
ARM_TYPE = re.compile(r"(a1|[a-z]+\d+[a-z]*g[a-z]*)\.")
# users of Debian's and Ubuntu's images (base-passwd, systemd, sshd, MySQL, Nginx): the product's user is made, and owns its files
SYSTEM_USERS = re.compile(
    "root|daemon|bin|sys|sync|games|man|lp|mail|news|uucp|proxy|www-data|backup|list|irc|_apt|nobody|sshd|messagebus|mysql|nginx|syslog"
    "|systemd-.*|polkitd|ntp|tss|uuidd|landscape|pollinate|admin|debian|ubuntu|sudo|adm"
)
LOGIN_USER = re.compile(r"[a-z_][a-z0-9_-]{0,30}")
HOME = re.compile(r"/(opt|srv|data|usr/local|var/opt|(home|mnt)/\w[\w.-]*)(/\w[\w.-]*)*")
HOMES = "below /opt, /srv, /data, /usr/local, /var/opt, /home/… or /mnt/…"
PACKAGE = re.compile(r"[a-z0-9][a-z0-9+.-]*[a-z0-9+.]")  # apt takes a name that ends in - as a package to remove
HEAPS = (64, 512 * 1024)  # MiB
HOST_KEY = re.compile(r"(ssh-ed25519|ecdsa-sha2-nistp\d+|ssh-rsa) AAAA[0-9A-Za-z+/]+={0,3}( .*)?")
TAG = re.compile(r"[\w .:/=+\-@]*")
MOST_TAGS = 40
KMS_KEY = re.compile(r"(arn:aws[a-z-]*:kms:[a-z0-9-]+:\d{12}:(key|alias)/)?(alias/)?[A-Za-z0-9/_-]{1,250}")
IMAGES = ("debian-12", "debian-13", "debian-11", "debian-sid", "ubuntu-22.04", "ubuntu-24.04")
DOOR = "such as GET /store/pages/{word}/(my|your){more}, GET,POST /services/Hello{more}: {word} is what stands between two slashes, {more} any number of these"
PRIVATE = tuple(map(ipaddress.IPv4Network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")))


def with_pattern_defaults(given: Any) -> Any:
    """Return the parameters with the pattern's defaults filled in; malformed values are left for the validation to report."""
    if not isinstance(given, dict) or str(given.get("pattern")) not in PATTERNS:
        return given
    pattern = PATTERNS[str(given["pattern"])]
    filled = {"expect": pattern.expect, "hardening": pattern.hardening, **_without_none(given)}
    counts = {name: default for name, (_, _, default) in pattern.nodes.items()}
    filled["nodes"] = counts if filled.get("nodes") is None else filled["nodes"]
    if isinstance(filled["nodes"], dict):
        filled["nodes"] = {**counts, **filled["nodes"]}
    if isinstance(hosts := filled.get("hosts"), dict):
        filled["hosts"] = {name: host.strip().lower() if isinstance(host, str) else host for name, host in hosts.items()}
    return filled


def check_together(spec: Parameters) -> None:
    """Check every rule that involves more than one value."""
    _hosts(spec)
    _nodes(spec)
    _separation(spec)
    _doors(spec)
    _network(spec)
    _access(spec)
    _machines(spec)
    _on_the_hosts(spec)
    _tags(spec.cloud)
    _key(spec.cloud)
    check_source("product.pack", spec.product.pack, "product.sha256", spec.product.sha256)
    driver = spec.database.driver
    if driver.url:
        check_source("database.driver.url", driver.url, "database.driver.sha256", driver.sha256)
    elif not driver.package:
        refuse("database.driver", None, "the JDBC driver is neither a package nor a URL", "package or url")


def _hosts(spec: Parameters) -> None:
    names = spec.design.hosts
    for name, host in spec.hosts.items():
        if name not in names:
            refuse(f"hosts.{name}", host, f"the pattern {spec.pattern} has no such host", names)
        if not HOST_NAME.fullmatch(host):
            refuse(f"hosts.{name}", host, "not a host name", "a DNS name with a dot, such as store.example.com")
    for name in names:
        if name not in spec.hosts:
            refuse(
                f"hosts.{name}",
                None,
                "missing: a public name of your own that will lead to the load balancer",
                "a DNS name with a dot, such as store.example.com",
            )
    first, second = (spec.hosts[name] for name in names)
    if first == second:
        refuse(
            f"hosts.{names[1]}",
            second,
            f"the same name as hosts.{names[0]}: cookies and sign-on go by host name, so each application needs its own",
            f"a name other than {first}",
        )


def _nodes(spec: Parameters) -> None:
    limits = spec.design.nodes
    for name, count in spec.nodes.items():
        if name not in limits:
            refuse(f"nodes.{name}", count, f"the pattern {spec.pattern} has no such nodes", tuple(limits))
        least, most, _ = limits[name]
        if not least <= count <= most:
            allowed = str(least) if least == most else f"{least} to {most}"
            refuse(f"nodes.{name}", count, f"{spec.pattern} cannot have {count} of these", allowed)


def _separation(spec: Parameters) -> None:
    if spec.pattern != "greg-separated" and spec.hardening != spec.design.hardening:
        refuse(
            "hardening",
            spec.hardening,
            f"{spec.pattern} has nothing to choose here: only greg-separated has separate nodes",
            spec.design.hardening,
        )
    if spec.design.product == "as" and spec.expect is not None:
        refuse("expect", spec.expect, "only G-Reg patterns have a separation to prove", "leave it out")


def _doors(spec: Parameters) -> None:
    from runbook_lib.spec.front_doors import OPENED, parse

    for host, rows in spec.also_allow.items():
        if host not in spec.design.hosts or host not in OPENED:
            refuse(f"also_allow.{host}", rows, f"the pattern {spec.pattern} has no such host to open", [key for key in spec.design.hosts if key in OPENED])
        for number, row in enumerate(rows):
            try:
                parse(host, row)
            except ValueError as error:
                refuse(f"also_allow.{host}.{number}", row, str(error), DOOR)


def _network(spec: Parameters) -> None:
    network = _cidr("cloud.network", spec.cloud.network)
    least = 23 if spec.cloud.second_zone else 24
    if not 16 <= network.prefixlen <= least and not (spec.cloud.vpc and network.prefixlen <= 28):
        refuse(
            "cloud.network",
            str(network),
            "a network of this size cannot hold the machines' fixed addresses" + (" in two zones" if spec.cloud.second_zone else ""),
            f"/16 to /{least}",
        )
    if not any(network.subnet_of(private) for private in PRIVATE):
        refuse("cloud.network", str(network), "not a private network", map(str, PRIVATE))
    for number, value in enumerate(spec.publisher_allow_cidr):
        _cidr(f"publisher_allow_cidr.{number}", value)
    _zones(spec.cloud)
    _existing_subnets(spec.cloud, network)


def _zones(cloud: CloudSpec) -> None:
    for key, zone in (("cloud.availability_zone", cloud.availability_zone), ("cloud.second_zone", cloud.second_zone)):
        if zone and not re.fullmatch(re.escape(cloud.region) + r"(-[a-z0-9-]+)?[a-z]", zone):
            refuse(key, zone, f"not a zone of cloud.region, {cloud.region}", f"such as {cloud.region}a")
        if zone and cloud.vpc:
            refuse(key, zone, "existing subnets lie in zones already", "leave it out; two cloud.subnets in two zones spread the nodes")
    if cloud.second_zone and not cloud.availability_zone:
        refuse("cloud.availability_zone", None, "cloud.second_zone is given, and which one is the first is not", f"such as {cloud.region}a")
    if cloud.second_zone and cloud.second_zone == cloud.availability_zone:
        refuse("cloud.second_zone", cloud.second_zone, "the same zone as cloud.availability_zone", "another zone of the region")


def _existing_subnets(cloud: CloudSpec, network: ipaddress.IPv4Network) -> None:
    """Check what can be known of existing subnets without asking AWS; launch/network.py asks."""
    if not cloud.vpc:
        for key, given in (("cloud.subnets", cloud.subnets), ("cloud.nginx_subnet", cloud.nginx_subnet)):
            if given:
                refuse(key, ", ".join(given), "subnets belong to a VPC, and cloud.vpc is not given", "cloud.vpc: vpc-…, or leave it out")
        return
    if not re.fullmatch(r"vpc-[0-9a-f]{8,17}", cloud.vpc):
        refuse("cloud.vpc", cloud.vpc, "not the id of a VPC", "vpc-…")
    if not 1 <= len(cloud.subnets) <= 2:
        refuse("cloud.subnets", ", ".join(cloud.subnets) or None, "cloud.vpc is given", "one existing subnet, or two in different zones: {subnet-…: CIDR}")
    if len(cloud.nginx_subnet) > 1:
        refuse("cloud.nginx_subnet", ", ".join(cloud.nginx_subnet), "more than one", "one existing subnet: {subnet-…: CIDR}")
    if cloud.internet_facing and not cloud.nginx_subnet:
        what = f"with connect_via: {cloud.connect_via} Nginx has a public address, so its subnet routes to an internet gateway and the other machines' does not"
        refuse("cloud.nginx_subnet", None, what, "an existing public subnet: {subnet-…: CIDR}")
    taken: list[ipaddress.IPv4Network] = []
    for key, given, least in (("cloud.subnets", cloud.subnets, 25), ("cloud.nginx_subnet", cloud.nginx_subnet, 28)):
        for id_, text in given.items():
            cidr = _cidr(f"{key}.{id_}", text)
            if not re.fullmatch(r"subnet-[0-9a-f]{8,17}", id_):
                refuse(f"{key}.{id_}", text, "not the id of a subnet", "subnet-…: CIDR")
            if cidr.prefixlen > least:
                refuse(f"{key}.{id_}", text, "a subnet of this size cannot hold the machines' fixed addresses", f"/{least} or larger")
            if not cidr.subnet_of(network):
                refuse(f"{key}.{id_}", text, f"not within cloud.network, {network}", "cloud.network is the range of cloud.vpc")
            if any(cidr.overlaps(other) for other in taken):
                refuse(f"{key}.{id_}", text, "overlaps another of the subnets given", "the CIDR of each as AWS shows it")
            taken.append(cidr)


def _access(spec: Parameters) -> None:
    cloud = spec.cloud
    if cloud.operator_cidr != "auto" and _cidr("cloud.operator_cidr", cloud.operator_cidr).prefixlen < 8:
        refuse(
            "cloud.operator_cidr",
            cloud.operator_cidr,
            "SSH would be open to the whole internet",
            "auto or a range of yours, /8 at most",
        )
    if cloud.connect_via == "bastion":
        if not cloud.bastion or not re.fullmatch(r"[a-z_][\w-]*@[\w.-]+", cloud.bastion):
            refuse("cloud.bastion", cloud.bastion, "connect_via is bastion", "user@host")
        if not cloud.bastion_host_keys or not all(HOST_KEY.fullmatch(key) for key in cloud.bastion_host_keys):
            refuse(
                "cloud.bastion_host_keys",
                cloud.bastion_host_keys or None,
                "the jump host must be known before anything connects to it",
                "list of: ssh-ed25519 AAAA… (its /etc/ssh/ssh_host_*_key.pub)",
            )
        for number, key in enumerate(cloud.bastion_host_keys):
            if not is_ssh_public_key(key):
                refuse(
                    f"cloud.bastion_host_keys.{number}",
                    key,
                    "not a whole key of its type",
                    "a line as it stands in the jump host's /etc/ssh/ssh_host_*_key.pub",
                )
        if cloud.operator_cidr == "auto":
            refuse(
                "cloud.operator_cidr",
                "auto",
                "the machines see the bastion's address, which cannot be found out from here",
                "the CIDR that the bastion connects from",
            )
    elif cloud.bastion:
        refuse(
            "cloud.bastion",
            cloud.bastion,
            f"connect_via is {cloud.connect_via}",
            "leave it out, or connect_via: bastion",
        )
    _ssm_agent(spec)


def _ssm_agent(spec: Parameters) -> None:
    """An image of Debian's comes without AWS's agent, and without it nobody could sign in to the machines."""
    cloud, agent = spec.cloud, spec.cloud.ssm_agent
    if agent.url and not agent.sha256:
        refuse("cloud.ssm_agent.sha256", None, "the agent runs as root: it needs its checksum", "64 hexadecimal digits (sha256sum FILE)")
    if cloud.connect_via == "session-manager" and cloud.image.startswith("debian-") and not agent.url:
        where = f"https://s3.{cloud.region}.amazonaws.com/amazon-ssm-{cloud.region}/VERSION/debian_amd64/amazon-ssm-agent.deb"
        refuse(
            "cloud.ssm_agent.url", None, f"connect_via is session-manager, and {cloud.image} comes without AWS's SSM Agent", f"{where}, or an image that has it"
        )


def _machines(spec: Parameters) -> None:
    known = roles_of(spec)
    for role, type_ in spec.cloud.instance_type.items():
        if role not in (*known, "default"):
            refuse(
                f"cloud.instance_type.{role}",
                type_,
                f"the pattern {spec.pattern} has no such role",
                (*known, "default"),
            )
        if not INSTANCE_TYPE.fullmatch(type_):
            refuse(f"cloud.instance_type.{role}", type_, "not an instance type", "such as t3.small")
        if ARM_TYPE.match(type_):
            refuse(
                f"cloud.instance_type.{role}",
                type_,
                "an ARM machine; the images here are for x86-64",
                "such as t3.small",
            )
    if (login := spec.cloud.login_user) and not LOGIN_USER.fullmatch(login):
        refuse("cloud.login_user", login, "not a user name", "admin, ubuntu, …")
    image = spec.cloud.image
    if image not in IMAGES and not re.fullmatch(r"ami-[0-9a-f]{8,17}", image):
        refuse("cloud.image", image, "not an image that can be looked up", (*IMAGES, "ami-…"))
    if image.startswith("ami-") and not spec.cloud.login_user:
        refuse("cloud.login_user", None, f"needed with {image}: an image does not tell its first user", "admin, ubuntu, …")


def _on_the_hosts(spec: Parameters) -> None:
    """Names that the hosts' own programs take: users, packages, a folder, a heap."""
    user = spec.product.user
    if SYSTEM_USERS.fullmatch(user) or user == spec.cloud.login_user:
        refuse("product.user", user, "a user that the system or its administrator has", "a user of the product's own, such as wso2carbon")
    if not HOME.fullmatch(spec.product.home):
        refuse("product.home", spec.product.home, "not a folder for software", HOMES)
    packages = (
        ("java.package", spec.java.package),
        ("database.package", spec.database.package),
        ("database.driver.package", spec.database.driver.package),
    )
    for key, name in packages:
        if name and not PACKAGE.fullmatch(name):
            refuse(key, name, "not the name of a package", "letters a-z, digits and + - . as in the distribution's archive")
    heap = spec.memory.heap
    if heap[0].isdigit() and not HEAPS[0] <= int(heap[:-1]) * (1024 if heap.endswith("g") else 1) <= HEAPS[1]:
        refuse("memory.heap", heap, "not a heap that the product runs with", f"{HEAPS[0]}m to {HEAPS[1] // 1024}g")
    if (config := spec.cloud.aws_config) and config.startswith("~"):
        try:
            Path(config).expanduser()
        except RuntimeError:
            refuse("cloud.aws_config", config, "this machine has no such user", "~/… or an absolute path")


def _tags(cloud: CloudSpec) -> None:
    """Check the limits of tags that hold for EC2 and SSM alike (EC2 user guide, "Tag restrictions"; SSM API reference, Tag)."""
    if len(cloud.tags) > MOST_TAGS:
        refuse("cloud.tags", f"{len(cloud.tags)} tags", "a resource has 50 tags at most, and the runbook needs some", f"up to {MOST_TAGS}")
    for key, value in cloud.tags.items():
        if key.lower().startswith(("aws:", "runbook:")) or key == "Name":
            refuse(f"cloud.tags.{key}", value, "kept for " + ("AWS" if key.lower().startswith("aws:") else "the runbook's own tags"), "another key")
        if not TAG.fullmatch(key) or not 1 <= len(key) <= 128:
            refuse(f"cloud.tags.{key}", value, "not the key of a tag", "1 to 128 letters, digits, spaces and _ . : / = + - @")
        if not TAG.fullmatch(value) or len(value) > 256:
            refuse(f"cloud.tags.{key}", value, "not the value of a tag", "up to 256 letters, digits, spaces and _ . : / = + - @")


def _key(cloud: CloudSpec) -> None:
    if cloud.kms_key and not KMS_KEY.fullmatch(cloud.kms_key):
        refuse("cloud.kms_key", cloud.kms_key, "not a key of KMS", "key id, alias/NAME or arn:aws:kms:…")
    if cloud.kms_key and cloud.kms_key.startswith("arn:") and cloud.kms_key.split(":")[3] != cloud.region:
        refuse("cloud.kms_key", cloud.kms_key, f"a key of another region than cloud.region, {cloud.region}", "a key of the same region")
    if cloud.kms_key and cloud.kms_key.removeprefix("alias/").startswith("aws/"):
        refuse("cloud.kms_key", cloud.kms_key, "AWS's own key, which volumes and parameters have without it", "leave it out, or a key of your own")


def roles_of(spec: Parameters) -> tuple[str, ...]:
    """Return the roles of the pattern's machines."""
    return (
        *spec.design.lbs,
        "db",
        *(ROLE_OF_COUNT[name] for name in spec.design.nodes),
        *(("probe",) if spec.cloud.probe else ()),
    )


def _cidr(key: str, value: str) -> ipaddress.IPv4Network:
    """Return the network that is written as ADDRESS/LENGTH, the only way that EC2 takes it."""
    try:
        network = ipaddress.IPv4Network(value, strict=False)
    except ValueError as error:
        refuse(key, value, f"not an IPv4 network: {error}", "such as 10.0.0.0/24")
    if value != str(network):
        refuse(
            key, value, f"not an IPv4 network as EC2 takes it (ADDRESS/LENGTH without host bits); the one that is meant may be {network}", "such as 10.0.0.0/24"
        )
    return network


def _without_none(given: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in given.items() if value is not None or key not in ("expect", "hardening")}
