"""The ids that users and items have outside the package."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, cast

import pandas as pd
import torch
from torch import Tensor

from pyg_mmrec.typing import ITEM, USER
from pyg_mmrec.utils.files import unreadable, write_text

#: Name of the file in the folder of a model.
IDS = "ids.json"


class Ids:
    """A catalogue's own ids of users and items, by the nodes that they became.

    Ids are strings or integers, all of one kind for the users and all of one kind for the items.

    Args:
        user: The user's id of each user node, in order.
        item: Likewise of each item node.

    Raises:
        ValueError: If an id is neither a string nor an integer, occurs twice, or strings and integers are mixed.

    Example:
        >>> ids = Ids(user=['ann', 'bob'], item=[501, 88, 13])
        >>> ids.nodes('item', [13, 501])
        tensor([2, 0])
        >>> ids.of('user', [1])
        ['bob']
    """

    def __init__(self, user: Sequence[str] | Sequence[int], item: Sequence[str] | Sequence[int]) -> None:
        self._index = {USER: _index(USER, user), ITEM: _index(ITEM, item)}

    def __repr__(self) -> str:
        return f"{type(self).__name__}(num_users={len(self._index[USER])}, num_items={len(self._index[ITEM])})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Ids):
            return NotImplemented
        return all(index.equals(other._index[name]) for name, index in self._index.items())

    __hash__ = None  # type: ignore[assignment]

    def sizes(self) -> tuple[int, int]:
        """The numbers of users and items."""
        return len(self._index[USER]), len(self._index[ITEM])

    def nodes(self, node_type: str, ids: Iterable[str | int]) -> Tensor:
        """The nodes of ids.

        Args:
            node_type: ``'user'`` or ``'item'``.
            ids: The ids; digits in a string are an integer's where the ids are integers.

        Returns:
            ``[n]`` int64.

        Raises:
            ValueError: If there is no such id; names the first, and the nearest known one.
        """
        known = self._of(node_type)
        wanted = list(ids)
        if _are_integers(known):
            wanted = [_integer(name) for name in wanted]
        places = known.get_indexer(pd.Index(wanted, dtype=object))
        if (places < 0).any():
            name = wanted[int((places < 0).argmax())]
            near = difflib.get_close_matches(str(name), [str(other) for other in known[:100_000]], 1)
            raise ValueError(f"there is no {node_type} {name!r}" + (f"; did you mean {near[0]!r}?" if near else ""))
        return torch.from_numpy(places).to(torch.int64)

    def find(self, node_type: str, name: str | int) -> int | None:
        """The node of one id, without a look at the others; None where there is no such id.

        Args:
            node_type: ``'user'`` or ``'item'``.
            name: The id; digits in a string are an integer's where the ids are integers.

        Example:
            >>> ids = Ids(user=[7], item=['red', 'blue'])
            >>> ids.find('user', '7'), ids.find('item', 'blue'), ids.find('item', 'green')
            (0, 1, None)
        """
        known = self._of(node_type)
        try:
            return cast("int", known.get_loc(_integer(name) if _are_integers(known) else name))  # ids differ
        except (KeyError, OverflowError):
            return None

    def of(self, node_type: str, nodes: Tensor | Sequence[int]) -> list[str | int]:
        """The ids of nodes.

        Args:
            node_type: ``'user'`` or ``'item'``.
            nodes: ``[n]`` nodes.

        Raises:
            ValueError: If there is no such node, such as the -1 of
                :meth:`~pyg_mmrec.models.Recommender.recommend` where a user has fewer items left.
        """
        places, known = torch.as_tensor(nodes).tolist(), self._of(node_type)
        for place in places:
            if not 0 <= place < len(known):
                hint = "; leave out the -1 of users with fewer items: row[row >= 0]" if place == -1 else ""
                raise ValueError(f"{node_type} nodes must lie in 0..{len(known) - 1} (got {place}){hint}")
        found: list[str | int] = known.take(places).tolist()
        return found

    def _of(self, node_type: str) -> Any:
        if node_type not in self._index:
            raise ValueError(f"'node_type' must be one of {', '.join(self._index)} (got {node_type!r})")
        return self._index[node_type]

    def save(self, folder: str | Path) -> None:
        """Writes ``ids.json`` into a folder, such as that of a saved model."""
        content = {name: index.tolist() for name, index in self._index.items()}
        write_text(Path(folder, IDS), json.dumps(content))

    @classmethod
    def load(cls, folder: str | Path) -> Ids:
        """Reads what :meth:`save` wrote.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If it is damaged.
        """
        path = Path(folder, IDS)
        if not path.is_file():
            raise FileNotFoundError(f"'{folder}' has no {IDS}: its ids are the nodes' numbers")
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            return cls(user=content[USER], item=content[ITEM])
        except OSError as error:
            raise unreadable(path, error) from None
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"'{path}' is no file of ids ({error}): write it anew with Ids.save") from None


def _are_integers(ids: pd.Index) -> bool:
    return pd.api.types.is_integer_dtype(ids.dtype)


def _integer(name: str | int) -> str | int:
    """The integer that a string writes; any other name as it is."""
    if isinstance(name, str) and len(name) <= 20 and name.removeprefix("-").isdecimal():
        return int(name)
    return name


def _index(node_type: str, ids: Sequence[str] | Sequence[int]) -> pd.Index:
    """The ids as an index of one type."""
    names = list(ids)
    kinds = {type(name) for name in names}
    if not kinds <= {int} and not kinds <= {str}:
        found = ", ".join(sorted(kind.__name__ for kind in kinds))
        raise ValueError(f"'{node_type}' ids must be all strings or all integers (got {found})")
    index = pd.Index(names, dtype="int64" if kinds <= {int} and names else object)
    if not index.is_unique:
        twice = index[index.duplicated()][0]
        raise ValueError(f"'{node_type}' ids must differ (got {twice!r} twice)")
    return index
