from __future__ import annotations

import itertools

import pytest
import torch

from pyg_mmrec.metrics import intent_recovery


def test_numbering_means_nothing() -> None:
    planted = torch.tensor([0, 1, 1, 2, 2, 2])
    for order in itertools.permutations(range(3)):
        assert intent_recovery(torch.tensor(order)[planted], planted) == pytest.approx({"nmi": 1, "accuracy": 1})


def test_the_best_matching_counts() -> None:
    found, planted = torch.randint(4, (60,)), torch.randint(3, (60,))
    best = max(
        sum(order[f] == p for f, p in zip(found.tolist(), planted.tolist(), strict=True))
        for order in itertools.permutations([0, 1, 2, -1])
    )
    assert intent_recovery(found, planted)["accuracy"] == pytest.approx(best / 60)
    assert intent_recovery(torch.nn.functional.one_hot(found).float(), planted) == intent_recovery(found, planted)


def test_independent_groups() -> None:
    found, planted = torch.arange(400) % 4, torch.arange(400) // 100
    assert intent_recovery(found, planted) == pytest.approx({"nmi": 0, "accuracy": 0.25})


def test_sizes_must_agree() -> None:
    with pytest.raises(ValueError, match=r"^'found' and 'planted' must be of equally many users, one or more"):
        intent_recovery(torch.zeros(3, dtype=torch.long), torch.zeros(4, dtype=torch.long))
