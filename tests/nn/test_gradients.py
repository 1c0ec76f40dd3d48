"""Gradients of every loss, layer and model against central finite differences in double precision."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterator
from functools import partial
from inspect import signature
from typing import Any

import pytest
import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_mmrec import models, nn
from pyg_mmrec.models import Recommender, content_din
from pyg_mmrec.nn import FilterGate, ModalProjection, SeparateLearning, XavierEmbedding, composed_linear, loss, vae
from pyg_mmrec.nn.conv import LightGCNConv, ModalGraphConv, PropagationConv
from pyg_mmrec.nn.loss import contrast
from pyg_mmrec.typing import COOCCURS, INTERACTS, Histories, Triplets, feature_key, mask_key, similar
from pyg_mmrec.utils import modalities, normalized_weight, with_operators
from tests.nn.test_conv import FORMS, SIZES, draw, express


@pytest.fixture(autouse=True)
def doubles() -> Iterator[None]:
    """Modules and inputs in double precision, from a fixed seed."""
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    yield
    torch.set_default_dtype(torch.float32)


def check(function: Callable[[], Tensor | tuple[Tensor, ...]], *inputs: Tensor) -> None:
    """Compares the derivatives of a function that reads ``inputs``."""
    for part in inputs:
        part.requires_grad_()
    # gradcheck moves the entries of its inputs in place, which the function sees.
    assert torch.autograd.gradcheck(
        lambda *_: function(), inputs, eps=1e-6, atol=1e-7, rtol=1e-5, check_undefined_grad=False
    )


def rows(*sizes: int) -> Tensor:
    return torch.randn(*sizes)


# Losses.

NUM_ROWS, REPEATS = 6, [3, 1, 3, 0, 1, 3]
MASK = torch.tensor([[True, True, False, True, True, True], [True, False, True, True, False, True]])


def bce() -> None:
    pos, neg = rows(5), rows(5)
    check(lambda: loss.bce_loss(pos, neg), pos, neg)
    far = torch.tensor([30.0, -30.0])
    check(lambda: loss.bce_loss(far, pos[:2]), far)


def bpr() -> None:
    pos, neg = rows(5), rows(5)
    check(lambda: loss.bpr_loss(pos, neg), pos, neg)
    far = torch.tensor([30.0, -30.0])
    check(lambda: loss.bpr_loss(far, pos[:2]), far)


def l2(form: Any) -> None:
    parts = [rows(4, 3), rows(4, 2), rows(4, 3)]
    check(lambda: loss.embedding_l2(*parts, form=form), *parts)


def info_nce(name: str, temperature: float, index: list[int] | None) -> None:
    anchor, positive, function = rows(NUM_ROWS, 3), rows(NUM_ROWS, 3), getattr(loss, name)
    kwargs = {} if index is None else {"index": torch.tensor(index)}
    check(lambda: function(anchor, positive, temperature, **kwargs), anchor, positive)
    check(lambda: function(anchor, anchor, temperature, **kwargs), anchor)


def distance(normalized: bool) -> None:
    generic, unique = rows(NUM_ROWS, 3), rows(NUM_ROWS, 3)
    check(lambda: loss.negative_distance(generic, unique, normalized), generic, unique)


def similarity(normalized: bool) -> None:
    x, target = rows(NUM_ROWS, 3), rows(NUM_ROWS, NUM_ROWS).detach()
    target = target + target.t()
    check(lambda: loss.similarity_loss(x, target, normalized), x)


def feature_similarity(normalized: bool) -> None:
    x, feature = rows(NUM_ROWS, 3), rows(NUM_ROWS, 2).detach()
    check(lambda: loss.feature_similarity_loss(x, feature, normalized), x)


def intents(contrast: Callable[..., Tensor], views: int) -> None:
    parts = [rows(3, 4, 2) for _ in range(views)]
    check(lambda: contrast(*parts, 0.5), *parts)


def assignments(of: Any) -> None:
    x = rows(4, 3)
    check(lambda: loss.intent_kl(x.softmax(1), of), x)


def overlap(form: Any) -> None:
    x = rows(4, 3)
    check(lambda: loss.intent_overlap(x, form), x)


def divergence() -> None:
    mean, log_var = rows(3, 4), rows(3, 4)
    check(lambda: loss.gaussian_kl(mean, log_var), mean, log_var)


def reconstruction() -> None:
    x, y = rows(3, 2, 2), rows(3, 2, 2)
    check(lambda: loss.reconstruction_loss(x, y, 3), x, y)


def aspects() -> None:
    rebuilt, text, negative = rows(3, 4), rows(3, 4), rows(3, 2, 4)
    check(lambda: loss.aspect_loss(rebuilt, text, negative), rebuilt, text, negative)


def orthogonality() -> None:
    x = rows(3, 4)
    check(lambda: loss.orthogonality_loss(x), x)


def leakage() -> None:
    label, x = rows(NUM_ROWS, 3).detach().softmax(1), rows(NUM_ROWS, 4)
    check(lambda: loss.leakage_loss(label, x), x)


def fitted_club(mask: Tensor | None) -> tuple[loss.CLUB, Tensor, Tensor]:
    """An estimator whose bounds are far from zero, where they are cut off."""
    x = rows(2, NUM_ROWS, 3)
    y = x[..., :2] + 0.1 * rows(2, NUM_ROWS, 2)
    club = loss.CLUB(2, 3, 2, hidden_channels=3, lr=0.05)
    club.fit(x, y, mask, num_steps=150)
    return club, x, y


def club(mask: Tensor | None, log_likelihood: bool) -> None:
    estimator, x, y = fitted_club(mask)

    def bound() -> Tensor:
        torch.manual_seed(3)  # the permutation
        out = estimator(x, y, mask)
        assert (out > 0.1).all()
        return out

    check((lambda: estimator.log_likelihood(x, y, mask)) if log_likelihood else bound, x, y)


def club_weights() -> None:
    """What `fit` climbs; that its own gradient is autograd's is tested beside it."""
    estimator, x, y = fitted_club(MASK)
    check(lambda: estimator.log_likelihood(x, y, MASK), estimator.weight)


