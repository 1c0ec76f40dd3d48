"""Seeds that follow from a tuple of numbers."""

from __future__ import annotations


def derive_seed(*parts: int) -> int:
    """A 63-bit seed for a tuple of non-negative numbers such as ``(seed, epoch)``; near tuples give unrelated seeds."""
    state = 0
    for part in parts:
        state = (state + part + 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF  # SplitMix64
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
        state ^= state >> 31
    return state >> 1
