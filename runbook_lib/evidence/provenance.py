"""Where a run's evidence comes from: rehearsal or production, the account, the product, the parameters, this code.

The first line of the journal says what is known when a run begins (`head`); what hosts and archives answer later stands in lines of verb
`observed`. `of_run` puts both together; result.json, report, book and status board begin with it.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

from pydantic import BaseModel

from runbook_lib.files import ROOT
from runbook_lib.spec.reference import one_line, reference

VERSION: str = sys.modules[__name__.partition(".")[0]].__version__  # of the package; an import of it would be one of all that notebooks see
REHEARSAL, PRODUCTION, UNKNOWN = "REHEARSAL", "PRODUCTION", "UNKNOWN"
AWS = (".amazonaws.com", ".amazonaws.com.cn", ".api.aws")  # the ends of AWS's own endpoints ("AWS service endpoints")
MAKER = "WSO2 "  # what a genuine product's bin/version.txt begins with
CODE = ("runbook_lib", "runbook_cli", "notebooks", "params")  # new files here change what a run does
OBSERVED = (
    ("product", "Product, as its own files say"),
    ("pack", "Pack"),
    ("image", "Image"),
    ("database", "Database server"),
    ("driver", "JDBC driver"),
    ("jvm", "JVM"),
)


def head(spec: BaseModel, endpoint: str, caller: Mapping[str, str]) -> dict[str, Any]:
    """Return what is known when a run begins. `caller`: account and ARN from STS; `endpoint`: the URL of the EC2 API."""
    environment, why = environment_of(endpoint, "")
    return {
        "environment": environment,
        "why": why,
        "endpoint": endpoint,
        "account": caller.get("account", ""),
        "caller": caller.get("arn", ""),
        "region": spec.cloud.region,  # type: ignore[attr-defined]
        "image": spec.cloud.image,  # type: ignore[attr-defined]
        **of_code_and_parameters(spec),
    }


def of_code_and_parameters(spec: Any) -> dict[str, Any]:
    """Return the part that a change of code or parameters alters; empty for what is no model of parameters."""
    return {"code": code(), "parameters": parameters(spec)} if isinstance(spec, BaseModel) else {}


def environment_of(endpoint: str, product: str) -> tuple[str, str]:
    """Return REHEARSAL or PRODUCTION and the reasons. `product`: the text of the product's version file, "" while it is not known."""
    host = urlsplit(endpoint).hostname or ""
    aws = host.endswith(AWS)
    reasons = [] if aws else [f"the endpoint {endpoint} is not AWS"]
    if product and not product.startswith(MAKER):
        reasons.append(f"the pack is not WSO2's: it calls itself {product!r}")
    return (REHEARSAL, "; ".join(reasons)) if reasons else (PRODUCTION, f"AWS, and {product or 'the product is not known yet'}")


def parameters(spec: BaseModel) -> dict[str, Any]:
    """Return the parameters that differ from their defaults, by dotted key."""
    found: dict[str, Any] = {}
    for row in reference(type(spec)):
        value: Any = spec
        for name in row.key.split("."):
            value = getattr(value, name)
        if value != row.default:
            found[row.key] = value.model_dump(mode="json") if isinstance(value, BaseModel) else value
    return found


def code() -> dict[str, Any]:
    """Return version and commit of this library, and the names of the files that differ from the commit or are new to it."""
    if not (ROOT / "runbook_lib").is_dir():  # a folder to work in may be inside a repository of the user
        return {"version": VERSION, "commit": "", "changed": []}
    changed = _git("diff", "--name-only", "HEAD").splitlines()
    new = _git("ls-files", "--others", "--exclude-standard", "--", *CODE).splitlines()
    return {"version": VERSION, "commit": _git("rev-parse", "--short=12", "HEAD"), "changed": sorted({*changed, *new})}


def code_words(code: Mapping[str, Any]) -> str:
    """Return the code's version as text: with the commit in a git clone, and the files that differ from it."""
    changed = list(code.get("changed", ()))
    names = f"changed since: {', '.join(changed[:20])}{f' and {len(changed) - 20} more' if len(changed) > 20 else ''}" if changed else ""
    details = "; ".join(filter(None, [f"commit {code['commit']}" if code.get("commit") else "", names]))
    return f"{code.get('version', '')} ({details})" if details else str(code.get("version", ""))


def _git(*words: str) -> str:
    """Return what git prints about this clone; "" when it is no clone or there is no git."""
    with suppress(OSError, subprocess.SubprocessError):
        done = subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True, timeout=10)
        return done.stdout.strip() if done.returncode == 0 else ""
    return ""


def of_run(entries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the provenance of a run from its journal: the first line, and under `observed` each fact with the value that every place gave."""
    begin = next((entry for entry in entries if entry.get("verb") == "begin"), {})
    found = {name: begin.get(name, "") for name in ("environment", "why", "endpoint", "account", "caller", "region", "image", "code", "parameters")}
    observed: dict[str, dict[str, str]] = {}
    for entry in entries:
        if entry.get("verb") == "observed":
            for name, value in entry["facts"].items():
                observed.setdefault(name, {})[entry["host"]] = value
    if found["endpoint"]:
        products = [text for text in observed.get("product", {}).values() if text]
        strange = [text for text in products if not text.startswith(MAKER)]
        found["environment"], found["why"] = environment_of(found["endpoint"], (strange or products or [""])[0])
    return {**found, "environment": found["environment"] or UNKNOWN, "observed": observed}


def banner(provenance: Mapping[str, Any]) -> str:
    """Return the first line of whatever shows a run: rehearsal or production, where, and as whom."""
    parts = [provenance.get("why"), f"account {provenance['account']}" if provenance.get("account") else "", provenance.get("caller"), provenance.get("region")]
    return f"{provenance.get('environment') or UNKNOWN}: {' · '.join(filter(None, parts)) or 'this run did not write down where it was made'}"


def rows(provenance: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return label and text of each fact, for people."""
    found = [
        ("Environment", f"{provenance['environment']}: {provenance['why']}" if provenance.get("why") else str(provenance["environment"])),
        ("Endpoint", provenance.get("endpoint", "")),
        ("Account", provenance.get("account", "")),
        ("Caller (STS)", provenance.get("caller", "")),
        ("Region", provenance.get("region", "")),
    ]
    seen = provenance.get("observed", {})
    found += [(label, by_place(seen.get(name, {})) or (provenance.get("image", "") if name == "image" else "")) for name, label in OBSERVED]
    found.append(("Runbook", code_words(provenance["code"]) if provenance.get("code") else ""))
    own = provenance.get("parameters") or {}
    found.append(("Parameters that differ from their defaults", "\n".join(f"{key}: {one_line(value)}" for key, value in own.items())))
    return [(label, text or "not observed in this run") for label, text in found]


def by_place(values: Mapping[str, str]) -> str:
    """Return each value once, with the places that gave it."""
    places: dict[str, list[str]] = {}
    for place, value in values.items():
        places.setdefault(value, []).append(place)
    return "\n".join(f"{value} ({', '.join(sorted(names))})" for value, names in places.items())