def modal_contrast(masked: bool) -> None:
    views = {name: rows(NUM_ROWS, 3) for name in ("audio", "image", "text")}
    masks = dict(zip(("image", "text"), MASK, strict=True)) if masked else None
    check(lambda: loss.cross_modal_contrast(views, 0.5, masks), *views.values())


def further_negatives(temperature: float) -> None:
    anchor, positive, negative = rows(NUM_ROWS, 3), rows(NUM_ROWS, 3), rows(NUM_ROWS, 2, 3)
    index = torch.tensor(REPEATS)
    check(lambda: loss.info_nce(anchor, positive, temperature, index, negative), anchor, positive, negative)


def slopes() -> None:
    weight, top, real, fake = rows(3, 4), rows(4), rows(5, 3), rows(2, 5, 3)

    def penalty() -> Tensor:
        torch.manual_seed(3)  # the places between real and generated rows
        return loss.gradient_penalty(lambda x: torch.tanh(x @ weight) @ top, real.detach(), fake.detach())

    check(penalty, weight, top)


LOSSES: dict[str, list[Callable[[], None]]] = {
    "aspect_loss": [aspects],
    "bce_loss": [bce],
    "bpr_loss": [bpr],
    "gaussian_kl": [divergence],
    "leakage_loss": [leakage],
    "orthogonality_loss": [orthogonality],
    "reconstruction_loss": [reconstruction],
    "embedding_l2": [lambda: l2("squared"), lambda: l2("norm")],
    **{
        name: [
            lambda name=name, temperature=temperature, index=index: info_nce(name, temperature, index)
            for temperature in (0.02, 0.2, 1.0)  # beyond 1 / 40 the rows' largest logits are taken off
            for index in ((None, REPEATS) if name != "solosim_loss" else (None,))
        ]
        for name in ("info_nce", "symmetric_info_nce", "solosim_loss")
    },
    "further negatives": [lambda: further_negatives(0.02), lambda: further_negatives(0.2)],
    "cross_modal_contrast": [lambda: modal_contrast(False), lambda: modal_contrast(True)],
    "grace_loss": [lambda temperature=t: info_nce("grace_loss", temperature, None) for t in (0.02, 0.5)],
    "gradient_penalty": [slopes],
    "negative_distance": [lambda: distance(True), lambda: distance(False)],
    "intent_contrast": [lambda: intents(loss.intent_contrast, 2)],
    "intent_kl": [lambda of=of: assignments(of) for of in ("users", "batch")],
    "intent_overlap": [lambda form=form: overlap(form) for form in ("squared", "printed")],
    "feature_similarity_loss": [lambda: feature_similarity(True), lambda: feature_similarity(False)],
    "similarity_loss": [lambda: similarity(True), lambda: similarity(False)],
    "CLUB": [
        *(lambda mask=mask, likely=likely: club(mask, likely) for mask in (None, MASK) for likely in (False, True)),
        club_weights,
    ],
}


