"""The settings that G-Reg and AS have in common: both are built on Carbon kernel 4.4.1 (facts 1, golden run 2). No I/O.

Each function returns the edits of one file. A node's own values come from the topology, those of its product from
its caller.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from runbook_lib.converge.edits import Edit, XmlElement, XmlSet
from runbook_lib.converge.xml_source import escape
from runbook_lib.errors import RunbookError
from runbook_lib.roles.context import Context
from runbook_lib.roles.mysql import connections_each
from runbook_lib.spec.model import Spec
from runbook_lib.topology.databases import REGISTRY, USER, Database, databases_of
from runbook_lib.topology.model import Node

CONF = "repository/conf"
MEMBER = """\
    <member>
        <hostName>{address}</hostName>
        <port>{port}</port>
    </member>"""
HAZELCAST_PORT = 4000  # no port offset applies to it (facts 4)
STORE_PASSWORD = "wso2carbon"  # why it stays: `carbon.keystores`
SECURITY = "repository/resources/security"
DATABASE_TRUST = f"{SECURITY}/database-truststore.jks"  # the authority that the database server's certificate must be of
SHARED = "sharedregistry"
GOVERNANCE = "/_system/governance"


@dataclass(frozen=True)
class Driver:
    """A JDBC driver: where its package puts the jar, its class, and the connection options (golden run 1, facts 2.3).

    Both connect inside TLS 1.2, which the oldest Java here has too, and only to a server whose certificate is of the given authority; the
    first also compares the address with those in the certificate. The second was not tried, and needs to be 5.1.44 or newer.
    """

    jar: str
    driver_class: str
    options: str


# Golden run 1: on a MariaDB server useMysqlMetadata=true is mandatory; Carbon goes by the product name that the
# driver reports.
MARIADB = Driver(
    "/usr/share/java/mariadb-java-client.jar",
    "org.mariadb.jdbc.Driver",
    "useMysqlMetadata=true&useSsl=true&enabledSslProtocolSuites=TLSv1.2&trustStore={trust}&trustStorePassword={password}",
)
CONNECTOR_J = Driver(
    "/usr/share/java/mysql-connector-java.jar",
    "com.mysql.jdbc.Driver",
    "autoReconnect=true&relaxAutoCommit=true&useSSL=true&requireSSL=true&verifyServerCertificate=true&enabledTLSProtocols=TLSv1.2"
    "&trustCertificateKeyStoreUrl={trust}&trustCertificateKeyStorePassword={password}",
)
PACKAGES = {"libmariadb-java": MARIADB, "libmysql-java": CONNECTOR_J}


@dataclass(frozen=True)
class Registry:
    """How a node mounts the shared registry (facts 1.4): the collection for its configuration, whether it writes, whether it caches."""

    config_path: str
    read_only: bool = False
    cache: bool = True


def home_of(spec: Spec) -> str:
    """Return the directory of the product (CARBON_HOME), such as /opt/wso2/greg."""
    return f"{spec.product.home}/{spec.design.product}"


def driver_of(ctx: Context) -> Driver:
    """Return the JDBC driver that the parameters name. Raises RunbookError for a package that is not in the table."""
    wanted = ctx.spec.database.driver
    if wanted.url:
        return CONNECTOR_J if "mysql-connector" in wanted.url else MARIADB
    if wanted.package not in PACKAGES:
        raise RunbookError(
            f"no jar is known for the package {wanted.package}",
            "database.driver.package",
            f"use one of {', '.join(PACKAGES)}, or give the jar by database.driver.url and sha256",
        )
    return PACKAGES[wanted.package]


def jdbc_url(database: Database, ctx: Context) -> str:
    """Return the jdbc:mysql: URL of a database. The form is the same for every driver: it ran whole on the real product, without TLS (golden run 1).

    A MySQL server that has just started knows no password yet, and takes one only inside TLS (plugin caching_sha2_password, facts 2.3).
    """
    options = driver_of(ctx).options.format(trust=f"file://{home_of(ctx.spec)}/{DATABASE_TRUST}", password=STORE_PASSWORD)
    return f"jdbc:mysql://{ctx.topology.db.address}:3306/{database.name}?{options}"


def common(node: Node, ctx: Context, registry: Registry, hosts: tuple[str, str], sub_domain: str) -> dict[str, tuple[Edit, ...]]:
    """Return the edits that both products need, by path below the product's home. `hosts`: HostName and MgtHostName of carbon.xml."""
    return {
        f"{CONF}/carbon.xml": host_names(*hosts),
        f"{CONF}/user-mgt.xml": users(ctx),
        f"{CONF}/registry.xml": mounts(ctx, registry),
        f"{CONF}/axis2/axis2.xml": clustering(node, ctx, sub_domain),
        f"{CONF}/tomcat/catalina-server.xml": connectors(node),
        f"{CONF}/etc/jmx.xml": (XmlSet("/c:JMX/c:StartRMIServer", "false"),),
        **datasources(ctx),
    }


