"""Blocks of the key-value cache: sequences that begin alike share them (PagedAttention, arXiv:2309.06180).

A full block is found again by a digest of all tokens up to its end, so it holds the same keys and values
whoever computed them. A block that others read is copied before it is written to.
"""

import hashlib
from array import array
from collections import OrderedDict
from collections.abc import Iterator
from collections.abc import Sequence as SequenceOf

from camelid.base.errors import CamelidError

BLOCK_TOKENS = 16


class NoBlocksError(CamelidError):
    """Every block of the cache is in use."""


class BlockPool:
    """Which of `count` blocks are in use, by how many sequences, and what the others still hold.

    keep: blocks that nobody uses are remembered for what they hold, at most so many; the longest unused are
    given up first. `pending` are the digests of blocks that a sequence has announced and not computed yet.
    """

    def __init__(self, count: int, keep: int | None = None) -> None:
        self.count, self.keep = count, count if keep is None else keep
        self.pending: set[bytes] = set()
        self._users = [0] * count
        self._free = list(range(count - 1, -1, -1))
        self._blocks: dict[bytes, int] = {}
        self._digests: dict[int, bytes] = {}
        self._idle: OrderedDict[int, None] = OrderedDict()

    @property
    def available(self) -> int:
        """Blocks that no sequence uses."""
        return len(self._free) + len(self._idle)

    @property
    def used(self) -> int:
        """Blocks that sequences use, shared ones counted once."""
        return self.count - self.available

    def take(self) -> int:
        """A block for one user, to be written to; raises `NoBlocksError`."""
        if not self._free and not self._idle:
            raise NoBlocksError(
                f"all {self.count} blocks of the cache ({self.count * BLOCK_TOKENS} tokens) are in use"
            )
        if not self._free:
            self._forget_oldest()
        block = self._free.pop()
        self._users[block] = 1
        return block

    def share(self, block: int) -> int:
        """One more user of a block that is in use or idle."""
        self._idle.pop(block, None)
        self._users[block] += 1
        return block

    def release(self, block: int) -> None:
        """One user less; what nobody uses is idle where it can be found again, else free."""
        assert self._users[block] > 0
        self._users[block] -= 1
        if self._users[block]:
            return
        if block not in self._digests:
            self._free.append(block)
            return
        self._idle[block] = None
        if len(self._idle) > self.keep:
            self._forget_oldest()

    def users(self, block: int) -> int:
        """How many sequences hold a block."""
        return self._users[block]

    def find(self, digest: bytes) -> int | None:
        """The block that holds what the digest stands for, for one more user."""
        block = self._blocks.get(digest)
        return None if block is None else self.share(block)

    def publish(self, block: int, digest: bytes) -> None:
        """Lets a full block be found; where another already holds the same, that one stays the one found."""
        if self._blocks.setdefault(digest, block) == block:
            self._digests[block] = digest

    def withdraw(self, block: int) -> None:
        """A block can no longer be found: it is about to hold something else."""
        if digest := self._digests.pop(block, None):
            del self._blocks[digest]

    def forget(self) -> None:
        """No block is found again by what it holds."""
        while self._idle:
            self._forget_oldest()
        for block in [*self._digests]:
            self.withdraw(block)

    def _forget_oldest(self) -> None:
        block, _ = self._idle.popitem(last=False)
        self.withdraw(block)
        self._free.append(block)


