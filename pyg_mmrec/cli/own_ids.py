"""Users and items by the ids that a catalogue has for them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_mmrec.cli.parser import fail
from pyg_mmrec.models import Recommender
from pyg_mmrec.typing import ITEM, USER
from pyg_mmrec.utils import Ids, num_users_items, popular_items
from pyg_mmrec.utils.popular import Fallback


def recommendations(
    model: Recommender,
    view: HeteroData,
    users: Sequence[str],
    k: int,
    ids: Ids | None,
    *,
    exclude_seen: bool,
    fallback: Fallback | None,
) -> pd.DataFrame:
    """A row for each user and place: user, rank, item, score; by the catalogue's own ids where there are some.

    Args:
        model: The model.
        view: The train view.
        users: The users, all for ``[]``.
        k: Items for each user.
        ids: The catalogue's own ids; None where users and items are numbers.
        exclude_seen: Leave out the items of a user's train interactions.
        fallback: What users without interactions get, and users whom the ids do not name.
    """
    num_users = num_users_items(view)[0]
    named = list(users) or (range(num_users) if ids is None else ids.of(USER, range(num_users)))
    node = _user_nodes(named, num_users, ids, fallback)
    known = node >= 0
    scores, items = model.recommend(view, node.clamp_min(0), k, exclude_seen, fallback=fallback)
    if fallback is not None and not known.all():
        scores[~known], items[~known] = popular_items(view, k, fallback)
    names = np.array(named, dtype=object) if ids is not None else node.numpy()
    table = pd.DataFrame(
        {
            "user": np.repeat(names, k),
            "rank": np.tile(np.arange(1, k + 1), len(node)),
            "item": items.flatten().numpy(),
            "score": scores.flatten().numpy(),
        }
    )
    table = table[table["item"] >= 0]
    if ids is not None:
        table["item"] = ids.of(ITEM, table["item"].tolist())
    return table


def _user_nodes(named: Sequence[str | int], num_users: int, ids: Ids | None, fallback: Fallback | None) -> Tensor:
    """The nodes of users, -1 for those without one, who need a fallback."""
    if ids is not None:
        if fallback is None:
            return ids.nodes(USER, named)
        place = {str(name): node for node, name in enumerate(ids.of(USER, range(num_users)))}
        return torch.tensor([place.get(str(name), -1) for name in named])
    numbers = []
    for name in named:
        try:
            numbers.append(int(name))
        except ValueError:
            fail(f"'users' must be int (got {name!r})")
    if not 0 <= min(numbers) <= max(numbers) < num_users:
        fail(f"'users' must lie in 0..{num_users - 1} (got {min(numbers)}..{max(numbers)})")
    return torch.tensor(numbers)
