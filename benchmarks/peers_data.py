"""What all libraries are measured on; needs NumPy alone, so that their environments can import it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch_geometric.data import HeteroData


@dataclass(frozen=True)
class Sizes:
    """Amazon Baby's sizes and the settings that are equal for all libraries."""

    num_users: int = 19_445
    num_items: int = 7_050
    num_train: int = 118_551
    item_channels: int = 4096
    hidden_channels: int = 64
    num_layers: int = 2
    batch_size: int = 2048
    k: int = 20
    repeats: int = 5


@dataclass(frozen=True)
class Workload:
    """Train edges ``[2, num_train]`` and one held-out item for each user, ``[num_users]``."""

    sizes: Sizes
    train: np.ndarray
    held_out: np.ndarray

    def save(self, path: Path) -> None:
        """Writes an ``.npz`` file."""
        np.savez(path, train=self.train, held_out=self.held_out, **asdict(self.sizes))

    @classmethod
    def load(cls, path: Path) -> Workload:
        """What :meth:`save` wrote."""
        with np.load(path) as file:
            sizes = Sizes(**{name: int(file[name]) for name in asdict(Sizes())})
            return cls(sizes, file["train"], file["held_out"])

    @property
    def held_out_edges(self) -> tuple[np.ndarray, np.ndarray]:
        """Users and held-out items."""
        return np.arange(self.sizes.num_users), self.held_out

    def hetero(self, *, held_out: bool = False) -> HeteroData:
        """The train view, or the one that is evaluated, with this package's operators."""
        import torch
        from torch_geometric.data import HeteroData

        from pyg_mmrec.typing import INTERACTS
        from pyg_mmrec.utils import seen_items, with_operators

        data = HeteroData()
        data["user"].num_nodes, data["item"].num_nodes = self.sizes.num_users, self.sizes.num_items
        data[INTERACTS].edge_index = torch.from_numpy(self.train)
        if held_out:
            data[INTERACTS].edge_label_index = torch.from_numpy(np.stack(self.held_out_edges))
            data["user"].seen_ptr, data["user"].seen_item = seen_items(data)
        return with_operators(data)


def draw_held_out(train: np.ndarray, num_users: int, num_items: int) -> np.ndarray:
    """One item for each user that is not among the user's train items, uniform with seed 0."""
    generator = np.random.default_rng(0)
    seen = train[0] * num_items + train[1]
    item = generator.integers(num_items, size=num_users)
    while (clash := np.isin(np.arange(num_users) * num_items + item, seen)).any():
        item[clash] = generator.integers(num_items, size=clash.sum())
    return item


def features(rows: int, channels: int) -> np.ndarray:
    """``[rows, channels]`` float32, standard normal with seed 0."""
    return np.random.default_rng(0).standard_normal((rows, channels), dtype=np.float32)
