"""What all loaders share: examples are dealt out to batches, and batches to processes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal

from pyg_mmrec.utils.checks import check_batch_size, check_int

#: Batches in an epoch, at most, where they grow with the data, and the least that such a batch holds.
MOST_BATCHES, LEAST_SIZE = 256, 2048


class SharedBatches:
    """Batches of examples, of which each process gets every ``world_size``-th.

    Args:
        batch_size: Examples in a batch, over all processes; ``'auto'`` for batches that grow with the data: a 256th of
            the examples, but at least 2048.
        seed: Seed of what is drawn.
        rank: Which process this is.
        world_size: Number of processes.

    Raises:
        ValueError: If an argument is out of range.
    """

    num_examples: int

    def __init__(self, batch_size: int | Literal["auto"], seed: int, rank: int, world_size: int) -> None:
        check_batch_size(batch_size)
        check_int(1, world_size=world_size)
        check_int(0, seed=seed, rank=rank)
        if rank >= world_size:
            raise ValueError(f"'rank' must lie in 0..{world_size - 1}, below 'world_size' (got {rank})")
        self._batch_size, self.seed, self.rank, self.world_size = batch_size, seed, rank, world_size

    @property
    def batch_size(self) -> int:
        """Examples in a batch, over all processes."""
        if self._batch_size != "auto":
            return self._batch_size
        return max(LEAST_SIZE, math.ceil(self.num_examples / MOST_BATCHES))

    def __len__(self) -> int:
        return math.ceil(self.num_examples / self.batch_size)

    def share(self, step: int) -> float:
        """What this process's mean over a batch weighs, so that the mean over the processes is that over all of it.

        It is 1 where all processes have equally many examples, and 0 where the last batch has none left for this one,
        which then gets another's.
        """
        size = min(self.batch_size, self.num_examples - step * self.batch_size)
        return len(range(self.rank, size, self.world_size)) * self.world_size / size

    def _parts(self, start: int) -> Iterator[slice]:
        """Where this process's part of each batch lies among the examples, from batch ``start`` on."""
        for step in range(start, len(self)):
            first = step * self.batch_size
            here = self.share(step) > 0
            yield (
                slice(first + self.rank, first + self.batch_size, self.world_size) if here else slice(first, first + 1)
            )
