"""The block manager: nothing leaks, nothing is freed twice, nobody writes to what another reads."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, multiple, rule

from camelid.engine.blocks import BLOCK_TOKENS, BlockPool, CachedSequence, NoBlocksError, chain

BLOCKS = 12


class Cache(RuleBasedStateMachine):
    """The pool beside a model of it: what each slot of each block holds, written as the engine writes."""

    sequences = Bundle("sequences")

    def __init__(self) -> None:
        super().__init__()
        self.pool = BlockPool(BLOCKS, keep=4)
        self.memory: list[list[int | None]] = [[None] * BLOCK_TOKENS for _ in range(BLOCKS)]
        self.live: list[CachedSequence] = []

    def write(self, sequence: CachedSequence, tokens: list[int]) -> None:
        before = {id(other): self.content(other) for other in self.live if other is not sequence}
        try:
            copy = sequence.reserve(len(tokens))
        except NoBlocksError:
            return
        if copy is not None:
            self.memory[copy[1]] = list(self.memory[copy[0]])
        for position, token in enumerate(tokens, len(sequence)):
            self.memory[sequence.blocks[position // BLOCK_TOKENS]][position % BLOCK_TOKENS] = token
        sequence.append(tokens)
        assert all(self.content(other) == before[id(other)] for other in self.live if other is not sequence)

    def content(self, sequence: CachedSequence) -> list[int | None]:
        places = (divmod(position, BLOCK_TOKENS) for position in range(len(sequence)))
        return [self.memory[sequence.blocks[block]][offset] for block, offset in places]

    # Few different tokens, so that beginnings coincide.
    @rule(target=sequences, length=st.integers(1, 50), kind=st.integers(0, 1))
    def begin(self, length: int, kind: int) -> CachedSequence:
        tokens = [kind] * length
        sequence = CachedSequence(self.pool)
        found = sequence.adopt(tokens)
        assert found < length
        assert found % BLOCK_TOKENS == 0
        self.live.append(sequence)
        sequence.announce(tokens)
        self.write(sequence, tokens[found:])
        return sequence

    @rule(sequence=sequences, tokens=st.lists(st.integers(0, 2), min_size=1, max_size=20))
    def extend(self, sequence: CachedSequence, tokens: list[int]) -> None:
        if sequence in self.live:
            self.write(sequence, tokens)

    @rule(target=sequences, sequence=sequences, share=st.floats(0, 1))
    def fork(self, sequence: CachedSequence, share: float) -> object:
        if sequence not in self.live:
            return multiple()
        twin = sequence.fork(int(share * len(sequence)))
        assert twin.tokens == sequence.tokens[: len(twin)]
        self.live.append(twin)
        return twin

    @rule(sequence=sequences, share=st.floats(0, 1))
    def truncate(self, sequence: CachedSequence, share: float) -> None:
        if sequence in self.live:
            sequence.truncate(int(share * len(sequence)))

    @rule(sequence=sequences)
    def release(self, sequence: CachedSequence) -> None:
        if sequence in self.live:
            sequence.release()
            self.live.remove(sequence)

    @invariant()
    def every_sequence_reads_its_own_tokens(self) -> None:
        for sequence in self.live:
            assert self.content(sequence) == sequence.tokens

    @invariant()
    def users_are_counted(self) -> None:
        held = [block for sequence in self.live for block in sequence.blocks]
        assert [self.pool.users(block) for block in range(BLOCKS)] == [held.count(b) for b in range(BLOCKS)]
        assert self.pool.used == len(set(held))

    @invariant()
    def what_is_found_is_what_was_written(self) -> None:
        for digest, block in self.pool._blocks.items():
            [own] = [d for d in self.pool._digests.items() if d[0] == block]
            assert own == (block, digest)

    def teardown(self) -> None:
        for sequence in self.live:
            sequence.release()
        assert self.pool.available == BLOCKS
        assert not self.pool.pending


TestCache = Cache.TestCase
TestCache.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


def test_equal_beginnings_share_blocks_and_the_last_token_is_left():
    pool = BlockPool(10)
    first = CachedSequence(pool)
    tokens = list(range(48))
    first.reserve(48)
    first.append(tokens)
    second = CachedSequence(pool)
    assert second.adopt(tokens) == 32
    assert second.blocks == first.blocks[:2]
    assert pool.used == 3
    third = CachedSequence(pool)
    assert third.adopt([*tokens[:20], 99, *tokens[21:]]) == 16
    other = CachedSequence(pool, root=b"another source")
    assert other.adopt(tokens) == 0


def test_what_others_compute_is_waited_for():
    pool = BlockPool(10)
    first, second = CachedSequence(pool), CachedSequence(pool)
    tokens = list(range(40))
    first.announce(tokens)
    assert second.awaits(tokens)
    assert not second.awaits(list(range(1, 41)))
    first.reserve(16)
    first.append(tokens[:16])
    assert second.adopt(tokens) == 16
    assert second.awaits(tokens)
    first.release()
    assert not second.awaits(tokens)


def test_the_longest_unused_goes_first():
    pool = BlockPool(4)
    for kind in (1, 2, 3):
        sequence = CachedSequence(pool)
        sequence.reserve(16)
        sequence.append([kind] * 16)
        sequence.release()
    again = CachedSequence(pool)
    assert again.adopt([1] * 17) == 16
    fresh = CachedSequence(pool)
    fresh.reserve(32)
    assert CachedSequence(pool).adopt([2] * 17) == 0
    assert CachedSequence(pool).adopt([3] * 17) == 16


def test_no_room_changes_nothing():
    pool = BlockPool(3)
    sequence = CachedSequence(pool)
    sequence.reserve(40)
    sequence.append([5] * 40)
    twin = sequence.fork(40)
    with pytest.raises(NoBlocksError, match="1 more blocks of 16 tokens are needed and 0 of 3 are free"):
        twin.reserve(1)
    assert twin.blocks == sequence.blocks
    assert len(twin) == 40


def test_digests_chain():
    first, second = chain(b"", range(32))
    assert [*chain(b"", range(40))] == [first, second]
    assert [*chain(first, range(16, 32))] == [second]
    assert [*chain(b"", range(15))] == []
