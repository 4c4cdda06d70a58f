"""Memory about waiting requests, so that their prompts are not hashed again at every step."""

from weakref import WeakKeyDictionary

from camelid.engine.blocks import BlockPool
from camelid.engine.running import Request

MOST_LOOKS = 64
"""Prompts hashed in a step only to find that their requests must go on waiting."""


class Waiting:
    """What waiting requests wait for: a block that another sequence computes, or free blocks."""

    def __init__(self, pool: BlockPool) -> None:
        self._pool = pool
        self._awaited: WeakKeyDictionary[Request, bytes] = WeakKeyDictionary()
        self._too_large: tuple[Request, int] | None = None
        self.looks = 0

    def await_block(self, request: Request, digest: bytes) -> None:
        """Notes that a request waits for the block of this digest."""
        self._awaited[request] = digest
        self.looks += 1

    def awaits_block(self, request: Request) -> bool:
        """Whether the block that a request waits for is still being computed."""
        return self._awaited.get(request) in self._pool.pending

    def await_room(self, request: Request) -> None:
        """Notes that a request needs more blocks than are free."""
        self._too_large = request, self._pool.available

    def awaits_room(self, request: Request) -> bool:
        """Whether no block is free, or none more than when the request found too few."""
        free = self._pool.available
        if self._too_large is None or self._too_large[0] is not request:
            return free == 0
        return free <= self._too_large[1]
