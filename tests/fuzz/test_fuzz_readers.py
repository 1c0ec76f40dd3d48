from __future__ import annotations

import itertools
import pickle

import pytest

pytest.importorskip("resource", reason="there is no module 'resource' on Windows")

from tests.fuzz.fuzz_readers import TARGETS, WATCH, Payload, mutations, try_input


@pytest.mark.parametrize("name", TARGETS)
def test_any_bytes_load_or_name_the_file(name: str) -> None:
    """The seeds, some of which run a command if they are unpickled, and random changes of them."""
    target = TARGETS[name]
    for data in itertools.islice(mutations(target.seeds(), seed=0), 400):
        found = try_input(target, data)
        assert not found, f"{found}\n{data!r}"


def test_a_payload_would_be_seen() -> None:
    with WATCH.watching() as executed:
        pickle.loads(pickle.dumps(Payload()))
    assert "os.system" in executed
