"""One machine: an overlay disk on the image, booted by systemd-nspawn in a network namespace made by `network`."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ec2lab.errors import LabError
from ec2lab.machines import cgroups
from ec2lab.machines.supervisor import Supervisor
from ec2lab.network import firewall, links
from ec2lab.paths import Lab
from ec2lab.shell import run

REBOOTED = 133  # nspawn's exit status when the machine asked to be started again (systemd's EXIT_FORCE_RESTART)
PROPAGATE = Path("/run/systemd/nspawn/propagate")  # where nspawn makes a folder for each machine
CONSOLE_BYTES = 64 * 1024  # as much as GetConsoleOutput returns on AWS
# Of those that systemd-nspawn leaves. The first would change the rules of the security groups, the next two reach devices and files of this computer;
# no server needs the others. CAP_SYS_PTRACE, by which root reads what a process of another user runs, ends at the machine's own processes. README
# says why CAP_SYS_ADMIN stays.
DROPPED = (
    *("CAP_NET_ADMIN", "CAP_MKNOD", "CAP_DAC_READ_SEARCH"),
    *("CAP_AUDIT_CONTROL", "CAP_LEASE", "CAP_LINUX_IMMUTABLE", "CAP_NET_BROADCAST", "CAP_SYS_TTY_CONFIG"),
)
SHUTDOWN_SECONDS = 60  # then the power is cut, as on AWS
ENVIRONMENT = {  # of systemd-nspawn
    "SYSTEMD_NSPAWN_API_VFS_WRITABLE": "network",  # net.* sysctls are the machine's own
    "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1",  # control groups of version 2, as on EC2, whatever the host has: systemd 258 knows no other
}


@dataclass
class Machine:
    """A machine of the lab. `layers`: the trees below its disk, uppermost first.

    `boot`, `wait`, `power_off` and `free` are called by the thread that runs the machine (see hypervisor); any thread may call
    the other methods.
    """

    lab: Lab
    nic: links.Nic
    layers: tuple[Path, ...]
    hostname: str
    public_key: str | None
    user_data: bytes
    init: int | None = None  # pid of the machine's own PID 1, while it runs
    rules: str = ""
    process: Supervisor | None = field(default=None, repr=False)
    _wired: bool = False
    _rules_lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @property
    def id(self) -> str:
        return self.nic.instance_id

    @property
    def folder(self) -> Path:
        return self.lab.disks / self.id

    @property
    def root(self) -> Path:
        return self.folder / "root"

    @property
    def console_file(self) -> Path:
        return self.folder / "console"

    @property
    def status_file(self) -> Path:
        return self.folder / "exit-status"

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what belongs to the running machine: `adopt` finds it again."""
        return {**vars(self), "process": None, "init": None, "rules": "", "_rules_lock": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update({**state, "_rules_lock": threading.Lock()})

    def adopt(self) -> bool:
        """Take over the machine as an earlier daemon left it. Return whether it runs."""
        self.process = Supervisor.find(self.root, self.status_file)
        if self.process is None:
            return False
        self._wired = True
        with suppress(LabError):  # it ended while it was looked at
            self.init = self._await_init()
        return self.init is not None

    def boot(self, rules: str, fresh_console: bool = True) -> None:
        """Start the machine: mount the disk, connect the network, load `rules`, start init. Returns when init runs.

        `fresh_console`: begin a new console file. Raises LabError when the disk cannot be mounted or init does not start.
        """
        first = not self.console_file.exists()
        self._mount()
        if first:
            self._imprint()
        self._write_user_data()
        space = links.plug(self.lab, self.nic)
        self._wired = True
        self.apply_rules(rules)
        command = [
            *cgroups.command_prefix(self.lab, self.id),
            *("systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "--boot", "--console=read-only"),
            *("--settings=no", "--resolv-conf=off", "--timezone=off", "--link-journal=no"),
            f"--drop-capability={','.join(DROPPED)}",
            f"--machine={self.lab.namespace(self.id)}",
            f"--directory={self.root}",
            f"--network-namespace-path={space}",
        ]
        with open(self.console_file, "wb" if fresh_console else "ab") as console:
            self.process = Supervisor.start(command, self.status_file, console.fileno(), os.environ | ENVIRONMENT)
        self.init = self._await_init()

    def _mount(self) -> None:
        for name in ("upper", "work", "root"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o700)
        # `volatile` leaves out syncing: a disk of the lab need not survive a crash of the host, and a power cut here
        # affects the machine only. The kernel marks such a disk as unclean, and this mark is removed.
        shutil.rmtree(self.folder / "work/work/incompat", ignore_errors=True)
        options = f"lowerdir={':'.join(map(str, self.layers))},upperdir={self.folder}/upper,workdir={self.folder}/work"
        for extra in (",volatile", ""):
            with suppress(LabError):
                run("mount", "-t", "overlay", "overlay", "-o", options + extra, str(self.root))
                return
        raise LabError("the machine's disk cannot be mounted", str(self.root), "look at the last lines of dmesg")

    def _imprint(self) -> None:
        """Write the files that make a disk a new instance: an empty machine-id, apt's proxy, and the seed that cloud-init reads."""
        (self.root / "etc/machine-id").write_text("")
        (self.root / "etc/apt/apt.conf.d/90proxy").write_text(f'Acquire::http::Proxy "{self.lab.proxy}";\n')
        seed = self.root / "var/lib/cloud/seed/nocloud"
        shutil.rmtree(seed, ignore_errors=True)
        seed.mkdir(parents=True)
        keys = [self.public_key] if self.public_key else []
        (seed / "meta-data").write_text(json.dumps({"instance-id": self.id, "local-hostname": self.hostname, "public-keys": keys}))
        (seed / "meta-data").chmod(0o600)

    def _write_user_data(self) -> None:
        """Write the user data where cloud-init reads it. EC2 is asked for it at each boot, whereas cloud-init remembers a seed: changed, that is forgotten."""
        file, text = self.root / "var/lib/cloud/seed/nocloud/user-data", self.user_data or b"#cloud-config\n{}\n"
        if file.exists() and file.read_bytes() == text:
            return
        file.write_bytes(text)
        file.chmod(0o600)
        for remembered in self.root.glob("var/lib/cloud/instances/*/obj.pkl"):
            remembered.unlink()

    def _await_init(self) -> int:
        assert self.process is not None
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline and self.process.poll() is None:
            for child in _descendants(self.process.pid):
                with suppress(OSError):
                    status = Path(f"/proc/{child}/status").read_text()
                    inner = next(line for line in status.splitlines() if line.startswith("NSpid:")).split()
                    if len(inner) > 2 and inner[-1] == "1":
                        return child
            time.sleep(0.01)
        raise LabError("the machine did not start", self.id, f"its last words are in {self.console_file}")

    def apply_rules(self, rules: str) -> None:
        """Load the rules of the security groups, unless they are loaded already or the machine is off."""
        with self._rules_lock:
            if rules != self.rules and self._wired:
                firewall.load(self.lab.namespace(self.id), rules)
                self.rules = rules

    def wait(self) -> int:
        """Wait for the machine to end, remove its network and mount, and return the exit status of systemd-nspawn."""
        assert self.process is not None
        status = self.process.wait()
        self.power_off()
        return status

    def power_off(self) -> None:
        """Remove everything of the machine except its disk. Safe to repeat, and to call for a machine that never started."""
        self.init = None
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        _end_processes(self.lab, self.id)
        with self._rules_lock:
            self._wired, self.rules = False, ""
            links.unplug(self.lab, self.nic)
        run("umount", str(self.root), check=False)
        if os.path.ismount(self.root):
            run("umount", "--lazy", str(self.root), check=False)
        cgroups.remove(self.lab, self.id)
        with suppress(OSError):  # nspawn leaves it where /run is not a tmpfs
            (PROPAGATE / self.lab.namespace(self.id)).rmdir()

    def shut_down(self) -> None:
        """Ask the machine to shut down in order; cut the power when it does not within a minute."""
        self._ask(signal.SIGRTMIN + 4)

    def reboot(self) -> None:
        """Ask the machine to reboot in order; cut the power when it does not within a minute."""
        self._ask(signal.SIGRTMIN + 5)

    def _ask(self, request: int) -> None:
        """Send init the signal for poweroff or reboot (systemd(1), signals), repeatedly, because an init that has just started may miss it."""
        init, process = self.init, self.process

        def insist() -> None:
            deadline = time.monotonic() + SHUTDOWN_SECONDS
            while process and init and process.poll() is None and time.monotonic() < deadline:
                with suppress(ProcessLookupError):
                    os.kill(init, request)
                with suppress(subprocess.TimeoutExpired):
                    process.wait(2)
            if process and init and process.poll() is None:  # without init it is being booted, and who boots it then does what was asked
                self.cut()

        threading.Thread(target=insist, name=f"{self.id} asked", daemon=True).start()

    def cut(self) -> None:
        """Cut the power: remove the network link, then kill init, which ends every process of the machine."""
        links.cut(self.nic)
        if self.init:
            with suppress(ProcessLookupError):
                os.kill(self.init, signal.SIGKILL)

    def free(self) -> None:
        """Remove the disk."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def console(self) -> bytes:
        """Return the newest 64 KB that the machine wrote to its console."""
        with suppress(FileNotFoundError):
            return self.console_file.read_bytes()[-CONSOLE_BYTES:]
        return b""

    def answers_ssh(self) -> bool:
        """Return whether a process in the machine listens on port 22."""
        if self.init is None:
            return False
        with suppress(OSError):
            for family in ("tcp", "tcp6"):
                for line in Path(f"/proc/{self.init}/net/{family}").read_text().splitlines()[1:]:
                    _, local, _, state = line.split()[:4]
                    if local.endswith(":0016") and state == "0A":
                        return True
        return False

    def runs(self, program: str) -> bool:
        """Return whether a process of this name runs in the machine. The kernel keeps 15 characters of a name."""
        if self.init is None:
            return False
        for pid in links.pids_in(self.lab.namespace(self.id)):
            with suppress(OSError):
                if Path(f"/proc/{pid}/comm").read_text().strip() == program[:15]:
                    return True
        return False


def _end_processes(lab: Lab, instance_id: str) -> None:
    """End what still runs of a machine: its init outlives a systemd-nspawn that was killed."""
    for pid in {*links.pids_in(lab.namespace(instance_id)), *cgroups.pids(lab, instance_id)}:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _descendants(pid: int) -> Iterator[int]:
    """Give the processes below a process, nearest first."""
    below = [pid]
    for parent in below:
        with suppress(OSError):
            below += [int(child) for child in Path(f"/proc/{parent}/task/{parent}/children").read_text().split()]
    yield from below[1:]


def remove_orphan(lab: Lab, instance_id: str) -> None:
    """Remove a machine that no instance belongs to, whatever there is of it."""
    space, folder = lab.namespace(instance_id), lab.disks / instance_id
    while supervisor := Supervisor.find(folder / "root", folder / "exit-status"):
        supervisor.kill()
        supervisor.wait(SHUTDOWN_SECONDS)
    _end_processes(lab, instance_id)
    run("ip", "netns", "delete", space, check=False)
    run("umount", "--lazy", str(folder / "root"), check=False)
    cgroups.remove(lab, instance_id)
    shutil.rmtree(folder, ignore_errors=True)
