"""The limits and timings of chat. Seconds, unless a field says otherwise."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ChatSettings:
    """Defaults suit a small server on the open internet; the limits are those that operators change."""

    pending_records: int = 100_000
    """How many pending records a mailbox takes before it is full."""
    pending_bytes: int = 512 * 1024 * 1024
    """Bytes of pending records that a mailbox takes: all fields, 256 a record beside. The archive has its own quota."""
    archive_records: int = 1_000_000
    """How many archived records of one user are kept; mail goes on beyond it, copies do not ..."""
    archive_bytes: int = 2 * 1024 * 1024 * 1024
    """... and their bytes, counted like those of a mailbox."""
    sends_per_second: float = 1000.0
    """Messages a second of one session at all its gateways; twice as many may come at once."""
    bytes_per_second: float = 2 * 1024 * 1024
    """Bytes a second of the messages of one session at all its gateways; twice as many may come at once. Three
    times as many are read from its connections, whatever they hold."""
    acknowledged_per_second: float = 2000.0
    """Archive copies (and discarded ones) a second of one session, and at once."""
    states_per_second: float = 1000.0
    """States of messages that one session asks for a second; five times as many at once, as of pages and lookups."""
    names_per_second: float = 100.0
    """Names whose presence one session asks for a second; ten times as many at once."""
    lookups_per_second: float = 10.0
    """Accounts that one session looks up a second: each is read from a quorum."""
    pages_per_second: float = 40.0
    """Pages of its archive that one session reads a second."""
    others_per_second: float = 5.0
    """Other requests of one session a second, such as Subscribe, which begins a drain; ten times as many at once."""
    unasked_per_second: float = 100.0
    """Archive copies a second by which one user acknowledges nothing that waits: copies of what was never pending, or
    what is archived already ..."""
    unasked_at_once: int = 1000
    """... and how many at once."""
    deleted_records: int = 1_000_000
    """How many deleted records are remembered for one user: what is beyond it stays pending until older ones go."""
    unheld_discards: int = 1000
    """How many ids that an owner does not hold (yet) one user may discard at once with effect ..."""
    unheld_discard_pause: float = 10.0
    """... and the seconds after which one more."""
    session_entries: int = 2048
    """Unanswered messages of one session at one gateway before it answers BUSY ..."""
    session_bytes: int = 2 * 1024 * 1024
    """... and what they weigh; nothing more is read from a connection while they are half of that."""
    session_window: int = 128
    """Messages of one session that are at owners at the same time; what it has beyond waits for its turn ..."""
    session_window_bytes: int = 512 * 1024
    """... and what they weigh. Both are divided by the number of gateways at which the session is."""
    share_look: float = 1.0
    """Seconds after which a session that asks too much learns anew at how many gateways it is."""
    session_questions: int = 64
    """Unanswered requests of one session that are no messages, before a gateway answers BUSY ..."""
    session_questions_bytes: int = 4 * 1024 * 1024
    """... and what they weigh."""
    questions_bytes: int = 32 * 1024 * 1024
    """What such requests of all sessions weigh at most."""
    stranger_requests: int = 50
    """Requests of one connection that need no session at once: Resume, LoginParams, Lookup, another Hello ..."""
    stranger_pause: float = 0.1
    """... and the seconds after which one more."""
    strangers_at_once: int = 8
    """Such requests that a gateway serves at the same time: each is read from a quorum ..."""
    strangers_waiting: int = 2048
    """... and how many wait for their turn, that of their address, before one of the longest queue hears BUSY."""
    stranger_address_requests: int = 1000
    """How many of them one address may ask at once at one gateway ..."""
    stranger_address_pause: float = 0.01
    """... and the seconds after which one more. Those about an account whose owner has been there before are counted
    for that account, and wait apart."""
    stranger_bytes_per_second: float = 128 * 1024
    """Bytes a second that are read from a connection without a session; eight times as many at once."""
    registrations_per_address: int = 1000
    """Names that one address may register at once at one gateway ..."""
    registration_pause: float = 10.0
    """... and the seconds after which it may register one more."""
    sessions_per_account: int = 60
    """Sessions that an account takes at once at one gateway: each changes its register on a quorum ..."""
    session_pause: float = 6.0
    """... and the seconds after which it takes one more."""
    logins_per_account: int = 10
    """Wrong passwords for one account from one source that are taken at once at one gateway ..."""
    login_account_pause: float = 6.0
    """... then the seconds before the next, twice as many each time ..."""
    login_account_most: float = 900.0
    """... up to these; and the seconds after which one wrong try is forgotten."""
    login_known_pause: float = 4.0
    """Seconds before the next try, after as many at once, where the account's owner has logged in before: below what
    somebody behind the same address may spoil of it unnoticed, and far above what a person needs."""
    login_source_failures: int = 50
    """Wrong passwords from one source, whatever the accounts, that are taken at once ..."""
    login_source_pause: float = 1.0
    """... then the seconds before the next, twice as many each time ..."""
    login_source_most: float = 60.0
    """... up to these; and the seconds after which one wrong try is forgotten."""
    logins_per_address: int = 200
    """Registrations and logins from one address at once at one gateway; each costs a bcrypt ..."""
    login_address_pause: float = 0.2
    """... and the seconds after which there may be one more."""
    connections: int = 8192
    """Open connections in all."""
    connections_per_address: int = 4096
    """Open connections from one address; a whole company may sit behind one."""
    newcomers_at_once: int = 25
    """Connections of one source that are let in at once ..."""
    newcomer_pause: float = 0.01
    """... and the seconds after which one more; the others wait."""
    welcomes_at_once: int = 20
    """Connections of one account that count no more among these once they have its session ..."""
    welcome_pause: float = 1.0
    """... and the seconds after which one more."""
    clients_bytes: int = 128 * 1024 * 1024
    """What all connections together may make the gateway keep, in what they do not read and what they sent in part."""
    requests_in_flight: int = 1024
    """Unanswered requests of one connection before the gateway stops reading from it."""
    questions_in_flight: int = 32
    """The same for requests other than messages, whose answers may be large."""
    questions_at_once: int = 4000
    """Such requests that a gateway serves at the same time, all clients together, before it answers BUSY."""
    entries_in_flight: int = 20_000
    """Unanswered messages of one gateway, all clients together, before it answers BUSY: two seconds' worth ..."""
    bytes_in_flight: int = 32 * 1024 * 1024
    """... and their bytes. All of them may go to one owner: half of what one peer may be owed."""
    opening_at_once: int = 20_000
    """Messages to recipients who are not known here yet that an owner keeps, before it answers BUSY."""
    vouching_at_once: int = 5000
    """Own copies that wait for the word that their session is the newest, before the owner answers BUSY."""

    renew_interval: float = 10.0
    """How often a gateway renews its sessions at their owners; a missed notice of a takeover ends then."""
    attachment_life: float = 30.0
    """How long an owner believes in a session without renewal: then the user is offline."""
    grace: float = 10.0
    """How long the previous session may still write archive copies, so that it can flush."""
    current_age: float = 10.0
    """How old an owner's knowledge of a session epoch may be when a write rests on it."""
    box_age: float = 30.0
    """How old an owner's count of a mailbox may be before it counts again in the background."""
    caught_up_timeout: float = 3.0
    """How long a drain waits for the owner's own start-up sync before it pushes what is there."""

    account_timeout: float = 6.0
    """How long a gateway tries a request about an account; below the client's patience for one attempt."""
    attach_timeout: float = 2.0
    """How long a gateway waits for an owner's answer to Attach before it tries again."""
    answer_timeout: float = 6.0
    """How long a gateway waits for the result of a forwarded message from an owner that lives."""
    reroute_after: float = 1.0
    """How long it waits when somebody else is the acting owner by now."""
    send_timeout: float = 10.0
    """How long a message is forwarded again before the client hears `unavailable`."""

    window_records: int = 1000
    """Pushed records that the recipient has not archived yet, at most ..."""
    window_bytes: int = 1024 * 1024
    """... and their bytes."""
    windows_records: int = 100_000
    """Records in all windows of an owner together: above it each window takes `window_least` only."""
    window_least: int = 16
    page_records: int = 256
    """Records of one read of a drain."""
    page_bytes: int = 256 * 1024
    """Bytes of one read of a drain, and of one event of mail."""
