"""What is to be done again and again (`--every 6h`): a timer of systemd, a line for cron, or a DAG for Airflow. Only the first is ever written to a place.

It serves every command that has `--every`: a `Repeated` says what is done and how often, and this module how each of the three is told.
"""

from __future__ import annotations

import difflib
import itertools
import os
import re
import shlex
import sys
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runbook_lib.errors import RunbookError
from runbook_lib.files import ROOT, write_whole
from runbook_lib.headless.terminal import Essential

FORMS = ("systemd", "cron", "airflow")
HOUR, DAY, WEEK = 60, 24 * 60, 7 * 24 * 60  # minutes
LETTERS = {"m": 1, "h": HOUR, "d": DAY, "w": WEEK}
LONGEST = 366 * DAY
EVEN = tuple(
    minutes for minutes in range(1, WEEK + 1) if (minutes < HOUR and not HOUR % minutes) or (not minutes % HOUR and not DAY % minutes) or minutes == WEEK
)
LATEST = 15  # minutes after the full hour or minute that it begins at most: not every machine asks the same cloud in the same second
AT_A_STOP = 150  # seconds for all deployments to come to a safe point
SYSTEM = Path("/etc/systemd/system")
MARK = "# Made by runbook"  # in files that we may replace
CARRIED = ("AWS_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_CONFIG_FILE", "RUNBOOK_RUNS", "RUNBOOK_SMTP")  # of this shell: names, never a secret
PATHS = ("AWS_CONFIG_FILE", "RUNBOOK_RUNS")  # of these: as seen from this shell's folder
SECRET = "RUNBOOK_WEBHOOK"  # most such addresses hold a token: a person writes it where it is kept
KEPT = "~/.config/runbook/environment"  # where a person keeps what is secret or special, read by the unit
KERNEL = "runbook"  # the kernel of our environment as Jupyter knows it, for Airflow, which has an environment of its own


@dataclass(frozen=True)
class Repeated:
    """What is done every so many minutes. `name`: of units and DAG; `words`: of the command line; `notebook`, `parameters`: the same as a notebook."""

    name: str
    title: str
    words: tuple[str, ...]
    minutes: int
    notebook: Path | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)

    @property
    def subject(self) -> tuple[str, ...]:
        """The command's verb and files, without its options: what it is done to."""
        return tuple(itertools.takewhile(lambda word: not word.startswith("-"), self.words))


def interval(text: str, option: str = "--every") -> int:
    """Return the minutes of an interval such as 30m, 6h, 1d or 1h30m. Raises RunbookError for anything else, which names the option."""
    found = re.fullmatch(r"(?:\d+[mhdw])+", text.strip().lower())
    minutes = sum(int(number) * LETTERS[letter] for number, letter in re.findall(r"(\d+)([mhdw])", text.lower())) if found else 0
    if not 1 <= minutes <= LONGEST:
        step = f"write numbers with m, h, d or w, such as 30m, 6h, 1d or 1h30m; at least 1m, at most {LONGEST // DAY}d"
        raise RunbookError(f"{text!r} is no interval", option, step)
    return minutes


def in_words(minutes: int) -> str:
    """Return an interval as it is written: 90 is 1h30m."""
    words = ""
    for letter, size in (("w", WEEK), ("d", DAY), ("h", HOUR), ("m", 1)):
        number, minutes = divmod(minutes, size)
        words += f"{number}{letter}" if number else ""
    return words


def program() -> tuple[str, ...]:
    """Return how the command line is called from anywhere: the clone's front door, or the module of this installation."""
    door = ROOT / "runbook"
    return (str(door),) if os.access(door, os.X_OK) and door.is_file() else (sys.executable, "-m", "runbook_lib")


def carried() -> dict[str, str]:
    """Return the variables of this shell that a command needs which somebody else begins."""
    found = {name: os.environ[name] for name in CARRIED if os.environ.get(name)}
    return {name: os.path.abspath(os.path.expanduser(value)) if name in PATHS else value for name, value in found.items()}


