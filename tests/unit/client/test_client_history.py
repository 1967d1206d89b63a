from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from coterie_client.contacts import Contacts
from coterie_client.database import Database, account_path
from coterie_client.envelope import WITHDRAWN, Content, Problem, archive_copy, open_body, seal
from coterie_client.errors import AlreadyReceiving, ClientError
from coterie_client.history import History
from coterie_client.locks import receiver_lock
from coterie_client.outbox import Outbox
from coterie_protocol.client_api import MailItem


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with Database(tmp_path / "a.db") as opened:
        yield opened


def identity(number: int) -> bytes:
    return number.to_bytes(16, "big")


def mail(
    number: int, text: str = "hi", *, sender: str = "bob", epoch: int = 1, at: int = 0, to: str = "me"
) -> MailItem:
    body = seal(Content(epoch, number, b"", 0, text, to))
    return MailItem(sender, identity(number), 0, 0, body, b"", 1, at or number)


def archived(item: MailItem) -> MailItem:
    return MailItem(item.sender, item.id, 0, 2, archive_copy(item.body), b"", 1, item.stored_at)


def test_received_mail_is_saved_once(database: Database) -> None:
    history = History(database)
    assert [m.text for m in history.save([mail(1, "one"), mail(2, "two"), mail(1, "one")])] == ["one", "two"]
    assert history.save([mail(2, "two")]) == []
    assert [m.text for m in history.unshown()] == ["one", "two"]


def test_what_was_shown_stays_shown_after_a_restart(tmp_path: Path) -> None:
    with Database(tmp_path / "a.db") as database:
        history = History(database)
        history.mark_shown(history.save([mail(1), mail(2)])[:1])
    with Database(tmp_path / "a.db") as database:
        history = History(database)
        assert [m.counter for m in history.unshown()] == [2]
        assert history.was_shown("bob", identity(1))
        assert not history.was_shown("bob", identity(2))
        assert history.last_shown("bob") == (1, 1)
        assert history.last_shown("carol") == (0, 0)


def test_a_body_of_a_newer_client_is_kept(database: Database) -> None:
    history = History(database)
    (message,) = history.save([MailItem("bob", identity(1), 0, 0, b"\x09secret", b"", 1, 5)])
    assert message.text is None
    assert message.problem is Problem.NEWER
    history.mark_archived([("bob", identity(1))])
    (kept,) = history.page("bob", limit=5) or []
    assert kept.body == b"\x09secret"


def test_a_page_of_the_archive_brings_both_sides(database: Database) -> None:
    history = History(database)
    own = MailItem("", identity(3), 0, 2, archive_copy(mail(3, "mine", to="bob").body), b"", 1, 30)
    withdrawn = MailItem("", identity(4), 0, 2, WITHDRAWN, b"", 1, 40)
    assert history.save_archived([withdrawn, own, archived(mail(2, "theirs", at=20))]) == 2
    assert history.save_archived([own]) == 0
    assert [(m.outgoing, m.text) for m in history.page("bob", limit=9) or []] == [(False, "theirs"), (True, "mine")]
    assert history.unshown() == []


def test_history_pages_backwards_and_searches_in_any_script(database: Database) -> None:
    history = History(database)
    history.save([mail(n, f"Straße {n}" if n % 2 else "ΣΊΣΥΦΟΣ") for n in range(1, 10)])
    assert [m.counter for m in history.page("bob", limit=3) or []] == [7, 8, 9]
    assert [m.counter for m in history.page("bob", limit=3, before=identity(7)) or []] == [4, 5, 6]
    assert [m.counter for m in history.page("bob", limit=9, search="STRASSE") or []] == [1, 3, 5, 7, 9]
    assert [m.counter for m in history.page("bob", limit=9, search="σίσυφος") or []] == [2, 4, 6, 8]
    assert history.page("bob", limit=9, search="%") == []
    assert history.page("bob", limit=3, before=identity(99)) is None
    assert history.page("nobody", limit=3) == []


def test_history_keeps_a_senders_order_where_storing_times_do_not(database: Database) -> None:
    history = History(database)
    history.save([mail(1, at=10), mail(2, at=40), mail(3, at=30)])
    assert [m.counter for m in history.page("bob", limit=9) or []] == [1, 2, 3]


def test_counters_rise_for_each_recipient_and_epoch(database: Database) -> None:
    outbox = Outbox(database)
    first = outbox.add("bob", "1", message_id=identity(1), epoch=4, now=1)
    other = outbox.add("carol", "1", message_id=identity(2), epoch=4, now=2)
    second = outbox.add("bob", "2", message_id=identity(3), epoch=4, now=3)
    later = outbox.add("bob", "3", message_id=identity(4), epoch=6, now=4)
    assert [(m.epoch, m.counter) for m in (first, other, second, later)] == [(4, 1), (4, 2), (4, 3), (6, 4)]
    assert (first.prev, second.prev, later.prev) == (b"", first.id, second.id)
    content = open_body(second.body)
    assert content == Content(4, 3, first.id, 3, "2", "bob")


