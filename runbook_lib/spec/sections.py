"""The sections of the parameters: cloud, product, Java, database, memory, timeouts."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainValidator, StrictInt, model_validator

from runbook_lib.spec.patterns import PATTERNS, Hardening, Pattern, PatternName
from runbook_lib.spec.urls import check_source, refuse

NAME = r"^[a-z][a-z0-9-]{0,38}[a-z0-9]$"  # of a deployment
RATES = (1, 1000)  # requests per second of a drill


def _field(default: Any, description: str, *, allowed: str = "", unit: str = "", **rest: Any) -> Any:
    return Field(default, description=description, json_schema_extra={"allowed": allowed, "unit": unit}, **rest)


class _Closed(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=True)


class SsmAgentSpec(_Closed):
    """AWS's SSM Agent, for images that come without it (connect_via: session-manager)."""

    url: str | None = _field(
        None, "the agent's .deb, fetched by each machine at its first boot", allowed="http:// or https:// URL", pattern=r"^https?://[\w.:/~%+-]+$"
    )
    sha256: str | None = _field(None, "checksum of the .deb", allowed="64 hexadecimal digits", pattern=r"^[0-9a-fA-F]{64}$")


class CloudSpec(_Closed):
    """Where the machines are made, and how the operator reaches them."""

    region: str = _field("us-east-1", "AWS region", allowed="a region name", pattern=r"^[a-z]{2}(-[a-z]+)+-\d$")
    aws_config: str | None = _field(None, "AWS shared config file to use instead of the usual environment", allowed="a path")
    profile: str | None = _field(None, "profile of the AWS configuration", allowed="a profile name")
    network: str = _field(
        "10.213.1.0/24", "address range of the deployment's own network; with `vpc` the range of that one", allowed="private CIDR, /16 to /24 (two zones: /23)"
    )
    vpc: str | None = _field(None, "existing VPC to use instead of one of our own; a tear-down leaves it alone", allowed="vpc-…")
    subnets: dict[str, str] = _field(
        {},
        "existing subnets of `vpc` for the machines, each with its range; two in different zones: the nodes of a tier are spread",
        allowed="subnet-…: CIDR, /25 or larger",
    )
    nginx_subnet: dict[str, str] = _field(
        {},
        "existing subnet of `vpc` for Nginx, which routes to an internet gateway; without it Nginx stands in the first of `subnets`",
        allowed="subnet-…: CIDR, /28 or larger",
    )
    availability_zone: str | None = _field(None, "zone of the subnets; the first that offers every instance type when absent", allowed="a zone name")
    second_zone: str | None = _field(
        None, "another zone, over which the nodes of a tier are spread as well; Nginx and the database stay in the first", allowed="a zone name"
    )
    image: str = _field(
        "debian-12",
        "operating system of every machine; another one replaces them one after the other",
        allowed="debian-12, -13, -11 or -sid, ubuntu-22.04 or -24.04, or ami-…",
    )
    login_user: str | None = _field(None, "first user of the image; known unless the image is given by its id", allowed="a user name")
    instance_type: dict[str, str] = _field({}, "instance type per role, `default` for the rest", allowed="role or default: type", validate_default=True)
    disk_gb: StrictInt = _field(20, "size of each root volume (gp3, encrypted); grows in place, never shrinks", unit="GiB", ge=8, le=1000)
    operator_cidr: str = _field("auto", "who may use SSH", allowed="auto or a CIDR")
    connect_via: Literal["private", "public", "bastion", "session-manager"] = _field(
        "private",
        "how the operator reaches the machines: `private` by their own addresses (VPN, lab), `public` over the internet, through Nginx, `bastion` "
        "through a jump host of yours, `session-manager` by AWS's Session Manager without any open port 22. With `private`, Nginx has no public "
        "address; otherwise it has an Elastic IP, and no other machine has one",
    )
    bastion: str | None = _field(
        None, "jump host for connect_via: bastion, with a route to the machines' own addresses; you sign in there with your own SSH key", allowed="user@host"
    )
    bastion_host_keys: tuple[str, ...] = _field((), "host keys of the jump host, the public parts from its own disk or console", allowed="list of: type base64")
    ssm_agent: SsmAgentSpec = _field(SsmAgentSpec(), "AWS's SSM Agent, for connect_via: session-manager and an image without it (Debian's)")
    tags: dict[str, str] = _field(
        {}, "tags of your own, on everything when it is made, on machines also later", allowed="up to 40 of key: value, as EC2 and SSM allow them"
    )
    kms_key: str | None = _field(
        None, "customer managed key that disks and secrets are encrypted with from then on; AWS's own when absent", allowed="key id, alias/… or ARN"
    )
    termination_protection: bool = _field(
        False, "EC2 refuses to terminate the database's machine (DisableApiTermination); a tear-down switches that off itself, and says so"
    )
    probe: bool = _field(False, "also launch a small machine that belongs to no trusted group, as a vantage point of the proof")

    @property
    def internet_facing(self) -> bool:
        """Whether visitors reach Nginx from the internet, at a public address."""
        return self.connect_via != "private"


