"""How plans are shown: each change once, with every host that it concerns; and no diff in a repr, where nobody redacts."""

from __future__ import annotations

import pytest

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


def test_a_change_of_all_hosts_takes_no_column_of_names() -> None:
    hosts = ("store-1", "store-2", "publisher-1")
    pending = [*(Pending(host, "machine", SAME) for host in hosts), Pending("store-1", "settings", SAME)]
    table = Plan("Nodes", dict.fromkeys(hosts, ()), tuple(pending))._repr_html_()
    assert '<td><span title="store-1, store-2, publisher-1">all 3 hosts</span></td>' in table and "<td>store-1</td>" in table


def test_a_path_goes_on_below_after_a_slash_and_not_within_a_word() -> None:
    assert "<td>file /<wbr>etc/<wbr>x</td>" in PLAN._repr_html_()


def test_a_diff_of_the_table_has_a_row_of_its_own_with_its_lines_coloured() -> None:
    diff = "@@ -1 +1 @@\n-old <x>\n+new\n same"
    table = Plan("Nodes", {}, (Pending("a", "files", Change("file /etc/x", "change", "1 line differs", diff)),))._repr_html_()
    assert '</tr><tr class="rb-diff"><td colspan="4"><pre>' in table
    kinds = [("place", "@@ -1 +1 @@"), ("taken", "-old &lt;x&gt;"), ("added", "+new"), ("same", " same")]
    assert "".join(f'<span class="rb-{kind}">{line}</span>\n' for kind, line in kinds) in table


def change(host: str, key: str, verb: str = "modify", stage: str = "settings", summary: str = "") -> Pending:
    return Pending(host, stage, Change(key, verb, summary))


BEGUN = Plan("Nodes", {"a": (), "b": ()}, (change("a", "x"), change("a", "y"), change("b", "x")), begun={"a"})
IN_THE_CLOUD = Plan("d", {}, (change("", "group lb", "create"), change("", "rule lb", "create")), begun={""})


@pytest.mark.parametrize(
    ("planned", "left", "ours"),
    [
        (BEGUN, [change("a", "y"), change("b", "x")], True),
        (BEGUN, [change("a", "x", summary="half of it"), change("a", "y"), change("b", "x")], True),
        (BEGUN, [change("a", "unit x", "restart"), change("a", "y"), change("b", "x")], True),
        (BEGUN, [change("b", "x")], True),
        (BEGUN, [change("a", "y")], False),
        (BEGUN, [change("a", "y"), change("b", "x", summary="another line")], False),
        (BEGUN, [change("a", "y"), change("b", "x"), change("b", "z")], False),
        (IN_THE_CLOUD, [change("", "rule lb", "create")], True),
        (IN_THE_CLOUD, [change("", "rule lb", "create"), change("", "host keys lb-1", "pin")], True),
        (IN_THE_CLOUD, [change("", "rule lb", "create"), change("", "rule lb: 8080", "delete")], False),
    ],
    ids=[
        *("less is left", "half of a resource", "a service to restart", "a host is done", "another host has less", "another host has something else"),
        *("another host has more", "less in the cloud", "half an object in the cloud", "a foreign rule in the cloud"),
    ],
)
def test_what_is_left_of_a_plan_is_told_from_what_another_hand_did(planned: Plan, left: list[Pending], ours: bool) -> None:
    assert Plan(planned.title, planned.wish, tuple(left)).is_left_of(planned) is ours


def test_on_a_host_that_was_begun_what_another_hand_did_to_something_else_is_foreign() -> None:
    file = type("File", (), {"key": "z"})()
    stage = type("Stage", (), {"resources": (file,)})()
    planned = Plan("Nodes", {"a": (stage,)}, (change("a", "x"),), begun={"a"})
    assert not Plan("Nodes", planned.wish, (change("a", "z"),)).is_left_of(planned)
    assert Plan("Nodes", planned.wish, (change("a", "of its first boot"),)).is_left_of(planned), "the desired state has more after a first boot"
