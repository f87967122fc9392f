"""How plans are shown: each change once, with every host that it concerns; and no diff in a repr, where nobody redacts."""

from __future__ import annotations

from runbook_lib.changes import Change, Pending, Plan

SAME = Change("file /etc/x", "create", "3 bytes", "+abc")
PLAN = Plan(
    "Nodes",
    {"store-1": (), "store-2": ()},
    (
        Pending("store-1", "machine", SAME),
        Pending("store-1", "pack", Change("archive /opt/x", "unpack", "archive 1…")),
        Pending("store-2", "machine", SAME),
        Pending("store-2", "pack", Change("archive /opt/x", "unpack", "archive 2…")),
        Pending("store-2", "settings", SAME),
    ),
)


def test_no_repr_shows_a_diff() -> None:
    change = Change("file /etc/x", "change", "1 line differs", "-password = old\n+password = s3cret")
    assert "s3cret" not in repr(change) and "s3cret" not in repr([Pending("db-1", "files", change)])
    assert "1 line differs" in repr(change)


def test_what_several_hosts_lack_alike_is_one_line() -> None:
    lines = str(PLAN).splitlines()
    assert lines[0].startswith("Nodes: 5 changes pending on 2 hosts")
    assert [line.partition("+")[0].strip() for line in lines if "file /etc/x" in line] == ["store-1, store-2", "store-2"]
    assert sum("+abc" in line for line in lines) == 2, "a diff is shown once per change, and another stage is another change"


def test_what_differs_between_hosts_stays_apart() -> None:
    assert [line.split()[0] for line in str(PLAN).splitlines() if "unpack" in line and "archive" in line and "pending" not in line] == ["store-1", "store-2"]


def test_the_table_of_a_notebook_has_the_same_rows() -> None:
    table = PLAN._repr_html_()
    assert table.count("<tr>") == 1 + 4 and "<td>store-1, store-2</td>" in table
