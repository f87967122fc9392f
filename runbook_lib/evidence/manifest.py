"""Evidence that shows when it was changed: a chain over the journal's rows, and a signed manifest of every file of a run.

Each row of the journal has in `prev` the SHA-256 of the row before it. When a run is closed, `manifest.json` names every file with its
SHA-256, and `manifest.sig` has the manifest's own and its signature by the deployment's Ed25519 key. `verify` needs nothing but the folder.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runbook_lib import pki
from runbook_lib.files import BEING_WRITTEN, write_whole

MANIFEST, SIGNATURE, JOURNAL = "manifest.json", "manifest.sig", "journal.jsonl"
ABOUT_RUN = (3, 4, 5)  # the manifest's rows that no file bears out: `run`, `closed`, `signed_by`
ROW_DIGITS = 8  # hex digits of a row's digest in the manifest: these find the row, the file's whole digest decides whether there is one to find


@dataclass(frozen=True)
class Verification:
    """What a run's files say. `problems`: one per file that is not as it was signed, the manifest first; `fingerprint`: of the signing key.

    `run`: whose files they are, as deployment and time; the folder may lie elsewhere, or in another run's place.
    `public_key` is the key that the run names as its signer: only the deployment's Parameter Store can say whether it is the right one.
    """

    files: int
    rows: int
    problems: tuple[str, ...]
    closed: str = ""
    run: str = ""
    public_key: str = ""

    @property
    def signed(self) -> bool:
        return bool(self.public_key)

    @property
    def fingerprint(self) -> str:
        return pki.ssh_fingerprint_of_public(self.public_key) if self.public_key else ""


def digest(data: bytes) -> str:
    """Return the SHA-256 of `data` in hex digits."""
    return hashlib.sha256(data).hexdigest()


def chain(rows: Iterable[dict[str, Any]], prev: str = "") -> Iterator[bytes]:
    """Yield each row as a line of the journal (with its newline), chained to the one before it. `prev`: digest of the row before the first."""
    for row in rows:
        line = json.dumps({**{name: value for name, value in row.items() if name != "prev"}, "prev": prev}, ensure_ascii=False).encode(errors="replace")
        prev = digest(line)
        yield line + b"\n"


def rechain(path: Path) -> None:
    """Chain the rows of a journal anew, after its texts were redacted. A row that is no JSON is left out, as for every reader."""
    rows = []
    for line in path.read_bytes().splitlines():
        try:
            rows.append(json.loads(line))
        except ValueError:
            continue
    write_whole(path, b"".join(chain(rows)).decode())


def broken_link(path: Path) -> int:
    """Return the number of the first row of a journal that is not chained as it was written; 0 when every row is."""
    lines = path.read_bytes().split(b"\n")
    lines = lines[:-1] if lines[-1] == b"" else lines
    named = [link(line) for line in lines]
    expected = ["", *(digest(line) for line in lines[:-1])]
    for number, (said, wanted) in enumerate(zip(named, expected, strict=True), 1):
        if said is None:  # the row itself is not readable any more
            return number
        if said != wanted:  # this row or the one before was changed: this one, when the next does not know it either
            known = number == len(lines) or named[number] == digest(lines[number - 1])
            return number - 1 if known and number > 1 else number
    return 0


def link(line: bytes) -> str | None:
    """Return what a row of a journal names as the digest of the row before it; None for what is no row, such as half a one."""
    try:
        return str(json.loads(line)["prev"])
    except (ValueError, KeyError, TypeError):
        return None


def close(folder: Path, key: str | None, utc: str) -> None:
    """Write the manifest of a run's files and sign it. `key`: the deployment's evidence key (OpenSSH); without one nothing is signed."""
    public = pki.ssh_public_key(key).strip() if key else ""
    text = _written(_manifest(folder, utc, public))
    write_whole(folder / MANIFEST, text)
    if key:
        write_whole(folder / SIGNATURE, f"{digest(text.encode())}\n{pki.sign(key, text.encode())}\n")
    else:
        (folder / SIGNATURE).unlink(missing_ok=True)


def _files(folder: Path) -> dict[str, Path]:
    """Return the files of a run by relative name, without manifest and signature, and without those that are being written."""
    found = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    return {name: path for name, path in found.items() if name not in (MANIFEST, SIGNATURE) and not BEING_WRITTEN.fullmatch(path.name)}


def _manifest(folder: Path, utc: str, public: str) -> dict[str, Any]:
    files = {name: _described(path.read_bytes()) for name, path in _files(folder).items()}
    return {"schema": 1, "run": f"{folder.parent.name}/{folder.name}", "closed": utc, "signed_by": public, "files": files}


def _described(data: bytes) -> dict[str, Any]:
    return {"sha256": digest(data), "bytes": len(data), "rows": " ".join(_row_digests(data))}


def _row_digests(data: bytes) -> list[str]:
    return [digest(row)[:ROW_DIGITS] for row in data.split(b"\n")]


def _written(manifest: dict[str, Any]) -> str:
    return json.dumps(manifest, indent=1, ensure_ascii=False) + "\n"


def verify(folder: Path) -> Verification:
    """Return what is not as it was when the run was closed. Reads nothing but the folder; a public key in it proves no identity by itself."""
    try:
        data = (folder / MANIFEST).read_bytes()
    except FileNotFoundError:
        row = broken_link(folder / JOURNAL) if (folder / JOURNAL).is_file() else 0
        wrong = (f"{JOURNAL}, row {row}: not as it was written",) if row else ()
        return Verification(0, 0, (f"{MANIFEST}: there is none; the run was not closed", *wrong))
    try:
        manifest: dict[str, Any] = json.loads(data)
        public, closed, run, files = str(manifest["signed_by"]), str(manifest["closed"]), str(manifest["run"]), _named(manifest["files"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return Verification(0, 0, (f"{MANIFEST}, row {_odd_row(folder, data)}: changed, and not readable any more",))
    if wrong_signature := _signature_problem(folder, data, public):
        return Verification(len(files), 0, (wrong_signature,), closed, run)
    problems, rows = list(_changed(folder, files)), len(files.get(JOURNAL, {}).get("rows", "").split()) - 1
    if not problems and JOURNAL in files and (row := broken_link(folder / JOURNAL)):
        problems.append(f"{JOURNAL}, row {row}: does not follow from the row before it")
    return Verification(len(files), rows, tuple(problems), closed, run, public)


def _named(files: Any) -> dict[str, Any]:
    """Return the files that a manifest names. Raises TypeError for what no manifest of ours holds, although somebody may have signed it."""
    forms = {"sha256": str, "bytes": int, "rows": str}
    if isinstance(files, dict) and all(
        isinstance(each, dict) and all(isinstance(each.get(key), form) for key, form in forms.items()) for each in files.values()
    ):
        return files
    raise TypeError("files")


def _signature_problem(folder: Path, data: bytes, public: str) -> str:
    """Return what is wrong with manifest and signature; "" when they belong together, or when the run was never signed."""
    path = folder / SIGNATURE
    if not path.is_file():
        return f"{SIGNATURE}: missing, though the manifest names its signer" if public else ""
    text = path.read_text(encoding="utf-8", errors="replace")
    lines = [*text.split("\n"), "", ""]
    sound = next((line for line in lines if line and pki.signed_by(public, data, line)), "")  # in row 2, unless somebody broke row 1 in two
    if sound:
        wanted = digest(data)
        return "" if text == f"{wanted}\n{sound}\n" else f"{SIGNATURE}, row {1 if lines[0] != wanted else 3}: changed"
    if lines[0] == digest(data):
        return f"{SIGNATURE}, row 2: changed, or made by another key than {MANIFEST} names"
    return f"{MANIFEST}, row {_odd_row(folder, data)}: changed"


def _odd_row(folder: Path, data: bytes) -> int | str:
    """Return the number of the manifest's first row that the files do not bear out; when all of those hold, it is one about the run itself."""
    wanted, found = _written(_manifest(folder, "", "")).encode().split(b"\n"), data.split(b"\n")
    odd = [number for number, (one, other) in enumerate(zip(found, wanted, strict=False), 1) if one != other and number not in ABOUT_RUN]
    return odd[0] if odd else min(len(found), len(wanted)) + 1 if len(found) != len(wanted) else "unknown (one of 3 to 5)"


def _changed(folder: Path, files: dict[str, Any]) -> Iterator[str]:
    there = _files(folder)
    for name, signed in sorted(files.items()):
        if name not in there:
            yield f"{name}: missing"
            continue
        data = there[name].read_bytes()
        if digest(data) != signed["sha256"]:
            if name == JOURNAL and len(data) > signed["bytes"] and digest(data[: signed["bytes"]]) == signed["sha256"]:
                first, more = data[: signed["bytes"]].count(b"\n") + 1, data[signed["bytes"] :].count(b"\n")
                yield f"{name}, row {first}: {more} rows were added after the run was closed, as by a session by hand that goes on; all before are as signed"
                continue
            wanted, found = signed["rows"].split(), _row_digests(data)
            first = next((number for number, (one, other) in enumerate(zip(found, wanted, strict=False), 1) if one != other), min(len(found), len(wanted)) + 1)
            yield f"{name}, row {first}: changed"
    for name in sorted(set(there) - set(files)):
        yield f"{name}: was not there when the run was closed"
