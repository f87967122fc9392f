"""The matrix of hardening levels: this run's column is what was found, the others what the table of attempts foretells."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from runbook_lib.checks.sso.attempts import matrix
from runbook_lib.checks.sso.proof import BEHIND_NGINX, Proof
from runbook_lib.evidence.pictures.hardening import HardeningMatrix, hardening_matrix, of_run
from runbook_lib.evidence.runs import read
from tests.support.recorded_proof import proof_of, recorded

CONFIGURATIONS = [("single", "leak"), ("original", "leak"), ("hosts", "leak"), ("allow-list", "leak"), ("app-removed", "leak"), ("full", "separated")]


def matrix_of(proof: Proof) -> HardeningMatrix:
    found = hardening_matrix("demo", [outcome.as_evidence() for outcome in proof.outcomes], proof.scope)
    assert found
    return found


@pytest.mark.parametrize(("configuration", "expect"), CONFIGURATIONS)
def test_this_runs_own_column_is_what_it_found_and_the_others_what_the_table_foretells(configuration: str, expect: str) -> None:
    proof = proof_of(configuration, expect)
    found = matrix_of(proof)
    assert found.own == configuration and list(found.levels[1:]) == ["hosts", "allow-list", "app-removed", "full"]
    by_title = {attempt.title: attempt for attempt in matrix()[0]}
    states = {outcome.attempt.title: outcome.state for outcome in proof.outcomes}
    for row in found.rows:
        for way in row.ways:
            assert {level: row.cells[level] for level in found.levels if level != configuration} == {
                level: by_title[way].foretold(level) for level in found.levels if level != configuration
            }
            assert row.cells[configuration] == states.get(way, "")
    open_ways = {title for title, state in states.items() if state == "leak" and by_title[title].kind == "attempt"}
    assert open_ways <= {way for row in found.rows for way in row.ways}
    assert found._open()[found.levels.index(configuration)] == str(len(open_ways))
    assert sum(len(row.ways) for row in found.rows) + found.closed_everywhere == sum(attempt.kind == "attempt" for attempt in by_title.values())


def test_a_way_that_is_found_open_stands_in_this_runs_column_and_nowhere_else() -> None:
    proof = proof_of("full", "separated")
    surprise = next(outcome for outcome in proof.outcomes if outcome.attempt.id == "assertion-altered")  # foretold to hold everywhere
    changed = replace(proof, outcomes=tuple(replace(one, state="leak") if one is surprise else one for one in proof.outcomes))
    before, after = matrix_of(proof), matrix_of(changed)
    assert surprise.attempt.title not in before._repr_html_() and surprise.attempt.title in after._repr_html_()
    assert (before._open()[-1], after._open()[-1]) == ("0", "1") and before._open()[:-1] == after._open()[:-1]
    assert '<td class="leak own">✘ leaked</td>' in after._repr_html_() and "✘ leaked" in str(after) and "✘ leaked" not in str(before)


def test_words_and_signs_say_what_the_colours_say() -> None:
    page = matrix_of(proof_of("original", "leak"))._repr_html_()
    cells = re.findall(r'<td class="([\w ]*)">([^<]+)</td>', page)
    signs: dict[str, Any] = {"leak": "✘ leak", "held": "✔ h", "either": "? not foretold", "none": "– "}  # noqa: RUF001
    assert all(words.startswith(signs[css.split()[0]]) for css, words in cells if css.split() and css.split()[0] in signs)
    assert "greg-original: this run" in page and "full: foretold" in page and page.count('scope="row"') == len(matrix_of(proof_of("original", "leak")).rows) + 1


def test_the_levels_close_more_and_more_from_top_to_bottom() -> None:
    found = matrix_of(proof_of("full", "separated"))
    staircase = [[row.cells[level] == "leak" for level in found.levels[1:]] for row in found.rows]
    assert staircase == sorted(staircase) and not any(row[-1] for row in staircase)


def test_the_report_has_the_same_matrix_out_of_the_journal(tmp_path: Path) -> None:
    proof, run = recorded(tmp_path, "original", "leak")
    found = of_run(read(run))
    assert found and replace(found, deployment="demo") == matrix_of(proof)


def test_the_record_of_an_older_version_has_no_matrix(tmp_path: Path) -> None:
    _, run = recorded(tmp_path, "original", "leak")
    old = [{name: value for name, value in entry.items() if name not in ("foretold", "configuration")} for entry in read(run)]
    assert of_run(old) is None


def test_every_configuration_that_an_attempt_names_is_a_column_or_has_no_nginx() -> None:
    named = {name for attempt in matrix()[0] for name in attempt.leaks_in | attempt.either_in | attempt.only_in}
    assert named == {*BEHIND_NGINX, "bare"}