class CachedSequence:
    """The tokens of one sequence whose keys and values are in the cache, and the blocks where these lie.

    root: what the tokens' keys and values depend on beside the tokens (an encoder's text); source: what came
    of it.
    """

    def __init__(self, pool: BlockPool, root: bytes = b"", source: object = None) -> None:
        self.pool, self.root, self.source = pool, root, source
        self.tokens: list[int] = []
        self.blocks: list[int] = []
        self._digests: list[bytes] = []
        self._announced: list[bytes] = []

    def __len__(self) -> int:
        return len(self.tokens)

    def adopt(self, tokens: SequenceOf[int]) -> int:
        """Takes over the full blocks that hold the beginning of `tokens`; returns how many tokens that are.

        The last token is never among them: whoever asks wants to know what follows it.
        """
        for digest in chain(self.root, tokens[:-1]):
            block = self.pool.find(digest)
            if block is None:
                break
            begin = len(self.tokens)
            self.blocks.append(block)
            self._digests.append(digest)
            self.tokens += tokens[begin : begin + BLOCK_TOKENS]
        return len(self.tokens)

    def awaits(self, tokens: SequenceOf[int]) -> bytes | None:
        """The digest of the last of the next blocks of `tokens` that are all being computed by other
        sequences."""
        known, last = len(self._digests), None
        for digest in chain(self._digests[-1] if known else self.root, tokens[known * BLOCK_TOKENS : -1]):
            if digest not in self.pool.pending:
                break
            last = digest
        return last

    def announce(self, tokens: SequenceOf[int]) -> None:
        """Says that the full blocks of `tokens` are going to be computed, so that others wait for them."""
        self._announced = list(chain(self.root, tokens))[len(self._digests) :]
        self.pool.pending.update(self._announced)

    def reserve(self, count: int) -> tuple[int, int] | None:
        """Makes room for `count` more tokens; returns a block and the one that it must be copied to, if any.

        Raises `NoBlocksError` and changes nothing.
        """
        offset = len(self.tokens) % BLOCK_TOKENS
        current = len(self.tokens) // BLOCK_TOKENS
        shared = bool(offset and count) and self.pool.users(self.blocks[current]) > 1
        needed = -(-(len(self.tokens) + count) // BLOCK_TOKENS) - len(self.blocks)
        if max(0, needed) + shared > self.pool.available:
            raise NoBlocksError(
                f"{needed + shared} more blocks of {BLOCK_TOKENS} tokens are needed and "
                f"{self.pool.available} of {self.pool.count} are free: "
                "give the cache more (cache_tokens), or the request fewer"
            )
        copy = None
        if shared:
            copy = self.blocks[current], self.pool.take()
            self.pool.release(copy[0])
            self.blocks[current] = copy[1]
        elif offset and count:
            self.pool.withdraw(self.blocks[current])
        self.blocks += [self.pool.take() for _ in range(needed)]
        return copy

    def append(self, tokens: SequenceOf[int]) -> None:
        """Counts tokens whose keys and values have been written where `reserve` made room."""
        self.tokens += tokens
        known = len(self._digests)
        if len(self.tokens) // BLOCK_TOKENS == known:
            return
        previous = self._digests[-1] if known else self.root
        for index, digest in enumerate(chain(previous, self.tokens[known * BLOCK_TOKENS :]), known):
            self.pool.publish(self.blocks[index], digest)
            self.pool.pending.discard(digest)
            self._digests.append(digest)

    def fork(self, length: int) -> "CachedSequence":
        """A sequence of the first `length` tokens, in the same blocks."""
        twin = CachedSequence(self.pool, self.root, self.source)
        twin.tokens = self.tokens[:length]
        twin.blocks = [self.pool.share(block) for block in self.blocks[: -(-length // BLOCK_TOKENS)]]
        twin._digests = self._digests[: length // BLOCK_TOKENS]
        return twin

    def truncate(self, length: int) -> None:
        """Forgets all but the first `length` tokens."""
        kept = -(-length // BLOCK_TOKENS)
        for block in reversed(self.blocks[kept:]):
            self.pool.release(block)
        del self.tokens[length:], self.blocks[kept:], self._digests[length // BLOCK_TOKENS :]

    def release(self) -> None:
        """Gives all blocks back."""
        self.truncate(0)
        self.pool.pending.difference_update(self._announced)
        self._announced = []


def chain(previous: bytes, tokens: SequenceOf[int]) -> Iterator[bytes]:
    """The digests of the full blocks of `tokens`, each over its tokens and the digest of the block before
    it."""
    for begin in range(0, len(tokens) - BLOCK_TOKENS + 1, BLOCK_TOKENS):
        block = array("q", tokens[begin : begin + BLOCK_TOKENS]).tobytes()
        previous = hashlib.blake2b(previous + block, digest_size=16).digest()
        yield previous
