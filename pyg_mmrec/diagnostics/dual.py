"""Evidence of dual representations: what behaviour and modalities say of users and items, apart and together."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import torch
import torch.nn.functional as F
from sklearn.manifold import TSNE
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_mmrec.diagnostics._plots import require_matplotlib, write_tables
from pyg_mmrec.evaluation import Evaluator
from pyg_mmrec.models import Recommender, Representations, UserItem
from pyg_mmrec.nn.loss import bpr_loss
from pyg_mmrec.typing import Triplets
from pyg_mmrec.utils import triplet_scores, with_operators
from pyg_mmrec.utils.modes import evaluating

#: Users and items on the t-SNE map, the paper's.
MAP_NODES = 1000

LINES = ("behavior", "modal")


class DualReport(NamedTuple):
    """The tables of :func:`dual_report`."""

    #: ``line`` (``'behavior'``, ``'modal'``, ``'model'``), then a column for each metric
    ranking: pd.DataFrame
    #: ``node_type``, ``cosine_distance``
    distance: pd.DataFrame
    #: ``node_type``, ``node``, ``line``, ``x``, ``y``: places on the map
    tsne: pd.DataFrame

    def save(self, folder: str | Path) -> None:
        """Writes each table as ``<name>.csv``, and the plots ``ranking.png`` and ``tsne.png``.

        Raises:
            ImportError: If matplotlib is not installed.
        """
        require_matplotlib()
        folder = write_tables(folder, self._asdict())
        _plot_ranking(self.ranking, folder / "ranking.png")
        _plot_tsne(self.tsne, folder / "tsne.png")


def dual_report(
    model: Recommender,
    data: HeteroData,
    evaluator: Evaluator | None = None,
    *,
    folder: str | Path | None = None,
    seed: int = 0,
) -> DualReport:
    """Measures a model's behaviour line and modal line, each alone and beside the other.

    Made for "DRepMRec: A Dual Representation Learning Framework for Multimodal Recommendation", and works for every
    model whose :class:`~pyg_mmrec.models.Representations` fill ``behavior`` and ``modal``.

    - **ranking**: metrics when the inner products of one line alone rank, and the model's own (Figure 5).
    - **distance**: how far the two lines of a node are apart (:func:`cosine_distance`; Figure 6 has it by epoch).
    - **tsne**: a t-SNE map of both lines of 1000 random nodes, brought to length one; the plot joins the two places of
      a node (Figure 7).

    Args:
        model: The model; it is read in evaluation mode.
        data: A view with held-out interactions.
        evaluator: What ranks (default: ``Evaluator(['recall@20', 'ndcg@20'])``, the paper's).
        folder: Where to write tables and plots (:meth:`DualReport.save`); nothing is written without it.
        seed: Seed of the map.

    Raises:
        ValueError: If the model's representations lack ``behavior`` or ``modal``.
        ImportError: If there is a ``folder`` and matplotlib is not installed.

    Example:
        >>> import tempfile
        >>> from pyg_mmrec.benchmark import prepare
        >>> from pyg_mmrec.datasets import AttributeShop
        >>> from pyg_mmrec.models import DRepMRec
        >>> train, val, test = prepare(AttributeShop(tempfile.mkdtemp(), num_users=60, num_items=60)[0], [DRepMRec])
        >>> dual_report(DRepMRec.from_data(train), val).ranking['line'].tolist()
        ['behavior', 'modal', 'model']
    """
    if folder is not None:
        require_matplotlib()
    evaluator = evaluator or Evaluator(["recall@20", "ndcg@20"])
    lines = dict(zip(LINES, _lines(model, data), strict=True))
    ranking = [{"line": name, **evaluator(_Fixed(pair), data)} for name, pair in lines.items()]
    ranking.append({"line": "model", **evaluator(model, data)})
    distance = [{"node_type": key, "cosine_distance": value} for key, value in cosine_distance(model, data).items()]
    places = pd.DataFrame(_map(lines, seed), columns=["node_type", "node", "line", "x", "y"])
    report = DualReport(pd.DataFrame(ranking), pd.DataFrame(distance), places)
    if folder is not None:
        report.save(folder)
    return report


def cosine_distance(model: Recommender, data: HeteroData) -> dict[str, float]:
    """Mean of one minus the cosine of a node's behaviour and modal representation, for users and for items.

    Args:
        model: A model whose representations fill ``behavior`` and ``modal``; it is read in evaluation mode.
        data: The graph that the model reads.

    Raises:
        ValueError: If they do not.
    """
    behavior, modal = _lines(model, data)
    return {
        name: 1 - float(F.cosine_similarity(one, other).mean())
        for name, one, other in zip(("user", "item"), behavior, modal, strict=True)
    }


def gradient_cosine(model: Recommender, data: HeteroData, batch: Triplets) -> float:
    r"""Cosine of the directions in which behaviour and modalities pull the parameters that both train.

    The conflict of "DRepMRec" (Figure 1a): the gradients of BPR on the behaviour representations alone and of BPR on
    the modal representations alone. Below zero, a step for one is a step against the other. Zero where the lines share
    no parameters.

    Args:
        model: A model whose representations fill ``behavior`` and ``modal``.
        data: The graph that the model reads.
        batch: Users, positive and negative items.

    Raises:
        ValueError: If they do not.
    """
    out = _checked(model, model(data))
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    grads = []
    for pair in out:
        loss = bpr_loss(*triplet_scores(*pair, batch))
        grads.append(torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True))
    shared = [(one, other) for one, other in zip(*grads, strict=True) if one is not None and other is not None]
    if not shared:
        return 0.0
    one, other = (torch.cat([pair[side].flatten() for pair in shared]) for side in (0, 1))
    return float(F.cosine_similarity(one, other, dim=0))


class _Fixed(torch.nn.Module):
    """Ranks by the inner products of given representations."""

    def __init__(self, pair: UserItem) -> None:
        super().__init__()
        self.pair = pair

    def forward(self, data: HeteroData) -> UserItem:
        """The representations."""
        return self.pair

    def score(self, data: HeteroData, representations: UserItem, user: Tensor, item: Tensor | None = None) -> Tensor:
        """Their inner products."""
        items = representations.item if item is None else representations.item[item]
        return representations.user[user] @ items.t()


@torch.no_grad()
def _lines(model: Recommender, data: HeteroData) -> tuple[UserItem, UserItem]:
    """Behaviour and modal representations, in evaluation mode."""
    with evaluating(model):
        behavior, modal = _checked(model, model(with_operators(data)))
    return UserItem(*map(torch.detach, behavior)), UserItem(*map(torch.detach, modal))


def _checked(model: Recommender, out: Representations) -> tuple[UserItem, UserItem]:
    if out.behavior is None or out.modal is None:
        missing = [name for name in LINES if getattr(out, name) is None]
        raise ValueError(f"the representations of {type(model).__name__} have no {' and no '.join(missing)} part")
    return out.behavior, out.modal


def _map(lines: dict[str, UserItem], seed: int) -> Iterator[tuple[str, int, str, float, float]]:
    behavior = lines["behavior"]
    num_users, num_nodes = behavior.user.size(0), behavior.user.size(0) + behavior.item.size(0)
    drawn = torch.randperm(num_nodes, generator=torch.Generator().manual_seed(seed))[:MAP_NODES].sort().values
    points = torch.cat([F.normalize(torch.cat(tuple(pair)).cpu()[drawn]) for pair in lines.values()])
    perplexity = min(30.0, (points.size(0) - 1) / 3)
    places = iter(TSNE(perplexity=perplexity, random_state=seed).fit_transform(points.numpy()).tolist())
    for line in lines:
        for node in drawn.tolist():
            kind, number = ("user", node) if node < num_users else ("item", node - num_users)
            yield kind, number, line, *next(places)


def _plot_ranking(table: pd.DataFrame, path: Path) -> None:
    """Bars for each line, side by side for each metric."""
    from matplotlib.figure import Figure

    metrics = [name for name in table.columns if name != "line"]
    figure = Figure(figsize=(2.5 * len(metrics) + 1, 3), layout="constrained")
    for ax, metric in zip(figure.subplots(1, len(metrics), squeeze=False)[0], metrics, strict=True):
        ax.bar(table["line"], table[metric], color=["C0", "C1", "C2"])
        ax.set_title(metric)
    figure.savefig(path, dpi=150)


def _plot_tsne(table: pd.DataFrame, path: Path) -> None:
    """A map for users and one for items; squares are behaviour, circles modal, and lines join those of a node."""
    from matplotlib.figure import Figure

    kinds = table["node_type"].unique()
    figure = Figure(figsize=(5 * len(kinds), 5), layout="constrained")
    for ax, kind in zip(figure.subplots(1, len(kinds), squeeze=False)[0], kinds, strict=True):
        places = {line: part.set_index("node") for line, part in table[table["node_type"] == kind].groupby("line")}
        one, other = (places[line][["x", "y"]] for line in LINES)
        other = other.loc[one.index]
        ax.plot([one["x"], other["x"]], [one["y"], other["y"]], "--", color="0.8", linewidth=0.4, zorder=1)
        for (line, points), marker in zip((("behavior", one), ("modal", other)), "so", strict=True):
            ax.scatter(points["x"], points["y"], s=8, marker=marker, label=line, zorder=2)
        ax.set(title=f"{kind}s", xticks=[], yticks=[])
        ax.legend()
    figure.savefig(path, dpi=150)