class ProductSpec(_Closed):
    """The WSO2 pack."""

    pack: str = Field(description="the pack", json_schema_extra={"allowed": "s3://, https:// or file:// URL of a zip", "unit": ""})
    sha256: str | None = _field(None, "checksum of the pack; required for https", allowed="64 hexadecimal digits")
    home: str = _field("/opt/wso2", "directory below which the pack is unpacked", allowed="below /opt, /srv, /data, /usr/local, /var/opt, /home/… or /mnt/…")
    user: str = _field("wso2carbon", "system user that runs the product", pattern=r"^[a-z_][a-z0-9_-]{0,30}$")


class JavaSpec(_Closed):
    """The Java runtime: a package of the distribution, or an archive."""

    package: str | None = _field(None, "package of the distribution (default-jre-headless when no archive is given)", allowed="a package name")
    archive: str | None = _field(None, "archive of a JDK (tar.gz); needs sha256", allowed="s3://, https:// or file:// URL")
    sha256: str | None = _field(None, "checksum of the archive", allowed="64 hexadecimal digits")

    @model_validator(mode="before")
    @classmethod
    def _package_unless_archive(cls, given: Any) -> Any:
        if isinstance(given, dict) and not given.get("package") and not given.get("archive"):
            return {**given, "package": "default-jre-headless"}
        return given

    @model_validator(mode="after")
    def _one_source(self) -> JavaSpec:
        check_java(self)
        return self


class DriverSpec(_Closed):
    """The JDBC driver: a package that puts a jar below /usr/share/java, or a jar by URL."""

    package: str | None = _field("libmariadb-java", "package with the driver's jar", allowed="a package name")
    url: str | None = _field(None, "the driver's jar, instead of the package", allowed="s3://, https:// or file:// URL")
    sha256: str | None = _field(None, "checksum of the jar", allowed="64 hexadecimal digits")


class DatabaseSpec(_Closed):
    """The shared databases."""

    package: str = _field(
        "default-mysql-server",
        "package of the database server",
        allowed="default-mysql-server, mariadb-server, mysql-server, …",
    )
    charset: Literal["utf8", "utf8mb4"] = _field("utf8", "character set of the databases; latin1 fails at the first boot")
    driver: DriverSpec = _field(DriverSpec(), "JDBC driver")
    keep_backups: StrictInt = _field(30, "how many backups of each kind are kept in S3", ge=1, le=1000)


class NginxSpec(_Closed):
    """What Nginx asks of visitors and tells their browsers."""

    tls: Literal["intermediate", "modern"] = _field("intermediate", "Mozilla's profile of TLS: 1.2 and 1.3, or 1.3 alone")
    content_security_policy: Annotated[Literal["enforce", "report-only", "off"], BeforeValidator(lambda given: "off" if given is False else given)] = _field(
        "enforce", "what the pages of Store and Publisher may load: forbidden, only told in the browser's console, or not sent"
    )
    sign_ins_per_second: StrictInt = _field(
        10, "passwords that one address may send, and sign-ons it may begin; ten times as many at once", unit="requests per second", ge=1, le=1000
    )


class MemorySpec(_Closed):
    """Heap of the WSO2 nodes."""

    heap: str = _field(
        "auto",
        "-Xmx: auto is 512m on machines of 1 GiB, else the product's own",
        allowed="auto, product or 512m, 2g, …",
        pattern=r"^(auto|product|[1-9]\d*[mg])$",
    )


