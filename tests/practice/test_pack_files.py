"""The practice packs' files stand, wherever the runbook edits, as the real product's files do."""

from __future__ import annotations

import io
import json
import re
import shutil
import subprocess
import threading
import time
import zipfile
from collections.abc import Callable
from functools import reduce
from pathlib import Path

import pytest
import yaml
from lxml import etree

from runbook_lib.converge.edits import Edit, JsonSet, XmlSet, apply
from runbook_lib.roles import appserver, greg
from runbook_lib.roles.context import Context
from runbook_lib.spec.model import Spec
from runbook_lib.topology.model import topology_of
from tests.conftest import ROOT, need

PACK = ROOT / "practice" / "wso2_practice" / "pack"
HOMES = {"greg": "greg-5.1.0", "as": "as-5.3.0"}
TABLE = yaml.safe_load((Path(__file__).parent / "pack_files.yaml").read_text(encoding="utf-8"))
CASES = [pytest.param(product, row, id=f"{product}-{row['file']}-{number}") for number, row in enumerate(TABLE) for product in row["products"]]
TABLES = {  # facts 2.2: tables that each script declares
    "common/dbscripts/mysql.sql": 39,
    "common/dbscripts/h2.sql": 39,
    "common/dbscripts/identity/mysql.sql": 41,
    "greg/dbscripts/bps/bpel/create/mysql.sql": 41,
    "greg/dbscripts/social/mysql/resource.sql": 4,
    "greg/dbscripts/storage/mysql/resource.sql": 1,
}


JAVA_8 = 52  # its class files' major version (The Java Virtual Machine Specification, table 4.1-A)


class Placeholders(dict[str, str]):
    """A value for any secret that a step asks for."""

    def __missing__(self, name: str) -> str:
        return f"[{name}]"


def test_packs_that_are_there_are_not_written_again(packs: dict[str, Path]) -> None:
    """A lab that starts must not change what another one is uploading."""
    from wso2_practice.build import build

    before = [(path, path.stat().st_mtime_ns, path.stat().st_ino) for path in packs.values()]
    assert [(path, path.stat().st_mtime_ns, path.stat().st_ino) for path in build()] == before


@pytest.mark.parametrize("product", ["greg", "as"])
def test_every_class_of_a_pack_runs_on_java_8_the_products_own(packs: dict[str, Path], product: str) -> None:
    """Class files for newer versions, below META-INF/versions, are seen by these only."""
    newer = set()
    with zipfile.ZipFile(packs[product]) as pack:
        for jar in (name for name in pack.namelist() if name.endswith(".jar")):
            with zipfile.ZipFile(io.BytesIO(pack.read(jar))) as inside:
                classes = (name for name in inside.namelist() if name.endswith(".class") and not name.startswith(("META-INF/", "module-info")))
                newer |= {f"{jar}: {name}" for name in classes if int.from_bytes(inside.read(name)[6:8]) > JAVA_8}
    assert newer == set()


def runbook_settings(pattern: str) -> dict[str, tuple[Edit, ...]]:
    """Every edit that the runbook makes on the nodes of a pattern, by file."""
    hosts = {"as": "as.lab.test", "mgt": "mgt.lab.test"} if pattern == "as-cluster" else {"store": "s.test", "publisher": "p.test"}
    pack = {"pack": "file:///pack.zip", "sha256": "ab" * 32}
    spec = Spec.model_validate({"deployment": "test", "pattern": pattern, "hosts": hosts, "product": pack})
    ctx = Context(spec, topology_of(spec), Placeholders())
    node = ctx.topology.wso2_nodes[0]
    return (appserver if pattern == "as-cluster" else greg).settings(node, ctx)


def ours(product: str, file: str) -> bytes:
    for folder in (product, "common"):
        if (PACK / folder / file).is_file():
            return (PACK / folder / file).read_bytes()
    raise AssertionError(f"the {product} pack has no {file}")


def values(raw: bytes, xpath: str) -> list[str]:
    """What an XPath finds, as text; c: is the namespace of the file's root element."""
    root = etree.fromstring(raw)
    namespace = etree.QName(root).namespace
    found = root.xpath(xpath, namespaces={"c": namespace} if namespace else None)
    return [node.strip() if isinstance(node, str) else f"{etree.QName(node).localname}={(node.text or '').strip()}" for node in found]


def declaration(raw: bytes) -> bytes | None:
    found = re.match(rb"<\?xml.*?\?>", raw)
    return found[0] if found else None


def at(raw: bytes, path: str) -> object:
    return reduce(lambda value, key: value[key], path.split("."), json.loads(raw))


