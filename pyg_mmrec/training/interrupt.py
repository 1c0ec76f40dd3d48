"""Stopping between two steps."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


class Interrupt:
    """Whether a stop was asked for."""

    def __init__(self) -> None:
        self.requested = False


@contextmanager
def deferred_interrupt() -> Iterator[Interrupt]:
    """Turns the first Ctrl-C or SIGTERM into a request that the loop answers after its step; the second acts at once.

    Signals reach the main thread only; elsewhere nothing changes.
    """
    interrupt = Interrupt()
    if threading.current_thread() is not threading.main_thread():
        yield interrupt
        return

    at_once: dict[signal.Signals, Any] = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}

    def request(number: int, frame: FrameType | None) -> None:
        interrupt.requested = True
        for one, handler in at_once.items():
            signal.signal(one, handler)

    previous = {one: signal.signal(one, request) for one in at_once}
    try:
        yield interrupt
    finally:
        for one, handler in previous.items():
            signal.signal(one, handler)