def units(task: Repeated) -> dict[str, str]:
    """Return the service and the timer of systemd by their files' names.

    The service ends as after Ctrl-C when it is stopped. A timer never starts a service that is still at work. Intervals that divide an hour, a day or
    a week go by the clock, and one that was missed while the machine was off is made up for; others count from the last start.
    """
    head = f"{MARK} {task.words[0]} … --every {in_words(task.minutes)}: the same command makes it anew.\n"
    late = min(task.minutes // 10, LATEST)
    variables = {"PATH": os.environ.get("PATH", os.defpath), "RUNBOOK_HOME": str(ROOT), **carried()}
    service = [
        "[Unit]", f"Description={_escaped(f'{task.title}, every {in_words(task.minutes)}')}",
        "", "[Service]", "Type=oneshot", f"WorkingDirectory={_escaped(str(ROOT))}",
        *(f"Environment={_quoted(f'{name}={value}')}" for name, value in variables.items()),
        "EnvironmentFile=-%E/runbook/environment",
        f"ExecStart={_command((*program(), *task.words))}",
        "KillMode=mixed", "KillSignal=SIGINT", f"TimeoutStopSec={AT_A_STOP}",
    ]  # fmt: skip
    when = [f"OnCalendar={calendar(task.minutes)}", "Persistent=true"] if task.minutes in EVEN else ["OnBootSec=15min", f"OnUnitActiveSec={task.minutes}min"]
    timer = [
        "[Unit]", f"Description={_escaped(f'{task.title}, every {in_words(task.minutes)}')}",
        "", "[Timer]", *when, *([f"RandomizedDelaySec={late}min", "FixedRandomDelay=true"] if late else []),
        "", "[Install]", "WantedBy=timers.target",
    ]  # fmt: skip
    return {f"{task.name}.{kind}": "\n".join([head, *lines, ""]) for kind, lines in (("service", service), ("timer", timer))}


def calendar(minutes: int) -> str:
    """Return an interval of `EVEN` as systemd's calendar has it."""
    if minutes == WEEK:
        return "Sun *-*-* 00:00:00"
    if minutes == DAY:
        return "*-*-* 00:00:00"
    return f"*-*-* *:00/{minutes}:00" if minutes < HOUR else f"*-*-* 00/{minutes // HOUR}:00:00"


def cron(task: Repeated) -> str:
    """Return the line for a crontab. Raises RunbookError for an interval that cron cannot say.

    cron starts a command whether the one before has ended or not: `flock` leaves it out then, without a word. Of one that failed cron sends a mail,
    for then alone something is printed. The lock is that of these params files: another deployment of the same name is not left out.
    """
    if task.minutes not in EVEN:
        near = [in_words(each) for each in (max(e for e in EVEN if e < min(task.minutes, WEEK)), min((e for e in EVEN if e > task.minutes), default=WEEK))]
        words = f"cron cannot say every {in_words(task.minutes)}: its minutes begin anew each hour, and its hours each day"
        raise RunbookError(words, "--every", f"take {near[0]} or {near[1]}, or --as systemd, which counts from the last start")
    minute = zlib.crc32(task.name.encode()) % LATEST
    times = {WEEK: f"{minute} 0 * * 0", DAY: f"{minute} 0 * * *", HOUR: f"{minute} * * * *"}
    fallback = f"*/{task.minutes} * * * *" if task.minutes < HOUR else f"{minute} */{task.minutes // HOUR} * * *"
    own = f"work/{task.name}"
    lock = shlex.quote(f"{own}-{zlib.crc32(_command(task.subject).encode()):08x}.lock")
    variables = [f"{name}={value}" for name, value in carried().items()]
    words = shlex.join((*(("env", *variables) if variables else ()), *program(), *task.words))
    failed = shlex.join(("echo", f"{task.name} failed: see {ROOT / own}.log"))
    command = f"mkdir -p work && flock -n -E 0 {lock} {words} >> {shlex.quote(own)}.log 2>&1 || {failed}"
    line = f"cd {shlex.quote(str(ROOT))} && {command}".replace("%", "\\%")  # cron makes a line end of a bare %
    return f"{times.get(task.minutes, fallback)} {line}"


DAG = '''\
"""{title}, every {words}. {mark} {verb} … --every {words} --as airflow.

Airflow needs apache-airflow-providers-papermill, and the kernel of the runbook's environment by the name {kernel}, once:
    {python} -m ipykernel install --user --name {kernel} --env RUNBOOK_HOME {root} --env RUNBOOK_HEADLESS 1
"""

from datetime import timedelta
from pathlib import Path

import pendulum
from airflow.providers.papermill.operators.papermill import PapermillOperator
from airflow.sdk import DAG

EXECUTED = Path({executed!r})

with DAG(
    {name!r},
    schedule=timedelta(minutes={minutes}),
    start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
    catchup=False,  # what was missed is not made up for
    max_active_runs=1,  # the next one waits for the one that is under way
):
    PapermillOperator(
        task_id="execute",
        input_nb={notebook!r},
        output_nb=f"{{EXECUTED}}/{{{{{{{{ ts_nodash }}}}}}}}.ipynb",
        parameters={parameters!r},
        kernel_name={kernel!r},
        language_name="python",
        pre_execute=lambda context: EXECUTED.mkdir(parents=True, exist_ok=True),
    )
'''


def airflow(task: Repeated) -> str:
    """Return a DAG file for Airflow 3, which executes the task's notebook. Raises RunbookError for a task that has none."""
    if task.notebook is None:
        raise RunbookError(f"{task.title} is no notebook, which is what Airflow would execute", "--as airflow", "take --as systemd or --as cron")
    return DAG.format(
        title=task.title, words=in_words(task.minutes), mark=MARK.removeprefix("# "), verb=task.words[0], kernel=KERNEL, python=sys.executable, root=ROOT,
        executed=str(ROOT / "runs" / "_airflow" / task.name), name=task.name, minutes=task.minutes, notebook=str(task.notebook),
        parameters=dict(task.parameters),
    )  # fmt: skip


def unit_folder() -> Path:
    """Return where units lie: root's among the system's, anybody else's among their own."""
    if os.geteuid() == 0:
        return SYSTEM
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "systemd" / "user"


def offer(task: Repeated, form: str, say: Callable[[Any], None], agreed: Callable[[str], bool], folder: Path | None = None) -> int:
    """Print the task's form; write the units of systemd once `agreed` says so to a question. Return 0.

    `folder`: where units go; None: where systemd looks for those of this user. Raises RunbookError for a file there that is not ours, or that does the
    same with other files: the deployment of another params file may have the same name, and would lose its timer.
    """
    if form != "systemd":
        say(Essential(cron(task) if form == "cron" else airflow(task).rstrip("\n")))
        return 0
    place, made = folder or unit_folder(), units(task)
    _refuse_other_files(task, place)
    changed = {place / name: text for name, text in made.items() if _before(place / name) != text}
    for path, text in changed.items():
        say(Essential(f"{path}\n\n{_shown(path, text)}"))
    if not changed:
        say(Essential(f"{place / task.name}.timer and .service are as they should be: nothing to write"))
    elif agreed(f"Write {' and '.join(path.name for path in changed)} to {place}?"):
        place.mkdir(parents=True, exist_ok=True)
        for path, text in changed.items():
            write_whole(path, text)
        say(Essential(_next_steps(task, place)))
    else:
        say(Essential("nothing was written: add --yes, which writes these files"))
    return 0


def _before(path: Path) -> str | None:
    """Return the text of a unit that is there. Raises RunbookError when it is not one of ours."""
    if not path.exists():
        return None
    text = path.read_text(encoding="utf-8")
    if not text.startswith(MARK):
        raise RunbookError(f"{path.name} is there, and not of the runbook", str(path), "rename it, or the sweep")
    return text


def _refuse_other_files(task: Repeated, place: Path) -> None:
    """Raise RunbookError when a service of that name does the same with other files."""
    path = place / f"{task.name}.service"
    found = re.search(r"^ExecStart=(.*)$", _before(path) or "", re.MULTILINE)
    if found and not re.search(rf" {re.escape(_command(task.subject))}( -|$)", found[1]):
        off = f"{_control(place)[0]} disable --now {task.name}.timer, then remove both files"
        step = f"give this one's deployment or sweep another name, or end that one first: {off}"
        raise RunbookError(f"{task.name} is there, and is of other files: {found[1]}", str(path), step)


def _shown(path: Path, text: str) -> str:
    """Return a new unit whole, and of one that is there what would change."""
    before = _before(path)
    return text if before is None else "\n".join(difflib.unified_diff(before.splitlines(), text.splitlines(), "as it is", "as it would be", lineterm="")) + "\n"


def _next_steps(task: Repeated, place: Path) -> str:
    own = place != SYSTEM
    control, journal = _control(place)
    kept = KEPT if own else "/etc/runbook/environment"
    steps = [
        ("on", f"{control} daemon-reload && {control} enable --now {task.name}.timer"),
        *([("also without a login", "loginctl enable-linger")] if own else []),
        ("when next", f"{control} list-timers {task.name}.timer"),
        ("what it says", f"{journal} -u {task.name}.service"),
        ("off", f"{control} disable --now {task.name}.timer, then remove both files"),
        ("credentials", f"as in every shell of this user, or lines NAME=VALUE in {kept}"),
        *(
            [("webhook", f"a secret, so not in the unit: write the line {SECRET}=… into {kept}, with the address that this shell has")]
            if SECRET in os.environ
            else []
        ),
    ]
    return "written; now:\n" + "\n".join(f"  {name + ':':22}{words}" for name, words in steps)


def _control(place: Path) -> tuple[str, str]:
    """Return how units of this folder are switched, and how their journal is read."""
    return ("systemctl", "journalctl") if place == SYSTEM else ("systemctl --user", "journalctl --user")


def _command(words: Iterable[str]) -> str:
    """Return a command line as a unit has it: $ begins a variable."""
    return " ".join(_quoted(word).replace("$", "$$") for word in words)


def _escaped(text: str) -> str:
    """Return a text as a setting of systemd has it: % begins a specifier."""
    return text.replace("%", "%%")


def _quoted(word: str) -> str:
    """Return a word of a setting that takes several."""
    escaped = _escaped(word)
    return escaped if re.fullmatch(r"[\w@%+=:,./-]+", escaped) else '"' + escaped.replace("\\", "\\\\").replace('"', '\\"') + '"'
