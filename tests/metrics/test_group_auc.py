from __future__ import annotations

import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor

from pyg_mmrec.metrics import group_auc


def loop(score: Tensor, label: Tensor, group: Tensor) -> float:
    """Group by group, with scikit-learn."""
    total, impressions = 0.0, 0
    for one in set(group.tolist()):
        own = group == one
        if len(set(label[own].tolist())) == 2:
            total += int(own.sum()) * roc_auc_score(label[own].numpy(), score[own].double().numpy())
            impressions += int(own.sum())
    return total / impressions


@pytest.mark.parametrize("num_values", [1, 2, 5, 10**6])
@pytest.mark.parametrize(("size", "num_groups"), [(40, 12), (500, 3), (1000, 90)])
def test_equals_a_loop_with_many_ties(size: int, num_groups: int, num_values: int) -> None:
    generator = torch.Generator().manual_seed(size + num_values)
    score = torch.randint(-num_values, num_values, (size,), generator=generator) / 7
    label = torch.rand(size, generator=generator) < 0.2
    group = torch.randint(num_groups, (size,), generator=generator) * 1000 - 500  # any numbers, in any order
    expected = pytest.approx(loop(score, label, group), rel=1e-14)
    assert group_auc(score, label, group) == expected
    assert group_auc(score.double(), label.long(), group) == expected


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_precisions(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    score, label = torch.rand(300, generator=generator).to(dtype), torch.arange(300) % 4 == 0
    group = torch.randint(9, (300,), generator=generator)
    assert group_auc(score, label, group) == pytest.approx(loop(score, label, group), rel=1e-14)


def test_by_hand() -> None:
    score = torch.tensor([3.0, 1.0, 2.0, 2.0, 5.0, 5.0])
    label = torch.tensor([1, 0, 1, 0, 1, 0])
    assert group_auc(score, label, torch.tensor([0, 0, 1, 1, 1, 1])) == (2 * 1 + 4 * (0.5 + 0.5 + 1 + 0) / 4) / 6
    assert group_auc(score, label, torch.zeros(6, dtype=torch.long)) == (2 + (1 + 0.5 + 0) + (3 - 0.5)) / 9


def test_what_groups_think_of_each_other_does_not_matter() -> None:
    generator = torch.Generator().manual_seed(1)
    score, group = torch.randn(400, generator=generator), torch.arange(400) % 20
    label = torch.rand(400, generator=generator) < 0.4
    found = group_auc(score, label, group)
    assert group_auc(score + 100 * group, label, group) == found
    assert group_auc(-score, label, group) == pytest.approx(1 - found, rel=1e-14)


def test_constant_and_perfect_scores_are_exact() -> None:
    group, label = torch.arange(707) % 13, torch.arange(707) % 7 == 0
    assert group_auc(torch.full((707,), 0.1), label, group) == 0.5
    assert group_auc(label.float(), label, group) == 1.0
    assert group_auc(-label.float(), label, group) == 0.0
    assert group_auc(torch.where(label, torch.inf, -torch.inf), label, group) == 1.0


def test_groups_of_one_class_are_left_out() -> None:
    score, label = torch.tensor([1.0, 2.0, 0.5, 0.4, 0.3]), torch.tensor([1, 0, 1, 1, 0])
    assert group_auc(score, label, torch.tensor([0, 0, 1, 1, 2])) == 0.0
    with pytest.raises(ValueError, match=r"^no group of 'group' has both a positive and a negative impression$"):
        group_auc(score, label, torch.arange(5))
    with pytest.raises(ValueError, match=r"^no group of 'group' has both"):
        group_auc(torch.empty(0), torch.empty(0), torch.empty(0, dtype=torch.long))


def test_bad_input() -> None:
    score, label, group = torch.rand(4), torch.tensor([1, 0, 1, 0]), torch.tensor([0, 0, 1, 1])
    with pytest.raises(
        ValueError, match=r"^'score', 'label' and 'group' must be of one shape \[n\] \(got \[4\], \[3\]"
    ):
        group_auc(score, label[:3], group)
    with pytest.raises(ValueError, match=r"^'score', 'label' and 'group' must be of one shape"):
        group_auc(score.view(2, 2), label.view(2, 2), group.view(2, 2))
    with pytest.raises(ValueError, match=r"^'group' must be int64 \(got torch.float32\)$"):
        group_auc(score, label, group.float())
    with pytest.raises(ValueError, match=r"^'label' must be 1 for positive impressions and 0 for negative ones$"):
        group_auc(score, 2 * label, group)
    score[2] = torch.nan
    with pytest.raises(ValueError, match=r"^'score' is NaN for 1 impressions: the model has diverged$"):
        group_auc(score, label, group)
