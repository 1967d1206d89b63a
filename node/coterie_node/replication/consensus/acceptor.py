"""The acceptor: what a member does with its own registers, inside one transaction of its store.

Rules 3, 4, 9 to 12 of the slot protocol (docs/protocol.md). Every function here checks and writes atomically; the reply
leaves after the fsync, because callers await `Store.transact`. Nothing here waits, sends or decides.

A damaged register (rule 15) abstains: it promises nothing, for its lost value would count as "none" in a quorum that
needs it, and it takes only what is above everything that this node ever promised: whoever proposes that had a quorum
without this node. Taking it heals the register.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from coterie_node.store.errors import RegisterDamaged
from coterie_protocol.errors import StaleEpoch, Unavailable
from coterie_protocol.registers import (
    ACCOUNT_ZERO,
    ZERO,
    AccountAccept,
    AccountAccepted,
    AccountBallot,
    AccountList,
    AccountPrepare,
    AccountPromise,
    AccountPromises,
    AccountRead,
    AccountRegister,
    Ballot,
    ConfigPromise,
    KnownConfig,
    SlotRegister,
)
from coterie_protocol.replication import SyncState, SyncStateItem, SyncStates
from coterie_protocol.weight import FRAME, weight_of_promise

from ...runtime.ports import NO_LIMIT_MS, Tx

UNAVAILABLE = "this member's register is damaged; it abstains until a proposer writes it again"
BLANK = SlotRegister(ZERO, ZERO, None)
BLANK_ACCOUNT = AccountRegister(ACCOUNT_ZERO, ACCOUNT_ZERO, None)
ASIDE = "aside/"
"""Begins the names of the values that keep accounts which an accepted loss has passed over."""
LIST_PAGE = 64
"""Accounts that travel in one message, at most ..."""
PAGE_BYTES = 1024 * 1024
"""... and what they weigh: an account with keys and a vault has up to 130 KB."""


def found(tx: Tx, slots: int, ballot: Ballot, register: SlotRegister) -> None:
    """Begin every slot with the founder alone. Only the founder creates (rule 3)."""
    for slot in range(slots):
        if tx.slot_register(slot) is None:
            tx.put_slot_register(slot, register)


def config_prepare(tx: Tx, items: Sequence[tuple[int, Ballot]]) -> list[ConfigPromise]:
    """Rule 3: promise each ballot that is higher than what was promised; answer what was accepted, or none."""
    answers = []
    for slot, ballot in items:
        try:
            held = tx.slot_register(slot) or BLANK
        except RegisterDamaged as damage:
            answers.append(ConfigPromise(slot, _config_floor(damage), ZERO, None))
            continue
        if ballot > held.promised:
            held = SlotRegister(ballot, held.accepted, held.config)
            tx.put_slot_register(slot, held)
        answers.append(ConfigPromise(slot, held.promised, held.accepted, held.config))
    return answers


def config_accept(tx: Tx, items: Sequence[KnownConfig]) -> list[ConfigPromise]:
    """Rule 4: take a configuration if its ballot is not below the promise and its epoch not below our own."""
    answers = []
    for item in items:
        held, floor = _held(tx, item.slot)
        if item.ballot < floor:
            answers.append(ConfigPromise(item.slot, floor, ZERO, None))
            continue
        if item.ballot >= held.promised and (held.config is None or item.config.epoch >= held.config.epoch):
            _leave_generation(tx, item.slot, held, item)
            held = register_of(item)
            tx.put_slot_register(item.slot, held)
        answers.append(ConfigPromise(item.slot, held.promised, held.accepted, held.config))
    return answers


def config_learn(tx: Tx, items: Sequence[KnownConfig]) -> list[KnownConfig]:
    """Rule 4: store a chosen configuration whose ballot is higher and whose epoch is not lower; return the news."""
    news = []
    for item in items:
        held, floor = _held(tx, item.slot)
        if item.ballot < floor:
            continue
        if _is_news(item, held):
            promised = max(held.promised, item.ballot)
            _leave_generation(tx, item.slot, held, item)
            tx.put_slot_register(item.slot, SlotRegister(promised, item.ballot, item.config))
            news.append(item)
    return news


def _is_news(item: KnownConfig, held: SlotRegister) -> bool:
    """Say whether a chosen configuration goes beyond a register.

    A later generation does at any ballot: two lost members that returned together may have gone on counting.
    """
    if held.config is None:
        return item.ballot > held.accepted
    if item.config.generation > held.config.generation:
        return True
    return item.ballot > held.accepted and item.config.epoch >= held.config.epoch


def register_of(known: KnownConfig) -> SlotRegister:
    """Return the register of an acceptor that has accepted a configuration."""
    return SlotRegister(known.ballot, known.ballot, known.config)


def account_of(promise: AccountPromise) -> AccountRegister:
    """Return the register that an acceptor has told."""
    return AccountRegister(promise.promised, promise.accepted, promise.value)


def _leave_generation(tx: Tx, slot: int, held: SlotRegister, item: KnownConfig) -> None:
    """Put accounts aside when their slot has begun anew without this node.

    What this node and others that were thought lost have decided among themselves is not the slot's history any more.
    Its values must not come back one by one when it is a member again; but they may be somebody's only copy.
    """
    if held.config is None or item.config.generation <= held.config.generation:
        return
    kept: list[tuple[str, AccountRegister]] = []
    after = ""
    while names := tx.account_names(slot, after, LIST_PAGE):
        after = names[-1]
        for name in names:
            register, floor = _held_account(tx, slot, name)
            if floor == ACCOUNT_ZERO and register.value is not None:
                kept.append((name, register))
    if kept:
        tx.put_meta(f"{ASIDE}{slot}/{held.config.epoch}", msgspec.msgpack.encode(kept))
    tx.drop_accounts(slot)


def _held(tx: Tx, slot: int) -> tuple[SlotRegister, Ballot]:
    """Return a slot's register and ZERO; of a damaged one, a blank and the floor below which nothing is taken."""
    try:
        return tx.slot_register(slot) or BLANK, ZERO
    except RegisterDamaged as damage:
        return BLANK, _config_floor(damage)


