"""Saved models beside the cases of tests/models/test_base.py."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from pyg_mmrec.models import BPRMF, LightGCN, Recommender, WithSEA

WEIGHTS, CONFIG = "model.safetensors", "config.json"


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """The folder of a good saved model."""
    BPRMF(2, 3, hidden_channels=4).save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def arguments(**changed: Any) -> str:
    return json.dumps({"model": "BPRMF", "init_args": {"num_users": 2, "num_items": 3, "hidden_channels": 4} | changed})


CONFIGS = {
    "a list as the model": ('{"model": ["BPRMF"], "init_args": {}}', "holds a ['BPRMF'], not a Recommender"),
    "a number as the model": ('{"model": 3, "init_args": {}}', "holds a 3, not a Recommender: import its class first"),
    "no model of the package": ('{"model": "os.system", "init_args": {}}', "holds a os.system, not a Recommender"),
    "the base class": ('{"model": "Recommender", "init_args": {}}', "config.json' are not those of Recommender"),
    "arguments in a list": ('{"model": "BPRMF", "init_args": [2, 3]}', "config.json' are not those of BPRMF"),
    "no sizes": ('{"model": "BPRMF", "init_args": {}}', "config.json' are not those of BPRMF"),
    "an unknown argument": (arguments(width=3), "config.json' are not those of BPRMF"),
    "a text as a size": (arguments(num_users="2"), "not those of BPRMF: 'num_users' must be an int (got '2')"),
    "a decimal width": (
        arguments(hidden_channels=4.0),
        "not those of BPRMF: 'hidden_channels' must be an int (got 4.0)",
    ),
    "a width of 0": (arguments(hidden_channels=0), "not those of BPRMF: 'hidden_channels' must be positive (got 0)"),
    "a weight that is NaN": (arguments(l2_weight=float("nan")), "not those of BPRMF: 'l2_weight' must be finite"),
    "an unknown form": (arguments(l2_form="cube"), "not those of BPRMF: 'l2_form' must be 'squared' or 'norm'"),
    "another width": (arguments(hidden_channels=8), "do not fit its config.json: "),
    "other sizes": (arguments(num_items=4), "do not fit its config.json: "),
    "sizes beyond any memory": (
        arguments(num_items=10**15),
        "'item_emb.weight' is [3, 4] in model.safetensors, [1000000000000000, 4] in the model",
    ),
    "another model": (json.dumps({"model": "Popularity", "init_args": {"num_users": 2, "num_items": 3}}), "do not fit"),
}


@pytest.mark.parametrize("case", CONFIGS)
def test_a_bad_configuration_is_refused_in_one_line(saved: Path, case: str) -> None:
    text, message = CONFIGS[case]
    (saved / CONFIG).write_text(text)
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        Recommender.from_pretrained(saved)
    assert message in str(caught.value)
    assert str(saved) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_truncated_weights(saved: Path) -> None:
    (saved / WEIGHTS).write_bytes((saved / WEIGHTS).read_bytes()[:-8])
    with pytest.raises(ValueError, match="does not hold a saved model"):
        Recommender.from_pretrained(saved)


def test_weights_of_other_names(saved: Path) -> None:
    safetensors.torch.save_file({"users": torch.zeros(2, 4)}, saved / WEIGHTS)
    with pytest.raises(ValueError, match=r"do not fit its config.json: .*user_emb.weight"):
        Recommender.from_pretrained(saved)


def test_weights_of_another_model(saved: Path) -> None:
    LightGCN(5, 6).save_pretrained(saved.parent / "other")
    (saved.parent / "other" / WEIGHTS).replace(saved / WEIGHTS)
    with pytest.raises(ValueError, match=r"do not fit its config.json: "):
        Recommender.from_pretrained(saved)


def test_a_file_is_no_folder(saved: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"has no config.json: is it a folder that 'save_pretrained' wrote\?$"):
        Recommender.from_pretrained(saved / WEIGHTS)


def test_a_base_that_is_not_known(tmp_path: Path) -> None:
    model = WithSEA(2, 3, {"image": 4, "text": 4}, base_args={"hidden_channels": 4})
    model.save_pretrained(tmp_path)
    (tmp_path / CONFIG).write_text((tmp_path / CONFIG).read_text().replace('"VBPR"', '"VPBR"'))
    with pytest.raises(ValueError, match="not those of WithSEA: 'base': there is no model 'VPBR', did you mean 'VBPR'"):
        Recommender.from_pretrained(tmp_path)


class Payload:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("name", [WEIGHTS, CONFIG])
@pytest.mark.parametrize("legacy", [None, False, True])
def test_code_in_a_saved_model_is_never_run(saved: Path, name: str, legacy: bool | None) -> None:
    proof = saved.parent / "proof"
    if legacy is None:
        (saved / name).write_bytes(pickle.dumps(Payload(proof)))
    else:
        torch.save({"user_emb.weight": Payload(proof)}, saved / name, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(ValueError, match="does not hold a saved model"):
        Recommender.from_pretrained(saved)
    assert not proof.exists()
    pickle.loads(pickle.dumps(Payload(proof)))
    assert proof.exists()  # the payload works
