"""Users by the ids that a catalogue has for them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pyg_mmrec.cli.parser import fail
from pyg_mmrec.typing import USER
from pyg_mmrec.utils import Ids
from pyg_mmrec.utils.popular import Fallback


def user_nodes(named: Sequence[str], num_users: int, ids: Ids | None, fallback: Fallback | None) -> Tensor:
    """The nodes of users; -1 for those whom the ids do not name, where there is a fallback for them.

    Args:
        named: The users, all for ``[]``.
        num_users: How many there are.
        ids: The catalogue's own ids; None where users are numbers.
        fallback: What users get of whom nothing is known.

    Raises:
        ValueError: If there is no such user.
    """
    if not named:
        return torch.arange(num_users)
    if ids is not None:
        if fallback is None:
            return ids.nodes(USER, named)
        found = [ids.find(USER, name) for name in named]
        return torch.tensor([-1 if node is None else node for node in found])
    numbers = []
    for name in named:
        try:
            numbers.append(int(name))
        except ValueError:
            fail(f"'users' must be int (got {name!r})")
    if not 0 <= min(numbers) <= max(numbers) < num_users:
        fail(f"'users' must lie in 0..{num_users - 1} (got {min(numbers)}..{max(numbers)})")
    return torch.tensor(numbers)