def merged(*parts: Mapping[str, tuple[Edit, ...]]) -> dict[str, tuple[Edit, ...]]:
    """Return the edits of several sources by path; edits of the same file keep the order of the arguments."""
    found: dict[str, tuple[Edit, ...]] = {}
    for part in parts:
        for path, edits in part.items():
            found[path] = found.get(path, ()) + edits
    return found


def host_names(host: str, management_host: str) -> tuple[Edit, ...]:
    """Return the edits of carbon.xml that set its public host names; without them its URLs have the private address (facts 1.1)."""
    return (
        XmlSet("/c:Server/c:HostName", host, create=True),
        XmlSet("/c:Server/c:MgtHostName", management_host, create=True),
    )


def users(ctx: Context) -> tuple[Edit, ...]:
    """Return the edits of user-mgt.xml: the shared user database and the administrator's password.

    The product reads that password at the first boot only (golden run 6).
    """
    settings = "/UserManager/Realm/Configuration"
    return (
        XmlSet(f"{settings}/Property[@name='dataSource']", USER.jndi),
        XmlSet(f"{settings}/AdminUser/Password", ctx.secrets["carbon-admin-password"]),
    )


def connectors(node: Node) -> tuple[Edit, ...]:
    """Return the edits of catalina-server.xml: listen on the private address only; the public ports are 80 and 443 (facts 1.7)."""
    edits: list[Edit] = []
    for port, proxy_port in (("9763", "80"), ("9443", "443")):
        connector = f"/Server/Service/Connector[@port='{port}']"
        edits += [XmlSet(f"{connector}/@proxyPort", proxy_port), XmlSet(f"{connector}/@address", node.address)]
    return (*edits, XmlSet("/Server/Service/Connector[@port='9443']/@sslEnabledProtocols", "TLSv1.2"))


def datasources(ctx: Context) -> dict[str, tuple[Edit, ...]]:
    """Return the edits of the datasource files. WSO2_CARBON_DB stays on H2: it is each node's own local registry (facts 1.3)."""
    files: dict[str, tuple[Edit, ...]] = {}
    for database in databases_of(ctx.spec.pattern):
        edits = _new_datasource(database, ctx) if database in (USER, REGISTRY) else _moved_datasource(database, ctx)
        files[database.file] = files.get(database.file, ()) + edits
    return files


def _connection(database: Database, ctx: Context) -> dict[str, str]:
    # A connection that sat idle is closed by the server after eight hours: it is tried before it is used.
    return {
        "url": jdbc_url(database, ctx),
        "username": database.account,
        "password": ctx.secrets[database.secret],
        "driverClassName": driver_of(ctx).driver_class,
        "testOnBorrow": "true",
        "validationQuery": "SELECT 1",
        "validationInterval": "30000",
        "maxActive": str(connections_each(ctx)),
    }


