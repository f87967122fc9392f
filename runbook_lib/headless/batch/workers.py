"""`./runbook workers up SWEEP.yaml`: the machines that do a sweep's deployments, in EC2, made and removed as every machine of the runbook is."""

from __future__ import annotations

import configparser
import hashlib
import io
import subprocess
import sysconfig
import tempfile
import zipfile
from collections.abc import Iterable, Iterator
from importlib.resources import files as resources
from pathlib import Path

from runbook_lib.changes import Event, Plan
from runbook_lib.converge import engine
from runbook_lib.errors import CloudError, RunbookError
from runbook_lib.evidence.journal import Journal
from runbook_lib.files import ROOT
from runbook_lib.headless.batch.on_dask import Keys, await_workers, require_dask
from runbook_lib.headless.batch.sweep import Sweep
from runbook_lib.headless.terminal import Essential, Terminal
from runbook_lib.launch import teardown
from runbook_lib.launch.secrets import OPERATOR_TLS
from runbook_lib.pki import split
from runbook_lib.roles import worker
from runbook_lib.roles.context import Download
from runbook_lib.session import Session
from runbook_lib.tables import counted
from runbook_lib.topology.workers import SCHEDULER, SCHEDULER_PORT, workers_of

STEP = "workers"  # what the journal calls it
# The release of Python that an image has: what the package requires is fetched for that one.
PYTHON = {"debian-12": "3.11", "debian-13": "3.13", "ubuntu-24.04": "3.12"}
ARCHIVES = ROOT / "work" / STEP
LOCK, PROJECT = ROOT / "requirements-test.lock", ROOT / "pyproject.toml"
NOT_SECRET = ("region", "endpoint_url", "ec2_network")  # of an AWS config file: what a machine with an instance profile needs of it
OF_SOURCE = ("notebooks", "params", "docs/iam")  # beside the library
EPOCH = (1980, 1, 1, 0, 0, 0)  # of every file in an archive: the same files are the same archive


class Workers(Session):
    """The machines of a sweep's workers, as an opened deployment."""

    def __init__(self, sweep: Sweep):
        """Raises RunbookError for a sweep without `workers`, and where the machines cannot be as it says."""
        self.count = sweep.options.workers or 0
        if not self.count:
            raise RunbookError("the sweep has no workers", f"{sweep.source}: workers", "say how many machines: workers: 2")
        topology = workers_of(sweep.rows[0].spec, sweep.workers, self.count)
        super().__init__(topology.spec, Journal.begin(topology.spec, new=True), topology)

    @property
    def address(self) -> str:
        """The scheduler's address, as `--scheduler` takes it."""
        return f"tls://{self.topology.of(SCHEDULER)[0].address}:{SCHEDULER_PORT}"

    def keys(self) -> Keys:
        """Return what a batch shows the scheduler. Raises CloudError before the machines are made."""
        certificate, key = split(self.vault.get(OPERATOR_TLS))
        return Keys(self.vault.get("ca.pem"), certificate.decode(), key.decode())

    def wish(self) -> engine.Wish:
        """Return the desired state by node name. Raises RunbookError where what the package requires cannot be had."""
        packages, source = self._archive(_packages(self.spec.cloud.image)), self._archive(_source())
        secrets, config = self.vault.read_all(), self._aws_config()
        return {node.name: worker.desired(node, self.topology, secrets, packages, source, config) for node in self.topology.nodes}

    def _archive(self, file: Path) -> Download:
        return self._download(self._fetch(STEP, f"file://{file}", None))

    def _aws_config(self) -> str:
        """Return the operator's AWS config without its keys: a machine has those of its instance profile."""
        profile, config = self.spec.cloud.profile, configparser.ConfigParser(interpolation=None)
        config[f"profile {profile}" if profile else "default"] = {key: value for key, value in self.cloud.aws.settings.items() if key in NOT_SECRET}
        out = io.StringIO()
        config.write(out)
        return out.getvalue()