@pytest.mark.parametrize(("product", "row"), CASES)
def test_settings_stand_where_the_table_says(product: str, row: dict):
    mine = ours(product, row["file"])
    read = values if row["file"].endswith(".xml") else at
    assert [path for path in row.get("same", ()) if not read(mine, path)] == []
    assert [path for path in row.get("absent", ()) if values(mine, path)] == []
    assert [text for text in row.get("text", ()) if text.encode() not in mine.replace(b"\r\n", b"\n")] == []
    assert [path for path in row.get("own", ()) if "ractice" not in " ".join(values(mine, path))] == []


@pytest.mark.parametrize(("product", "row"), CASES)
def test_settings_stand_where_the_real_product_has_them(product: str, row: dict, wso2_conf: Path):
    real, mine = (wso2_conf / HOMES[product] / row["file"]).read_bytes(), ours(product, row["file"])
    read = values if row["file"].endswith(".xml") else at
    for path in row.get("same", ()):
        assert read(real, path), f"{path} finds nothing in the real file: the row is wrong"
        assert read(mine, path) == read(real, path), path
    for path in row.get("absent", ()):
        assert values(real, path) == [], f"{path} stands in the real file: the row is wrong"
        assert values(mine, path) == [], path
    for text in row.get("text", ()):
        assert text.encode() in real.replace(b"\r\n", b"\n"), f"{text!r} is not in the real file: the row is wrong"
        assert text.encode() in mine.replace(b"\r\n", b"\n"), text
    for path in row.get("own", ()):
        assert "ractice" in " ".join(values(mine, path)), path


@pytest.mark.parametrize(("product", "row"), CASES)
def test_encoding_line_ends_and_root_are_those_of_the_real_file(product: str, row: dict, wso2_conf: Path):
    real, mine = (wso2_conf / HOMES[product] / row["file"]).read_bytes(), ours(product, row["file"])
    assert (mine.count(b"\r\n") == mine.count(b"\n")) == (real.count(b"\r\n") == real.count(b"\n"))
    assert mine.endswith(b"\n") == real.endswith(b"\n")
    if row["file"].endswith(".xml"):
        assert declaration(mine) == declaration(real)
        assert etree.fromstring(mine).tag == etree.fromstring(real).tag


SETTINGS = [
    pytest.param(product, file, edit, id=f"{product}-{Path(file).name}-{edit.describe().split(' = ')[0]}")
    for product, pattern in (("greg", "greg-single"), ("as", "as-cluster"))
    for file, found in runbook_settings(pattern).items()
    for edit in found
    if isinstance(edit, XmlSet | JsonSet)
]


@pytest.mark.parametrize(("product", "file", "edit"), SETTINGS)
def test_each_setting_that_the_runbook_makes_has_the_real_default(product: str, file: str, edit: XmlSet | JsonSet, wso2_conf: Path):
    real, mine = wso2_conf / HOMES[product] / file, ours(product, file)
    if isinstance(edit, XmlSet):
        assert values(mine, edit.xpath) == values(real.read_bytes(), edit.xpath)
    else:
        assert at(mine, edit.path) == at(real.read_bytes(), edit.path)


@pytest.mark.parametrize("pattern", ["greg-single", "as-cluster"])
def test_the_runbook_edits_the_practice_files_once_and_finds_nothing_to_do_after(pattern: str):
    product = "as" if pattern == "as-cluster" else "greg"
    for file, found in runbook_settings(pattern).items():
        edited = apply(ours(product, file), found, file)
        assert apply(edited, found, file) == edited
        assert edited.count(b"\r\n") in (0, edited.count(b"\n")), file


def test_no_sentence_is_taken_from_the_real_files(wso2_conf: Path):
    def prose(folder: Path) -> set[str]:
        texts = [path.read_text("utf-8") for path in folder.rglob("*.*") if path.suffix in (".xml", ".json")]
        comments = "\n".join(comment for text in texts for comment in re.findall(r"<!--(.*?)-->", text, re.S))
        lines = [line.strip() for line in re.split(r"[\n.]", comments)]
        return {line for line in lines if len(line) > 30 and not re.search(r"[<>={/]", line)}

    assert prose(wso2_conf), "nothing read: the comparison would prove nothing"
    assert prose(PACK) & prose(wso2_conf) == set()


@pytest.mark.parametrize("path", sorted(PACK.rglob("*.xml")), ids=lambda path: str(path.relative_to(PACK)))
def test_every_file_says_that_it_is_a_practice_server(path: Path):
    assert "PRACTICE SERVER" in path.read_text("utf-8")
    etree.parse(path)


def test_claims_hold_a_character_that_a_latin1_database_refuses():
    text = (PACK / "common/repository/conf/claim-config.xml").read_text("utf-8")
    assert "\u2011" in text  # golden-run 1
    with pytest.raises(UnicodeEncodeError):
        text.encode("latin-1")


