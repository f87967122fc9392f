"""No sentence is a data model: with every sentence of checks, outcomes and errors replaced by "x", all that is decided stays the same."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from runbook_lib.chapters import sso as chapter
from runbook_lib.chapters import status_board
from runbook_lib.check import Check, CheckTable
from runbook_lib.checks import nginx
from runbook_lib.checks.sso.attempts import Attempt, matrix
from runbook_lib.checks.sso.environment import Login, Scene
from runbook_lib.checks.sso.pages import Seen
from runbook_lib.checks.sso.proof import Outcome, Proof
from runbook_lib.checks.sso.proof_users import Logins
from runbook_lib.checks.sso.screenshots import Shot, Shots
from runbook_lib.errors import ChecksFailed, HostError, RunbookError, WrongHostKey
from runbook_lib.evidence import runs
from runbook_lib.evidence.comparison import proof_facts, side_by_side, sides_of
from runbook_lib.evidence.journal import Journal
from runbook_lib.evidence.report import render
from runbook_lib.notebook import error_card
from runbook_lib.spec.loader import load_spec
from runbook_lib.ssh import Fleet
from runbook_lib.topology.model import topology_of
from runbook_lib.webclient.response import Answer, Exchange
from runbook_lib.webclient.transport import Closed
from tests.conftest import ROOT
from tests.fakes import context

# What is for people only, by the class that holds it
SENTENCES: dict[type, tuple[str, ...]] = {
    Check: ("title", "expected", "observed"),
    Attempt: ("title", "why"),
    Outcome: ("reason",),
    Seen: ("means", "detail"),
    Shot: ("title", "caption"),
    Exchange: ("note",),
    Logins: (),
    RunbookError: ("what", "where", "next_step"),
}


@contextmanager
def muted() -> Iterator[None]:
    """Every sentence that is made meanwhile is "x"; an empty one stays empty."""
    with pytest.MonkeyPatch.context() as patch:
        for kind, names in SENTENCES.items():
            patch.setattr(kind, "__init__", _without_words(kind.__init__, names))  # type: ignore[misc]
        patch.setattr(Proof, "verdict", property(lambda self: "x"))
        patch.setattr(status_board, "_state", lambda instance: "x")
        patch.setattr(nginx._Met, "__str__", lambda self: "x")
        yield


def _without_words(plain: Callable[..., None], names: tuple[str, ...]) -> Callable[..., None]:
    signature = inspect.signature(plain)

    def init(self: Any, *args: Any, **more: Any) -> None:
        given = signature.bind(self, *args, **more)
        given.arguments.update({name: "x" for name in names if given.arguments.get(name)})
        plain(*given.args, **given.kwargs)

    return init


def both(facts: Callable[..., Any], tmp_path: Path) -> tuple[Any, Any]:
    """`facts` of a folder with the words as they are, and with none."""
    spoken = facts(tmp_path / "spoken")
    with muted():
        return spoken, facts(tmp_path / "muted")


def proof_of(configuration: str) -> Proof:
    """What the proof of a deployment comes to that leaks as the matrix knows, or does not."""
    hosts = {"store": "s.test", "publisher": "p.test"}
    scene = Scene(configuration, "separated" if configuration == "full" else "leak", hosts, {}, {"store": (), "publisher": ()}, Login("admin", "x"))
    met = (Exchange("GET", "https://s.test/", 302, "https://p.test/", ("a",), ("b",), 0.1),)
    outcomes = []
    for attempt in map(replace, matrix()[0]):  # made anew, so that its words are muted too
        state: Any = "leak" if configuration in attempt.leaks_in or attempt.kind == "limit" else "held"
        outcomes.append(Outcome(attempt, state, (Seen("page", state, f"{state}: what this page means", "200 at /"),), "from outside", "", met))
    users = Logins()
    return Proof(scene, tuple(outcomes), (), (users.check(chapter.Sso.name, "the attempts"),))


def shots_of(configuration: str) -> Shots:
    state, page = ("held", "login-form") if configuration == "full" else ("leak", "publisher-landing")
    shots = [Shot(f"walk-{where}", f"At the {where}", b"\x89PNG", f"seen in {configuration}", page) for where in ("store", "publisher")]
    row = Check("sso.browser-admin", "In the browser", "pass", "known", f"{state}: seen", "Chromium", chapter.Sso.name, "browser", state)
    return Shots(shots, CheckTable([row]))


def chapter_07(folder: Path, when: str, deployment: str, pattern: str, configuration: str) -> tuple[Path, Any]:
    """A run of the chapter's verbs, whose proof is made up: its folder, and what `verify` ended with."""
    spec = SimpleNamespace(deployment=deployment, pattern=pattern, hardening="full", expect="separated" if configuration == "full" else "leak")
    journal = Journal(folder / deployment / when, vars(spec))
    vault = SimpleNamespace(put=lambda *_, **__: None)
    part = chapter.Sso(SimpleNamespace(journal=journal, spec=spec, vault=vault, person="me", writing=nullcontext, on_aws=False))  # type: ignore[arg-type]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chapter.Sso, "scene", lambda self, removed: nullcontext())
        patch.setattr(chapter, "scene_of", lambda deployment: None)
        patch.setattr(chapter, "prove", lambda scene, agreed, **more: proof_of(configuration))
        patch.setattr(chapter, "prove_in_browser", lambda scene, agreed: shots_of(configuration))
        proof = part.prove()
        part.browser()
        try:
            ended: Any = part.verify(proof).ok
        except ChecksFailed as error:
            ended = [href for href, _ in error_card.links_of(error)]
    return journal.folder, (ended, proof.kind, proof.as_expected, len(proof.ways), len(proof.open_questions))


