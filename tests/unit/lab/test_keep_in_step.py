"""Links and rules follow the API: what cannot be made of one thing leaves all others in force."""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ec2lab.machines.hypervisor import Hypervisor


class Machine:
    def __init__(self, id_: str, works: bool):
        self.id, self.works, self.made = id_, works, False

    def apply_rules(self, rules: str) -> None:
        if not self.works:
            raise ValueError("no firewall can be made of these rules")
        self.made = True


@pytest.mark.parametrize("broken", ["subnets", "rules", "a machine"])
def test_one_failure_is_logged_by_name_and_leaves_the_rest_in_force(broken: str, caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    machines = {name: Machine(name, works=name != "i-1" or broken != "a machine") for name in ("i-1", "i-2")}
    lab: Any = Hypervisor.__new__(Hypervisor)
    lab.guard, lab.machines, lab.trouble = threading.RLock(), machines, {}
    lab.lab = SimpleNamespace(trouble_file=tmp_path / "trouble.json")
    lab.ec2 = SimpleNamespace(all_instances=lambda: [SimpleNamespace(id=name, state="running") for name in machines])

    def sync() -> None:
        if broken == "subnets":
            raise ValueError("a range with host bits")

    def rules(instance: Any) -> str:
        if broken == "rules" and instance.id == "i-1":
            raise ValueError("port 70000")
        return ""

    lab._sync_wires, lab._rules = sync, rules
    with caplog.at_level(logging.ERROR):
        lab._bring_in_step()
    assert machines["i-2"].made
    assert [record.getMessage().split(":")[0] for record in caplog.records] == ["subnets" if broken == "subnets" else "i-1"]
    assert machines["i-1"].made == (broken == "subnets")
