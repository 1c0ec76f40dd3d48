"""Requests that wait at the same time are scored together."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import torch

from pyg_mmrec.retrieval import Retriever


class Request(NamedTuple):
    """One user's request."""

    user: int
    k: int
    exclude_seen: bool


#: Items and their scores, best first.
Ranked = tuple[list[int], list[float]]


class Overloaded(Exception):
    """More requests wait than are allowed to."""


class Batcher:
    """Ranks for all requests that wait, in a thread of its own, while further ones come in.

    No request waits for others to come: the batches grow by themselves with the load.

    Args:
        retriever: Ranks the items.
        max_batch: Users ranked at a time.
        max_waiting: Requests that may wait; others are refused.
    """

    def __init__(self, retriever: Retriever, max_batch: int, max_waiting: int) -> None:
        self.retriever, self.max_batch, self.max_waiting = retriever, max_batch, max_waiting
        self._waiting: list[tuple[Request, asyncio.Future[Ranked]]] = []
        self._wake = asyncio.Event()
        self._stopping = False
        self._task: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="rank")

    @property
    def is_ready(self) -> bool:
        """Whether requests are taken."""
        return self._task is not None and not self._task.done() and not self._stopping

    def start(self) -> None:
        """Begins to rank; called in the event loop."""
        self._task = asyncio.get_running_loop().create_task(self._work())

    async def stop(self) -> None:
        """Ranks for those who wait, then ends."""
        self._stopping = True
        self._wake.set()
        if self._task is not None:
            await self._task
        self._thread.shutdown()

    async def rank(self, requests: list[Request]) -> list[Ranked]:
        """The answers to requests.

        Raises:
            Overloaded: If too many wait.
        """
        if not self.is_ready or len(self._waiting) + len(requests) > self.max_waiting:
            raise Overloaded
        loop = asyncio.get_running_loop()
        entries: list[tuple[Request, asyncio.Future[Ranked]]] = [(one, loop.create_future()) for one in requests]
        self._waiting += entries
        self._wake.set()
        return list(await asyncio.gather(*(future for _, future in entries)))

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            if not self._waiting:
                if self._stopping:
                    return
                self._wake.clear()
                await self._wake.wait()
                continue
            batch, self._waiting = self._waiting[: self.max_batch], self._waiting[self.max_batch :]
            try:
                answers = await loop.run_in_executor(self._thread, self._rank, [one for one, _ in batch])
            except Exception as error:  # the requests of this batch fail, later ones are served
                for _, future in batch:
                    if not future.done():
                        future.set_exception(error)
                continue
            for (_, future), answer in zip(batch, answers, strict=True):
                if not future.done():
                    future.set_result(answer)

    def _rank(self, requests: list[Request]) -> list[Ranked]:
        """The answers, with those that leave out seen items ranked apart from the others."""
        answers: dict[int, Ranked] = {}
        for flag in (True, False):
            places = [place for place, one in enumerate(requests) if one.exclude_seen is flag]
            if not places:
                continue
            user = torch.tensor([requests[place].user for place in places])
            scores, items = self.retriever(user, max(requests[place].k for place in places), flag)
            for place, item, score in zip(places, items.tolist(), scores.tolist(), strict=True):
                count = sum(node >= 0 for node in item[: requests[place].k])
                answers[place] = item[:count], score[:count]
        return [answers[place] for place in range(len(requests))]