def evidence(folder: Path) -> Any:
    """What journal, result, report, comparison and site make of a leak and its repair."""
    cases = (("3", "leaky", "greg-single", "single"), ("2", "mended", "greg-separated", "full"), ("1", "wrong", "greg-separated", "hosts"))
    made = [chapter_07(folder, f"2026010{day}T000000Z", *case) for day, *case in cases]
    entries = [runs.read(run) for run, _ in made]
    results = [runs.summarise(one) for one in entries]
    sides = sides_of([run for run, _ in made])
    facts = proof_facts(sides)
    pages = [render(run) for run, _ in made]
    return {
        "ended": [ended for _, ended in made],
        "results": [(one["ok"], one["chapters"][0]["ok"], [(c["id"], c["where"], c["status"]) for c in one["checks"]]) for one in results],
        "verdicts": [[(entry["kind"], entry["ok"]) for entry in one if entry["verb"] == "verdict"] for one in entries],
        "report": [(re.findall(r'<tr class="([\w-]+)"', page), page.count("rb-table"), page.count("<li>"), page.count("data:image")) for page in pages],
        "sides": [(side.deployment, side.kind, side.statement.expected, sorted(side.rows)) for side in sides],
        "site": ([side.tally for side in sides], facts["lacking"], [row[0]["id"] for row in facts["rows"]], len(facts["limits"]), list(facts["titles"])),
        "beside": [[one.deployment for one in side_by_side(run, folder).found] for run, _ in made],
        "pictures": [[len(row) for _, row in side_by_side(run, folder)._rows()] for run, _ in made],
    }


def test_verdict_result_report_comparison_and_site(tmp_path: Path) -> None:
    spoken, silent = both(evidence, tmp_path)
    for name, value in spoken.items():
        assert silent[name] == value, name
    assert [kind for _, kind, *_ in spoken["sides"]] == ["leak", "leak", "separated"] and spoken["beside"] == [
        ["leaky", "mended"],
        ["leaky", "mended"],
        ["wrong", "mended"],
    ]
    leaky, _, mended = spoken["site"][0]
    assert 0 < leaky.ways < leaky.attempts and mended.ways == 0 < mended.attempts, "the scenario shows a leak and its repair"


class Front:
    """Nginx as a visitor meets it: `closed` says where it answers 404 itself."""

    def __init__(self, *_: object):
        pass

    def request(self, method: str, url: str, **_: object) -> Answer:
        if "unknown.invalid" in url:
            raise Closed("hung up")
        if url.startswith("http:"):
            return Answer(301, url, [("Location", url.replace("http:", "https:"))], "", [], 0.0)
        if "register" in url:
            raise OSError("200 nothing")
        if "config" in url or "carbon" in url:
            return Answer(404, url, [], "<center>nginx</center>" if "config" in url else "the product's", [], 0.0)
        return Answer(302, url, [("Location", "https://s.test:9443/" if "/store/" in url else "/")], "", [], 0.0)


