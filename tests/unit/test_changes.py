"""What a change shows of itself where nobody redacts: in a repr, as a traceback or a notebook's last line may have it."""

from __future__ import annotations

from runbook_lib.changes import Change, Pending


def test_no_repr_shows_a_diff() -> None:
    change = Change("file /etc/x", "change", "1 line differs", "-password = old\n+password = s3cret")
    assert "s3cret" not in repr(change) and "s3cret" not in repr([Pending("db-1", "files", change)])
    assert "1 line differs" in repr(change)
