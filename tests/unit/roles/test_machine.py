"""What every machine is told of its system, read as the system reads it."""

from __future__ import annotations

import subprocess

import pytest

from runbook_lib.roles import carbon, machine, mysql, nginx, worker
from tests.fakes import context

NEEDRESTARTS_READING = """
our %nrconf = (override_rc => {qr(^dbus) => 0});
eval shift; die $@ if $@;
foreach my $re (keys %{$nrconf{override_rc}}) { exit 1 if $ARGV[0] =~ /$re/ && !$nrconf{override_rc}->{$re} }
"""


@pytest.mark.parametrize(
    ("unit", "restarts"),
    [
        (carbon.UNIT, False),
        (mysql.unit_of(context("greg-single", database={"package": "mysql-server"}).spec), False),
        (mysql.unit_of(context("greg-single").spec), False),
        (worker.UNIT, False),
        ("nginx.service", False),
        ("dbus.service", False),  # as the package ships it
        ("ssh.service", True),
        ("mysqlrouter.service", True),
    ],
)
def test_after_an_update_of_a_library_nothing_that_serves_is_restarted_by_needrestart(unit: str, restarts: bool) -> None:
    done = subprocess.run(["perl", "-e", NEEDRESTARTS_READING, machine.NEEDRESTART, unit], capture_output=True, text=True)
    assert (done.returncode == 0) == restarts and not done.stderr


@pytest.mark.parametrize("file", [machine.KERNEL_FILE, nginx.KERNEL_FILE])
def test_the_kernels_parameters_are_set_after_those_of_the_distribution(file: str) -> None:
    """systemd sets them at each boot in the order of the files' names, whatever folder they lie in; these are of procps, in Debian and Ubuntu."""
    folder, _, name = file.rpartition("/")
    assert folder == "/etc/sysctl.d" and name > max("99-sysctl.conf", "99-protect-links.conf")
