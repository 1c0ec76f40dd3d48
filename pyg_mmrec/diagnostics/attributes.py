"""Evidence of attributes: what each part of an item says, shows and counts, and what its aspects mean."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, cast

import pandas as pd
import torch
import torch.nn.functional as F
from sklearn.cluster import KMeans
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_mmrec.diagnostics._plots import require_matplotlib, write_tables
from pyg_mmrec.diagnostics.probes import linear_probe
from pyg_mmrec.metrics import dci, mutual_information_gap
from pyg_mmrec.models import MDR
from pyg_mmrec.nn import AspectBranch, ImageVAE
from pyg_mmrec.typing import ITEM
from pyg_mmrec.utils.checks import check_int


class AttributeReport(NamedTuple):
    """The tables of :func:`attribute_report`."""

    probes: pd.DataFrame  #: ``attribute``, ``part``, ``accuracy``, ``chance``
    labels: pd.DataFrame  #: ``attribute``, ``accuracy``, ``num_items``
    scores: pd.DataFrame  #: ``measure``, ``value``
    shares: pd.DataFrame  #: ``part``, ``share``

    def save(self, folder: str | Path) -> None:
        """Writes each table as ``<name>.csv``."""
        write_tables(folder, self._asdict())


def attribute_report(
    model: MDR,
    data: HeteroData,
    truth: HeteroData,
    *,
    num_users: int = 200,
    folder: str | Path | None = None,
    seed: int = 0,
) -> AttributeReport:
    """Measures how well the parts of MDR's items are the attributes that they are named after.

    Made for "Multimodal Disentangled Representation for Recommendation" on
    :class:`~pyg_mmrec.datasets.AttributeShop`, where all attributes are known.

    - **probes**: accuracy of a linear classifier of each known attribute on each part
      (:func:`~pyg_mmrec.diagnostics.linear_probe`), the black box last.
    - **labels**: how often the model's own classifiers are right on items whose label it did not see; items without
      the modality that the classifier reads are not counted.
    - **scores**: :func:`~pyg_mmrec.metrics.mutual_information_gap` and :func:`~pyg_mmrec.metrics.dci` of all dimensions
      but the black box's.
    - **shares**: the absolute value of what each part gave, in candidate and history together, to the score of the
      first recommendation of some users (:meth:`MDR.explain <pyg_mmrec.models.MDR.explain>`), as a share of the sum
      over the parts, on average.

    Args:
        model: The model; it is read in evaluation mode.
        data: The view that it was trained on, with the labels that it saw.
        truth: The graph with all labels, ``data['item'].attr_<name>``.
        num_users: Users whose first recommendation is explained (default: 200).
        folder: Where to write the tables; nothing is written without it.
        seed: Of folds, trees and users.

    Raises:
        ValueError: If the items of ``truth`` have no labels.
    """
    check_int(1, num_users=num_users)
    known = {key.removeprefix("attr_"): truth[ITEM][key].cpu() for key in truth[ITEM] if key.startswith("attr_")}
    if not known:
        raise ValueError("'truth' has no labels, data['item'].attr_<name>, to measure the parts by")
    parts = {name: part.cpu() for name, part in model.parts(data, _every_item(model)).items()}
    probes = []
    for attribute, label in known.items():
        for part, x in parts.items():
            accuracy, chance = linear_probe(x, label, seed=seed)
            probes.append({"attribute": attribute, "part": part, "accuracy": accuracy, "chance": chance})
    named = torch.cat([parts[name] for name in model.attributes.modalities], dim=1)
    scores = {"mutual information gap": mutual_information_gap(named, known), **dci(named, known, seed=seed)}
    labels = []
    for attribute, found in model.labels(data).items():
        hidden = (data[ITEM][f"attr_{attribute}"].cpu() < 0) & (known[attribute] >= 0) & (found.cpu() >= 0)
        right = (found.cpu() == known[attribute])[hidden].double()
        accuracy = float(right.mean()) if right.numel() else float("nan")
        labels.append({"attribute": attribute, "accuracy": accuracy, "num_items": right.numel()})
    report = AttributeReport(
        pd.DataFrame(probes),
        pd.DataFrame(labels, columns=["attribute", "accuracy", "num_items"]),
        pd.DataFrame([{"measure": name, "value": value} for name, value in scores.items()]),
        _shares(model, data, num_users, seed),
    )
    if folder is not None:
        report.save(folder)
    return report


def _every_item(model: MDR) -> Tensor:
    return torch.arange(model.num_items, device=model.interest.attention.weight.device)


def _shares(model: MDR, data: HeteroData, num_users: int, seed: int) -> pd.DataFrame:
    """Mean shares of the parts in the absolute contributions to first recommendations."""
    user = torch.randperm(model.num_users, generator=torch.Generator().manual_seed(seed))[:num_users]
    item = model.recommend(data, user, k=1)[1].flatten().cpu()
    given = []
    for one, other in zip(user[item >= 0].tolist(), item[item >= 0].tolist(), strict=True):
        why = model.explain(data, one, other)
        given.append([abs(why.candidate[name] + float(why.history[name].sum())) for name in why.candidate])
    table = torch.tensor(given, dtype=torch.float64)
    share = (table / table.sum(1, keepdim=True).clamp_min(torch.finfo(torch.float64).tiny)).mean(0)
    return pd.DataFrame({"part": model.attributes.names, "share": share.tolist()})


@torch.no_grad()
def traverse(model: MDR, data: HeteroData, item: int, attribute: str, steps: int = 8, seed: int = 0) -> Tensor:
    """Pictures of an item with one attribute changed and all else as it is (Figure 4 of MDR's paper).

    The part of the attribute is set, one after the other, to the k-means centres of that part over all items, in the
    order of their first principal component.

    Args:
        model: A model that reads pictures.
        data: The graph.
        item: The item.
        attribute: An attribute of the layout that is seen in pictures.
        steps: How many pictures, at most the number of items (default: 8).
        seed: Of k-means.

    Returns:
        ``[steps, colours, height, width]`` uint8.

    Raises:
        ValueError: If the model reads no pictures, there is no such attribute or item, or ``steps`` is out of range.
    """
    check_int(2, steps=steps)
    if steps > model.num_items:
        raise ValueError(f"'steps' must be at most the number of items, {model.num_items} (got {steps})")
    check_int(0, item=item)
    branch = model.branch["image"] if "image" in model.branch else None
    if not isinstance(branch, ImageVAE):
        raise ValueError("the model reads no pictures, data['item'].image, that it could rebuild")
    shown = [name for name, seen in model.attributes.modalities.items() if "image" in seen]
    if attribute not in shown:
        raise ValueError(f"'attribute' must be one that pictures show, {', '.join(shown)} (got {attribute!r})")
    if item >= model.num_items:
        raise ValueError(f"'item' must lie in 0..{model.num_items - 1} (got {item})")
    parts = model.parts(data, _every_item(model))
    width, place = model.part_channels, list(model.attributes.modalities).index(attribute)
    whole = torch.cat([part[item] for part in parts.values()]).view(-1, width).expand(steps, -1, -1).clone()
    every = parts[attribute].cpu()
    centre = torch.from_numpy(KMeans(steps, n_init=5, random_state=seed).fit(every.numpy()).cluster_centers_)
    axis = torch.linalg.svd(every - every.mean(0), full_matrices=False)[2][0]
    whole[:, place] = centre[(centre @ axis).argsort()].to(whole)
    pictures = branch.decoder(whole[:, model.attributes.places("image")].flatten(1))
    return cast("Tensor", (255 * pictures).round().to(torch.uint8))


def save_grid(path: str | Path, pictures: Sequence[Tensor], margin: int = 2) -> None:
    """Writes rows of pictures as one PNG.

    Args:
        path: The file.
        pictures: Rows, ``[n, colours, height, width]`` uint8 each, all of one shape, with one or three colours.
        margin: White pixels between pictures (default: 2).

    Raises:
        ImportError: If matplotlib is missing (extra ``plot``).
        ValueError: If there are no pictures, or they are not of one shape with one or three colours.
    """
    require_matplotlib()
    check_int(0, margin=margin)
    shapes = [list(row.shape) for row in pictures]
    if not shapes or any(shape != shapes[0] for shape in shapes) or len(shapes[0]) != 4 or shapes[0][1] not in (1, 3):
        raise ValueError(
            f"'pictures' must be rows [n, colours, height, width] of one shape with 1 or 3 colours (got {shapes})"
        )
    from matplotlib.image import imsave

    rows = torch.stack(list(pictures))  # [rows, n, colours, height, width]
    if rows.size(2) == 1:
        rows = rows.expand(-1, -1, 3, -1, -1)
    rows = F.pad(rows, (0, margin, 0, margin), value=255)
    image = rows.permute(0, 3, 1, 4, 2).flatten(2, 3).flatten(0, 1)[: -margin or None, : -margin or None]
    imsave(path, image.contiguous().numpy())


@torch.no_grad()
def aspect_words(model: MDR, words: Sequence[str], k: int = 10) -> dict[str, list[str]]:
    """The words that are nearest to each aspect, by cosine (Figure 5 of MDR's paper).

    Args:
        model: A model that reads words.
        words: The words by token, such as ``data['word'].text`` or a data set's ``vocabulary``.
        k: How many (default: 10).

    Returns:
        By the attribute that the aspect belongs to; those of the black box are numbered.

    Raises:
        ValueError: If the model reads no words, or not as many.
    """
    check_int(1, k=k)
    branch = model.branch["text"] if "text" in model.branch else None
    if not isinstance(branch, AspectBranch) or branch.word is None:
        raise ValueError("the model reads no words, data['item'].tokens")
    if len(words) != branch.word.size(0):
        raise ValueError(f"'words' must be the {branch.word.size(0)} words that the model reads (got {len(words)})")
    layout = model.attributes
    names = [*layout.modalities, *(f"black_box_{number}" for number in range(layout.num_black_box))]
    cosine = F.normalize(branch.aspect, dim=-1) @ F.normalize(branch.word, dim=-1).t()
    cosine[:, branch.word.abs().sum(1) == 0] = -torch.inf  # padding, and words without a vector
    nearest = cosine.topk(min(k, len(words) - 1), dim=1).indices.tolist()
    return {
        names[place]: [words[word] for word in row] for place, row in zip(layout.places("text"), nearest, strict=True)
    }
