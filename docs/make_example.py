"""Make docs/example/ and README's moving picture from the newest runs on this machine: `.venv/bin/python docs/make_example.py`.

Before it, each pattern has run in the lab: `./runbook rehearse params/greg-single.lab.yaml`, and so on for the other three. Chromium is needed.
"""

from __future__ import annotations

import getpass
import json
import shutil
import socket
import struct
import sys
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
from nbformat.sign import NotebookNotary

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from runbook_lib.evidence import runs  # noqa: E402
from runbook_lib.spec.chapters import chapters_of  # noqa: E402
from runbook_lib.spec.patterns import PATTERNS, STORIES  # noqa: E402
from tests.support.jupyterlab_server import chromium_running, jupyterlab, menu  # noqa: E402

EXAMPLE = ROOT / "docs" / "example"
MOVING = ROOT / "docs" / "walk.png"
SIZE, SECONDS = {"width": 1000, "height": 620}, 1.25  # of the moving picture, and of each of its frames
# What it shows: pattern, chapter, the headings that are scrolled to
WALK = (
    ("greg-original", "01_launch_ec2", ("Where the deployment stands", "What it will cost", "Plan")),
    ("greg-original", "04_configure_greg_nodes", ("Plan",)),
    ("greg-original", "07_verify_sso_separation", ("The attempts", "In a real browser", "The verdict")),
    ("greg-separated", "04_configure_greg_nodes", ("What makes two tiers out of one product", "Plan")),
    ("greg-separated", "05_configure_nginx", ("Known faults", "Plan", "Verify")),
    ("greg-separated", "07_verify_sso_separation", ("The attempts", "What nobody thought of", "In a real browser", "The verdict")),
)


def main() -> int:
    """Write the example and the moving picture; returns 0, or 1 when a pattern has no whole run."""
    found = {pattern: newest_run(pattern) for pattern in PATTERNS}
    missing = [pattern for pattern, run in found.items() if run is None]
    if missing:
        print(f"no whole run of {', '.join(missing)}: ./runbook rehearse params/{missing[0]}.lab.yaml", file=sys.stderr)
        return 1
    shutil.rmtree(EXAMPLE, ignore_errors=True)
    for pattern, run in found.items():
        keep(run, EXAMPLE / pattern)
    (EXAMPLE / "README.md").write_text(contents())
    MOVING.write_bytes(moving_picture(list(frames()), SECONDS))
    return 0


def newest_run(pattern: str) -> Path | None:
    """Return the folder of the newest run of a lab that executed every chapter of the pattern and ended as expected, or None."""
    names = {f"{chapter.name}.ipynb" for chapter in chapters_of(pattern)}
    for run in sorted(runs.runs_folder().glob("*/2*Z*"), key=lambda path: path.name, reverse=True):
        result = json.loads((run / "result.json").read_text()) if (run / "result.json").is_file() else {}
        if result.get("pattern") == pattern and result.get("ok") and all((run / name).is_file() for name in names):
            return run
    return None


def keep(run: Path, folder: Path) -> None:
    """Copy a run's chapters, report and result without who made it and where."""
    folder.mkdir(parents=True)
    for path in sorted(run.iterdir()):
        if path.suffix == ".ipynb" or path.name in ("report.html", "result.json"):
            (folder / path.name).write_text(scrubbed(path.read_text()))


def scrubbed(text: str) -> str:
    """Return the text without who made it, as the runbook writes it: user@machine. (A name alone may also be part of a picture's base64.)"""
    return text.replace(f"{getpass.getuser()}@{socket.gethostname()}", "operator@laptop")


def contents() -> str:
    """Return the page that leads to the runs, in Markdown."""
    rows = []
    for pattern in PATTERNS:
        result = json.loads((EXAMPLE / pattern / "result.json").read_text())
        chapters = " ".join(f"[{path.stem[:2]}]({pattern}/{path.name})" for path in sorted((EXAMPLE / pattern).glob("*.ipynb")))
        rows.append(f"| `{pattern}` | {STORIES[pattern]} | {verdict(result)} | {chapters} | [report]({pattern}/report.html) |")
    return "\n".join([*HEAD, *rows, ""])