@pytest.mark.parametrize(("name", "number"), [(name, n) for name, cases in LOSSES.items() for n in range(len(cases))])
def test_losses(name: str, number: int) -> None:
    LOSSES[name][number]()


@pytest.mark.parametrize("entries", [1, 2 * NUM_ROWS, 4 * NUM_ROWS])
@pytest.mark.parametrize("temperature", [0.02, 0.5])
def test_contrast_in_blocks(monkeypatch: pytest.MonkeyPatch, entries: int, temperature: float) -> None:
    monkeypatch.setattr(contrast, "ENTRIES_AT_ONCE", entries)
    info_nce("info_nce", temperature, REPEATS)


# Layers.


def graph_of(form: str, shape: str, normalized: bool = False) -> tuple[Any, Tensor | None, int, int]:
    edge_index, weight, num_src, num_dst = draw(shape)
    weight = normalized_weight(edge_index, num_src, num_dst) if normalized else weight
    return *express(form, edge_index, weight.double(), num_src, num_dst), num_src, num_dst


@pytest.mark.parametrize("shape", SIZES)
@pytest.mark.parametrize("form", FORMS)
def test_propagation(form: str, shape: str) -> None:
    graph, weight, num_src, num_dst = graph_of(form, shape)
    x, conv = rows(num_src, 2), PropagationConv()
    size = (num_src, num_dst) if form == "edge_index" else None
    check(lambda: conv(x, graph, weight, size), x, *(() if weight is None else (weight,)))
    if weight is not None:
        check(lambda: conv(x, graph, None, size), x)


@pytest.mark.parametrize("num_layers", [0, 1, 3])
@pytest.mark.parametrize("shape", SIZES)
@pytest.mark.parametrize("form", FORMS)
def test_light_gcn(form: str, shape: str, num_layers: int) -> None:
    graph, weight, num_users, num_items = graph_of(form, shape, normalized=True)
    user, item, conv = rows(num_users, 2), rows(num_items, 2), LightGCNConv(num_layers)
    weights = () if weight is None or not num_layers else (weight,)
    check(lambda: conv(user, item, graph, weight), user, item, *weights)
    if num_layers:
        check(lambda: conv(user, item, graph, weight)[0], user, item)
        check(lambda: conv(user, item, graph, weight)[1], user, item)


@pytest.mark.parametrize("num_layers", [0, 1, 2])
@pytest.mark.parametrize("form", FORMS)
def test_modal_graph(form: str, num_layers: int) -> None:
    graphs = {"image": graph_of(form, "square")[0], "text": graph_of(form, "square", normalized=True)[0]}
    x, conv = rows(5, 2), ModalGraphConv(num_layers)
    alpha = {"text": torch.tensor(0.7), "image": torch.tensor(-0.4)}
    check(lambda: conv(x, graphs, alpha), x, *(alpha.values() if num_layers else ()))
    check(lambda: conv(x, graphs, {"text": 0.7, "image": -0.4}), x)


def test_gate() -> None:
    gate, x, behavior = FilterGate(3, 2), rows(4, 3), rows(4, 2)
    check(lambda: gate(x, behavior), x, behavior, *gate.parameters())


def test_embedding() -> None:
    table = XavierEmbedding(4, 2)
    check(lambda: table(torch.tensor([[3, 1], [1, 1]])), table.weight)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("index", [None, [2, 0, 2], [[1, 2], [0, 1]]], ids=str)
def test_projection(index: list[Any] | None, masked: bool, bias: bool) -> None:
    data, project = item_data(4, masked), ModalProjection({"image": 3, "text": 2}, 2, bias=bias)
    at = None if index is None else torch.tensor(index)
    features = [data["item"].x_image, data["item"].x_text]
    check(lambda: tuple(project(data, at).values()), *features, *project.parameters())


