"""The runner, with notebooks of its own: real papermill and real kernels, no cloud."""

from __future__ import annotations

import errno
import gc
import json
import os
import signal
import tempfile
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nbformat
import pytest

from runbook_lib.errors import RunbookError
from runbook_lib.evidence import runs
from runbook_lib.evidence.journal import Journal
from runbook_lib.headless import cli, runner
from runbook_lib.headless.programs.by_papermill import papermill
from runbook_lib.redaction import redactor
from runbook_lib.spec.chapters import CHAPTERS, Chapter
from runbook_lib.spec.loader import load_spec
from runbook_lib.spec.model import Spec
from runbook_lib.topology.cost import MonthlyCost, monthly_cost
from runbook_lib.topology.model import topology_of
from runbook_lib.waiting import wait_until

pytestmark = pytest.mark.slow  # a kernel per chapter
PARAMS = "params/greg-separated.lab.yaml"
SECRET = "correct-horse-battery-staple"


def test_plans_are_made_at_once_and_told_in_their_order_and_only_the_machines_own_begins_before_the_look(monkeypatch: pytest.MonkeyPatch) -> None:
    meeting, begun, looked = threading.Barrier(4), threading.Event(), threading.Event()

    class Fake:
        def one_look(self) -> AbstractContextManager[None]:
            return nullcontext()

        def look(self) -> None:
            assert begun.wait(20)
            looked.set()

        def __getattr__(self, name: str) -> Any:
            return SimpleNamespace(plan=lambda: planned(name))

    def planned(name: str) -> str:
        begun.set() if name == "launch" else None
        assert name == "launch" or looked.is_set()
        meeting.wait(20)
        return f"plan of {name}"

    deployment = Fake()
    deployment.spec = SimpleNamespace(pattern="greg-separated")  # type: ignore[attr-defined]
    monkeypatch.setattr(runner, "opened", lambda *_: nullcontext(deployment))
    found = [*runner.plans("x")]
    assert found == [
        (CHAPTERS[name].name, f"plan of {CHAPTERS[name].attribute}")
        for name in ("01_launch_ec2", "02_install_mysql", "04_configure_greg_nodes", "05_configure_nginx")
    ]


@pytest.fixture
def notebooks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Chapters 01 and 02 as small notebooks; runs land in the test's own folder."""
    folder = tmp_path / "notebooks"
    folder.mkdir()
    mine = tuple(Chapter(name, CHAPTERS[name].attribute, CHAPTERS[name].title) for name in ("01_launch_ec2", "02_install_mysql"))
    monkeypatch.setattr(Chapter, "notebook", property(lambda self: folder / f"{self.name}.ipynb"))
    monkeypatch.setattr(runner, "chapters_of", lambda *_: mine)
    monkeypatch.setenv("RUNBOOK_RUNS", str(tmp_path / "runs"))
    monkeypatch.setattr(runner, "_scrub_all", lambda *_: None)
    monkeypatch.setattr("runbook_lib.chapters.deployment.open_deployment", lambda spec, *_: Standing(spec, {}))
    return folder


def write(folder: Path, name: str, code: str, own: str = "") -> None:
    cells = [
        nbformat.v4.new_code_cell(f'params_file = ""\noverrides = {{}}\n{own}', metadata={"tags": ["parameters"]}),
        nbformat.v4.new_code_cell(code),
    ]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), folder / f"{name}.ipynb")


def run(said: list[str], **options: Any) -> tuple[int, Path]:
    status = runner.run(PARAMS, {"nodes.store": 3}, say=said.append, **options)
    folder = runs.latest("greg-separated")
    assert folder
    return status, folder


