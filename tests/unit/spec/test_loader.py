"""Parameters: what is taken, what is refused, and how exactly a mistake is told."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml

from runbook_lib.chapters.forms.params_form import Fields
from runbook_lib.errors import ParamsError
from runbook_lib.spec.loader import load_spec, parse_overrides
from runbook_lib.spec.model import Spec
from runbook_lib.spec.patterns import PATTERNS
from tests.conftest import ROOT

CASES = yaml.safe_load((Path(__file__).parent / "spec_errors.yaml").read_text())
LAB_FILES = sorted((ROOT / "params").glob("*.lab.yaml"))
AWS_FILES = sorted((ROOT / "params").glob("*.aws.yaml"))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"].replace(" ", "-"))
def test_a_mistake_is_told_with_key_place_and_what_is_allowed(case: dict, tmp_path: Path) -> None:
    file = ROOT / "params" / case.get("file", "greg-separated.lab.yaml")
    if "text" in case:
        file = tmp_path / "params.yaml"
        file.write_text(case["text"])
    with pytest.raises(ParamsError) as caught:
        load_spec(file, case.get("set"))
    for part, text in (("what", caught.value.what), ("where", caught.value.where), ("next", caught.value.next_step)):
        for piece in case.get(part, []):
            assert piece in (text or ""), f"{part}: {text!r}"


def test_case_names_are_unique() -> None:
    names = [case["name"] for case in CASES]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("file", LAB_FILES, ids=lambda file: file.name)
def test_the_lab_parameters_are_valid_as_they_stand(file: Path) -> None:
    spec = load_spec(file)
    assert file.name == f"{spec.pattern}.lab.yaml"
    assert spec.source == file


def test_there_are_parameters_of_each_pattern_for_lab_and_aws() -> None:
    assert [file.name for file in LAB_FILES] == sorted(f"{name}.lab.yaml" for name in PATTERNS)
    assert [file.name for file in AWS_FILES] == sorted(f"{name}.aws.yaml" for name in PATTERNS)


@pytest.mark.parametrize("file", AWS_FILES, ids=lambda file: file.name)
def test_the_aws_parameters_ask_for_what_only_the_user_knows_and_for_nothing_else(file: Path) -> None:
    with pytest.raises(ParamsError, match=r"product\.pack is missing"):
        load_spec(file)
    pack = {"product.pack": "s3://my-bucket/pack.zip"}
    with pytest.raises(ParamsError, match=r"hosts\.\w+: missing"):
        load_spec(file, pack)
    names = PATTERNS[yaml.safe_load(file.read_text())["pattern"]].hosts
    spec = load_spec(file, pack | {f"hosts.{name}": f"{name}.example.com" for name in names})
    assert spec.cloud.aws_config is None
    assert spec.cloud.connect_via == "public"


def test_lab_networks_do_not_overlap() -> None:
    networks = [load_spec(file).cloud.network for file in LAB_FILES]
    assert len(set(networks)) == len(networks)


def test_a_relative_path_is_tried_here_then_from_the_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_spec("params/greg-single.lab.yaml").source == ROOT / "params" / "greg-single.lab.yaml"
    (tmp_path / "params").mkdir()
    own = tmp_path / "params" / "greg-single.lab.yaml"
    own.write_text((ROOT / "params" / "greg-single.lab.yaml").read_text().replace("10.213.2.0", "10.99.2.0"))
    assert load_spec("params/greg-single.lab.yaml").cloud.network == "10.99.2.0/24"


def test_a_missing_file_names_the_nearest_one() -> None:
    with pytest.raises(ParamsError) as caught:
        load_spec("params/greg-seperated.lab.yaml")
    assert "params/greg-separated.lab.yaml" in (caught.value.next_step or "")


def test_overrides_lie_over_the_file_and_leave_it_alone() -> None:
    spec = load_spec("params/greg-separated.lab.yaml", {"nodes.store": 3, "cloud.instance_type.db": "m6i.large"})
    assert spec.nodes == {"store": 3, "publisher": 2}
    assert spec.type_of("db") == "m6i.large"
    assert load_spec("params/greg-separated.lab.yaml").nodes["store"] == 2


def test_assignments_of_the_command_line_are_read_as_yaml() -> None:
    given = [
        "nodes.store=3",
        "clustering=false",
        "publisher_allow_cidr=[10.0.0.0/8]",
        "hosts.store=a.example.com",
        "cloud.profile=",
    ]
    assert parse_overrides(given) == {
        "nodes.store": 3,
        "clustering": False,
        "publisher_allow_cidr": ["10.0.0.0/8"],
        "hosts.store": "a.example.com",
        "cloud.profile": None,
    }


@pytest.mark.parametrize("wrong", ["nodes.store", "=3", "a=[1"])
def test_an_assignment_that_is_none_is_refused(wrong: str) -> None:
    with pytest.raises(ParamsError):
        parse_overrides([wrong])


def test_what_the_pattern_settles_is_filled_in() -> None:
    assert load_spec("params/greg-single.lab.yaml").expect == "leak"
    assert load_spec("params/greg-single.lab.yaml").hardening == "hosts"
    assert load_spec("params/as-cluster.lab.yaml").expect is None
    assert load_spec("params/as-cluster.lab.yaml", {"nodes": {"worker": 4}}).nodes == {"manager": 1, "worker": 4}


def test_host_names_are_compared_in_lower_case() -> None:
    assert load_spec("params/greg-single.lab.yaml", {"hosts.store": "Shop.Example.COM"}).hosts["store"] == "shop.example.com"


@pytest.mark.parametrize("params", ["as-cluster", "greg-separated"])  # the one asks for drills, the other says nothing
@pytest.mark.parametrize(
    ("overrides", "asked", "rate"),
    [
        ({"drill": True}, True, None),
        ({"drill": False}, False, None),
        ({"drill": {"rate": 20}}, True, 20.0),
        ({"drill.rate": 20}, True, 20.0),
        ({"drill": False, "drill.rate": 20}, True, 20.0),
        ({"drill.rate": 20, "drill": False}, False, None),
        ({"drill": {}}, True, None),
        ({"drill.rate": None}, True, None),
        (parse_overrides(["drill.rate=20"]), True, 20.0),
        (parse_overrides(["drill={rate: 20}"]), True, 20.0),
    ],
)
def test_a_drill_is_asked_for_by_yes_or_by_its_rate(params: str, overrides: dict, asked: bool, rate: float | None) -> None:
    spec = load_spec(f"params/{params}.lab.yaml", overrides)
    assert (bool(spec.drill), spec.drill_rate) == (asked, rate)


def test_the_form_takes_a_drills_rate_and_saves_it() -> None:
    fields = Fields("params/as-cluster.lab.yaml")
    assert fields.text("drill") == "true"
    fields.set("drill", "{rate: 20}")
    assert fields.spec().drill_rate == 20.0 and "drill: {rate: 20}" in fields.yaml()
    fields.set("drill", "{rate: 30}")
    assert fields.text("drill") == "{rate: 30}" and "rate: 30" in str(load_spec("params/as-cluster.lab.yaml", {"drill.rate": 30}).as_table())
    fields.set("drill", "false")
    assert not fields.spec().drill and "drill" not in fields.yaml()


def test_parameters_come_from_a_mapping_too_which_stays_as_it_is() -> None:
    values = {
        "deployment": "mine",
        "pattern": "greg-single",
        "hosts": {"store": "s.lab.test", "publisher": "p.lab.test"},
        "product": {"pack": "s3://packs/x.zip"},
    }
    before = repr(values)
    assert load_spec(values, {"cloud.disk_gb": 30, "hosts.store": "t.lab.test"}).hosts["store"] == "t.lab.test"
    assert repr(values) == before
    with pytest.raises(ParamsError, match=r"cloud\.disk_gb = 5") as caught:
        load_spec({**values, "cloud": {"disk_gb": 5}})
    assert (caught.value.where, caught.value.key) == (None, "cloud.disk_gb")


def test_the_form_validates_without_writing_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    fields = Fields("params/as-cluster.lab.yaml")
    monkeypatch.setattr(os, "replace", lambda *_: pytest.fail("a file was written"))
    assert fields.spec().deployment == load_spec("params/as-cluster.lab.yaml").deployment


def test_every_key_is_described_for_form_and_reference() -> None:
    rows = {row.key: row for row in Spec.reference()}
    undescribed = [key for key, row in rows.items() if len(row.description) < 4]
    assert undescribed == []
    assert rows["timeouts.ssh"].unit == "seconds"
    assert rows["hardening"].allowed == "hosts, allow-list, app-removed, full"
    assert rows["deployment"].required and not rows["cloud.region"].required
    assert rows["cloud.region"].group == "cloud"


def test_the_table_tells_what_differs_from_the_default() -> None:
    table = load_spec("params/greg-separated.lab.yaml", {"cloud.disk_gb": 30}).as_table()
    marks = {row[0]: row[2] for row in table.rows}
    assert marks["cloud.disk_gb"] == "set"
    assert marks["cloud.region"] == "default"
    assert {row.key for row in Spec.reference()} == set(marks)
    assert "30 GiB" in str(table) and "<table" in table._repr_html_()


def test_a_spec_does_not_change_afterwards() -> None:
    spec = load_spec("params/greg-single.lab.yaml")
    with pytest.raises(ValueError, match="frozen"):
        spec.deployment = "other"  # type: ignore[misc]
