"""prices.yaml from price list files in the form that AWS documents (a few rows made by hand), and what is said of other files."""

from __future__ import annotations

import csv
import io
import json
import threading
from collections.abc import Iterator
from functools import partial
from http.server import HTTPServer, SimpleHTTPRequestHandler
from pathlib import Path

import pytest
import yaml

from runbook_cli import refresh_prices
from runbook_lib.topology import prices

# the columns used, in the order of a genuine file, which has about ninety
COLUMNS = ("SKU", "TermType", "Unit", "PricePerUnit", "Currency", "Product Family", "Instance Type", "vCPU", "Memory", "Tenancy", "Operating System",
           "usageType", "operation", "CapacityStatus", "Region Code", "Pre Installed S/W")  # fmt: skip


def row(**values: str) -> dict[str, str]:
    return {"TermType": "OnDemand", "Currency": "USD", "Region Code": "eu-central-1", **values}


def machine(type_: str, price: str, **more: str) -> dict[str, str]:
    ordinary = {"Tenancy": "Shared", "Operating System": "Linux", "CapacityStatus": "Used", "Pre Installed S/W": "NA", "Unit": "Hrs"}
    size = {"vCPU": "2", "Memory": "4 GiB", "Product Family": "Compute Instance", "usageType": f"EUC1-BoxUsage:{type_}"}
    return row(**{"Instance Type": type_, "PricePerUnit": price, **ordinary, **size, **more})


EC2 = (
    machine("t3.medium", "0.0480000000"),
    machine("t3.nano", "0.0060000000", Memory="0.5 GiB"),
    machine("t3.medium", "0.0660000000", **{"Operating System": "Windows"}),
    machine("t3.medium", "0.0530000000", Tenancy="Dedicated"),
    machine("t3.medium", "0.0480000000", CapacityStatus="UnusedCapacityReservation"),
    machine("t3.medium", "0.9000000000", **{"Pre Installed S/W": "SQL Std"}),
    machine("t3.medium", "0.0200000000", TermType="Reserved"),
    machine("x9.huge", "9.0000000000"),
    row(Unit="GB-Mo", PricePerUnit="0.0952000000", usageType="EUC1-EBS:VolumeUsage.gp3", **{"Product Family": "Storage"}),
    row(Unit="GB-Mo", PricePerUnit="0.1190000000", usageType="EUC1-EBS:VolumeUsage.gp2", **{"Product Family": "Storage"}),
    row(Unit="Hrs", PricePerUnit="0.0520000000", usageType="EUC1-NatGateway-Hours", operation="NatGateway"),
    row(Unit="GB", PricePerUnit="0.0520000000", usageType="EUC1-NatGateway-Bytes", operation="NatGateway"),
    row(Unit="Hrs", PricePerUnit="0.0990000000", usageType="EUC1-NatGateway-Prvd-Hours", operation="NatGateway"),
)
VPC = (
    row(Unit="Hrs", PricePerUnit="0.0000000000", usageType="EUC1-PublicIPv4:InUseAddress"),
    row(Unit="Hrs", PricePerUnit="0.0050000000", usageType="EUC1-PublicIPv4:InUseAddress"),
    row(Unit="Hrs", PricePerUnit="0.0070000000", usageType="EUC1-PublicIPv4:IdleAddress"),
)


def text(service: str, rows: tuple[dict[str, str], ...], published: str = "2026-11-02T10:00:00Z") -> str:
    out = io.StringIO()
    about = (("FormatVersion", "v1.0"), ("Disclaimer", "of a test, made by hand"), ("Publication Date", published), ("Version", "1"), ("OfferCode", service))
    writer = csv.writer(out, quoting=csv.QUOTE_ALL)
    writer.writerows([*about, COLUMNS, *([each.get(column, "") for column in COLUMNS] for each in rows)])
    return out.getvalue()