def test_chapters_run_in_order_and_leave_their_evidence(notebooks: Path) -> None:
    write(notebooks, "01_launch_ec2", "import os; print(params_file, overrides, os.environ['RUNBOOK_HEADLESS'])")
    write(notebooks, "02_install_mysql", "1 + 1")
    said: list[str] = []
    status, folder = run(said)
    found = json.loads((folder / "result.json").read_text())
    assert status == 0, said
    assert [(c["name"], c["ok"]) for c in found["chapters"]] == [("01_launch_ec2", True), ("02_install_mysql", True)]
    executed = (folder / "01_launch_ec2.ipynb").read_text()
    assert "greg-separated.lab.yaml {'nodes.store': 3} 1" in executed
    assert (folder / "report.html").is_file()
    assert (folder / "topology.svg").is_file()


def test_the_first_chapter_that_fails_stops_the_run_with_its_words_only(notebooks: Path) -> None:
    write(
        notebooks,
        "01_launch_ec2",
        "from runbook_lib import errors\nfrom runbook_lib.notebook import display\ndisplay.install()\n"
        "raise errors.HostError('db-1 is full', 'db-1, /var', 'make room')",
    )
    write(notebooks, "02_install_mysql", "open('ran', 'w')")
    said: list[str] = []
    status, folder = run(said)
    words = "\n".join(said)
    assert status == 1
    assert "db-1 is full\n  where: db-1, /var\n  next:  make room" in words
    assert "Traceback" not in words
    assert not (folder / "02_install_mysql.ipynb").exists()
    card = (folder / "01_launch_ec2.ipynb").read_text()
    assert card.count("rb-error") == card.count('class=\\"rb-error\\"') + card.count(".rb-error")
    assert card.count('class=\\"rb-error\\"') == 1


