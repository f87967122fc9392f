"""Practice nodes on this machine: unpacked, edited, started with the pack's own script, stopped; and a MariaDB."""

from __future__ import annotations

import contextlib
import html
import os
import re
import shutil
import signal
import socket
import subprocess
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urljoin

import httpx2

from runbook_lib.checks.secrets.user_store import GREG, Service

JAVA = shutil.which("java")
JAVA_HOME = Path(JAVA).resolve().parent.parent if JAVA else None
STARTED = "WSO2 Carbon started in"
DEADLINE = 60.0
BOOT = 180.0  # seconds for a whole start, two at once on a busy machine
PORTS = (9443, 9763, 9999, 11111)
USER_DB, REGISTRY_DB = "WSO2_USER_DB", "WSO2_REGISTRY_DB"


def free_offset(taken: set[int]) -> int:
    """A port offset whose ports nobody listens on."""
    for offset in range(300, 3000, 7):
        if offset not in taken and all(_free(port + offset) for port in PORTS):
            taken.add(offset)
            return offset
    raise AssertionError("no free ports")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


@dataclass
class Node:
    """One unpacked home and, once started, its process."""

    home: Path
    offset: int
    host: str = "localhost"
    process: subprocess.Popen[bytes] | None = None
    read_from: int = field(default=0)

    @property
    def url(self) -> str:
        return f"https://{self.host}:{9443 + self.offset}"

    @property
    def log_file(self) -> Path:
        return self.home / "repository/logs/wso2carbon.log"

    def log(self) -> str:
        """What this start has logged so far: the file goes on from start to start."""
        return self.log_file.read_text(encoding="utf-8")[self.read_from :] if self.log_file.exists() else ""

    def edit(self, file: str, old: str, new: str) -> None:
        """Replace text that stands in a file exactly once."""
        path = self.home / file
        text = path.read_bytes().decode("utf-8")
        assert text.count(old) == 1, f"{file}: {text.count(old)} times {old!r}"
        path.write_bytes(text.replace(old, new).encode("utf-8"))

    def launch(self, *arguments: str) -> None:
        self.read_from = len(self.log_file.read_text(encoding="utf-8")) if self.log_file.exists() else 0
        options = [f"-DportOffset={self.offset}", "-Dcarbon.local.ip=127.0.0.1", *arguments]
        self.process = subprocess.Popen(
            ["sh", str(self.home / "bin/wso2server.sh"), *options],
            env={**os.environ, "JAVA_HOME": str(JAVA_HOME)},
            stdout=(self.home / "console").open("wb"),
            stderr=subprocess.STDOUT,
        )

    def wait_for(self, text: str, seconds: float = DEADLINE) -> str:
        """The log once it holds `text`; fails with the log's errors when it does not come in time."""
        deadline = time.monotonic() + seconds
        while text not in self.log():
            hopeless = text == STARTED and re.search("FATAL|Cannot start|tampered", self.log())
            if time.monotonic() > deadline or hopeless:
                raise AssertionError(f"no {text!r} within {seconds} s in:\n{self.log()[-3000:]}")
            time.sleep(0.05)
        return self.log()

    def start(self, *arguments: str) -> str:
        self.launch(*arguments)
        return self.wait_for(STARTED, BOOT)

    @property
    def pid(self) -> int:
        return int((self.home / "wso2carbon.pid").read_text())

    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def listens(self) -> bool:
        return not _free(9443 + self.offset)

    def stop(self) -> None:
        if self.process is None:
            return
        if self.process.poll() is None:
            with contextlib.suppress(ProcessLookupError, FileNotFoundError):
                os.kill(self.pid, signal.SIGTERM)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            os.kill(self.pid, signal.SIGKILL)
            self.process.wait(20)
        self.process = None

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        assert self.process is not None
        self.process.wait(20)
        self.process = None

    def client(self) -> httpx2.Client:
        return httpx2.Client(base_url=self.url, verify=False, timeout=20)


