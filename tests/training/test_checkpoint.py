from __future__ import annotations

import json
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from pyg_mmrec.training.checkpoint import FORMAT, load_checkpoint
from pyg_mmrec.utils.files import write_atomically, write_json

SETTINGS = {"model": "LightGCN", "learning_rate": 1e-3, "model.in_channels": {"text": 8}, "model.graph_weights": None}


class Malicious:
    """Runs a command when it is unpickled."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> Any:
        return os.system, (self.command,)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    path = tmp_path / "last.ckpt"
    torch.save({"format": FORMAT, "settings": SETTINGS, "model": {"weight": torch.arange(4.0)}}, path)
    return path


def test_a_checkpoint_is_loaded(checkpoint: Path) -> None:
    loaded = load_checkpoint(checkpoint, dict(SETTINGS))
    assert loaded["model"]["weight"].tolist() == [0, 1, 2, 3]
    assert loaded["settings"] == SETTINGS


def test_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"^there is no checkpoint '.*last.ckpt' to resume from: start without"):
        load_checkpoint(tmp_path / "last.ckpt", {})


@pytest.mark.parametrize(
    ("key", "value"),
    [("learning_rate", 1e-2), ("model", "FREEDOM"), ("model.in_channels", {"text": 9}), ("model.graph_weights", {})],
)
def test_other_settings(checkpoint: Path, key: str, value: Any) -> None:
    with pytest.raises(ValueError, match="was written with") as error:
        load_checkpoint(checkpoint, SETTINGS | {key: value})
    assert f"was written with {key} = {SETTINGS[key]!r}, not {value!r}: resume with" in str(error.value)
    assert "\n" not in str(error.value)


def test_more_and_fewer_settings(checkpoint: Path) -> None:
    with pytest.raises(ValueError, match=r"was written with dropout = None, not 0.5"):
        load_checkpoint(checkpoint, SETTINGS | {"dropout": 0.5})
    with pytest.raises(ValueError, match=r"was written with learning_rate = 0.001, not None"):
        load_checkpoint(checkpoint, {key: value for key, value in SETTINGS.items() if key != "learning_rate"})


def assert_not_readable(path: Path) -> None:
    with pytest.raises(ValueError, match="is not a") as error:
        load_checkpoint(path, SETTINGS)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.1, 0.5, 0.9, 0.999])
def test_a_truncated_checkpoint(checkpoint: Path, share: float) -> None:
    content = checkpoint.read_bytes()
    checkpoint.write_bytes(content[: int(share * len(content))])
    assert_not_readable(checkpoint)


@pytest.mark.parametrize(
    "content",
    [
        *(b"not a checkpoint", b"\x00" * 100, b"\x80\x02.", b"\x80\x04\x95", b"(", b".", b"}q\x00.", b"{}\n", b"c"),
        *(
            b"\x80\x02]q\x00(K\x01K\x02e.",
            b"PK\x03\x04",
            b"\x80\x02X\xff\xff\xff\x7f",
            b"I1\n.",
            b"\xff" * 9,
            b"\n" * 5,
        ),
    ],
    ids=repr,
)
def test_other_files(checkpoint: Path, content: bytes) -> None:
    checkpoint.write_bytes(content)
    assert_not_readable(checkpoint)


def test_random_bytes(checkpoint: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    for size in range(1, 200):
        checkpoint.write_bytes(bytes(torch.randint(256, (size,), generator=generator).tolist()))
        assert_not_readable(checkpoint)


def test_bytes_that_have_changed(checkpoint: Path) -> None:
    """A changed byte in the description of the content, where no checksum finds it."""
    content = checkpoint.read_bytes()
    changed = 0
    for place in range(content.index(b"data.pkl"), content.index(b"learning_rate") + 40):
        damaged = bytearray(content)
        damaged[place] ^= 0x55
        checkpoint.write_bytes(damaged)
        try:
            load_checkpoint(checkpoint, SETTINGS)
        except ValueError:
            changed += 1
    assert changed > 100


@pytest.mark.parametrize("content", [[1], {}, {"format": 0, "settings": SETTINGS}, {"format": FORMAT}], ids=repr)
def test_other_content(checkpoint: Path, content: Any) -> None:
    torch.save(content, checkpoint)
    assert_not_readable(checkpoint)


@pytest.mark.parametrize("zipped", [False, True])
def test_a_malicious_checkpoint_is_refused(checkpoint: Path, zipped: bool) -> None:
    proof = checkpoint.with_name("proof")
    content = {"format": FORMAT, "settings": SETTINGS, "model": Malicious(f"touch '{proof}'")}
    if zipped:
        torch.save(content, checkpoint)
    else:
        checkpoint.write_bytes(pickle.dumps(content))
    assert_not_readable(checkpoint)
    assert not proof.exists()


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.write_text("old")
    seen = []

    def write(path: Path) -> None:
        path.write_text("new")
        seen.append((path.parent, target.read_text()))

    write_atomically(target, write)
    assert target.read_text() == "new"
    assert seen == [(tmp_path, "old")]
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()], ids=repr)
def test_a_failure_leaves_the_old_file(tmp_path: Path, error: BaseException) -> None:
    target = tmp_path / "file"
    target.write_text("old")

    def write(path: Path) -> None:
        path.write_text("ne")
        raise error

    with pytest.raises(type(error)):
        write_atomically(target, write)
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_failure_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        write_atomically(tmp_path / "file", lambda path: print(1 / 0))
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / ".file.partial").write_text("a longer text than the new one")
    write_atomically(tmp_path / "file", lambda path: path.write_text("new") and None)
    assert (tmp_path / "file").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_json(tmp_path: Path) -> None:
    content = {"a": 1.5, "b": {"c": None}, "path": Path("x")}
    write_json(tmp_path / "file.json", content)
    text = (tmp_path / "file.json").read_text(encoding="utf-8")
    assert json.loads(text) == {"a": 1.5, "b": {"c": None}, "path": "x"}
    assert text.endswith("}\n")
