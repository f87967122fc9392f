"""What a sweep file becomes: rows with names and networks that stay, or one clear error."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from runbook_lib.errors import RunbookError
from runbook_lib.evidence.journal import now, point_latest
from runbook_lib.headless.arguments import parser
from runbook_lib.headless.batch.command import dry_run, jobs_of
from runbook_lib.headless.batch.sweep import Sweep, former_words, keep_networks, load_sweep
from runbook_lib.headless.invocation import overrides
from runbook_lib.spec.loader import load_spec

ERRORS = yaml.safe_load(Path(__file__).with_name("sweep_errors.yaml").read_text())
TWO = {"matrix": {"nginx.tls": ["intermediate", "modern"], "clustering": [True, False]}, "networks": "10.9.0.0/16"}
Written = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Written:
    """Write a sweep file over greg-single, called `wide`."""

    def written(**keys: Any) -> Path:
        file = tmp_path / "sweep.yaml"
        file.write_text(yaml.safe_dump({"sweep": "wide", "params": ["greg-single.lab.yaml"], **keys}, sort_keys=False))
        return file

    return written


def networks(sweep: Sweep) -> dict[str, str]:
    return {row.name: row.spec.cloud.network for row in sweep.rows}


@pytest.mark.parametrize("row", ERRORS, ids=lambda row: row["fault"])
def test_a_wrong_sweep_is_one_error_and_nothing_is_written(write: Written, tmp_path: Path, row: dict[str, Any]) -> None:
    file = write(**row["sweep"])
    with pytest.raises(RunbookError) as error:
        sweep = load_sweep(file)
        first, _, last = sweep.options.chapters.partition("-")
        jobs_of(sweep, first, last)
    for words in row["says"]:
        assert words in str(error.value)
    assert list(tmp_path.iterdir()) == [file]


def test_every_combination_is_a_deployment_named_after_what_differs(write: Written) -> None:
    sweep = load_sweep(write(**TWO))
    assert [row.name for row in sweep.rows] == [
        "wide-intermediate-clustering",
        "wide-intermediate-no-clustering",
        "wide-modern-clustering",
        "wide-modern-no-clustering",
    ]
    assert [(row.spec.nginx.tls, row.spec.clustering) for row in sweep.rows] == [
        ("intermediate", True),
        ("intermediate", False),
        ("modern", True),
        ("modern", False),
    ]
    assert all(row.spec.deployment == row.name for row in sweep.rows)
    assert len(set(networks(sweep).values())) == 4


def test_exclude_takes_combinations_out_and_include_adds_single_ones(write: Written) -> None:
    more = {"exclude": [{"nginx.tls": "modern", "clustering": False}], "include": [{"name": "tall", "memory.heap": "2g"}, {"drill": True}]}
    sweep = load_sweep(write(**TWO, **more))
    assert [row.name for row in sweep.rows][-2:] == ["wide-tall", "wide-drill"]
    assert len(sweep.rows) == 5


def test_a_row_that_sets_nothing_is_the_deployment_of_its_params_file(write: Written) -> None:
    [one, two] = load_sweep(write(params=["greg-single.lab.yaml", "as-cluster.lab.yaml"])).rows
    assert (one.name, one.spec.cloud.network, two.name) == ("greg-single", "10.213.2.0/24", "as-cluster")


def test_two_params_files_of_one_deployment_are_refused_though_their_networks_differ(write: Written, tmp_path: Path) -> None:
    for name, network in (("a", "10.9.1.0/24"), ("b", "10.9.2.0/24")):
        (tmp_path / f"{name}.yaml").write_text(load_sweep(write(set={"cloud.network": network})).rows[0].text)
    with pytest.raises(RunbookError, match="two rows are named greg-single"):
        load_sweep(write(params=["a.yaml", "b.yaml"]))


def test_a_dry_run_refuses_a_chapter_that_the_pattern_does_not_have(write: Written) -> None:
    with pytest.raises(RunbookError, match="greg-single has no chapter 03"):
        dry_run(load_sweep(write(chapters="03-05")))


def test_a_row_that_is_added_moves_no_other_and_a_former_network_is_not_given_again(write: Written) -> None:
    before = load_sweep(write(**TWO))
    keep_networks(before)
    wider = {"networks": "10.9.0.0/16", "matrix": {"nginx.tls": ["modern"], "clustering": [False, True], "drill": [True, False]}}
    assert not set(networks(load_sweep(write(**wider))).values()) & set(networks(before).values())
    again = load_sweep(write(**TWO, include=[{"name": "first", "drill": True}]))
    assert {name: network for name, network in networks(again).items() if name != "wide-first"} == networks(before)


def test_deployments_that_a_sweep_had_are_named_with_the_command_that_removes_one_until_they_are_gone(
    write: Written, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUNBOOK_RUNS", str(tmp_path / "runs"))
    one = {"networks": "10.9.0.0/16", "matrix": {"clustering": [True, False], "drill": [True]}}
    keep_networks(before := load_sweep(write(**one)))
    assert "may still stand" not in str(dry_run(before))
    renamed = load_sweep(write(**{**one, "matrix": {"clustering": [True, False], "drill": [True, False]}}))
    assert "2 deployments that this sweep had may still stand: wide-clustering, wide-no-clustering;" in str(dry_run(renamed))
    [command] = re.findall(r"\./runbook (destroy .* --yes)", former_words(renamed))
    given = parser().parse_args(shlex.split(command))
    assert load_spec(given.params, overrides(given)).deployment == "wide-clustering"
    for name in ("wide-clustering", "wide-no-clustering"):
        folder = tmp_path / "runs" / name / "20260101T000000Z"
        folder.mkdir(parents=True)
        (folder / "journal.jsonl").write_text('{"verb": "destroy", "chapter": "99_tear_down", "ok": true}\n')
        assert name in former_words(renamed)
        point_latest(folder)
        assert f"{name}," not in former_words(renamed)
    assert former_words(renamed) == ""


def test_a_name_that_would_be_too_long_is_cut_and_stays_apart_from_others(write: Written) -> None:
    long = {"product.pack": [f"s3://packs/a-very-long-name-of-a-pack-for-governance-registry-{n}.zip" for n in (1, 2)]}
    names = [row.name for row in load_sweep(write(matrix=long, networks="10.9.0.0/16")).rows]
    assert all(len(name) <= 40 for name in names) and len(set(names)) == 2


def test_proofs_of_any_age_count_only_where_a_user_goes_on(write: Written) -> None:
    sweep = load_sweep(write(**TWO))
    before = f"{now()[:19]}Z"
    assert all(before <= job.since <= f"{now()[:19]}Z" and not job.resume for job in jobs_of(sweep))
    assert all(job.since == "" and job.resume for job in jobs_of(sweep, resume=True))


def test_keys_that_all_rows_have_in_common_are_set_once(write: Written) -> None:
    rows = load_sweep(write(**TWO, set={"drill": True})).rows
    assert all(row.spec.drill for row in rows) and all("drill" not in row.cells for row in rows)


def test_a_dry_run_lists_machines_and_cost_and_writes_nothing(write: Written, tmp_path: Path) -> None:
    file = write(**TWO)
    said = str(dry_run(load_sweep(file)))
    assert said.startswith("4 deployments, 12 machines, US$ 377.76 per month; to do: run\n")
    assert "wide-modern-clustering" in said and "nginx.tls = modern, clustering = true" in said
    assert list(tmp_path.iterdir()) == [file]


def test_a_thousand_rows_have_a_thousand_names_and_networks(write: Written) -> None:
    sweep = load_sweep(write(matrix={"timeouts.ssh": list(range(30, 1030))}, networks="10.0.0.0/8"))
    assert len(networks(sweep)) == len(set(networks(sweep).values())) == 1000


def test_a_row_that_sets_nothing_but_its_name_keeps_its_network_too(write: Written) -> None:
    keep_networks(before := load_sweep(write(include=[{"name": "b"}, {"name": "c"}], networks="10.9.0.0/16")))
    assert networks(before)["wide-c"] == networks(load_sweep(write(include=[{"name": "a"}, {"name": "b"}, {"name": "c"}], networks="10.9.0.0/16")))["wide-c"]


def test_what_a_row_waits_for_is_a_name_or_a_list_of_names(write: Written) -> None:
    [_, one, two] = load_sweep(
        write(include=[{"name": "a"}, {"name": "b", "after": "wide-a"}, {"name": "c", "after": ["wide-a"]}], networks="10.9.0.0/16")
    ).rows
    assert one.after == two.after == ("wide-a",)