class TimeoutsSpec(_Closed):
    """How long to wait before a wait is an error."""

    running: StrictInt = _field(300, "until a launched machine runs", unit="seconds", ge=1)
    console: StrictInt = _field(600, "until the console shows the host keys (AWS may take minutes)", unit="seconds", ge=1)
    agent: StrictInt = _field(600, "until the SSM Agent is Online (connect_via: session-manager)", unit="seconds", ge=1)
    ssh: StrictInt = _field(180, "until SSH answers", unit="seconds", ge=1)
    packages: StrictInt = _field(900, "for installing packages", unit="seconds", ge=1)
    first_boot: StrictInt = _field(900, "until a node's first boot says started", unit="seconds", ge=1)
    boot: StrictInt = _field(300, "until a later boot says started", unit="seconds", ge=1)
    stop: StrictInt = _field(120, "until a stopped service is down", unit="seconds", ge=1)


def check_java(java: JavaSpec) -> None:
    """Check that a package or an archive with its checksum is given, never both."""
    if java.package and java.archive:
        refuse("java", java.archive, "package and archive are both given", "one of package, archive")
    if java.archive:
        check_source("java.archive", java.archive, "java.sha256", java.sha256)
        if not java.sha256:
            refuse("java.sha256", None, "an archive needs its checksum", "64 hexadecimal digits")


def check_drill(given: Any) -> bool | dict[str, int]:
    """Return `drill` in its stored form: true, false, or a mapping with a rate in requests per second."""
    if isinstance(given, bool):
        return given
    if not isinstance(given, dict):
        refuse("drill", given, "neither yes nor no, nor a rate", ("true", "false", "{rate: 20}"))
    for name, value in given.items():
        if name != "rate":
            refuse(f"drill.{name}", value, "there is no such key", "rate")
        if value is not None and (type(value) is not int or not RATES[0] <= value <= RATES[1]):
            refuse("drill.rate", value, "not a rate that visitors can be made to ask at", f"{RATES[0]} to {RATES[1]} requests per second")
    return {"rate": given["rate"]} if given.get("rate") else True


class Parameters(_Closed):
    """Every parameter, as the rules in `validators.py` know them; the parameters read from a file are a `Spec`."""

    deployment: str = Field(
        description="name of the deployment: tags, machine names, SSM prefix",
        pattern=NAME,
        json_schema_extra={"allowed": "2 to 40 of a-z 0-9 -, starting with a letter", "unit": ""},
    )
    pattern: PatternName = Field(description="which system to build", json_schema_extra={"allowed": "", "unit": ""})
    expect: Literal["leak", "separated"] | None = _field(None, "what the proof of chapter 07 must find; default: what the pattern is known for")
    hardening: Hardening = _field("full", "how much separates Store and Publisher (greg-separated); other patterns have one value")
    hosts: dict[str, str] = _field({}, "public host names", allowed="store and publisher, or as and mgt: a DNS name each")
    nodes: dict[str, StrictInt] = _field({}, "how many nodes of each kind", allowed="manager, worker, greg, store, publisher")
    cloud: CloudSpec = _field(CloudSpec(), "where the machines are")
    product: ProductSpec = Field(description="the pack")
    java: JavaSpec = _field(JavaSpec(package="default-jre-headless"), "the Java runtime")
    publisher_allow_cidr: tuple[str, ...] = _field(
        ("0.0.0.0/0",), "who may reach the Publisher host at Nginx; whoever runs the chapters must be among them", allowed="list of CIDR", min_length=1
    )
    self_registration: bool = _field(False, "anybody may make an account for himself on the Store's host (hardening full)")
    account_recovery: bool = _field(False, "the product's pages for a forgotten password, on the Store's host (hardening full)")
    also_allow: dict[str, tuple[str, ...]] = _field(
        {},
        "more requests that Nginx passes on, by host (store, publisher: hardening full; as: services of your own, and samples)",
        allowed="store, publisher or as: list of METHOD[,METHOD] /path",
    )
    clustering: bool = _field(True, "Hazelcast clusters, one per tier")
    drill: Annotated[bool | dict[str, int], PlainValidator(check_drill)] = _field(
        False,
        "chapters 06 and 07 also cut power while visitors browse, and count what was lost; without a rate, half of what the cluster serves",
        allowed="true, false or {rate: 1 to 1000}, requests per second",
    )
    database: DatabaseSpec = _field(DatabaseSpec(), "the shared databases")
    nginx: NginxSpec = _field(NginxSpec(), "what Nginx asks of visitors")
    memory: MemorySpec = _field(MemorySpec(), "heap of the WSO2 nodes")
    timeouts: TimeoutsSpec = _field(TimeoutsSpec(), "how long to wait")

    @property
    def design(self) -> Pattern:
        """The pattern."""
        return PATTERNS[self.pattern]