def verdict(result: dict[str, Any]) -> str:
    """Return what a run found, in a few words."""
    passed = sum(check["status"] == "pass" for check in result["checks"])
    return f"**{result.get('verdict') or 'verified'}**, {passed} of {len(result['checks'])} checks"


HEAD = (
    "# One run of each pattern",
    "",
    "Rehearsals in the lab, as they came: executed chapters and reports. Made by `docs/make_example.py`. The leak is in",
    "[chapter 07 of `greg-original`](greg-original/07_verify_sso_separation.ipynb), the repair in",
    "[chapter 07 of `greg-separated`](greg-separated/07_verify_sso_separation.ipynb). Reports are to be downloaded and opened in a browser.",
    "",
    "| Pattern | Story | Found | Chapters | |",
    "|---|---|---|---|---|",
)


def frames() -> Iterator[bytes]:
    """Yield screenshots of JupyterLab with the example's chapters, in the order of WALK."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(EXAMPLE, Path(folder) / "notebooks")
        with jupyterlab(Path(folder)) as desk, chromium_running() as browser:
            desk.setting("notebook-extension/tracker", '{"windowingMode": "none"}')
            notary = NotebookNotary(data_dir=str(desk.root / "data"))  # as who ran them sees them: what is not trusted has no colours
            for path in desk.root.glob("notebooks/*/*.ipynb"):
                notary.sign(nbformat.read(path, as_version=4))
            page = browser.new_page(viewport=SIZE)
            for pattern, chapter, places in WALK:
                page.goto(f"{desk.url}/lab/tree/notebooks/{pattern}/{chapter}.ipynb?token=token&reset")
                page.wait_for_selector(".jp-Notebook .jp-Cell")
                page.get_by_text("| Idle").wait_for()
                if page.locator(".jp-FileBrowser").is_visible():
                    page.keyboard.press("Control+B")
                for place in places:
                    for _ in range(2):  # once more when what is above has found its height
                        page.get_by_role("heading", name=place).first.evaluate("it => it.scrollIntoView({block: 'start'})")
                        page.wait_for_timeout(800)
                    yield page.screenshot()
                menu(page, "File", "Close Tab")


def moving_picture(pictures: list[bytes], seconds: float) -> bytes:
    """Return one PNG that shows pictures of the same size one after the other, for ever (APNG; PNG specification, third edition, chapter 4.9)."""
    head, _ = parts_of(pictures[0])
    out = [b"\x89PNG\r\n\x1a\n", chunk(b"IHDR", head), chunk(b"acTL", struct.pack(">II", len(pictures), 0))]
    number, (width, height) = 0, struct.unpack(">II", head[:8])
    for first, picture in enumerate(pictures):
        same, data = parts_of(picture)
        assert same == head, "pictures of one size and kind"
        out.append(chunk(b"fcTL", struct.pack(">IIIIIHHBB", number, width, height, 0, 0, int(seconds * 1000), 1000, 0, 0)))
        number += 1
        if first == 0:
            out.append(chunk(b"IDAT", data))
        else:
            out.append(chunk(b"fdAT", struct.pack(">I", number) + data))
            number += 1
    return b"".join([*out, chunk(b"IEND", b"")])


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def parts_of(picture: bytes) -> tuple[bytes, bytes]:
    """Return a PNG's header and its image data."""
    head, data, at = b"", b"", 8
    while at < len(picture):
        length, kind = struct.unpack(">I4s", picture[at : at + 8])
        content = picture[at + 8 : at + 8 + length]
        head, data = (content if kind == b"IHDR" else head), (data + content if kind == b"IDAT" else data)
        at += length + 12
    return head, data


if __name__ == "__main__":
    sys.exit(main())