def test_composed_maps() -> None:
    first, x = torch.nn.Linear(4, 5), rows(3, 4)
    spans = {"all": slice(None), "left": slice(0, 2), "middle": slice(1, 4), "right": slice(2, None)}
    seconds = {name: (torch.nn.Linear(len(range(5)[part]), 2), part) for name, part in spans.items()}
    weights = [*first.parameters(), *(w for second, _ in seconds.values() for w in second.parameters())]
    check(lambda: tuple(composed_linear(x, first, seconds).values()), x, *weights)


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Inner layers with so few weights that each can be moved."""
    monkeypatch.setattr(SeparateLearning, "PROJECTION", 3)
    monkeypatch.setattr(SeparateLearning, "HEAD", 2)
    monkeypatch.setattr(content_din, "FeatureVAE", partial(nn.FeatureVAE, hidden_channels=2))
    interest = partial(nn.DeepInterest, attention_channels=2, predictor_channels=(3, 2))
    monkeypatch.setattr(content_din, "DeepInterest", interest)


def fit(separate: SeparateLearning | None, losses: Callable[[], dict[str, Tensor]]) -> None:
    """Fits the estimators for good: a loss takes them as they are, and its derivative does too.

    Weights are drawn until a bound is above zero: below, it is cut off and has no derivative.
    """
    for trial in range(20 if separate is not None else 0):
        assert separate is not None
        separate.estimator_steps = 200
        losses()
        separate.estimator_steps = 0
        torch.manual_seed(1)
        if separate.club is None or any(value > 1e-3 for name, value in losses().items() if name.startswith("dist")):
            return
        torch.manual_seed(trial)
        separate.reset_parameters()
    assert separate is None, "no bound is above zero"


def total(losses: Callable[[], dict[str, Tensor]]) -> Tensor:
    torch.manual_seed(1)  # the permutation of CLUB
    return torch.stack(list(losses().values())).sum()


def related(num_items: int, widths: dict[str, int]) -> dict[str, Tensor]:
    """Features of which all channels of all modalities depend on each other."""
    latent = rows(num_items, 2)
    return {name: latent @ rows(2, width) + 0.2 * rows(num_items, width) for name, width in widths.items()}


SEPARATE: list[dict[str, Any]] = [
    {"alignment": "solosim", "distancing": None},
    {"alignment": "infonce", "distancing": None},
    {"alignment": "solosim", "distancing": "club"},
    *({"alignment": None, "distancing": "negative", "raw_heads": raw} for raw in (False, True)),
    *(
        {"alignment": None, "distancing": "club", "raw_heads": raw, "shared_estimator": shared}
        for raw in (False, True)
        for shared in (False, True)
    ),
]


@pytest.mark.filterwarnings("ignore:the negative distance of raw heads")
@pytest.mark.usefixtures("narrow")
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("kwargs", SEPARATE, ids=lambda kwargs: "-".join(map(str, kwargs.values())))
def test_separate_learning(kwargs: dict[str, Any], masked: bool) -> None:
    widths = {"image": 3, "text": 2} | ({"audio": 2} if kwargs["alignment"] and kwargs["distancing"] else {})
    separate = SeparateLearning(widths, align_weight=0.5, distance_weight=2.0, estimator_lr=0.05, **kwargs)
    x = related(6, widths)
    masks = {name: torch.arange(6) != row for row, name in enumerate(("image", "audio"))} if masked else None
    fit(separate, lambda: separate(x, masks))
    check(lambda: total(lambda: separate(x, masks)), *x.values(), *separate.parameters())
    if separate.alignment and not masked:  # batch normalisation by the running statistics
        separate.eval()
        check(lambda: total(lambda: separate(x, masks)), *x.values(), *separate.parameters())


# Models.

NUM_USERS, NUM_ITEMS = 5, 7
BATCH = Triplets(torch.tensor([0, 1, 1, 4]), torch.tensor([0, 2, 2, 6]), torch.tensor([3, 0, 4, 2]))
HISTORIES = Histories(
    torch.tensor([1, 4, 3]),
    torch.tensor([0, 2, 4, 5]),
    torch.tensor([2, 3, 2, 0, 5]),
    torch.tensor([True, False, False, True, False]),
    torch.tensor([[4, 0], [3, 1]]),
)


def item_data(num_items: int, masked: bool = False) -> HeteroData:
    data = HeteroData()
    data["user"].num_nodes, data["item"].num_nodes = NUM_USERS, num_items
    data["item"].category = torch.arange(num_items) % 3 - 1
    for name, x in related(num_items, {"image": 3, "text": 2}).items():
        data["item"][feature_key(name)] = x
    if masked:
        data["item"][mask_key("image")] = torch.arange(num_items) != 2
    return data


def tiny_graph(masked: bool) -> HeteroData:
    """Every user and item has an edge but the last item; modal graphs with other weights in each direction."""
    data = item_data(NUM_ITEMS, masked)
    data[INTERACTS].edge_index = torch.tensor([[0, 0, 1, 1, 2, 3, 4, 4], [0, 1, 2, 3, 4, 5, 2, 0]])
    for name in modalities(data):
        graph = data[similar("item", name)]
        graph.edge_index = torch.stack([torch.arange(NUM_ITEMS), torch.randperm(NUM_ITEMS)]).repeat(1, 2)
        graph.edge_index[0, NUM_ITEMS:] = torch.randperm(NUM_ITEMS)
        graph.edge_weight = torch.rand(2 * NUM_ITEMS)
        users = data[similar("user", name)]
        users.edge_index = torch.stack([torch.arange(NUM_USERS), torch.randperm(NUM_USERS)])
        users.edge_weight = torch.rand(NUM_USERS)
    data[COOCCURS].edge_index = torch.tensor([[0, 1, 1, 4], [1, 0, 2, 3]])
    data[COOCCURS].edge_weight = torch.rand(4)
    return data


SEA_TERMS = {"align_weight": 0.5, "distance_weight": 2.0, "estimator_lr": 0.05}
MODELS: dict[str, list[dict[str, Any]]] = {
    "BM3": [
        {"l2_weight": 0.5, "dropout": dropout, "l2_form": form, "num_layers": layers}
        for dropout, form, layers in ((0.5, "squared", 2), (0.0, "norm", 0))
    ],
    "BPRMF": [{"l2_form": form, "l2_weight": 0.5} for form in ("squared", "norm")],
    "LightGCN": [
        {"num_layers": layers, "l2_form": form, "l2_weight": 0.5} for layers in (0, 2) for form in ("squared", "norm")
    ],
    "LayerGCN": [
        {"num_layers": layers, "l2_form": form, "l2_weight": 0.5} for layers, form in ((1, "norm"), (3, "squared"))
    ],
    "WideDeep": [{"mlp_channels": 4, "num_layers": 2}],
    "PNN": [{"product": product, "mlp_channels": 3, "num_layers": 2} for product in ("inner", "outer")],
    "DeepFM": [{"mlp_channels": 3, "num_layers": 2, "dropout": 0.4}, {"mlp_channels": 3, "num_layers": 1}],
    "VBPR": [
        {"bias": bias, "l2_form": form, "l2_weight": 0.5, "modal_l2_weight": weight}
        for bias, form, weight in ((True, "squared", 0.0), (True, "norm", 0.5), (False, "squared", 0.5))
    ],
    "MMGCN": [{"l2_weight": 0.5}, {"l2_weight": 0.5, "num_layers": 1, "combination": "concat"}],
    "GRCN": [{"l2_weight": 0.5}, {"l2_weight": 0.5, "num_layers": 1, "num_routing": 0}],
    "DualGNN": [
        {"l2_weight": 0.5},
        {"l2_weight": 0.5, "fusion": "mean", "num_layers": 0},
        {"l2_weight": 0.5, "fusion": "concat", "num_layers": 1},
    ],
    "FREEDOM": [
        {"modal_loss_weight": 0.5},
        {"modal_loss_weight": 0.5, "train_features": True, "num_item_layers": 2},
        {"modal_loss_weight": 0.0, "num_layers": 1, "graph_weights": {"image": 0.3, "text": 0.2}},
    ],
    "MGCN": [
        {"contrast_weight": 0.5, "l2_weight": 0.5},
        {"contrast_weight": 0.5, "l2_form": "norm", "l2_weight": 0.5, "num_layers": 0, "num_item_layers": 2},
    ],
    "LGMRec": [
        {"contrast_weight": 0.5, "l2_weight": 0.5, "temperature": 1.0, "num_hyperedges": 2},
        {"num_hyper_layers": 2, "num_modal_layers": 1, "num_layers": 1, "dropout": 0.0, "temperature": 1.0},
    ],
    "SLMRec": [
        {"task": task, "contrast_weight": 0.5, "l2_weight": 0.5, "num_layers": layers, "l2_form": form}
        for task, layers, form in (("fac", 2, "squared"), ("fd", 1, "norm"), ("fm", 2, "squared"))
    ],
    "MMGCL": [
        {"contrast_weight": 0.5, "l2_weight": 0.5},
        {"contrast_weight": 0.5, "l2_form": "norm", "challenging_negatives": False, "masking": 0.0, "num_layers": 1},
    ],
    "MMSSL": [
        {"contrast_weight": 0.5, "adversarial_weight": 0.5, "l2_weight": 0.5, "num_heads": 2, "critic_channels": 3},
        {"adversarial_weight": 0.0, "l2_form": "norm", "num_heads": 1, "num_layers": 0, "dropout": 0.0},
    ],
    "LATTICE": [
        {"num_neighbors": 3, "l2_weight": 0.5},
        {"num_neighbors": 2, "frozen_weight": 0.0, "num_layers": 0, "num_item_layers": 2, "l2_form": "norm"},
    ],
    "MICRO": [
        {"num_neighbors": 3, "contrast_weight": 0.5, "l2_weight": 0.5},
        {"num_neighbors": 2, "frozen_weight": 0.0, "num_layers": 0, "num_item_layers": 2, "l2_form": "norm"},
    ],
    "DRepMRec": [
        {"intra_weight": 0.5, "inter_weight": 0.5, "sss_weight": 0.5, "l2_weight": 0.5},
        {"normalized_similarity": False, "num_layers": 0, "modality_weights": {"image": 0.5, "text": 0.2}},
    ],
    "MMIL": [
        {"warmup_epochs": None, "num_heads": 1, **case}
        for case in (
            {"num_intents": 3, "contrast_weight": 0.5, "overlap_weight": 0.5, "distance_weight": 0.5},
            {"num_intents": 2, "num_heads": 2, "head": "mlp", "kl_of": "batch", "overlap_form": "printed"},
            {"num_intents": 2, "num_heads": 2, "distance": "euclid", "residual": False, "num_layers": 0},
            {"intent_learning": False, "num_item_layers": 0},
            {"num_intents": 2, "modal_awareness": False},
        )
    ],
    "ABAE": [{"num_parts": 2, "part_channels": 2}],
    "BetaVAE": [{"num_parts": 1, "part_channels": 2, "kl_weight": 0.5}],
    "DINPlus": [{"num_parts": 1, "part_channels": 2, "kl_weight": 0.5}],
    "MDR": [
        {"part_channels": 1, "layout": {"modalities": {"a": ["image", "text"], "b": ["image"]}, "num_black_box": 1}}
    ],
    "WithBMA": [{"base": base, "base_args": {"hidden_channels": 3}} for base in ("VBPR", "MGCN")],
    "SEA": [
        SEA_TERMS,
        SEA_TERMS | {"alignment": "infonce", "distancing": "negative"},
        SEA_TERMS | {"alignment": None, "distancing": None},
        SEA_TERMS | {"num_item_layers": 2, "num_layers": 1, "alignment": None, "distancing": "negative"},
        SEA_TERMS | models.SEA.RELEASED,
    ],
    "WithSEA": [
        SEA_TERMS | {"base": base, "base_args": {"hidden_channels": 3, **base_args}}
        for base, base_args in (
            ("VBPR", {"l2_weight": 0.5, "modal_l2_weight": 0.5}),
            ("FREEDOM", {"modal_loss_weight": 0.5, "train_features": True}),
        )
    ],
}


def hold_targets(model: Recommender, losses: Callable[[], dict[str, Tensor]]) -> None:
    """Holds BM3's targets at what they are: its loss passes no gradient to them, and its derivative must not either."""
    if not isinstance(model, models.BM3):
        return
    draw, targets = model._target, []

    def record(x: Tensor) -> Tensor:
        targets.append(draw(x))
        return targets[-1]

    model._target = record
    total(losses)
    held = itertools.cycle(targets)
    model._target = lambda x: next(held)


