"""Message bodies and archive copies: saved, shown, listed and archived by the real client rooms."""

from __future__ import annotations

import contextlib
import io
import json
import sys
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from tests.fuzz import shapes
from tests.fuzz.engine import Found, Target
from tests.fuzz.wire import pack

from coterie_client.database import Database
from coterie_client.envelope import Content, archive_copy
from coterie_client.history import History, Message
from coterie_client.ordering import HoldBack
from coterie_client.output import json_line, message_json, message_line
from coterie_protocol.client_api import Mail, MailItem
from coterie_protocol.errors import FrameError
from coterie_protocol.frames import decode_server

ME = "alice"
FORBIDDEN = {
    chr(one)
    for one in (*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029, *range(0x202A, 0x202F), *range(0x2066, 0x206A))
}
"""What must not reach a terminal as it came; a message's own line breaks may."""


class Bodies(Target):
    """Mail with a hostile body, and with hostile fields of its own, in the middle of good mail."""

    name = "bodies"
    about = "mail with hostile bodies, archive copies and fields -> a client's history and terminal"
    shrinks = False

    def cases(self) -> st.SearchStrategy[bytes]:
        bodies = shapes.bytes_of(pack, shapes.of(Content)).map(lambda body: b"\x00" + body)
        items = shapes.of(MailItem)
        with_body = st.builds(
            lambda item, body: [*item[:4], body, *item[5:]], items, st.one_of(bodies, bodies.map(archive_copy))
        )
        mail = st.one_of(with_body, with_body, shapes.spoilt(with_body))
        return mail.map(lambda item: pack([[0, [50, [item]]]]))

    def begin(self, directory: Path) -> None:
        self._database = Database(directory / "history.db")
        self._history = History(self._database)
        self._hold = HoldBack(last_shown=self._history.last_shown, was_shown=self._history.was_shown)
        self._number = 0

    def end(self) -> None:
        self._database.close()

    def feed(self, case: bytes) -> None:
        try:
            (frame,) = decode_server(case)
        except FrameError:
            return  # the connection ends, and the client goes to another server
        if not isinstance(frame.body, Mail):
            return
        (item,) = frame.body.items
        before, after = self._good(), self._good()
        new = self._history.save([before, item, after])
        if {before.id, after.id} - {one.id for one in new}:
            raise Found("good mail beside it was not saved")
        self._hold.offer(new, float(self._number))
        ready = self._hold.take(self._number + 1e6, drain_asked_at=self._number + 1e6)
        if {before.id, after.id} - {one.id for one in ready}:
            raise Found("good mail beside it is not shown")
        for message in ready:
            self._show(message)
        self._history.mark_shown(ready)
        archived = self._history.save_archived(
            [self._good(archive=True), _renumbered(item, self._next()), self._good(archive=True)]
        )
        if archived < 2:
            raise Found("good archive copies beside it were not saved")
        for name in {item.sender, "bob"}:
            for message in self._history.page(name, limit=5) or []:
                self._show(message)

    def _show(self, message: Message) -> None:
        line = str(message_line(message, str))
        json.loads(str(json_line(message_json(message, ME))))
        if leaked := FORBIDDEN & set(line.replace("\n", "").replace("\t", "")):
            raise Found(f"{sorted(leaked)!r} reach the terminal")
        with contextlib.redirect_stdout(io.StringIO()):
            sys.stdout.write(line)

    def _next(self) -> int:
        self._number += 1
        return self._number

    def _good(self, *, archive: bool = False) -> MailItem:
        number = self._next()
        content = pack([1, number, b"", 1_800_000_000_000, f"message {number}", ME])
        body = b"\x00" + content
        mid = (1 << 100 | number).to_bytes(16, "big")
        return MailItem(
            "bob",
            mid,
            0,
            2 if archive else 0,
            archive_copy(body) if archive else body,
            b"",
            1,
            1_800_000_000_000 + number,
        )


def _renumbered(item: MailItem, number: int) -> Any:
    return MailItem(
        item.sender,
        (2 << 100 | number).to_bytes(16, "big"),
        item.part,
        item.state,
        item.body,
        item.prekey,
        item.epoch,
        item.stored_at,
    )
