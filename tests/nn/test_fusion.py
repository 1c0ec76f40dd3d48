from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import Sequential

from pyg_mmrec.nn import AttributeLayout, DisentangledFusion

LAYOUT = AttributeLayout(
    {"colour": ["image", "text"], "texture": ["image"], "material": ["text", "image"], "size": ["text"]},
    {"colour": 3},
    num_black_box=2,
)


def two_layers(net: Sequential, x: np.ndarray) -> np.ndarray:
    first, _, second = net
    h = first.weight.detach().numpy() @ x + first.bias.detach().numpy()
    return second.weight.detach().numpy() @ np.where(h > 0, h, 0.01 * h) + second.bias.detach().numpy()


def test_layout() -> None:
    assert LAYOUT.names == ["colour", "texture", "material", "size", "black_box"]
    assert LAYOUT.num_parts == 6
    assert LAYOUT.places("image") == [0, 1, 2, 4, 5]
    assert LAYOUT.places("text") == [0, 2, 3, 4, 5]
    assert AttributeLayout(**LAYOUT.to_dict()).to_dict() == LAYOUT.to_dict()
    assert AttributeLayout.even(["text"]).names == ["text_0", "text_1", "black_box"]
    even = AttributeLayout.even(["image", "text"], num_own=1)
    assert even.modalities == {
        "image_0": ["image"],
        "text_0": ["text"],
        "image_shared_0": ["image", "text"],
        "text_shared_0": ["text", "image"],
    }


def test_fusion_equals_algorithm_1() -> None:
    fusion = DisentangledFusion(LAYOUT, ["image", "text"], channels=2, alpha=0.3)
    image, text = torch.randn(4, 5, 2), torch.randn(4, 5, 2)
    out = fusion({"image": image, "text": text}).detach().numpy()
    for row in range(4):
        s, z = image[row].numpy(), text[row].numpy()
        colour = s[0] + two_layers(fusion.fuse["colour"], np.concatenate([s[0], 0.3 * z[0]]))
        material = z[1] + two_layers(fusion.fuse["material"], np.concatenate([z[1], 0.3 * s[2]]))
        black = two_layers(fusion.black_box, np.concatenate([s[3], s[4], z[3], z[4]])).reshape(2, 2)
        expected = np.stack([colour, s[1], material, z[2], *black])
        np.testing.assert_allclose(out[row], expected, rtol=1e-4, atol=1e-6)


def test_information_is_the_norm_of_the_black_box() -> None:
    fusion = DisentangledFusion(LAYOUT, ["image", "text"], channels=2)
    weights = np.concatenate([parameter.detach().numpy().ravel() for parameter in fusion.black_box.parameters()])
    np.testing.assert_allclose(fusion.information().item(), np.linalg.norm(weights), rtol=1e-6)
    fusion.information().backward()
    assert all(parameter.grad is None for parameter in fusion.fuse.parameters())
    closed = DisentangledFusion(AttributeLayout({"size": ["text"]}, num_black_box=0), ["text"], channels=2)
    assert closed.information() == 0
    assert closed({"text": torch.ones(3, 1, 2)}).shape == (3, 1, 2)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"modalities": {"size": "text"}}, r"^attribute 'size' must have a list of modalities, .* \(got 'text'\)$"),
        ({"modalities": {"size": ["text", "text"]}}, r"^attribute 'size' must have a list of modalities, each once"),
        ({"modalities": {"black_box": ["text"]}}, r"^an attribute cannot be called 'black_box'"),
        ({"modalities": ["size"]}, r"^'modalities' must be a dictionary with attributes as keys \(got \['size'\]\)$"),
        ({"modalities": {}, "num_black_box": 0}, r"^the layout is empty: "),
        ({"num_black_box": -1}, r"^'num_black_box' must not be negative \(got -1\)$"),
        ({"num_classes": {"colour": 3}}, r"^'num_classes' names 'colour', which is none of \['size'\]$"),
        ({"num_classes": {"size": 1}}, r"^'num_classes\['size'\]' must be at least 2 \(got 1\)$"),
    ],
)
def test_bad_layouts(kwargs: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AttributeLayout(**{"modalities": {"size": ["text"]}, **kwargs})


def test_bad_alpha() -> None:
    with pytest.raises(ValueError, match=r"^'alpha' must lie in \[0, 1\] \(got 1.5\)$"):
        DisentangledFusion(LAYOUT, ["image", "text"], channels=2, alpha=1.5)
