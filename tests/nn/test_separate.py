from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from pyg_mmrec.nn import SeparateLearning, composed_linear
from pyg_mmrec.nn.loss import info_nce, negative_distance, solosim_loss, symmetric_info_nce

SIZES = {"image": 9, "text": 6}


def build(sizes: dict[str, int] | None = None, **kwargs: Any) -> SeparateLearning:
    torch.manual_seed(0)
    defaults: dict[str, Any] = {"align_weight": 0.5, "distance_weight": 0.25, "estimator_lr": 1e-2}
    return SeparateLearning(sizes or SIZES, **(defaults | kwargs)).double()


def representations(num_items: int = 40, sizes: dict[str, int] | None = None) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {
        name: torch.randn(num_items, width, generator=generator, dtype=torch.float64)
        for name, width in (sizes or SIZES).items()
    }


def projected(separate: SeparateLearning, x: Tensor, name: str) -> Tensor:
    half = x.size(1) // 2
    return separate.align_out[name](separate.align_in[name](x[:, :half]))


@pytest.mark.parametrize("alignment", ["solosim", "infonce"])
def test_alignment_is_over_the_generic_halves(alignment: str) -> None:
    separate, x = build(alignment=alignment, distancing=None, temperature=0.3), representations()
    loss = separate(x)
    text, image = projected(separate, x["text"], "text"), projected(separate, x["image"], "image")
    contrast = solosim_loss if alignment == "solosim" else symmetric_info_nce
    assert list(loss) == ["align"]
    torch.testing.assert_close(loss["align"], 0.5 * contrast(text, image, 0.3))
    changed = {
        name: torch.cat([part[:, : part.size(1) // 2], torch.rand(40, 5).double()], 1) for name, part in x.items()
    }
    changed["text"] = changed["text"][:, :6]
    changed["image"] = changed["image"][:, :9]
    torch.testing.assert_close(separate(changed)["align"], loss["align"])


def test_alignment_of_three_modalities_is_the_mean_over_pairs() -> None:
    sizes = {"audio": 4, "image": 9, "text": 6}
    separate, x = build(sizes, distancing=None), representations(sizes=sizes)
    z = {name: projected(separate, part, name) for name, part in x.items()}
    pairs = [("text", "audio"), ("text", "image"), ("audio", "image")]
    expected = torch.stack([info_nce(z[a], z[b]) for a, b in pairs]).mean()
    torch.testing.assert_close(separate(x)["align"], 0.5 * expected)


def test_negative_distance_of_the_heads() -> None:
    separate, x = build(alignment=None, distancing="negative"), representations()
    losses = separate(x)
    for name, half in (("image", 4), ("text", 3)):
        generic, unique = separate.generic_head[name](x[name][:, :half]), separate.unique_head[name](x[name][:, half:])
        expected = 0.25 / 2 * negative_distance(generic, unique)
        torch.testing.assert_close(losses[f"distance_{name}"], expected)


@pytest.mark.parametrize("raw_heads", [False, True])
def test_club_bounds_the_heads_after_a_fit(raw_heads: bool) -> None:
    separate, x = build(alignment=None, raw_heads=raw_heads, estimator_steps=30), representations()
    twin = build(alignment=None, raw_heads=raw_heads).club
    heads = []
    for part, columns in (("generic", (slice(4), slice(3))), ("unique", (slice(4, None), slice(3, None)))):
        layers = getattr(separate, f"{part}_head")
        stacked = torch.stack([layers[name](x[name][:, s]) for name, s in zip(SIZES, columns, strict=True)])
        if not raw_heads:
            array = stacked.detach().numpy()
            array = (array - array.mean(1, keepdims=True)) / np.sqrt(array.var(1, keepdims=True) + 1e-5)
            stacked = torch.from_numpy(array)
        heads.append(stacked.detach())
    twin.fit(*heads, num_steps=30)
    torch.manual_seed(3)
    expected = twin(*heads)
    torch.manual_seed(3)
    losses = separate(x)
    assert expected.min() > 0
    torch.testing.assert_close(losses["distance_image"].detach(), 0.25 / 2 * expected[0])
    torch.testing.assert_close(losses["distance_text"].detach(), 0.25 / 2 * expected[1])
    torch.testing.assert_close(separate.club.weight, twin.weight)


def test_estimators_are_fitted_while_training_only() -> None:
    separate, x = build().eval(), representations()
    before = separate.club.weight.clone()
    separate(x)
    assert torch.equal(separate.club.weight, before)
    separate.train()(x)
    assert not torch.equal(separate.club.weight, before)


def test_a_shared_estimator_is_fitted_across_modalities() -> None:
    separate, x = build(shared_estimator=True, raw_heads=True, alignment=None, estimator_steps=5), representations()
    twin = build(shared_estimator=True, raw_heads=True, alignment=None).club
    assert twin.num_pairs == 1
    generic = {name: separate.generic_head[name](x[name][:, : w // 2]) for name, w in SIZES.items()}
    unique = {name: separate.unique_head[name](x[name][:, w // 2 :]) for name, w in SIZES.items()}
    one = torch.cat([generic["text"], unique["text"]]).unsqueeze(0)  # q(image | text)
    other = torch.cat([generic["image"], unique["image"]]).unsqueeze(0)
    twin.fit(one, other, num_steps=5)
    separate(x)
    torch.testing.assert_close(separate.club.weight, twin.weight)


def test_fewer_items_for_the_fit() -> None:
    separate, x = build(estimator_items=10), representations()
    sizes: list[int] = []
    fit = separate.club.fit
    separate.club.fit = lambda *args: (sizes.append(args[0].size(1)), fit(*args))  # type: ignore[method-assign]
    assert separate(x)["distance_text"].isfinite()
    assert sizes == [10]


@pytest.mark.parametrize("alignment", ["solosim", "infonce"])
def test_alignment_among_fewer_items(alignment: str) -> None:
    x, masks = representations(), {"image": torch.arange(40) >= 4}
    everyone = build(alignment=alignment, distancing=None)(x, masks)["align"]
    enough = build(alignment=alignment, distancing=None, align_items=36)(x, masks)["align"]
    torch.testing.assert_close(enough, everyone)
    separate = build(alignment=alignment, distancing=None, align_items=2)
    values = torch.stack([separate(x, masks)["align"] for _ in range(5)]).detach() / separate.align_weight
    assert len(values.unique()) > 1  # drawn anew
    # One negative each: cosines lie in [-1, 1].
    assert (values < torch.tensor(2 / separate.temperature).exp().log1p()).all()


@pytest.mark.parametrize(
    "kwargs", [{}, {"distancing": "negative"}, {"alignment": "infonce"}, {"shared_estimator": True}]
)
def test_items_without_a_modality_have_no_part(kwargs: dict[str, Any]) -> None:
    x = representations()
    masks = {"image": torch.arange(40) % 3 > 0, "text": torch.arange(40) % 4 > 0}
    values = []
    for junk in (0.0, 1e3):
        torch.manual_seed(2)
        changed = {name: part + junk * (~masks[name]).unsqueeze(1) for name, part in x.items()}
        values.append({name: value.item() for name, value in build(**kwargs)(changed, masks).items()})
    assert values[0] == pytest.approx(values[1], rel=1e-9)
    torch.manual_seed(2)
    whole = {name: torch.ones(40, dtype=torch.bool) for name in SIZES}
    with_masks = build(**kwargs)(x, whole)
    torch.manual_seed(2)
    for name, value in build(**kwargs)(x).items():
        torch.testing.assert_close(with_masks[name], value)


def test_every_parameter_gets_a_gradient() -> None:
    separate = build(estimator_lr=0.03)
    sum(separate(representations()).values()).backward()
    for name, parameter in separate.named_parameters():
        assert parameter.grad.abs().sum() > 0, name


def test_parts_that_are_off_have_no_weights() -> None:
    assert list(build(alignment=None, distancing=None).state_dict()) == []
    assert build(alignment=None, distancing=None)(representations()) == {}
    assert build(distancing="negative").club is None


def test_a_single_modality_is_distanced() -> None:
    separate = build({"text": 6}, alignment=None)
    assert list(separate(representations(sizes={"text": 6}))) == ["distance_text"]


@pytest.mark.parametrize(
    ("sizes", "kwargs", "message"),
    [
        ({"text": 6}, {}, r"^alignment needs two modalities or more \(got text\): set 'alignment' to None$"),
        ({"text": 1}, {}, r"^modality 'text' has 1 channel\(s\) and cannot be split in two$"),
        ({"text": 6}, {"alignment": None, "shared_estimator": True}, r"^'shared_estimator' is fitted on pairs of "),
        (SIZES, {"alignment": "cosine"}, r"^'alignment' must be 'solosim', 'infonce' or None \(got 'cosine'\)$"),
        (SIZES, {"distancing": "mine"}, r"^'distancing' must be 'club', 'negative' or None \(got 'mine'\)$"),
        (SIZES, {"align_weight": -1.0}, r"^'align_weight' must not be negative \(got -1.0\)$"),
        (SIZES, {"distance_weight": float("nan")}, r"^'distance_weight' must be finite \(got nan\)$"),
        (SIZES, {"temperature": 0.0}, r"^'temperature' must be positive \(got 0.0\)$"),
        (SIZES, {"estimator_steps": -1}, r"^'estimator_steps' must not be negative \(got -1\)$"),
        (SIZES, {"estimator_lr": -1.0}, r"^'estimator_lr' must be positive \(got -1.0\)$"),
        ({"image": 9, "keys": 6}, {}, r"^a modality cannot be called 'keys', because torch keeps no weights under "),
        ({"a.b": 9, "text": 6}, {}, r"^a modality cannot be called 'a.b', because torch keeps no weights under "),
        (SIZES, {"align_items": 1}, r"^'align_items' must be at least 2 \(got 1\)$"),
        (SIZES, {"estimator_items": 1}, r"^'estimator_items' must be at least 2 \(got 1\)$"),
    ],
)
def test_bad_arguments(sizes: dict[str, int], kwargs: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(sizes, **kwargs)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (torch.arange(40) < 1, r"^modality 'image' must be there for two items or more \(got 1\)$"),
        (torch.arange(40) < 10, r"^no item has both 'image' and 'text', so they cannot be aligned$"),
    ],
)
def test_masks_that_leave_nothing(image: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()(representations(), {"image": image, "text": torch.arange(40) >= 10})


def test_the_unbounded_distance_warns() -> None:
    with pytest.warns(UserWarning, match="no lower bound"):
        build(distancing="negative", raw_heads=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        build(distancing="negative")


def test_composed_maps_equal_the_plain_ones() -> None:
    torch.manual_seed(0)
    first, x = torch.nn.Linear(8, 7).double(), torch.randn(5, 8).double()
    seconds = {
        "whole": (torch.nn.Linear(7, 2).double(), slice(None)),
        "left": (torch.nn.Linear(3, 4).double(), slice(0, 3)),
        "right": (torch.nn.Linear(4, 4).double(), slice(3, None)),
        "middle": (torch.nn.Linear(3, 1).double(), slice(2, 5)),
    }
    parameters = [*first.parameters(), *(p for layer, _ in seconds.values() for p in layer.parameters())]
    composed = composed_linear(x, first, seconds)
    plain = {name: layer(first(x)[:, part]) for name, (layer, part) in seconds.items()}
    assert composed.keys() == plain.keys()
    grads = []
    for out in (composed, plain):
        grads.append(torch.autograd.grad(sum(value.sin().sum() for value in out.values()), parameters))
    for name, value in plain.items():
        torch.testing.assert_close(composed[name], value, rtol=1e-12, atol=1e-14)
    for found, expected in zip(*grads, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-14)


def test_composed_maps_in_mixed_precision() -> None:
    torch.manual_seed(0)
    x, first = torch.randn(7, 8), torch.nn.Linear(8, 6)
    seconds = {"all": (torch.nn.Linear(6, 3), slice(None)), "left": (torch.nn.Linear(2, 3), slice(0, 2))}
    grads = []
    for enabled in (False, True):
        first.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            total = torch.cat(list(composed_linear(x, first, seconds).values())).float().square().sum()
            total.backward()
        grads.append(first.weight.grad)
    torch.testing.assert_close(*grads, rtol=0.05, atol=0.2)