class Nodes:
    """Makes nodes from the built packs below a folder, and stops them all."""

    def __init__(self, zips: dict[str, Path], folder: Path):
        self.zips, self.folder = zips, folder
        self.made: list[Node] = []
        self.taken: set[int] = set()

    def make(self, product: str = "greg", name: str | None = None) -> Node:
        place = self.folder / (name or f"{product}-{len(self.made)}")
        with zipfile.ZipFile(self.zips[product]) as archive:
            archive.extractall(place)
        (home,) = place.iterdir()
        node = Node(home, free_offset(self.taken))
        if product == "greg":  # the browser is sent where this file says, whatever the port offset
            providers = home / "repository/conf/identity/sso-idp-config.xml"
            providers.write_text(providers.read_text().replace("localhost:9443", f"localhost:{9443 + node.offset}"))
        self.made.append(node)
        return node

    def stop(self) -> None:
        for node in self.made:
            node.stop()


def wire_databases(node: Node, url: str, driver: str = "org.mariadb.jdbc.Driver", cache: bool = False) -> None:
    """Point a node at shared databases as golden-run 2 lists it; `url` has DB where the database's name goes."""

    def source(name: str, jndi: str, database: str) -> str:
        address = url.replace("DB", database, 1).replace("&", "&amp;")
        return (
            f"<datasource><name>{name}</name><jndiConfig><name>{jndi}</name></jndiConfig>"
            f'<definition type="RDBMS"><configuration><url>{address}</url><username>wso2</username>'
            f"<password>secret</password><driverClassName>{driver}</driverClassName><maxActive>20</maxActive>"
            "<testOnBorrow>true</testOnBorrow><validationQuery>SELECT 1</validationQuery>"
            "</configuration></definition></datasource>"
        )

    both = source("WSO2_USER_DB", "jdbc/WSO2UMDB", USER_DB)
    both += source("WSO2_REGISTRY_DB", "jdbc/WSO2RegistryDB", REGISTRY_DB)
    conf = "repository/conf"
    node.edit(f"{conf}/datasources/master-datasources.xml", "</datasources>", f"{both}</datasources>")
    node.edit(f"{conf}/user-mgt.xml", ">jdbc/WSO2CarbonDB<", ">jdbc/WSO2UMDB<")
    node.edit(
        f"{conf}/registry.xml",
        "</wso2registry>",
        '<dbConfig name="sharedregistry"><dataSource>jdbc/WSO2RegistryDB</dataSource></dbConfig>'
        '<remoteInstance url="https://localhost:9443/registry"><id>shared</id><dbConfig>sharedregistry</dbConfig>'
        f"<readOnly>false</readOnly><enableCache>{str(cache).lower()}</enableCache><registryRoot>/</registryRoot>"
        "<cacheId>wso2@registry</cacheId></remoteInstance>"
        '<mount path="/_system/config" overwrite="true"><instanceId>shared</instanceId>'
        "<targetPath>/_system/config/greg</targetPath></mount>"
        '<mount path="/_system/governance" overwrite="true"><instanceId>shared</instanceId>'
        "<targetPath>/_system/governance</targetPath></mount></wso2registry>",
    )


