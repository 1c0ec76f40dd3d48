"""How well intents that were found are intents that were planted."""

from __future__ import annotations

import numpy as np
from scipy.optimize import linear_sum_assignment
from sklearn.metrics import normalized_mutual_info_score
from torch import Tensor


def intent_recovery(found: Tensor, planted: Tensor) -> dict[str, float]:
    """Compares two groupings of the same users, whose numbering means nothing.

    Args:
        found: ``[num_users]`` int64, the group of each user, or ``[num_users, num_intents]`` float, of which the
            largest counts.
        planted: ``[num_users]`` int64.

    Returns:
        ``nmi``, the normalised mutual information (0 independent, 1 equal), and ``accuracy``, the share of users in the
        right group once each group that was found stands for at most one that was planted, in the best way.

    Raises:
        ValueError: If there are no users, or not equally many.

    Example:
        >>> import torch
        >>> found = intent_recovery(torch.tensor([2, 2, 0, 1]), torch.tensor([0, 0, 1, 1]))
        >>> {name: round(value, 6) for name, value in found.items()}
        {'nmi': 0.8, 'accuracy': 0.75}
    """
    group = found.argmax(1) if found.dim() == 2 else found
    if group.shape != planted.shape or not planted.numel():
        raise ValueError(
            f"'found' and 'planted' must be of equally many users, one or more (got {list(found.shape)} and "
            f"{list(planted.shape)})"
        )
    one, other = group.cpu().numpy(), planted.cpu().numpy()
    table = np.zeros((one.max() + 1, other.max() + 1), dtype=np.int64)
    np.add.at(table, (one, other), 1)
    matched = table[linear_sum_assignment(table, maximize=True)].sum()
    return {"nmi": float(normalized_mutual_info_score(other, one)), "accuracy": float(matched / one.size)}
