"""Evidence of separate learning: what generic and unique parts hold."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd
import torch
import torch.nn.functional as F
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_mmrec.diagnostics._plots import require_matplotlib, write_tables
from pyg_mmrec.diagnostics.probes import cosine_alignment, information_bounds, linear_probe
from pyg_mmrec.models import Recommender
from pyg_mmrec.typing import ITEM, mask_key
from pyg_mmrec.utils import with_operators
from pyg_mmrec.utils.modes import evaluating

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Principal components of a half that are probed, as many as the heads are wide.
COMPONENTS = 32

#: Items on the t-SNE map, the paper's.
MAP_ITEMS = 200

PARTS = ("generic", "unique")

#: Columns of the tables, after ``model``.
COLUMNS = {
    "probes": ["attribute", "modality", "part", "view", "accuracy", "chance"],
    "information": ["modality", "view", "lower", "upper"],
    "alignment": ["modality", "other", "same_item", "other_items"],
    "tsne": ["item", "modality", "part", "x", "y"],
}


class SeparationReport(NamedTuple):
    """The tables of :func:`separation_report`; their column ``model`` says ``'trained'`` or ``'control'``."""

    #: ``attribute``, ``modality``, ``part``, ``view``, ``accuracy``, ``chance``; no rows where items have no attributes
    probes: pd.DataFrame
    #: ``modality``, ``view``, ``lower``, ``upper``: bounds of what a modality's two parts tell of each other, in nats
    information: pd.DataFrame
    #: ``modality``, ``other``, ``same_item``, ``other_items``: mean cosines; no rows where there is one modality
    alignment: pd.DataFrame
    #: ``item``, ``modality``, ``part``, ``x``, ``y``: places on the map, one map for each model
    tsne: pd.DataFrame

    def save(self, folder: str | Path) -> None:
        """Writes each table as ``<name>.csv``, the plots ``tsne.png`` and, with attributes, ``probes.png``.

        Raises:
            ImportError: If matplotlib is not installed.
        """
        require_matplotlib()
        folder = write_tables(folder, self._asdict())
        _plot_tsne(self.tsne, folder / "tsne.png")
        if len(self.probes):
            _plot_probes(self.probes, folder / "probes.png")


class _Part(NamedTuple):
    """One part of one modality."""

    view: str
    modality: str
    part: str
    items: Tensor  # [n] the items that have the modality
    x: Tensor  # [n, channels]


def separation_report(
    model: Recommender,
    data: HeteroData,
    *,
    control: Recommender | None = None,
    folder: str | Path | None = None,
    seed: int = 0,
) -> SeparationReport:
    r"""Measures how far a model has separated what modalities share from what each has alone.

    Made for SEA (`"It is Never Too Late to Mend" <https://arxiv.org/abs/2406.08270>`_), and works for every model whose
    :class:`~pyg_mmrec.models.Representations` fill ``generic`` and ``unique``. Parts are looked at in two views: the
    ``'head'`` that these hold, and, where the model has ``parts(data)``, the first 32 principal ``'components'`` of
    the halves themselves, which a head may hide. Items without a modality are left out of its figures.

    - **probes**: accuracy of every item attribute ``attr_<name>`` (:func:`linear_probe`). Generic parts should tell
      the attributes that all modalities show, unique parts the others. :class:`~pyg_mmrec.datasets.AttributeShop` has
      both kinds.
    - **information**: bounds of the mutual information of a modality's generic and unique part
      (:func:`information_bounds`). Distancing should lower them. In the head view the generic part is the aligned
      projection where there is one, not the head that CLUB reads.
    - **alignment**: cosines of the generic heads of two modalities, for the same item and for all other pairs of items
      (:func:`cosine_alignment`).
    - **tsne**: a t-SNE map of the heads of 200 random items (the paper's Figures 5 and 6). Rows are brought to length
      one first, so that heads of different norms do not fall apart for that alone.

    Wide halves of a map that has hardly moved keep everything decodable, and random heads of both parts are far apart
    on the map. So read the figures of a trained model beside those of an untrained one, its ``control``.

    Args:
        model: The model; it is read in evaluation mode.
        data: The graph that the model reads.
        control: A model to compare with, by default none. For an untrained one, copy the model and call its
            ``reset_parameters()``.
        folder: Where to write tables and plots (:meth:`SeparationReport.save`); nothing is written without it.
        seed: Seed of all random choices; torch's global generator is left as it is.

    Raises:
        ValueError: If a model has no generic or no unique parts, they differ in their modalities or are not finite, or
            an attribute cannot be probed.
        ImportError: If there is a ``folder`` and matplotlib is not installed.

    Example:
        >>> import tempfile
        >>> from pyg_mmrec.datasets import AttributeShop
        >>> from pyg_mmrec.models import SEA
        >>> from pyg_mmrec.transforms import ModalKNNGraph
        >>> data = ModalKNNGraph()(AttributeShop(tempfile.mkdtemp(), num_users=20, num_items=60)[0])
        >>> report = separation_report(SEA.from_data(data), data)
        >>> len(report.probes)  # 5 attributes, 2 modalities, 2 parts, 2 views
        40
        >>> report.alignment.columns.tolist()
        ['model', 'modality', 'other', 'same_item', 'other_items']
    """
    if folder is not None:
        require_matplotlib()
    labels = {key.removeprefix("attr_"): data[ITEM][key].cpu() for key in data[ITEM] if key.startswith("attr_")}
    rows: dict[str, list[tuple[Any, ...]]] = {name: [] for name in COLUMNS}
    for name, each in (("trained", model), ("control", control)):
        if each is not None:
            parts = _parts(each, data, seed)
            rows["probes"] += [(name, *row) for row in _probes(parts, labels, seed)]
            rows["information"] += [(name, *row) for row in _information(parts, seed)]
            rows["alignment"] += [(name, *row) for row in _alignment(parts)]
            rows["tsne"] += [(name, *row) for row in _tsne(parts, data[ITEM].num_nodes, seed)]
    tables = {name: pd.DataFrame(rows[name], columns=["model", *columns]) for name, columns in COLUMNS.items()}
    report = SeparationReport(**tables)
    if folder is not None:
        report.save(folder)
    return report


@torch.no_grad()
def _parts(model: Recommender, data: HeteroData, seed: int) -> list[_Part]:
    """All parts in all views, pairs of generic and unique part in turn."""
    halves = getattr(model, "parts", None)
    with evaluating(model):
        representations = model(with_operators(data))
        views = {"head": {part: getattr(representations, part) for part in PARTS}}
        if missing := [part for part, x in views["head"].items() if not x]:
            raise ValueError(
                f"{type(model).__name__} has not separated anything: its representations have no "
                f"{' and no '.join(missing)} parts"
            )
        if callable(halves):
            views["components"] = dict(zip(PARTS, halves(data), strict=True))
    return [part for view, by_part in views.items() for part in _view(view, by_part, data, seed)]


def _view(view: str, by_part: Mapping[str, Mapping[str, Tensor]], data: HeteroData, seed: int) -> Iterator[_Part]:
    """The parts of a view, with the items that have each modality."""
    generic, unique = by_part.values()
    if generic.keys() != unique.keys():
        raise ValueError(
            "generic and unique parts must be of the same modalities "
            f"(got {', '.join(generic)} and {', '.join(unique)})"
        )
    for modality, part in itertools.product(generic, PARTS):
        x, mask = by_part[part][modality].detach().cpu(), data[ITEM].get(mask_key(modality))
        items = torch.arange(x.size(0)) if mask is None else mask.cpu().nonzero().flatten()
        x = x[items].float()
        if not x.isfinite().all():
            raise ValueError(f"the {part} part of '{modality}' holds values that are not finite")
        if view == "components":
            pca = PCA(min(COMPONENTS, *x.shape), random_state=seed)
            x = torch.from_numpy(pca.fit_transform(x.numpy()))
        yield _Part(view, modality, part, items, x)


def _probes(
    parts: list[_Part], labels: Mapping[str, Tensor], seed: int
) -> Iterator[tuple[str, str, str, str, float, float]]:
    for (attribute, label), part in itertools.product(labels.items(), parts):
        try:
            accuracy, chance = linear_probe(part.x, label[part.items], seed=seed)
        except ValueError as error:
            raise ValueError(f"attribute '{attribute}' of the items with '{part.modality}': {error}") from None
        yield attribute, part.modality, part.part, part.view, accuracy, chance


def _information(parts: list[_Part], seed: int) -> Iterator[tuple[str, str, float, float]]:
    for generic, unique in zip(parts[::2], parts[1::2], strict=True):
        yield generic.modality, generic.view, *information_bounds(generic.x, unique.x, seed=seed)


def _alignment(parts: list[_Part]) -> Iterator[tuple[str, str, float, float]]:
    generic = [part for part in parts if (part.view, part.part) == ("head", "generic")]
    for one, other in itertools.combinations(generic, 2):
        in_other, in_one = torch.isin(one.items, other.items), torch.isin(other.items, one.items)
        yield one.modality, other.modality, *cosine_alignment(one.x[in_other], other.x[in_one])


def _tsne(parts: list[_Part], num_items: int, seed: int) -> Iterator[tuple[int, str, str, float, float]]:
    """Places of the heads of some items; narrower heads are padded with zeros."""
    sample = torch.randperm(num_items, generator=torch.Generator().manual_seed(seed))[:MAP_ITEMS]
    heads = [part for part in parts if part.view == "head"]
    drawn = [torch.isin(part.items, sample) for part in heads]
    width = max(part.x.size(1) for part in heads)
    directions = [F.normalize(part.x[chosen], dim=1) for part, chosen in zip(heads, drawn, strict=True)]
    points = torch.cat([F.pad(x, (0, width - x.size(1))) for x in directions])
    perplexity = min(30.0, (points.size(0) - 1) / 3)
    places = iter(TSNE(perplexity=perplexity, random_state=seed).fit_transform(points.numpy()).tolist())
    for part, chosen in zip(heads, drawn, strict=True):
        for item in part.items[chosen].tolist():
            yield item, part.modality, part.part, *next(places)


def _plot_tsne(table: pd.DataFrame, path: Path) -> None:
    """A map for each model: colours are modalities, markers parts."""
    from matplotlib.figure import Figure

    models = table["model"].unique()
    figure = Figure(figsize=(5 * len(models) + 1.5, 5), layout="constrained")
    axes = figure.subplots(1, len(models), squeeze=False)[0]
    colors = {name: f"C{k}" for k, name in enumerate(table["modality"].unique())}
    for ax, model in zip(axes, models, strict=True):
        for (modality, part), group in table[table["model"] == model].groupby(["modality", "part"]):
            style = {"marker": "o"} if part == "generic" else {"marker": "^", "facecolors": "none"}
            ax.scatter(group["x"], group["y"], s=18, edgecolors=colors[modality], label=f"{modality}, {part}", **style)
        ax.set(title=model, xticks=[], yticks=[])
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right upper")
    figure.savefig(path, dpi=150)


def _plot_probes(table: pd.DataFrame, path: Path) -> None:
    """Accuracies by attribute: bars for the trained model, diamonds for the control, dashes for chance."""
    from matplotlib.figure import Figure

    views, modalities = table["view"].unique(), table["modality"].unique()
    figure = Figure(figsize=(4.5 * len(modalities) + 1.5, 3 * len(views)), layout="constrained")
    axes = figure.subplots(len(views), len(modalities), squeeze=False, sharey=True)
    for (i, view), (j, modality) in itertools.product(enumerate(views), enumerate(modalities)):
        _plot_bars(axes[i, j], table[(table["view"] == view) & (table["modality"] == modality)])
        axes[i, j].set(title=f"{modality}, {view}", ylim=(0, 1.05))
    for row in axes:
        row[0].set_ylabel("accuracy of a linear probe")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside right upper")
    figure.savefig(path, dpi=150)


def _plot_bars(ax: Axes, table: pd.DataFrame) -> None:
    attributes = table["attribute"].unique().tolist()
    for k, part in enumerate(PARTS):
        place = [attribute + 0.4 * k - 0.2 for attribute in range(len(attributes))]
        trained, control = (
            table[(table["part"] == part) & (table["model"] == model)] for model in ("trained", "control")
        )
        ax.bar(place, trained["accuracy"], width=0.38, color=f"C{k + 2}", label=part)
        if len(control):
            label = "_" * k + "control"  # one entry in the legend
            ax.scatter(
                place, control["accuracy"], s=22, c="white", marker="D", edgecolors="black", zorder=3, label=label
            )
    left, right = ([x + side for x in range(len(attributes))] for side in (-0.4, 0.4))
    ax.hlines(trained["chance"], left, right, colors="black", linestyles="dashed", label="chance")
    ax.set_xticks(range(len(attributes)), attributes)