def _new_datasource(database: Database, ctx: Context) -> tuple[Edit, ...]:
    all_sources = "/datasources-configuration/datasources"
    settings = {**_connection(database, ctx), "maxWait": "60000"}
    lines = "\n".join(f"            <{name}>{_text(value)}</{name}>" for name, value in settings.items())
    xml = f"""<datasource>
    <name>{database.datasource}</name>
    <description>{_text(database.why)}</description>
    <jndiConfig>
        <name>{database.jndi}</name>
    </jndiConfig>
    <definition type="RDBMS">
        <configuration>
{lines}
        </configuration>
    </definition>
</datasource>"""
    behind = "WSO2_CARBON_DB" if database == USER else USER.datasource
    return (
        XmlElement(
            f"{all_sources}/datasource[name='{database.datasource}']",
            xml,
            after=f"{all_sources}/datasource[name='{behind}']",
        ),
    )


def _moved_datasource(database: Database, ctx: Context) -> tuple[Edit, ...]:
    settings = f"/datasources-configuration/datasources/datasource[name='{database.datasource}']/definition/configuration"
    return tuple(XmlSet(f"{settings}/{name}", value, create=True) for name, value in _connection(database, ctx).items())


def mounts(ctx: Context, registry: Registry) -> tuple[Edit, ...]:
    """Return the edits of registry.xml: configuration and governance from the shared database, with the same cacheId on all nodes (facts 1.4)."""
    top = "/wso2registry"
    cache_id = f"{REGISTRY.account}@{jdbc_url(REGISTRY, ctx)}"
    found = [
        (f"{top}/dbConfig[@name='{SHARED}']", f"""<dbConfig name="{SHARED}">
    <dataSource>{REGISTRY.jndi}</dataSource>
</dbConfig>"""),
        (f"{top}/remoteInstance[id='{SHARED}']", f"""<remoteInstance url="https://localhost:9443/registry">
    <id>{SHARED}</id>
    <dbConfig>{SHARED}</dbConfig>
    <readOnly>{str(registry.read_only).lower()}</readOnly>
    <enableCache>{str(registry.cache).lower()}</enableCache>
    <registryRoot>/</registryRoot>
    <cacheId>{_text(cache_id)}</cacheId>
</remoteInstance>"""),
        *(
            (f"{top}/mount[@path='{path}']", f"""<mount path="{path}" overwrite="true">
    <instanceId>{SHARED}</instanceId>
    <targetPath>{target}</targetPath>
</mount>""")
            for path, target in (("/_system/config", registry.config_path), (GOVERNANCE, GOVERNANCE))
        ),
    ]  # fmt: skip
    behind, edits = f"{top}/dbConfig[@name='wso2registry']", []
    for xpath, xml in found:
        edits.append(XmlElement(xpath, xml, after=behind))
        behind = xpath
    return tuple(edits)


def clustered(node: Node, ctx: Context) -> bool:
    """Return whether the node is clustered: the parameters ask for it and its tier has other nodes."""
    return ctx.spec.clustering and len(ctx.topology.tier(node.tier or "")) > 1


def clustering(node: Node, ctx: Context, sub_domain: str) -> tuple[Edit, ...]:
    """Return the edits of axis2.xml: Hazelcast with well-known private addresses, one domain per tier (facts 1.2, 3; design, decision 11)."""
    top = "/axisconfig/clustering"
    members = ctx.topology.tier(node.tier or "")
    if not clustered(node, ctx):
        return (XmlSet(f"{top}/@enable", "false"),)
    known = "\n".join(MEMBER.format(address=member.address, port=HAZELCAST_PORT) for member in members)
    return (
        XmlSet(f"{top}/@enable", "true"),
        XmlSet(f"{top}/parameter[@name='membershipScheme']", "wka"),
        XmlSet(f"{top}/parameter[@name='domain']", ctx.topology.domain(node.tier or "")),
        XmlSet(f"{top}/parameter[@name='localMemberHost']", node.address),
        XmlSet(f"{top}/parameter[@name='localMemberPort']", str(HAZELCAST_PORT)),
        XmlSet(f"{top}/parameter[@name='properties']/property[@name='subDomain']/@value", sub_domain),
        XmlElement(f"{top}/members", f"<members>\n{known}\n</members>", into=top),
    )


def _text(value: str) -> str:
    return escape(value).decode()
