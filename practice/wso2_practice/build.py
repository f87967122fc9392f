"""Building the practice packs: compile the server, add the product's files, zip.

The zips are deterministic (fixed times, sorted names) and cached by the content of everything that goes into them.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
import zipfile
from pathlib import Path

from runbook_lib.errors import PackError

HERE = Path(__file__).resolve().parent
JARS = Path("/usr/share/java")
CACHE = Path(os.environ.get("RUNBOOK_CACHE", "/var/cache/runbook")) / "packs"
PACKS = {"greg": "wso2greg-5.1.0", "as": "wso2as-5.3.0"}
LIBRARIES = (  # Debian's jars that the server runs on, all of which run on Java 8; the MariaDB driver is not among them: the runbook installs it
    "tomcat9-annotations-api", "tomcat9-api", "tomcat9-catalina", "tomcat9-coyote", "tomcat9-el-api",
    "tomcat9-jaspic-api", "tomcat9-jasper", "tomcat9-jasper-el", "tomcat9-jdbc", "tomcat9-jni", "tomcat9-jsp-api",
    "tomcat9-juli", "tomcat9-servlet-api", "tomcat9-util", "tomcat9-util-scan", "tomcat9-websocket",
    "tomcat9-websocket-api", "ecj", "derby",
)  # fmt: skip
PACKAGES = "openjdk-17-jdk-headless libtomcat9-java libecj-java libderby-java"
EPOCH = (2016, 2, 1, 0, 0, 0)


def build() -> list[Path]:
    """Return the paths of wso2greg-5.1.0.zip and wso2as-5.3.0.zip, which are made unless they are there. A path's content never changes.

    Raises PackError when the JDK or one of Debian's jars is missing, or the server does not compile.
    """
    folder = CACHE / content_key()
    built = {product: folder / f"{name}.zip" for product, name in PACKS.items()}
    for product, path in built.items():
        if not path.exists():
            _make(product, path.stem, path)
    return list(built.values())


def content_key() -> str:
    """Return a short hash of everything that the packs are built from. Raises PackError when one of Debian's jars is missing."""
    digest = hashlib.sha256()
    for folder in ("server", "pack", "keys", "probe", "example", "build.py"):
        for path in _files(HERE / folder):
            digest.update(f"{path.relative_to(HERE)} {path.stat().st_mode:o}\n".encode())
            digest.update(path.read_bytes())
    for jar in _libraries():
        digest.update(f"{jar.resolve().name}\n".encode())
    return digest.hexdigest()[:16]


def _files(folder: Path) -> list[Path]:
    return [folder] if folder.is_file() else sorted(p for p in folder.rglob("*") if p.is_file())


def _libraries() -> list[Path]:
    found = [JARS / f"{name}.jar" for name in LIBRARIES]
    missing = [str(jar) for jar in found if not jar.exists()]
    if missing:
        raise PackError(f"jars are missing: {', '.join(missing)}", str(JARS), f"apt-get install {PACKAGES}")
    return found


def _make(product: str, name: str, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as work:
        home = Path(work) / name
        lay_out(product, home)
        half = target.with_suffix(f".{os.getpid()}")
        _zip(home, half)
        half.replace(target)


def lay_out(product: str, home: Path) -> None:
    """Write the unpacked pack to `home`: the common files, then the product's own (which replace common ones), and the server's jars in lib/."""
    for part in ("common", product):
        for path in _files(HERE / "pack" / part):
            at = home / path.relative_to(HERE / "pack" / part)
            at.parent.mkdir(parents=True, exist_ok=True)
            if path.name != ".keep":
                shutil.copy2(path, at)
    lib = home / "lib"
    lib.mkdir()
    for jar in _libraries():
        shutil.copyfile(jar, lib / jar.name)
    for store in _files(HERE / "keys"):
        shutil.copyfile(store, home / "repository/resources/security" / store.name)
    if product == "as":  # the sample that the product's own pack deploys (facts 5.2)
        _zip(HERE / "example", home / "repository/deployment/server/webapps/example.war", top="")
    server_jar(lib / "practice-server.jar")


def server_jar(target: Path) -> None:
    """Compile the server against Debian's jars and write its jar to `target`. Raises PackError when it does not compile."""
    with tempfile.TemporaryDirectory() as classes:
        _compile(_files(HERE / "server"), Path(classes), "8")
        _zip(Path(classes), target, top="")


def probe_war(target: Path) -> None:
    """Write the probe application to `target`; it reports node, session and counter. It also runs on a real AS 5.3.0 (Java 8, Servlet 3.0)."""
    with tempfile.TemporaryDirectory() as work:
        classes = Path(work) / "WEB-INF/classes"
        classes.mkdir(parents=True)
        _compile([HERE / "probe/Probe.java"], classes, "8")
        shutil.copyfile(HERE / "probe/web.xml", Path(work) / "WEB-INF/web.xml")
        target.parent.mkdir(parents=True, exist_ok=True)
        _zip(Path(work), target, top="")


def _compile(sources: list[Path], classes: Path, release: str) -> None:
    javac = shutil.which("javac")
    if javac is None:
        raise PackError("the practice packs need a Java compiler", "javac", f"apt-get install {PACKAGES}")
    command = [javac, "-encoding", "UTF-8", "-nowarn", "--release", release, "-d", str(classes)]
    command += ["-cp", ":".join(map(str, _libraries())), *[str(s) for s in sources if s.suffix == ".java"]]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise PackError(f"the practice server does not compile:\n{done.stderr}", str(HERE), f"apt-get install {PACKAGES}")


def _zip(folder: Path, target: Path, top: str | None = None) -> None:
    """Zip `folder` to `target`, with the prefix `top` (default: its own name). The same content gives the same bytes."""
    prefix = f"{folder.name}/" if top is None else top
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.rglob("*")):
            name = prefix + path.relative_to(folder).as_posix()
            entry = zipfile.ZipInfo(name + "/" if path.is_dir() else name, EPOCH)
            executable = path.is_dir() or (path.suffix == ".sh")
            kind = 0o040755 if path.is_dir() else (0o100755 if executable else 0o100644)
            entry.external_attr = kind << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, b"" if path.is_dir() else path.read_bytes())