def test_two_processes_share_one_sequence(tmp_path: Path) -> None:
    with Database(tmp_path / "a.db") as one, Database(tmp_path / "a.db") as two:
        counters = [
            Outbox(base).add("bob", "x", message_id=identity(n), epoch=1, now=1).counter
            for n, base in enumerate((one, two, one, two))
        ]
    assert counters == [1, 2, 3, 4]


def test_the_outbox_keeps_what_is_not_stored_over_a_restart(tmp_path: Path) -> None:
    with Database(tmp_path / "a.db") as database:
        outbox = Outbox(database)
        for n in (1, 2, 3):
            outbox.add("bob", str(n), message_id=identity(n), epoch=1, now=n)
        outbox.stored(identity(2), 77)
        outbox.withdraw(identity(3))
    with Database(tmp_path / "a.db") as database:
        outbox = Outbox(database)
        (left,) = outbox.sending()
        assert (left.text, left.state) == ("1", "sending")
        (stored,) = outbox.unarchived()
        assert (stored.text, stored.state, stored.time) == ("2", "stored", 77)
        History(database).mark_archived([("", identity(2))])
        assert outbox.unarchived() == []


def test_states_only_rise(database: Database) -> None:
    outbox = Outbox(database)
    outbox.add("bob", "x", message_id=identity(1), epoch=1, now=1)
    assert [m.state for m in outbox.states([(identity(1), 2)])] == ["delivered"]
    assert outbox.states([(identity(1), 0), (identity(1), -1), (identity(9), 2)]) == []
    outbox.stored(identity(1), 5)
    message = outbox.get(identity(1))
    assert message is not None
    assert message.state == "delivered"


def test_an_own_copy_of_another_device_is_adopted_once(database: Database) -> None:
    outbox = Outbox(database)
    copy = MailItem("", identity(5), 0, 0, mail(5, "typed there", to="bob").body, b"", 1, 9)
    adopted = outbox.adopt(copy)
    assert adopted is not None
    assert (adopted.peer, adopted.text, adopted.state, adopted.body) == ("bob", "typed there", "sending", copy.body)
    assert outbox.adopt(copy) is None
    assert outbox.adopt(MailItem("", identity(6), 0, 0, b"\x09", b"", 1, 9)) is None


def test_contacts(database: Database) -> None:
    contacts = Contacts(database)
    contacts.add("zoe", "", 1)
    contacts.add("bob", "Anna's brother", 2)
    assert [c.name for c in contacts.all()] == ["bob", "zoe"]
    contacts.rename("zoe", "A")
    contacts.remove("bob")
    assert contacts.aliases() == {"zoe": "A"}
    with pytest.raises(ClientError, match="already"):
        contacts.add("zoe", "", 3)
    with pytest.raises(ClientError, match="lists who is"):
        contacts.remove("bob")
    with pytest.raises(ClientError, match="contacts add bob"):
        contacts.rename("bob", "x")


def test_a_file_of_a_newer_coterie_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    sql = sqlite3.connect(path)
    sql.execute("PRAGMA user_version = 99")
    sql.close()
    with pytest.raises(ClientError, match="newer coterie; update"):
        Database(path)


def test_a_file_that_is_no_database_says_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    path.write_bytes(b"rubbish" * 1000)
    with pytest.raises(ClientError, match="move the damaged file away"):
        Database(path)


def test_a_failed_transaction_leaves_nothing(database: Database) -> None:
    history = History(database)

    def half() -> None:
        with database.write() as sql:
            sql.execute("INSERT INTO contacts VALUES ('x', '', 1)")
            sql.execute("INSERT INTO nowhere VALUES (1)")

    with pytest.raises(ClientError, match=r"a\.db"):
        half()
    assert Contacts(database).all() == []
    assert history.unshown() == []


def test_names_become_files_of_their_own(tmp_path: Path) -> None:
    names = ["alice", ".", "..", "a/b", "ß", "a.db"]
    paths = {account_path(tmp_path, "r", name) for name in names}
    assert len(paths) == len(names)
    assert {path.parent for path in paths} == {tmp_path / "accounts" / "r"}


def test_a_second_receiver_learns_who_receives(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with (
        receiver_lock(path),
        pytest.raises(AlreadyReceiving, match=f"process {os.getpid()} already"),
        receiver_lock(path),
    ):
        pass
    with receiver_lock(path):
        pass
