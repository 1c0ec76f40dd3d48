"""A trained model for a catalogue with more items."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_mmrec.models._saved import shapes
from pyg_mmrec.utils import SparseOperator, num_users_items
from pyg_mmrec.utils.checks import check_choice, check_int
from pyg_mmrec.utils.new_items import mean_of_nearest

if TYPE_CHECKING:
    from pyg_mmrec.models.base import Recommender

Model = TypeVar("Model", bound="Recommender")

#: What the rows of new items are made from.
NewRows = Literal["neighbors", "mean", "zero"]


@torch.no_grad()
def extend(model: Model, data: HeteroData, new: Tensor | None, rows: NewRows, k: int) -> Model:
    """See :meth:`pyg_mmrec.models.Recommender.extend`."""
    check_choice(get_args(NewRows), rows=rows)
    check_int(1, k=k)
    num_users, num_items = num_users_items(data)
    if num_users != model.num_users or num_items < model.num_items:
        raise ValueError(
            f"the data has {num_users} users and {num_items} items but {type(model).__name__} was built for "
            f"{model.num_users} and {model.num_items}: pass data with the same users and items, and new items after "
            "them"
        )
    is_new = _new_items(new, model.num_items, num_items)
    config = model.config() | {"num_items": num_items}
    axes = _item_axes(type(model), config)
    weight = next(model.parameters(), torch.empty(0))
    extended = type(model)(**config).to(weight.device, weight.dtype)
    fresh = {name: value.clone() for name, value in extended.state_dict().items() if name in axes}
    if axes:
        extended.start_from(data)
    state = extended.state_dict()
    mix: SparseOperator | None = None
    for name, value in model.state_dict().items():
        axis = axes.get(name)
        if axis is None:
            state[name] = value.clone()
        elif not value.is_floating_point():  # such as neighbours, which are found anew
            state[name] = fresh[name]
        else:
            own = not torch.equal(fresh[name], state[name])  # starts at the data's own rows
            table, known = state[name].movedim(axis, 0), value.movedim(axis, 0)
            table[: model.num_items][~is_new[: model.num_items]] = known[~is_new[: model.num_items]]
            if not own:
                if rows == "neighbors" and mix is None:
                    mix = mean_of_nearest(data, is_new, k)
                table[is_new] = _rows(table[~is_new], rows, mix, int(is_new.sum()))
    extended.load_state_dict(state)
    extended.train(model.training)
    extended.check_data(data)
    return extended


def _new_items(new: Tensor | None, num_known: int, num_items: int) -> Tensor:
    """``[num_items]`` bool: which items the model does not know."""
    is_new = torch.arange(num_items) >= num_known
    if new is not None:
        if not isinstance(new, Tensor) or new.dtype != torch.int64 or new.dim() != 1:
            found = f"{new.dtype}, {list(new.shape)}" if isinstance(new, Tensor) else type(new).__name__
            raise ValueError(f"'new' must be a tensor of items, int64 of shape [n] (got {found})")
        if new.numel() and not 0 <= int(new.min()) <= int(new.max()) < num_items:
            raise ValueError(f"'new' must lie in 0..{num_items - 1} (got {int(new.min())}..{int(new.max())})")
        is_new[new.cpu()] = True
    if is_new.all():
        raise ValueError(f"'new' must leave an item that the model knows (got all {num_items})")
    return is_new


def _item_axes(model_class: type[Any], config: dict[str, Any]) -> dict[str, int]:
    """By name, the axis of a weight or buffer that has one entry for each item."""
    one, more = (shapes(model_class, config | {"num_items": config["num_items"] + extra}) for extra in (0, 1))
    return {
        name: next(axis for axis, (a, b) in enumerate(zip(shape, more[name], strict=True)) if a != b)
        for name, shape in one.items()
        if shape != more[name]
    }


def _rows(known: Tensor, rows: NewRows, mix: SparseOperator | None, num_new: int) -> Tensor:
    """The rows of new items from those of the known ones."""
    if rows == "zero":
        return known.new_zeros(num_new, *known.shape[1:])
    mean = known.mean(0, keepdim=True).expand(num_new, *known.shape[1:])
    if mix is None:
        return mean
    flat = (mix @ known.flatten(1) if known.dim() > 1 else mix @ known.unsqueeze(1)).view(num_new, *known.shape[1:])
    found = (mix @ known.new_ones(len(known), 1)).view(num_new, *[1] * (known.dim() - 1)) > 0
    return torch.where(found, flat, mean)
