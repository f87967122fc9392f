"""Make `prices.yaml` anew from AWS's price list files: `python -m runbook_cli.refresh_prices [FILE.csv …] [--region R]… [--type T]…`.

Format: AWS Billing User Guide, "Reading the service price list file for an AWS service" (CSV: five rows about the file, one with the names of columns,
then a row for each price) and "Getting price list files manually" (where they are). Machines, disks and NAT gateways are in the file of AmazonEC2, public
addresses in that of AmazonVPC. The files are read line by line: one of EC2 has hundreds of megabytes.
"""

from __future__ import annotations

import argparse
import csv
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import yaml

from runbook_lib.errors import RunbookError
from runbook_lib.files import write_whole
from runbook_lib.topology import prices

SITE = "https://pricing.us-east-1.amazonaws.com"
INDEX = "/offers/v1.0/aws/{}/current/region_index.json"
SERVICES = ("AmazonEC2", "AmazonVPC")
# name in prices.yaml: usage type (AWS puts a short name of the region before it), unit
FIXED = {
    "gp3_gib_month": ("EBS:VolumeUsage.gp3", "GB-Mo"),
    "public_ipv4_hour": ("PublicIPv4:InUseAddress", "Hrs"),
    "nat_gateway_hour": ("NatGateway-Hours", "Hrs"),
    "nat_gateway_gib": ("NatGateway-Bytes", "GB"),
}
ORDINARY = {"Operating System": "Linux", "Tenancy": "Shared", "CapacityStatus": "Used", "Pre Installed S/W": "NA", "Unit": "Hrs"}  # of a machine
HEAD = """\
# AWS on-demand prices, Linux, shared tenancy, in US dollars, for estimates. Made anew by: python -m runbook_cli.refresh_prices
# instances: type: [hour, memory in GiB, vCPU]
"""


def main(argv: list[str] | None = None) -> int:
    """Write the prices of the regions named (by default of those in the file already) and return 0, or 1 with the reason."""
    parser = argparse.ArgumentParser(prog="python -m runbook_cli.refresh_prices", description="Prices of AWS's public price list, for estimates.")
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE.csv", help="price list files fetched before; without any they are downloaded")
    parser.add_argument("--region", action="append", default=[], help="a region to download; again for more")
    parser.add_argument("--type", action="append", default=[], help="an instance type besides those known; again for more")
    args = parser.parse_args(argv)
    known = prices.book()
    types = {*args.type, *(type_ for region in known["regions"].values() for type_ in region["instances"])}
    try:
        found: dict[str, dict[str, Any]] = {}
        for file in args.files:
            with file.open(encoding="utf-8", newline="") as lines:
                _read(lines, str(file), types, found)
        for region in () if args.files else (args.region or known["regions"]):
            for service in SERVICES:
                with _downloaded(service, region) as lines:
                    _read(lines, f"{service} of {region}", types, found)
        merged = {**known, "regions": known["regions"] | {name: _whole(name, new, known["regions"].get(name, {})) for name, new in found.items()}}
    except (OSError, RunbookError) as problem:
        print(problem, file=sys.stderr)
        return 1
    write_whole(prices.path(), HEAD + yaml.safe_dump(merged, sort_keys=False, default_flow_style=None, width=200, allow_unicode=True))
    for name in found:
        region = merged["regions"][name]
        print(f"{name}: {len(region['instances'])} instance types, as of {region['as_of']}")
    return 0


def _read(lines: Iterable[str], source: str, types: set[str], found: dict[str, dict[str, Any]]) -> None:
    """Add what a price list file says to `found`, by region. Raises RunbookError for a file of another form."""
    rows = csv.reader(lines)
    about = dict(row[:2] for row in (next(rows, []) for _ in range(5)) if len(row) >= 2)
    columns = next(rows, [])
    published = about.get("Publication Date", "")[:10]
    if not re.fullmatch(r"\d{4}-\d\d-\d\d", published) or not {"TermType", "PricePerUnit", "usageType", "Region Code"} <= set(columns):
        raise RunbookError(
            "this is no price list file of an AWS service in CSV", source, f"such as {SITE}{INDEX.format(SERVICES[0])} leads to, with .csv for .json"
        )
    for values in rows:
        row = dict(zip(columns, values, strict=False))
        if row["TermType"] != "OnDemand" or row.get("Currency") != "USD":
            continue
        name, price = _price(row, types)
        if name:
            region = found.setdefault(row["Region Code"], {"as_of": published, "instances": {}})
            region["as_of"] = min(region["as_of"], published)
            if isinstance(price, list):
                region["instances"][name] = price
            else:
                region[name] = max(price, region.get(name, 0.0))  # a tier that is free does not count


def _price(row: dict[str, str], types: set[str]) -> tuple[str, Any]:
    """Return what a row prices and its entry in the price file; "" for what the file does not hold."""
    amount = float(row["PricePerUnit"])
    if row.get("Product Family") == "Compute Instance":
        if row.get("Instance Type") in types and all(row.get(column) == value for column, value in ORDINARY.items()):
            memory = float(row["Memory"].removesuffix(" GiB").replace(",", ""))
            return row["Instance Type"], [round(amount, 6), int(memory) if memory.is_integer() else memory, int(row["vCPU"])]
        return "", None
    for name, (usage, unit) in FIXED.items():
        if re.fullmatch(rf"([A-Z0-9]+-)?{re.escape(usage)}", row["usageType"]) and row["Unit"] == unit:
            return name, round(amount, 6)
    return "", None


def _whole(name: str, new: dict[str, Any], before: dict[str, Any]) -> dict[str, Any]:
    """Return the region's entry; what the files do not say stays as it was. Raises RunbookError when something would be unknown."""
    merged = {**before, **new, "instances": before.get("instances", {}) | new["instances"]}
    lacking = [key for key in FIXED if key not in merged] + ([] if merged["instances"] else ["instances"])
    if lacking:
        raise RunbookError(f"the files do not say of {name}: {', '.join(lacking)}", name, f"both are needed: {' and '.join(SERVICES)}")
    return {key: merged[key] for key in ("as_of", *FIXED, "instances")}


@contextmanager
def _downloaded(service: str, region: str) -> Iterator[Iterator[str]]:
    """Yield the lines of a service's newest price list file of a region. Raises RunbookError."""
    try:
        index = httpx2.get(SITE + INDEX.format(service), timeout=60).raise_for_status().json()
        if region not in index["regions"]:
            raise RunbookError(f"{service} has no prices of a region {region}", SITE, f"one of {', '.join(sorted(index['regions']))}")
        url = SITE + index["regions"][region]["currentVersionUrl"].removesuffix(".json") + ".csv"
        with httpx2.stream("GET", url, timeout=60) as answer:
            yield (f"{line}\n" for line in answer.raise_for_status().iter_lines())
    except httpx2.HTTPError as error:
        raise RunbookError(f"the price list cannot be fetched: {error}", SITE, "fetch the CSV files elsewhere and name them as arguments") from None


if __name__ == "__main__":
    sys.exit(main())