def to_single(data: HeteroData) -> HeteroData:
    return copy.copy(data).apply(lambda value: value.float() if value.is_floating_point() else value)


def built(name: str, data: HeteroData, init_args: dict[str, Any]) -> Recommender:
    size = {"hidden_channels": 2} if "hidden_channels" in signature(getattr(models, name)).parameters else {}
    model: Recommender = getattr(models, name).from_data(to_single(data), **size, **init_args).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))  # no bias at zero
    return model


@pytest.mark.usefixtures("narrow")
@pytest.mark.parametrize(
    ("name", "number", "masked"),
    [
        (name, n, masked)
        for name, cases in MODELS.items()
        for n in range(len(cases))
        for masked in ((True, False) if n == 0 else (True,))
    ],
)
def test_models(name: str, number: int, masked: bool) -> None:
    data = tiny_graph(masked)
    model = built(name, data, MODELS[name][number])
    batch = HISTORIES if model.batches == "histories" else BATCH
    fit(getattr(model, "separate", None), lambda: model.loss(data, batch))
    hold_targets(model, lambda: model.loss(data, batch))
    check(lambda: total(lambda: model.loss(data, batch)), *model.parameters())


@pytest.mark.usefixtures("narrow")
def test_mdr_reads_pictures_words_and_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vae, "WIDTHS", (2,))
    monkeypatch.setattr(vae, "SMALLEST", 2)
    monkeypatch.setattr(vae.ImageVAE.__init__, "__defaults__", (2,))  # hidden_channels
    data = tiny_graph(masked=True)
    data["item"].image = torch.randint(256, (NUM_ITEMS, 1, 4, 4), dtype=torch.uint8)
    data["item"].tokens = torch.tensor([[1, 2, 3], [1, 3, 0], [4, 5, 0], [4, 5, 6], [0, 0, 0], [2, 3, 0], [6, 5, 1]])
    data["item"].attr_a = torch.tensor([1, -1, 0, 0, 1, -1, 1])
    data["item"].attr_b = torch.tensor([-1, 0, -1, 1, 1, 1, 0])
    layout: dict[str, Any] = {
        "modalities": {"a": ["image", "text"], "b": ["text"]},
        "num_classes": {"a": 2, "b": 2},
        "num_black_box": 1,
    }
    args = {"layout": layout, "part_channels": 1, "word_channels": 3, "train_words": True, "label_weight": 0.5}
    model = built("MDR", data, args)
    losses = model.loss(data, BATCH)
    assert losses["labels"] > 0
    assert losses["reconstruction"] > 0
    check(lambda: total(lambda: model.loss(data, BATCH)), *model.parameters())