@pytest.fixture
def book(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A price file of the test's own, with the prices of the real one."""
    path = tmp_path / "prices.yaml"
    path.write_text(prices.path().read_text())
    monkeypatch.setattr(prices, "path", lambda: path)
    return path


def files(folder: Path, ec2: tuple[dict[str, str], ...] = EC2, vpc: tuple[dict[str, str], ...] = VPC) -> list[str]:
    (folder / "ec2.csv").write_text(text("AmazonEC2", ec2))
    (folder / "vpc.csv").write_text(text("AmazonVPC", vpc, "2026-10-30T10:00:00Z"))
    return [str(folder / "ec2.csv"), str(folder / "vpc.csv")]


EXPECTED = {
    "as_of": "2026-10-30",
    "gp3_gib_month": 0.0952,
    "public_ipv4_hour": 0.005,
    "nat_gateway_hour": 0.052,
    "nat_gateway_gib": 0.052,
    "instances": {"t3.medium": [0.048, 4, 2], "t3.nano": [0.006, 0.5, 2]},
}


def test_a_region_is_added_from_files_and_the_others_stay(book: Path, tmp_path: Path) -> None:
    before = yaml.safe_load(book.read_text())
    assert refresh_prices.main(files(tmp_path)) == 0
    after = yaml.safe_load(book.read_text())
    assert after["regions"].pop("eu-central-1") == EXPECTED
    assert after == before
    assert book.read_text().startswith("# AWS on-demand prices")


def test_a_type_that_was_not_known_is_taken_when_it_is_asked_for(book: Path, tmp_path: Path) -> None:
    assert refresh_prices.main([*files(tmp_path), "--type", "x9.huge"]) == 0
    assert yaml.safe_load(book.read_text())["regions"]["eu-central-1"]["instances"]["x9.huge"] == [9.0, 4, 2]


def test_of_a_region_that_is_known_one_file_is_enough(book: Path, tmp_path: Path) -> None:
    ours = tuple({**each, "Region Code": "us-east-1"} for each in EC2)
    assert refresh_prices.main(files(tmp_path, ours)[:1]) == 0
    region = yaml.safe_load(book.read_text())["regions"]["us-east-1"]
    assert (region["as_of"], region["instances"]["t3.medium"][0], region["instances"]["m5.large"][0]) == ("2026-11-02", 0.048, 0.096)


@pytest.mark.parametrize(
    ("rows", "says"),
    [((), "no price list file"), (EC2[:1], "gp3_gib_month")],
    ids=["a web page", "a file without disks"],
)
def test_what_is_no_whole_price_list_changes_nothing(
    book: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], rows: tuple[dict[str, str], ...], says: str
) -> None:
    before = book.read_text()
    given = tmp_path / "given.csv"
    given.write_text(text("AmazonEC2", rows) if rows else "<html>sign in</html>\n")
    assert refresh_prices.main([str(given)]) == 1
    assert book.read_text() == before
    assert says in capsys.readouterr().err


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """AWS's site of price lists: an index by service that leads to a region's file, of which there is a CSV beside the JSON."""
    for service, rows in (("AmazonEC2", EC2), ("AmazonVPC", VPC)):
        version = f"/offers/v1.0/aws/{service}/20261102/eu-central-1/index"
        _put(
            tmp_path,
            f"/offers/v1.0/aws/{service}/current/region_index.json",
            json.dumps({"regions": {"eu-central-1": {"currentVersionUrl": f"{version}.json"}}}),
        )
        _put(tmp_path, f"{version}.csv", text(service, rows, "2026-10-30T10:00:00Z"))
    server = HTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(refresh_prices, "SITE", f"http://127.0.0.1:{server.server_port}")
    yield
    server.shutdown()


def _put(root: Path, path: str, content: str) -> None:
    file = root / path.lstrip("/")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content)


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *words: object) -> None:
        pass


def test_a_region_is_added_from_the_network(book: Path, site: None) -> None:
    assert refresh_prices.main(["--region", "eu-central-1"]) == 0
    assert yaml.safe_load(book.read_text())["regions"]["eu-central-1"] == EXPECTED


def test_a_region_that_aws_does_not_have_is_told_with_those_it_has(book: Path, site: None, capsys: pytest.CaptureFixture[str]) -> None:
    assert refresh_prices.main(["--region", "eu-nowhere-1"]) == 1
    assert "one of eu-central-1" in capsys.readouterr().err


def test_without_a_network_the_way_out_is_told(book: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(refresh_prices, "SITE", "http://127.0.0.1:9")
    assert refresh_prices.main([]) == 1
    assert "name them as arguments" in capsys.readouterr().err