@pytest.mark.parametrize(("script", "count"), TABLES.items())
def test_scripts_declare_as_many_tables_as_the_real_ones(script: str, count: int):
    names = re.findall(r"^CREATE TABLE (?:IF NOT EXISTS )?(\w+)", (PACK / script).read_text(), re.M)
    assert len(names) == len(set(names)) == count


def test_no_key_is_kept_in_the_tree():
    assert [path for path in PACK.rglob("*") if path.suffix in (".jks", ".p12", ".pem", ".key")] == []


def script(home: Path, *arguments: str, java_home: Path | None) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": "/usr/bin:/bin"} | ({"JAVA_HOME": str(java_home)} if java_home else {})
    command = ["sh", str(home / "bin/wso2server.sh"), *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A product home, and a `java` that writes its arguments down and ends as the lines of its file `codes` say."""
    need(shutil.which("ps"), "procps is missing")
    shutil.copytree(PACK / "common", tmp_path / "home")
    java = tmp_path / "java/bin/java"
    java.parent.mkdir(parents=True)
    java.write_text(
        '#!/bin/sh\n[ "$1" = -version ] && { echo \'openjdk version "17.0.1"\' >&2; exit 0; }\n'
        'here=`dirname $0`; echo "$@" >> $here/calls\n'
        "code=`head -1 $here/codes`; sed -i 1d $here/codes; exit ${code:-0}\n"
    )
    java.chmod(0o755)
    (java.parent / "codes").touch()
    return tmp_path / "home"


def calls(home: Path) -> list[str]:
    return (home.parent / "java/bin/calls").read_text().splitlines()


def test_the_script_demands_java_home(home: Path):
    run = script(home, java_home=None)
    assert (run.returncode, "JAVA_HOME is not defined correctly" in run.stdout) == (1, True)
    assert script(home, java_home=Path("/nowhere")).returncode == 1


def test_properties_reach_the_server_and_an_unknown_jdk_gets_a_warning_only(home: Path):
    run = script(home, "-Dsetup", "-DportOffset=7", "-Dcarbon.local.ip=127.0.0.2", java_home=home.parent / "java")
    assert run.returncode == 0
    assert "CARBON is supported only on JDK 1.7 and 1.8" in run.stdout
    assert calls(home)[0].endswith("org.runbook.practice.boot.Main -Dsetup -DportOffset=7 -Dcarbon.local.ip=127.0.0.2")
    assert f"-Dcarbon.home={home}" in calls(home)[0] and "-DworkerNode=false" in calls(home)[0]


def test_exit_code_121_starts_the_server_again_and_after_any_other_the_script_ends_with_0(home: Path):
    (home.parent / "java/bin/codes").write_text("121\n121\n3\n")
    assert script(home, java_home=home.parent / "java").returncode == 0, "so does the real one, which has no exit after its loop"
    assert len(calls(home)) == 3


def test_the_temporary_folder_is_emptied_at_each_start(home: Path):
    (home / "tmp/work").mkdir(parents=True)
    script(home, java_home=home.parent / "java")
    assert list((home / "tmp").iterdir()) == []


def awaited(condition: Callable[[], object], seconds: float = 20) -> object:
    deadline = time.monotonic() + seconds
    while not (found := condition()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return found


def test_start_reports_success_even_when_the_server_dies(home: Path):
    (home.parent / "java/bin/codes").write_text("1\n")
    assert script(home, "start", "-Dsetup", java_home=home.parent / "java").returncode == 0
    written = home.parent / "java/bin/calls"
    assert awaited(lambda: written.exists() and calls(home)), "the server is not started"
    assert calls(home)[0].endswith("Main -Dsetup")


def test_restart_ends_the_old_server_first(home: Path):
    with subprocess.Popen(["sleep", "60"]) as running:
        (home / "wso2carbon.pid").write_text(str(running.pid))
        threading.Thread(target=running.wait, daemon=True).start()  # or it would stay a zombie, which `ps` still shows
        assert script(home, "restart", java_home=home.parent / "java").returncode == 0
        assert running.wait(10) == -15
    assert awaited((home.parent / "java/bin/calls").exists)


def test_start_leaves_a_running_server_alone(home: Path):
    with subprocess.Popen(["sleep", "60"]) as running:
        (home / "wso2carbon.pid").write_text(str(running.pid))
        run = script(home, "start", java_home=home.parent / "java")
        assert (run.returncode, run.stdout) == (0, "Process is already running\n")
        script(home, "stop", java_home=home.parent / "java")
        assert running.wait(10) == -15


def test_stop_without_a_pid_file_succeeds(home: Path):
    assert script(home, "stop", java_home=home.parent / "java").returncode == 0