@pytest.mark.parametrize("name", ["LightGCN", "FREEDOM", "SEA"])
def test_held_operators_have_the_same_gradients(name: str) -> None:
    data = tiny_graph(masked=False)
    model = built(name, data, {})
    grads = []
    for view in (data, with_operators(data)):
        twin = copy.deepcopy(model)
        total(lambda twin=twin, view=view: twin.loss(view, BATCH)).backward()
        grads.append([parameter.grad for parameter in twin.parameters()])
    for one, two in zip(*grads, strict=True):
        assert torch.equal(one, two)


def test_everything_is_checked() -> None:
    layers = {"FilterGate", "ModalProjection", "SeparateLearning", "XavierEmbedding", "composed_linear"}
    in_models = {"BehaviorModalAlignment", "IntentAttention", "MultiIntentExtractor", "SoftIntents"}
    in_models |= {"AspectBranch", "DeepInterest", "DisentangledFusion", "FeatureVAE", "ImageVAE"}
    in_models |= {"LatentGraph", "LatentStructure", "ViewAttention", "CrossModalAttention", "Critic"}
    in_models |= {"OneHotFields", "PairMLP", "pair_products", "score_pairs"}
    without_weights = {
        "AttributeLayout",
        "Code",
        "Contributions",
        "SimilarityTargets",
        "Standardize",
        "default_modality_weights",
        "reset_xavier",
    }
    assert {*loss.__all__, "further negatives"} == set(LOSSES)
    assert set(nn.__all__) == layers | in_models | without_weights
    assert set(nn.conv.__all__) == {
        "Graph",
        "LightGCNConv",
        "ModalGraphConv",
        "PropagationConv",
        "default_graph_weights",
    }
    trained = {name for name in models.__all__ if isinstance(getattr(models, name), type)}
    others = {"Explanation", "ModelCard", "Representations", "ScoreExplanation", "UserItem"}
    assert trained - others - {"Popularity", "Recommender"} == set(MODELS)
