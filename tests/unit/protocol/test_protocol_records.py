"""Records merge by the greater (state, digest); configurations count quorums."""

from hypothesis import given
from hypothesis import strategies as st

from coterie_protocol.identifiers import Uid
from coterie_protocol.records import Record, State, key_hash, record_digest, version_of, wins
from coterie_protocol.registers import Ballot, Config, majority

records = st.builds(
    Record,
    slot=st.just(1),
    owner=st.just("bob"),
    sender=st.just("alice"),
    id=st.just(b"i" * 16),
    part=st.just(0),
    state=st.sampled_from([int(state) for state in State]),
    body=st.binary(max_size=8),
    size=st.integers(0, 8),
    prekey=st.binary(max_size=2),
    epoch=st.integers(0, 3),
    stored_at=st.integers(0, 3),
    changed_at=st.integers(0, 3),
)


def merge(held: Record, new: Record) -> Record:
    if wins((new.state, record_digest(new)), (held.state, record_digest(held))):
        return new
    return held


@given(records, records, records)
def test_merging_is_commutative_associative_and_idempotent(a: Record, b: Record, c: Record) -> None:
    assert merge(a, b) == merge(b, a)
    assert merge(merge(a, b), c) == merge(a, merge(b, c))
    assert merge(a, a) == a
    assert merge(a, b).state == max(a.state, b.state)


@given(records, records)
def test_versions_that_differ_have_different_digests(a: Record, b: Record) -> None:
    assert (record_digest(a) == record_digest(b)) == (a == b)
    assert key_hash(a.key) == key_hash(b.key)
    assert version_of(a).key == a.key


def test_quorums_of_plain_and_joint_configurations() -> None:
    a, b, c, d = (Uid(letter) for letter in "abcd")
    cid = Ballot(1, "p")
    plain = Config(1, cid, (), (a, b, c))
    assert not plain.joint
    assert plain.quorum({a, b})
    assert not plain.quorum({a, d})
    joint = Config(2, cid, (a, b, c), (d, b, c))
    assert joint.joint
    assert joint.members == (a, b, c, d)
    assert joint.quorum({b, c})
    assert not joint.quorum({a, b})
    assert joint.quorum({a, b, d})
    assert majority((a,), {a})
    assert not majority((a, b), {a})