def up(sweep: Sweep, say: Terminal) -> int:
    """Make the machines as the sweep says, or put them right, and return 0 once every worker is with the scheduler. Raises RunbookError."""
    require_dask("workers up")  # before any machine is paid for
    workers = Workers(sweep)
    count = workers.count

    def progress(event: Event) -> None:
        if say.verbose:
            say(f"  {event}")

    try:
        with workers.writing(), workers.journal.attempt(STEP, "apply"):
            say(f"{workers.spec.deployment}: a scheduler and {counted(count, 'worker')} …")
            workers.journal.changed(STEP, workers.cloud.apply(progress=progress))
            workers.wait_for_ssh(node.name for node in workers.topology.nodes)
            planned: Plan = engine.plan(workers.fleet(), workers.wish(), STEP)
            say(f"{counted(len(planned.pending), 'change')} on the machines …")
            workers.journal.changed(STEP, engine.apply(workers.fleet(), planned, progress))
            checks = workers.cloud.verify()
            workers.journal.checked(STEP, checks)
            checks.raise_if_failed()
            await_workers(workers.address, workers.keys(), count)
    finally:
        workers.close()
    say(Essential(f"{counted(count, 'worker')} at {workers.address}: ./runbook batch {sweep.source} --scheduler {workers.address}"))
    return 0


def down(sweep: Sweep, say: Terminal) -> int:
    """Remove the machines and all that was made for them, and return 0. Raises CloudError when something is left."""
    workers = Workers(sweep)
    with workers.writing(), workers.journal.attempt(STEP, "destroy"):
        gone = teardown.destroy(workers.cloud)
        workers.journal.checked(STEP, gone)
    if left := gone.failed():
        words = "; ".join(f"{check.title}: {check.observed}" for check in left)
        raise CloudError(f"something of {workers.spec.deployment} is left: {words}", workers.cloud.aws.about, "run this again; remove by hand what stays")
    say(Essential(f"{workers.spec.deployment}: nothing is left"))
    return 0


def _packages(image: str) -> Path:
    """Return an archive of what the package requires, for the Python of `image`, in the versions of the lock. It is made once for these."""
    if image not in PYTHON:
        raise RunbookError(f"what workers require cannot be made for {image}", "cloud.image", f"for workers: {', '.join(PYTHON)}")
    if not PROJECT.is_file():
        raise RunbookError("worker machines are made from a clone of the repository, and this is none", str(ROOT), "clone it, and work there")
    digest = hashlib.sha256(b"".join((PYTHON[image].encode(), LOCK.read_bytes(), PROJECT.read_bytes()))).hexdigest()
    made = ARCHIVES / f"packages-{digest[:16]}.zip"
    if not made.exists():
        with tempfile.TemporaryDirectory() as folder:
            _install(Path(folder), PYTHON[image])
            _zip(made, ((path, path.relative_to(folder)) for path in Path(folder).rglob("*")))
    return made


def _install(folder: Path, python: str) -> None:
    uv = Path(sysconfig.get_path("scripts")) / "uv"
    platform = ("--python-version", python, "--python-platform", "x86_64-manylinux_2_28", "--only-binary", ":all:")
    command = (uv, "pip", "install", "--quiet", "--system-certs", "--target", folder, *platform, "--constraints", LOCK, "-r", PROJECT, "--extra", "dask")
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    if done.returncode:
        raise RunbookError(f"what the package requires cannot be fetched: {done.stderr.strip()}", "Python's package index", "see that this machine reaches it")


def _source() -> Path:
    """Return an archive of this package and of what lies beside it that a run needs."""
    library = Path(str(resources("runbook_lib")))
    folders = ((library, Path("runbook_lib")), *((ROOT / name, Path(name)) for name in OF_SOURCE))
    return _zip(ARCHIVES / "source.zip", ((path, below / path.relative_to(folder)) for folder, below in folders for path in folder.rglob("*")))


def _zip(made: Path, files: Iterable[tuple[Path, Path]]) -> Path:
    """Write an archive of the files, each with its name there, in one step; return it."""
    made.parent.mkdir(parents=True, exist_ok=True)
    half = made.with_suffix(".part")
    with zipfile.ZipFile(half, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for path, name in sorted(_wanted(files)):
            entry = zipfile.ZipInfo(str(name), EPOCH)
            entry.external_attr = (0o100755 if path.stat().st_mode & 0o100 else 0o100644) << 16
            archive.writestr(entry, path.read_bytes(), zipfile.ZIP_DEFLATED, 1)
    half.rename(made)
    return made


def _wanted(files: Iterable[tuple[Path, Path]]) -> Iterator[tuple[Path, Path]]:
    return ((path, name) for path, name in files if path.is_file() and "__pycache__" not in path.parts)
