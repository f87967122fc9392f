"""Whatever is written into params files and onto command lines: it is taken, or refused by one short error that says what to do next.

Hypothesis makes the input: values that have hurt programs, under every key; params files with bytes changed; words in any order.
`--full` tries ten times as many (see `tests/conftest.py`).
"""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from runbook_lib.errors import ParamsError
from runbook_lib.headless import cli
from runbook_lib.spec.loader import load_spec, parse_overrides
from runbook_lib.spec.model import Spec
from tests.conftest import ROOT

FILES = sorted((ROOT / "params").glob("*.yaml"))
KEYS = [row.key for row in Spec.reference()]
MOST_LINES = 20
HURTFUL = [
    *("", " ", "~", "null", "true", "-1", "0", "1e309", ".inf", ".nan", "0x1F", "0b_", "1_000", "9" * 5000, "2020-13-45", "12:30:45", "=", "<<", "!", "%"),
    *("!!int abc", "!!python/object/apply:os.system [id]", "&a *a", "*a", "[[[[", "{a: {b: {c: {d: {e: f}}}}}", "[" * 3000, "{" * 3000, "- " * 3000),
    *("a: b: c", "'", '"', '"\\0"', "\\u0000", "\u202e", "é" * 300, "x" * 100_000, "x\ny", "# only a comment", "---\n---", "? [a]\n: b", "? {a: b}"),
    *("~nouser/x", "/etc/passwd", "/etc", "//", "..", "/opt/../etc", "-oProxyCommand=id", "root", "$(id)", "`id`", ";id", "| id", "%s", "{0}", "${HOME}"),
    *("10.0.0.0/255.0.0.0", "10.0.0.1", "10.1.2.3/8", "0.0.0.0/0", "::/0", "999.1.1.1/24", "10.213.1.0/31", "10.213.1.0/99", "https://", "s3://", "file://"),
    *(
        "s3://a/b",
        "https://host/x.zip",
        "http://x",
        "ami-",
        "ami-0123456789abcdef0",
        "t3.small",
        "x.y",
        "debian-12",
        "9999999999g",
        "yes",
        "[]",
        "{}",
        "[a, a]",
    ),
]
VALUES = st.sampled_from(HURTFUL) | st.text(max_size=40) | st.integers().map(str) | st.floats().map(str)


def _refusal(error: ParamsError) -> None:
    assert error.next_step, f"no next step: {error}"
    assert len(str(error).splitlines()) <= MOST_LINES and len(str(error)) < 4000, str(error)


@given(file=st.sampled_from(FILES), key=st.sampled_from(KEYS), text=VALUES)
def test_any_value_under_any_key_is_taken_or_refused_with_the_key(file: Path, key: str, text: str) -> None:
    try:
        overrides = parse_overrides([f"{key}={text}"])
    except ParamsError as error:
        assert error.where == f"--set {key}"
        return _refusal(error)
    try:
        load_spec(file, overrides)
    except ParamsError as error:
        _refusal(error)


@given(keys=st.lists(st.text(max_size=20) | st.sampled_from(KEYS), min_size=1, max_size=4), text=VALUES)
def test_any_key_is_taken_or_refused(keys: list[str], text: str) -> None:
    name = ".".join(keys)
    try:
        spec = load_spec(ROOT / "params/greg-separated.lab.yaml", parse_overrides([f"{name}={text}"]))
    except ParamsError as error:
        return _refusal(error)
    first = name.partition("=")[0].strip().partition(".")[0]
    assert first in type(spec).model_fields, "what is taken is a key of the model"


@given(file=st.sampled_from(FILES), data=st.data())
def test_a_params_file_with_anything_changed_is_taken_or_refused(file: Path, data: st.DataObject) -> None:
    content = bytearray(file.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content)))
        length = data.draw(st.integers(0, 30))
        put = data.draw(st.binary(max_size=8) | st.sampled_from([one.encode(errors="replace") for one in HURTFUL]))
        content[at : at + length] = put
    with tempfile.NamedTemporaryFile(suffix=".yaml") as changed:
        changed.write(content)
        changed.flush()
        try:
            load_spec(changed.name)
        except ParamsError as error:
            assert changed.name in (error.where or ""), f"no place: {error}"
            _refusal(error)


NINE_LEVELS = "\n".join(f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 9) if n else 'x'}]" for n in range(9))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (NINE_LEVELS, "anchors"),
        ("a: &a\n  <<: *a\n", "anchors"),
        ("a: " + "[" * 100_000, "nested too deeply"),
        ("a: " + "{b: " * 50 + "1" + "}" * 50, "nested too deeply"),
        ("x" * 300_000, "300000 characters"),
        ("x" * 2_000_000, "too large"),
    ],
    ids=["aliases", "self", "brackets", "levels", "characters", "bytes"],
)
def test_a_file_that_is_made_to_exhaust_its_reader_is_refused(text: str, why: str, tmp_path: Path) -> None:
    file = tmp_path / "params.yaml"
    file.write_text(text)
    with pytest.raises(ParamsError, match=why) as caught:
        load_spec(file)
    _refusal(caught.value)


COMMANDS = sorted(set(cli.COMMANDS) - {"lab", "test", "open", "new", "rehearse", "site"})  # the others start programs, or write where they are told to
OPTIONS = ["--set", "--from", "--to", "--resume", "-p", "--yes", "--no-browser", "--", "-"]
ARGUMENTS = ["params/greg-single.lab.yaml", "greg-single.aws.yaml", "~nouser/x", "/etc/passwd", "/dev/null", ".", "", "01", "99", "nodes.store=2", "x=["]
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)  # what the kernel passes to a program
WORDS = st.sampled_from([*COMMANDS, *OPTIONS, *ARGUMENTS]) | TEXTS


@given(words=st.lists(WORDS, min_size=1, max_size=7))
@example(words=["plan", "~nouser/x"])
@example(words=["papermill", "absent.ipynb"])
def test_any_command_line_ends_with_a_status_and_one_short_error(words: list[str]) -> None:
    """Without credentials nothing is asked of a cloud, so every command ends early; what it wrote would be below the working folder."""
    out, err = io.StringIO(), io.StringIO()
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder), pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith(("AWS_", "RUNBOOK_"))]:
            patch.delenv(name)
        for name, value in (("AWS_EC2_METADATA_DISABLED", "true"), ("AWS_CONFIG_FILE", "/dev/null"), ("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")):
            patch.setenv(name, value)
        patch.setenv("COLUMNS", "100")
        patch.setattr("sys.stdin", None)
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                status = cli.main(words)
            except SystemExit as end:
                status = end.code if isinstance(end.code, int) else 1
        assert not os.listdir(folder)
    helped = status == 0 and not err.getvalue() and out.getvalue()
    assert helped or (status in (1, 2) and len(err.getvalue().splitlines()) <= MOST_LINES), f"{status}: {err.getvalue()}"