def test_papermills_own_command_line_ends_with_the_errors_words(notebooks: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNBOOK_HEADLESS", "1")
    raising = "from runbook_lib import errors\nraise errors.HostError('db-1 is full', 'db-1, /var', 'make room')"
    write(notebooks, "02_install_mysql", raising, "fails = False")
    words = [str(notebooks / "02_install_mysql.ipynb"), str(notebooks / "out.ipynb")]
    assert papermill([*words, "-p", "fails", "True"]) == 1
    assert capfd.readouterr().err.endswith("\ndb-1 is full\n  where: db-1, /var\n  next:  make room\n")
    write(notebooks, "02_install_mysql", "1")
    assert papermill(words) == 0
    assert papermill(["--nope"]) == 1


def test_a_run_that_nobody_reads_on_has_its_result(notebooks: Path) -> None:
    write(notebooks, "01_launch_ec2", "1 + 1")

    def closed(words: str) -> None:
        if "verified" in words:
            raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        runner.run(PARAMS, say=closed)
    folder = runs.latest("greg-separated")
    assert folder and [(c["name"], c["ok"]) for c in json.loads((folder / "result.json").read_text())["chapters"]] == [("01_launch_ec2", True)]


def test_a_verification_that_is_interrupted_has_its_result(notebooks: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(deployment: Standing, chapter: Chapter, *_: object) -> None:
        if chapter.name == "02_install_mysql":
            raise KeyboardInterrupt
        deployment.journal.write(chapter.name, "verify")

    monkeypatch.setattr(runner, "_verify_chapter", interrupted)
    with pytest.raises(KeyboardInterrupt):
        runner.verify(load_spec(PARAMS), say=lambda words: None)
    folder = runs.latest("greg-separated")
    assert folder and [chapter["name"] for chapter in json.loads((folder / "result.json").read_text())["chapters"]] == ["01_launch_ec2"]


def test_latest_leads_to_a_run_that_is_under_way(notebooks: Path) -> None:
    write(notebooks, "01_launch_ec2", "1")
    write(notebooks, "02_install_mysql", "1")
    seen: list[Path | None] = []
    _, folder = run([], began=lambda chapter: seen.append(runs.latest("greg-separated")))
    assert seen == [folder, folder]


def test_a_foreign_error_is_named(notebooks: Path) -> None:
    write(notebooks, "01_launch_ec2", "1 / 0")
    said: list[str] = []
    status, _ = run(said)
    assert status == 1
    assert any("ZeroDivisionError: division by zero" in line for line in said)


def test_a_kernel_that_dies_is_a_failed_chapter(notebooks: Path) -> None:
    write(notebooks, "01_launch_ec2", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    said: list[str] = []
    status, folder = run(said)
    assert status == 1
    assert json.loads((folder / "result.json").read_text())["chapters"][0]["ok"] is False
    assert any("kernel died" in line and "next:  put that right, then run again with --resume" in line for line in said)


def test_a_disk_that_is_full_is_named_although_the_executed_notebook_is_cut_off(notebooks: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def cut_off(_: str, output: str, **__: Any) -> None:
        Path(output).write_text("")
        raise OSError(errno.ENOSPC, "No space left on device")

    write(notebooks, "01_launch_ec2", "1 + 1")
    monkeypatch.setattr("papermill.execute_notebook", cut_off)
    said: list[str] = []
    status, folder = run(said)
    assert status == 1 and any("No space left on device" in line for line in said)
    assert json.loads((folder / "result.json").read_text())["chapters"][0]["ok"] is False
    assert not (folder / "01_launch_ec2.ipynb").exists()


SLOW_TO_END = """
import pathlib, time
try:
    pathlib.Path({begun!r}).touch()
    time.sleep(100)
finally:
    time.sleep({pause})
    pathlib.Path({undone!r}).touch()
"""


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("times", [1, 2])
def test_a_chapter_that_is_interrupted_undoes_what_it_must_and_a_second_interrupt_ends_it_at_once(
    notebooks: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], times: int
) -> None:
    begun, undone = tmp_path / "begun", tmp_path / "undone"
    write(notebooks, "01_launch_ec2", SLOW_TO_END.format(begun=str(begun), undone=str(undone), pause=1 if times == 1 else 60))
    said: list[str] = []

    def interrupt() -> None:
        assert wait_until(begun.exists, 60, pause=0.05)
        os.kill(os.getpid(), signal.SIGINT)
        if times == 2:
            assert wait_until(lambda: any("comes to a safe point" in line for line in said), 60, pause=0.05)
            os.kill(os.getpid(), signal.SIGINT)

    with ThreadPoolExecutor(1) as pool:
        interrupting = pool.submit(interrupt)
        status, folder = run(said)
        interrupting.result()
    assert status == 1 and undone.exists() == (times == 1)
    assert any("interrupted: run again" in line for line in said)
    assert json.loads((folder / "result.json").read_text())["chapters"][0]["ok"] is False
    assert not (folder / "02_install_mysql.ipynb").exists()
    gc.collect()
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.usefixtures("interruptible")
def test_a_run_that_is_terminated_leaves_its_result(notebooks: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    begun, undone = tmp_path / "begun", tmp_path / "undone"
    write(notebooks, "01_launch_ec2", SLOW_TO_END.format(begun=str(begun), undone=str(undone), pause=0))

    def terminate() -> None:
        assert wait_until(begun.exists, 60, pause=0.05)
        os.kill(os.getpid(), signal.SIGTERM)

    with ThreadPoolExecutor(1) as pool:
        terminating = pool.submit(terminate)
        assert cli.main(["run", PARAMS]) == 1
        terminating.result()
    folder = runs.latest("greg-separated")
    assert folder and json.loads((folder / "result.json").read_text())["chapters"][0]["ok"] is False
    assert undone.exists() and "interrupted: run again" in capsys.readouterr().out


@pytest.mark.parametrize("ending", ["", "raise ValueError"])
def test_each_chapter_has_a_kernel_that_started_during_the_one_before_and_none_is_left(notebooks: Path, tmp_path: Path, ending: str) -> None:
    told = "open({file!r}, 'w').write(f'{{os.getpid()}} {{\"runbook_lib.chapters.deployment\" in sys.modules}} {{\"runbook_lib\" in globals()}} {{others}}')"
    siblings = "import os, sys; others = open(f'/proc/{os.getppid()}/task/{os.getppid()}/children').read()"
    for number, name in enumerate(("01_launch_ec2", "02_install_mysql")):
        write(notebooks, name, "\n".join([siblings, told.format(file=str(tmp_path / str(number))), "" if number else ending]))
    status, _ = run([])
    assert status == bool(ending)
    first, *kernels = (tmp_path / "0").read_text().split()
    assert kernels[:2] == ["True", "False"] and first in kernels
    commands = [file.read_bytes() for pid in kernels[2:] if (file := Path("/proc", pid, "cmdline")).exists()]
    assert len(kernels) >= 4 and not [command for command in commands if b"ipykernel" in command]
    if not ending:
        second, imported, named, *_ = (tmp_path / "1").read_text().split()
        assert second != first and second in kernels and (imported, named) == ("True", "False")


def test_what_killed_runs_left_for_temporary_files_goes_with_the_next_run(notebooks: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory() as temporary:  # not pytest's folder: a socket's path has at most 107 bytes
        monkeypatch.setattr("tempfile.tempdir", temporary)
        killed, running = (Path(temporary, f"runbook-run-{pid}-x") for pid in (2**22 + 1, os.getpid()))  # the first is above the kernel's highest
        killed.mkdir()
        running.mkdir()
        gone = killed.with_name("runbook-run-1-gone")
        gone.symlink_to("nothing")  # as one that another run removes in this moment
        other = killed.with_name("runbook-run-of-somebody")
        other.mkdir()
        write(notebooks, "01_launch_ec2", "1")
        run([], last="01")
        assert {*Path(temporary).iterdir()} == {running, gone, other}


def test_executed_notebooks_hold_no_secret_and_no_path_of_this_machine(notebooks: Path) -> None:
    redactor.add("db/runner-test", SECRET)
    write(notebooks, "01_launch_ec2", f"from IPython.display import HTML\nprint('{SECRET}')\nHTML('<b>{SECRET}</b>')")
    write(notebooks, "02_install_mysql", f"raise ValueError('{SECRET}')")
    said: list[str] = []
    _, folder = run(said)
    for path in folder.iterdir():
        if path.is_file():
            assert SECRET not in path.read_text(), path.name
    assert SECRET not in "\n".join(said)
    metadata = nbformat.read(folder / "01_launch_ec2.ipynb", as_version=4).metadata.papermill
    assert "input_path" not in metadata
    assert "output_path" not in metadata
    assert not any(str(value).startswith("/") for value in metadata.parameters.values())


@pytest.mark.parametrize(
    ("chapters", "options", "goes"),
    [
        (("01_launch_ec2", "07_verify_sso_separation"), {}, False),
        (("01_launch_ec2", "07_verify_sso_separation"), {"agreed": True}, True),
        (("01_launch_ec2", "07_verify_sso_separation"), {"parameters": {"agreed": True}}, True),
        (("01_launch_ec2",), {}, True),
    ],
    ids=["nobody agreed", "with --yes", "with -p agreed true", "to chapter 05"],
)
def test_on_aws_a_run_says_its_cost_and_one_that_would_stop_at_the_proof_does_not_begin(
    notebooks: Path, monkeypatch: pytest.MonkeyPatch, chapters: tuple[str, ...], options: dict[str, Any], goes: bool
) -> None:
    monkeypatch.setattr(runner, "chapters_of", lambda *_: tuple(CHAPTERS[name] for name in chapters))
    monkeypatch.setattr(Standing, "on_aws", True)
    for name in chapters:
        write(notebooks, name, "pass", "agreed = False" if name.startswith("07") else "")
    said: list[str] = []
    if goes:
        run(said, **options)
        assert [line.partition("  ")[0] for line in said if "✔ verified" in line] == [*chapters]
        assert said[0].startswith("greg-separated: on AWS about US$ ")
        return
    with pytest.raises(RunbookError, match="nobody agreed yet") as caught:
        run(said, **options)
    assert "--yes" in (caught.value.next_step or "")
    assert (said, runs.latest("greg-separated")) == ([], None)


def test_what_the_kernels_were_told_is_taken_back(notebooks: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(notebooks, "01_launch_ec2", "1")
    write(notebooks, "02_install_mysql", "1")
    told = ("RUNBOOK_RUN", "RUNBOOK_HEADLESS", "RUNBOOK_OWNER")
    for name in told:
        monkeypatch.delenv(name, raising=False)  # which another test of this process may have left
    run([])
    assert not {*told} & set(os.environ)


VERIFIED = {"ok": True, "utc": "2026-01-01T00:00:00Z", "by": "a colleague@elsewhere"}
EVERY = dict.fromkeys(("01_launch_ec2", "02_install_mysql"), VERIFIED)


class Standing:
    """A deployment whose chapters have something to change, or nothing, with their records in Parameter Store."""

    journal: Journal
    on_aws = False

    def __init__(self, spec: Spec, pending: dict[str, bool], records: Mapping[str, dict[str, Any]] = EVERY):
        self.spec, self.provenance = spec, {"environment": "REHEARSAL"}
        known = {f"chapters/{name}": json.dumps(record) for name, record in records.items()}
        self.vault = SimpleNamespace(find=known.get)
        for name, value in pending.items():
            setattr(self, name, type("Part", (), {"plan": lambda _self, value=value: value})())

    def adopt(self, journal: Journal) -> Journal:
        self.journal = journal
        return journal

    def writing(self) -> AbstractContextManager[None]:
        return nullcontext()

    def cost(self) -> MonthlyCost:
        return monthly_cost(topology_of(self.spec))

    def close(self) -> None: ...


@pytest.mark.parametrize(
    ("pending", "left"),
    [
        ({"launch": False, "mysql": False}, []),
        ({"launch": False, "mysql": True}, ["02_install_mysql"]),
        ({"launch": True, "mysql": False}, ["01_launch_ec2", "02_install_mysql"]),
    ],
    ids=["all hold", "the second drifted", "the first drifted: everything after it runs"],
)
def test_resume_leaves_out_what_is_proven_and_holds(notebooks: Path, monkeypatch: pytest.MonkeyPatch, pending: dict[str, bool], left: list[str]) -> None:
    for name in ("01_launch_ec2", "02_install_mysql"):
        write(notebooks, name, "1")
    assert run([])[0] == 0
    monkeypatch.setattr("runbook_lib.chapters.deployment.open_deployment", lambda spec, *_: Standing(spec, pending))
    status, folder = run([], resume=True)
    assert status == 0
    assert sorted(path.stem for path in folder.glob("*.ipynb")) == left


@pytest.mark.parametrize(
    ("record", "why"),
    [
        (None, "02_install_mysql  is run: no record says that it was verified"),
        ({**VERIFIED, "ok": False}, "02_install_mysql  is run: its last attempt failed, 2026-01-01T00:00:00Z, by a colleague@elsewhere"),
        (
            {**VERIFIED, "ok": False, "applied": True},
            "02_install_mysql  is run: it was changed 2026-01-01T00:00:00Z by a colleague@elsewhere, and not verified since",
        ),
    ],
    ids=["never", "failed", "killed between apply and verify"],
)
def test_resume_needs_no_run_on_this_machine_and_says_why_it_leaves_out_or_does_not(
    notebooks: Path, monkeypatch: pytest.MonkeyPatch, record: dict[str, Any] | None, why: str
) -> None:
    for name in ("01_launch_ec2", "02_install_mysql"):
        write(notebooks, name, "1")
    records = {"01_launch_ec2": VERIFIED} | ({"02_install_mysql": record} if record else {})
    monkeypatch.setattr("runbook_lib.chapters.deployment.open_deployment", lambda spec, *_: Standing(spec, {"launch": False, "mysql": False}, records))
    said: list[str] = []
    status, folder = run(said, resume=True)
    assert status == 0 and [path.stem for path in folder.glob("*.ipynb")] == ["02_install_mysql"]
    assert "01_launch_ec2  ✔ left out: verified 2026-01-01T00:00:00Z by a colleague@elsewhere, nothing to change" in said and why in said


@pytest.mark.parametrize(
    ("since", "left"),
    [("2026-01-01T00:00:01Z", ["01_launch_ec2", "02_install_mysql"]), ("2026-01-01T00:00:00Z", []), ("", [])],
    ids=["verified before the batch began", "verified in it", "a user goes on"],
)
def test_another_try_of_a_batch_leaves_out_only_what_was_verified_in_it(notebooks: Path, monkeypatch: pytest.MonkeyPatch, since: str, left: list[str]) -> None:
    for name in ("01_launch_ec2", "02_install_mysql"):
        write(notebooks, name, "1")
    monkeypatch.setattr("runbook_lib.chapters.deployment.open_deployment", lambda spec, *_: Standing(spec, {"launch": False, "mysql": False}))
    said: list[str] = []
    _, folder = run(said, resume=True, since=since)
    assert sorted(path.stem for path in folder.glob("*.ipynb")) == left
    why = "01_launch_ec2  is run: it was verified 2026-01-01T00:00:00Z by a colleague@elsewhere, before this batch began"
    assert (why in said) == bool(left)


def test_a_part_of_the_chapters_is_never_called_all_verified(notebooks: Path) -> None:
    write(notebooks, "01_launch_ec2", "1")
    write(notebooks, "02_install_mysql", "1")
    said: list[str] = []
    assert run(said)[0] == 0
    assert not any("all verified" in line for line in said)
    assert any("greg-separated: 2 of 5 chapters verified in this run; 0 of 0 checks passed" in line for line in said)


def test_a_chapters_own_parameter_reaches_the_chapters_that_have_it(notebooks: Path) -> None:
    write(notebooks, "01_launch_ec2", "print('given:', 'war' in globals())")
    write(notebooks, "02_install_mysql", "print('given:', war)", "war = ''")
    status, folder = run([], parameters={"war": "shop.war"})
    assert status == 0
    assert "given: False" in (folder / "01_launch_ec2.ipynb").read_text()
    assert "given: shop.war" in (folder / "02_install_mysql.ipynb").read_text()


def test_a_parameter_that_no_chapter_has_stops_before_anything_is_written(notebooks: Path) -> None:
    write(notebooks, "01_launch_ec2", "1")
    write(notebooks, "02_install_mysql", "1", "war = ''")
    with pytest.raises(RunbookError, match="did you mean war"):
        run([], parameters={"warr": "shop.war"})
    assert not (notebooks.parent / "runs").exists()


def test_resume_runs_a_proven_chapter_that_is_given_something(notebooks: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(notebooks, "01_launch_ec2", "1")
    write(notebooks, "02_install_mysql", "print(war)", "war = ''")
    assert run([])[0] == 0
    monkeypatch.setattr("runbook_lib.chapters.deployment.open_deployment", lambda spec, *_: Standing(spec, {"launch": False, "mysql": False}))
    status, folder = run([], resume=True, parameters={"war": "shop.war"})
    assert status == 0
    assert [path.stem for path in folder.glob("*.ipynb")] == ["02_install_mysql"]


def test_a_run_reads_the_parameters_once_and_opens_the_deployment_once(notebooks: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("01_launch_ec2", "02_install_mysql"):
        write(notebooks, name, "1")
    assert run([])[0] == 0
    read, opened = [], []
    monkeypatch.setattr(runner, "load_spec", lambda *given: read.append(given) or load_spec(*given))
    monkeypatch.setattr(
        "runbook_lib.chapters.deployment.open_deployment", lambda spec, *_: opened.append(spec) or Standing(spec, {"launch": False, "mysql": True})
    )
    assert run([], resume=True)[0] == 0
    assert len(read) == len(opened) == 1 and opened[0].nodes["store"] == 3


def test_bad_parameters_stop_before_anything_is_written(notebooks: Path) -> None:
    with pytest.raises(RunbookError, match=r"nodes\.stor"):
        runner.run(PARAMS, {"nodes.stor": 3})
    assert not (notebooks.parent / "runs").exists()