def _config_floor(damage: RegisterDamaged) -> Ballot:
    floor = damage.floor
    assert isinstance(floor, Ballot)
    return floor


def _held_account(tx: Tx, slot: int, name: str) -> tuple[AccountRegister, AccountBallot]:
    """Return an account's register and ACCOUNT_ZERO; of a damaged one, a blank and the floor."""
    try:
        return tx.account(slot, name) or BLANK_ACCOUNT, ACCOUNT_ZERO
    except RegisterDamaged as damage:
        floor = damage.floor
        assert isinstance(floor, AccountBallot)
        return BLANK_ACCOUNT, floor


def _fence(tx: Tx, slot: int, epoch: int, cid: Ballot) -> None:
    """Rule 9: answer only under exactly our own configuration."""
    try:
        held = tx.slot_register(slot)
    except RegisterDamaged:
        raise Unavailable(UNAVAILABLE) from None
    if held is None or held.config is None:
        raise StaleEpoch
    if held.config.identity != (epoch, cid):
        raise StaleEpoch((KnownConfig(slot, held.accepted, held.config),))


def account_prepare(tx: Tx, request: AccountPrepare) -> AccountPromises:
    """Promise accounts' ballots; raises StaleEpoch under another configuration.

    A ballot of a later epoch than its request's is not promised: it would stand above those of later configurations.
    """
    _fence(tx, request.slot, request.epoch, request.cid)
    answers = []
    for name, ballot in request.items:
        held, floor = _held_account(tx, request.slot, name)
        if floor != ACCOUNT_ZERO:
            answers.append(AccountPromise(name, floor, ACCOUNT_ZERO, None))
            continue
        if ballot > held.promised and ballot.epoch <= request.epoch:
            held = AccountRegister(ballot, held.accepted, held.value)
            tx.put_account(request.slot, name, held)
        answers.append(AccountPromise(name, held.promised, held.accepted, held.value))
    return AccountPromises(answers)


def account_accept(tx: Tx, request: AccountAccept) -> AccountAccepted:
    """Accept accounts' values; raises StaleEpoch under another configuration: the fence on accept is vital."""
    _fence(tx, request.slot, request.epoch, request.cid)
    answers: list[tuple[str, AccountBallot]] = []
    for name, ballot, value in request.items:
        held, floor = _held_account(tx, request.slot, name)
        if ballot < floor:
            answers.append((name, floor))
            continue
        if ballot >= held.promised and ballot.epoch <= request.epoch:
            held = AccountRegister(ballot, ballot, value)
            tx.put_account(request.slot, name, held)
        answers.append((name, held.promised))
    return AccountAccepted(answers)


def account_read(tx: Tx, request: AccountRead) -> AccountPromises:
    """Answer accepted values without promising anything; raises StaleEpoch under another configuration."""
    _fence(tx, request.slot, request.epoch, request.cid)
    answers = []
    for name in request.names:
        held, floor = _held_account(tx, request.slot, name)
        if floor != ACCOUNT_ZERO:
            continue
        answers.append(AccountPromise(name, held.promised, held.accepted, held.value))
    return AccountPromises(answers)


def account_list(tx: Tx, request: AccountList) -> AccountPromises:
    """Rule 12: a page of all accounts with an accepted value; raises StaleEpoch under another configuration."""
    _fence(tx, request.slot, request.epoch, request.cid)
    page = tx.accounts(request.slot, request.after, LIST_PAGE)
    answers = [
        AccountPromise(name, held.promised, held.accepted, held.value)
        for name, held in page
        if held.accepted != ACCOUNT_ZERO
    ]
    if page and len(page) == LIST_PAGE and not answers:
        # A page of bare promises: name the last one so that the caller can go on after it.
        name, held = page[-1]
        answers.append(AccountPromise(name, held.promised, held.accepted, held.value))
    return page_of(answers, more=len(page) == LIST_PAGE)


def page_of(promises: Sequence[AccountPromise], *, more: bool) -> AccountPromises:
    """Make a page of accounts: it closes before it is too large, but has one account at least if there is one."""
    size = FRAME
    for count, promise in enumerate(promises):
        size += weight_of_promise(promise)
        if count and size > PAGE_BYTES:
            return AccountPromises(list(promises[:count]), more=True)
    return AccountPromises(list(promises), more=more)


def sync_state(tx: Tx, request: SyncState) -> SyncStates:
    """Say how much is held of some slots, each under exactly the configuration asked for."""
    answers = []
    for slot, epoch, cid in request.items:
        held, floor = _held(tx, slot)
        if floor != ZERO or held.config is None:
            answers.append(SyncStateItem(slot, None, -1, 0))
        elif held.config.identity != (epoch, cid):
            answers.append(SyncStateItem(slot, KnownConfig(slot, held.accepted, held.config), -1, 0))
        else:
            answers.append(SyncStateItem(slot, None, tx.account_count(slot), tx.slot_digest(slot, NO_LIMIT_MS)))
    return SyncStates(answers)
