from __future__ import annotations

from itertools import product

import torch

from pyg_mmrec.utils.seeds import derive_seed


def test_seeds_stay_as_they_are() -> None:
    # A change here changes every result that was ever written.
    assert derive_seed(0) == 0xE220A8397B1DCDAF >> 1  # the first number of SplitMix64
    assert derive_seed(0, 0) != derive_seed(0)


def test_near_tuples_give_different_seeds() -> None:
    tuples = [parts for length in (1, 2, 3) for parts in product(range(12), repeat=length)]
    seeds = [derive_seed(*parts) for parts in tuples]
    assert len(set(seeds)) == len(tuples)
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_order_of_the_parts_matters() -> None:
    assert derive_seed(1, 2) != derive_seed(2, 1)


def test_bits_are_balanced() -> None:
    bits = torch.tensor([[derive_seed(0, epoch) >> place & 1 for place in range(63)] for epoch in range(400)]).float()
    assert (bits.mean(0) - 0.5).abs().max() < 0.12  # 4.8 standard deviations
    assert (torch.corrcoef(bits.t()).fill_diagonal_(0).abs() < 0.25).all()


def test_large_parts_are_accepted() -> None:
    generator = torch.Generator().manual_seed(derive_seed(2**63 - 1, 10**9))
    assert torch.rand(1, generator=generator).item() < 1
