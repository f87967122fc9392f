"""A disaster drill is never made by accident: what is asked before, and that nothing of the cloud is asked until then."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest

from runbook_lib.chapters.second_day.disaster import NOT_ASKED, DisasterDrill
from runbook_lib.errors import RunbookError
from runbook_lib.headless import cli, runner
from runbook_lib.spec.loader import load_spec
from runbook_lib.topology.model import topology_of
from tests.conftest import ROOT

LAB, AWS = "params/greg-separated.lab.yaml", "params/greg-separated.aws.yaml"
OF_AWS = {"hosts": {"store": "store.example.com", "publisher": "publisher.example.com"}, "product.pack": "s3://packs/wso2greg-5.1.0.zip"}


class Untouched:
    """A deployment of which nothing but its parameters may be asked."""

    def __init__(self, params: str, overrides: dict[str, Any]):
        self.spec = load_spec(ROOT / params, overrides)
        self.topology = topology_of(self.spec)
        self.disaster = DisasterDrill(self)  # type: ignore[arg-type]
        self.on_aws = params == AWS

    def __getattr__(self, name: str) -> Any:
        pytest.fail(f"{name} was asked")


REFUSED = [
    (LAB, {}, "unknown", "greg-separated", True, "nothing called 'unknown' can be lost"),
    (LAB, {}, "database", "", True, "machines of greg-separated are to be terminated"),
    (LAB, {}, "everything", "greg", False, "machines of greg-separated are to be terminated"),
    (AWS, OF_AWS, "database", "greg-separated", False, "nobody agreed"),
    (AWS, OF_AWS, "everything", "", False, "nobody agreed"),
    (AWS, OF_AWS, "database", "", True, "machines of greg-separated are to be terminated"),
]


@pytest.mark.parametrize(("params", "overrides", "lose", "confirm", "agreed", "words"), REFUSED)
def test_without_name_and_on_aws_without_agreement_nothing_is_touched(
    params: str, overrides: dict[str, Any], lose: str, confirm: str, agreed: bool, words: str
) -> None:
    with pytest.raises(RunbookError, match=words) as refused:
        Untouched(params, overrides).disaster.drill(lose, confirm, agreed)
    assert refused.value.next_step


def test_a_chapter_in_which_nobody_asks_for_a_drill_makes_none() -> None:
    assert Untouched(LAB, {}).disaster.drill() == NOT_ASKED


def test_before_it_asks_it_says_what_is_lost_how_long_it_takes_and_the_way_on() -> None:
    for lose, going in (("database", "loses db-1 under load, with its disk"), ("everything", "loses lb-1, db-1, store-1")):
        said = str(Untouched(LAB, {}).disaster.announcement(lose))
        assert going in said and "4 nodes of the product must boot" in said and "./runbook restore PARAMS" in said and "costs no more per month" in said


COMMANDS = [
    (["drill", "disaster", LAB], "greg-separated was not touched: not confirmed"),
    (["drill", "disaster", AWS, "--yes", "--set", f"hosts={OF_AWS['hosts']}", "--set", f"product.pack={OF_AWS['product.pack']}"], "nobody agreed"),
    (["drill", "earthquake", LAB], "invalid choice: 'earthquake'"),
    (["drill", "disaster", LAB, "--lose", "nothing"], "invalid choice: 'nothing'"),
    (["drill", "disaster"], "PARAMS"),
]


@pytest.mark.parametrize(("argv", "words"), COMMANDS, ids=[" ".join(argv[1:4]) for argv, _ in COMMANDS])
def test_the_command_is_refused_with_one_error_and_nothing_touched(
    argv: list[str], words: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(runner, "begin", lambda *_: pytest.fail("a run was begun"))
    monkeypatch.setattr(
        runner, "opened", lambda spec, *_: nullcontext(Untouched(str(spec.source.relative_to(ROOT)), OF_AWS if "aws" in str(spec.source) else {}))
    )
    try:
        status = cli.main(argv)
    except SystemExit as end:
        status = int(end.code or 0)
    said = capsys.readouterr().err
    assert status == 1 and words in said and "Traceback" not in said