class Database:
    """A MariaDB server of our own on loopback; `more`: further options of the server."""

    def __init__(self, folder: Path, *more: str):
        self.folder = folder
        subprocess.run(
            ["mariadb-install-db", "--no-defaults", f"--datadir={folder}", "--auth-root-authentication-method=normal"]
            + (["--user=root"] if os.geteuid() == 0 else []),
            check=True,
            capture_output=True,
        )
        self.port = free_port()
        options = [f"--datadir={folder}", f"--port={self.port}", f"--socket={folder}/s"]
        options += ["--bind-address=127.0.0.1", "--skip-name-resolve", *more]
        self.process = subprocess.Popen(
            ["mariadbd", "--no-defaults", *options, f"--pid-file={folder}/pid"] + (["--user=root"] if os.geteuid() == 0 else []),
            stdout=subprocess.DEVNULL,
            stderr=(folder / "log").open("wb"),
        )
        deadline = time.monotonic() + DEADLINE
        while not (folder / "s").exists():
            assert time.monotonic() < deadline and self.process.poll() is None, (folder / "log").read_text()
            time.sleep(0.05)
        self.sql("CREATE USER wso2@'%' IDENTIFIED BY 'secret'; GRANT ALL ON *.* TO wso2@'%'")

    @property
    def url(self) -> str:
        return f"jdbc:mysql://127.0.0.1:{self.port}/DB?useMysqlMetadata=true"

    def sql(self, text: str, database: str = "") -> list[str]:
        done = subprocess.run(
            ["mariadb", "--no-defaults", f"--socket={self.folder}/s", "-N", "-B", *([database] if database else [])],
            input=text,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    def fresh(self, home: Path, charset: str = "utf8mb4", schema: bool = True) -> None:
        """The two shared databases anew, with the pack's own tables."""
        script = (home / "dbscripts/mysql.sql").read_text(encoding="utf-8")
        for name in (USER_DB, REGISTRY_DB):
            self.sql(f"DROP DATABASE IF EXISTS {name}; CREATE DATABASE {name} CHARACTER SET {charset}")
            if schema:
                self.sql(script, name)

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(120)


# ---- a small browser: forms that post themselves, one password form


def form_of(page: httpx2.Response) -> tuple[str, dict[str, str]] | None:
    found = re.search(r'<form method="post" action="([^"]*)"', page.text)
    if found is None:
        return None
    hidden = re.findall(r'<input type="hidden" name="([^"]*)" value="([^"]*)"', page.text)
    fields = {html.unescape(name): html.unescape(value) for name, value in hidden}
    return urljoin(str(page.url), html.unescape(found[1])), fields


def sign_in(client: httpx2.Client, app: str, user: str, password: str) -> tuple[httpx2.Response, list[str], bool]:
    """Open an application's login and go on to the end: the last answer, the path of every step, password asked?"""
    answer, asked, steps = client.get(f"/{app}/login"), False, []
    for _ in range(30):
        steps.append(f"{answer.request.method} {answer.url.path.split(';')[0]} {answer.status_code}")
        found = form_of(answer) if answer.status_code == 200 else None
        if answer.is_redirect:
            answer = client.get(urljoin(str(answer.url), answer.headers["location"]))
        elif found and ("SAMLRequest" in found[1] or "SAMLResponse" in found[1]):
            answer = client.post(found[0], data=found[1])
        elif found and "sessionDataKey" in found[1] and not asked:
            asked = True
            answer = client.post(found[0], data={**found[1], "username": user, "password": password})
        else:
            return answer, steps, asked
    raise AssertionError(f"no end: {steps}")


def hold_assertion(client: httpx2.Client, app: str, user: str, password: str) -> dict[str, str]:
    """Sign in up to the form that carries the SAMLResponse, and keep that."""
    answer = client.get(f"/{app}/login")
    for _ in range(30):
        found = form_of(answer) if answer.status_code == 200 else None
        if found and "SAMLResponse" in found[1]:
            return found[1]
        if answer.is_redirect:
            answer = client.get(urljoin(str(answer.url), answer.headers["location"]))
        elif found:
            more = {"username": user, "password": password} if "sessionDataKey" in found[1] else {}
            answer = client.post(found[0], data={**found[1], **more})
    raise AssertionError("no assertion")


SOAP = """<soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/"
 xmlns:ser="{service.namespace}"><soapenv:Body><ser:{op}>{fields}</ser:{op}></soapenv:Body>
</soapenv:Envelope>"""


def soap(node: Node, op: str, auth: tuple[str, str] = ("admin", "admin"), service: Service = GREG, **fields: str | list[str]) -> httpx2.Response:
    inner = "".join(f"<ser:{name}>{item}</ser:{name}>" for name, value in fields.items() for item in ([value] if isinstance(value, str) else value))
    with node.client() as client:
        return client.post(
            service.path,
            content=SOAP.format(service=service, op=op, fields=inner),
            headers={"SOAPAction": f"urn:{op}", "Content-Type": "text/xml"},
            auth=auth,
        )


def returned(answer: httpx2.Response) -> list[str]:
    return re.findall(r"<ns:return[^>]*>([^<]*)</ns:return>", answer.text)


def users(node: Node) -> Iterator[str]:
    """The four users of facts 10.2: one per role, none, and the administrator (who is there)."""
    for name, roles in {"sam": ["Internal/store"], "pat": ["Internal/publisher"], "nil": []}.items():
        answer = soap(node, "addUser", userName=name, credential="Secret123", roleList=roles)
        assert answer.status_code == 202, answer.text
        yield name
