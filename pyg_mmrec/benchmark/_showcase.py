"""What saved models of a comparison show: maps of their items and lists of recommendations."""

from __future__ import annotations

import base64
import importlib.util
import io
from collections.abc import Sequence
from typing import NamedTuple

import torch
from sklearn.manifold import TSNE
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_mmrec.benchmark._charts import COLOURS, Chart, scatter_chart
from pyg_mmrec.benchmark._report_data import Comparison, Group
from pyg_mmrec.benchmark.prepare import Views
from pyg_mmrec.benchmark.runner import split_hash
from pyg_mmrec.models import Recommender
from pyg_mmrec.typing import INTERACTS, ITEM, mask_key
from pyg_mmrec.utils import num_users_items, with_operators
from pyg_mmrec.utils.modes import evaluating

#: Side of a picture in the file, and items of a history that are shown.
PIXELS, HISTORY = 96, 8
#: Fewer items have no map.
LEAST = 5


class Tile(NamedTuple):
    """An item in a list."""

    item: int
    text: str
    hit: bool = False


class Strip(NamedTuple):
    """A row of items."""

    name: str
    note: str
    tiles: list[Tile]


class Gallery(NamedTuple):
    """A user's items and what each model recommends."""

    user: int
    strips: list[Strip]


def dataset_of(comparison: Comparison, views: Views) -> str:
    """The data set whose runs were trained on a split.

    Raises:
        ValueError: If there is none.
    """
    found, tested = split_hash(views), comparison.tested
    same = tested[tested["split_hash"] == found] if "split_hash" in tested else tested[:0]
    if same.empty:
        raise ValueError(
            f"'views' is not a split that the runs in '{comparison.folder}' were trained on: give the data set, its "
            "arguments and the split of the benchmark"
        )
    return str(same["dataset"].iloc[0])


def load_models(parts: Sequence[Group]) -> dict[str, Recommender]:
    """The saved model of each label, of its first seed that has one."""
    found: dict[str, Recommender] = {}
    for part in parts:
        for _, folder in sorted(part.folders.items()):
            if (folder / "model").is_dir() and part.model not in found:
                found[part.model] = Recommender.from_pretrained(folder / "model")
    return found


@torch.no_grad()
def item_maps(models: dict[str, Recommender], views: Views, num_items: int, seed: int) -> list[Chart]:
    """A t-SNE map of each model's item representations, of the same random items."""
    data, generator = views[0], torch.Generator().manual_seed(seed)
    items = torch.randperm(num_users_items(data)[1], generator=generator)[:num_items].sort().values
    colours, names, attribute = _colours(data, items)
    charts: list[Chart] = []
    if len(items) < LEAST:
        return charts
    for label, model in models.items():
        with evaluating(model):
            x = model(with_operators(data)).item[items.to(data[INTERACTS].edge_index.device)].float().cpu()
        if x.size(1) < 2:  # one number an item, such as its popularity
            continue
        x = torch.nn.functional.normalize(x, dim=1).numpy()
        tsne = TSNE(perplexity=min(30.0, (len(items) - 1) / 3), init="pca", random_state=seed)
        title = label + (f", by {attribute}" if attribute else "")
        charts.append(scatter_chart(title, tsne.fit_transform(x), colours, names))
    return charts


def _colours(data: HeteroData, items: Tensor) -> tuple[list[int], list[str], str]:
    """The values of an item attribute that has few of them, their names and the attribute's; else one colour."""
    keys = sorted(key for key in data[ITEM] if key.startswith("attr_") or key == "category")
    for key in keys:
        known, index = data[ITEM][key][items.to(data[ITEM][key].device)].cpu().unique(return_inverse=True)
        if 2 <= known.numel() <= COLOURS:
            names = ["none" if value < 0 else str(value) for value in known.tolist()]
            return index.tolist(), names, key.removeprefix("attr_")
    return [0] * len(items), [], ""


def draw_users(views: Views, num_users: int, seed: int) -> list[int]:
    """Random users with items in the train and in the test part."""
    graded = views[2][INTERACTS].edge_label_index[0].unique()
    users = graded[torch.isin(graded, views[0][INTERACTS].edge_index[0])]
    order = torch.randperm(users.numel(), generator=torch.Generator().manual_seed(seed))
    chosen: list[int] = users.cpu()[order[:num_users]].sort().values.tolist()
    return chosen


def galleries(
    models: dict[str, Recommender], views: Views, users: Sequence[int], k: int, texts: Sequence[str] | None
) -> list[Gallery]:
    """History, held-out items and the best k items of each model, for some users."""
    train, _, test = views
    asked = torch.tensor(list(users), device=train[INTERACTS].edge_index.device)
    lists = {label: model.recommend(test, asked, k)[1].tolist() for label, model in models.items()}
    history, held_out = train[INTERACTS].edge_index, test[INTERACTS].edge_label_index

    def tile(item: int, hits: Sequence[int] = ()) -> Tile:
        return Tile(item, texts[item] if texts is not None else f"item {item}", item in hits)

    found = []
    for i, user in enumerate(users):
        seen, wanted = (edges[1][edges[0] == user].tolist() for edges in (history, held_out))
        strips = [Strip("history", _count(seen, "last"), [tile(item) for item in seen[-HISTORY:]])]
        strips.append(Strip("held out", _count(wanted, "first"), [tile(item) for item in wanted[:HISTORY]]))
        for label, rows in lists.items():
            tiles = [tile(item, wanted) for item in rows[i] if item >= 0]
            strips.append(Strip(label, f"hits: {sum(one.hit for one in tiles)} of {len(tiles)}", tiles))
        found.append(Gallery(user, strips))
    return found


def _count(items: Sequence[int], which: str) -> str:
    shown = f", the {which} {HISTORY} are shown" if len(items) > HISTORY else ""
    return f"{len(items)} item{'' if len(items) == 1 else 's'}{shown}"


def pictures(data: HeteroData, shown: Sequence[Gallery]) -> dict[int, str]:
    """The images of the items that are shown, as data URIs; none where items have no images.

    Raises:
        ImportError: If there are images and pillow is not installed.
    """
    if "image" not in data[ITEM]:
        return {}
    if importlib.util.find_spec("PIL") is None:
        raise ImportError("item images need pillow: pip install 'pyg-mmrec[report]'")
    items = sorted({tile.item for gallery in shown for strip in gallery.strips for tile in strip.tiles})
    mask = data[ITEM].get(mask_key("image"))
    return {item: _picture(data[ITEM].image[item]) for item in items if mask is None or bool(mask[item])}


def _picture(image: Tensor) -> str:
    """An image of the shape ``[C, H, W]`` as a data URI, at most 96 pixels wide and high."""
    from PIL import Image

    pixels = image.cpu().permute(1, 2, 0).numpy()
    picture = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels[..., :3])
    small = max(picture.size) <= PIXELS
    if not small:
        picture.thumbnail((PIXELS, PIXELS))
    file = io.BytesIO()
    picture.save(file, "PNG" if small else "JPEG", quality=80)
    return f"data:image/{'png' if small else 'jpeg'};base64,{base64.b64encode(file.getvalue()).decode()}"