def doors(_folder: Path) -> Any:
    outside: Any = object.__new__(nginx._Outside)
    outside.addresses, outside.ca, outside.spec = {"s.test": "10.0.0.1"}, None, context("greg-separated").spec
    outside.topology = SimpleNamespace(lb_for=lambda host: SimpleNamespace(name="lb-1"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nginx, "Client", Front)
        rows = [outside._plain("s.test"), outside._served("store", "s.test"), outside._served("as", "s.test"), outside._stranger("s.test")]
        return [(row.id, row.status) for row in [*rows, *outside._closed("publisher", "s.test")]]


def test_what_nginx_answers(tmp_path: Path) -> None:
    spoken, silent = both(doors, tmp_path)
    assert silent == spoken
    assert dict(spoken)["nginx-closed-publisher/publisher/config/publisher.json"] == "pass" and dict(spoken)["nginx-closed-publisher/carbon/"] == "fail"
    assert [status for _, status in spoken[:4]] == ["pass", "fail", "pass", "pass"]


def patience(_folder: Path) -> Any:
    """How often each host is asked: one that shows a wrong key once, one that does not answer until the time is up."""
    tried = {"wrong": 0, "late": 0}

    def host(name: str, error: type[HostError], words: str) -> Any:
        def transport(_seconds: float) -> None:
            tried[name] += 1
            raise error(words, name, "do something")

        return SimpleNamespace(name=name, transport=transport)

    found = {"wrong": host("wrong", WrongHostKey, "another host key"), "late": host("late", HostError, "shows another host key, or none")}
    with pytest.raises(HostError):
        Fleet(found).wait_for_ssh(found, 0.3)
    return tried["wrong"], tried["late"] > 1


def test_waiting_for_a_machine(tmp_path: Path) -> None:
    assert both(patience, tmp_path) == ((1, True), (1, True))


def board(_folder: Path) -> Any:
    spec = load_spec("params/greg-single.lab.yaml")
    topology = topology_of(spec)
    instances = {node.name: SimpleNamespace(state="running" if number else "stopped", public_address="") for number, node in enumerate(topology.nodes)}
    vault = SimpleNamespace(
        find=lambda name, fresh=False: '{"ok": true, "utc": "2026-01-01T00:00:00Z", "by": "x"}' if name == "chapters/01_launch_ec2" else None
    )
    deployment: Any = SimpleNamespace(
        spec=spec, topology=topology, instances=lambda: instances, vault=vault, owner="me", provenance={"environment": "REHEARSAL"}
    )
    found = status_board.read_board(deployment)
    return found.running, len(found.machines), found.next_chapter and found.next_chapter.name


def test_the_board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNBOOK_RUNS", str(tmp_path))
    spoken, silent = both(board, tmp_path)
    assert silent == spoken == (spoken[1] - 1, spoken[1], "02_install_mysql")


WORDS = {name for names in SENTENCES.values() for name in names} - {"where"} | {"verdict", "caption", "form", "summary", "words", "headline"}
TAKEN_APART = {"startswith", "endswith", "split", "rsplit", "partition", "rpartition", "removeprefix", "removesuffix", "find", "index", "count", "replace"}


def taken_apart(source: str) -> list[int]:
    """Lines on which a sentence is taken apart or compared with a text."""

    def is_sentence(node: ast.expr) -> bool:
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "str" and node.args:
            node = node.args[0]
        if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
            return node.slice.value in WORDS
        return isinstance(node, ast.Attribute) and node.attr in WORDS

    lines = []
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Call(func=ast.Attribute(value=value, attr=name)) if name in TAKEN_APART and is_sentence(value):
                lines.append(node.lineno)
            case ast.Call(func=ast.Attribute(value=ast.Name(id="re")), args=[*_, last]) if is_sentence(last):
                lines.append(node.lineno)
            case ast.Compare(left=left, comparators=others) if any(map(is_sentence, (left, *others))) and any(
                isinstance(one, ast.Constant | ast.JoinedStr) and getattr(one, "value", "x") for one in (left, *others)
            ):
                lines.append(node.lineno)
    return lines


@pytest.mark.parametrize("path", sorted((ROOT / "runbook_lib").rglob("*.py")), ids=lambda path: path.stem)
def test_no_sentence_is_taken_apart(path: Path) -> None:
    assert taken_apart(path.read_text()) == []


@pytest.mark.parametrize(
    "code",
    [
        'side.verdict.startswith("leaks")',
        'str(row["observed"]).partition(":")',
        '"another host key" in error.what',
        'check.expected == "refused"',
        "re.match(LINE, one.title)",
    ],
)
def test_what_took_sentences_apart_would_be_found(code: str) -> None:
    assert taken_apart(code) == [1]
