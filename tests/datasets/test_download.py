from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

import pytest

from pyg_mmrec.datasets import _download
from pyg_mmrec.datasets._cache import KeptDigests
from pyg_mmrec.datasets._download import check_url, download
from pyg_mmrec.utils.hashing import file_digest
from tests.datasets.file_server import Server

CONTENT = bytes(range(256)) * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data.bin"


@pytest.fixture(autouse=True)
def _served(server: Server) -> None:
    server.files["/data.bin"] = CONTENT


def fetch(server: Server, path: Path, sha256: str | None = SHA256) -> None:
    """Downloads; nothing else is left beside the file."""
    download(f"{server.url}/data.bin", path, sha256)
    assert path.read_bytes() == server.files["/data.bin"]
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("length", [True, False])
def test_a_whole_file_comes(server: Server, path: Path, length: bool) -> None:
    server.length = length
    fetch(server, path)
    assert server.asked == [None]


def test_the_rest_is_asked_for_where_the_connection_breaks_off(server: Server, path: Path) -> None:
    server.limit = [100_000, 50_000]
    fetch(server, path)
    assert server.asked == [None, "bytes=100000-", "bytes=150000-"]


def test_more_breaks_than_attempts_do_not_matter_while_more_comes(server: Server, path: Path) -> None:
    server.limit = [20_000] * 10
    fetch(server, path)
    assert len(server.asked) == 11


def test_without_ranges_it_starts_again(server: Server, path: Path) -> None:
    server.ranges, server.limit = False, [100_000]
    fetch(server, path)
    assert server.asked == [None, "bytes=100000-"]


def test_what_came_is_kept_and_the_next_call_goes_on(server: Server, path: Path) -> None:
    server.limit = [90_000, 0, 0]
    message = r"broke off \(90000 of 256000 bytes came\): what came, 90000 bytes, is kept in data.bin.part and the next"
    with pytest.raises(OSError, match=message):
        download(f"{server.url}/data.bin", path)
    assert not path.exists()
    assert (path.parent / "data.bin.part").read_bytes() == CONTENT[:90_000]
    server.asked.clear()
    fetch(server, path)
    assert server.asked == ["bytes=90000-"]


def test_a_file_that_changed_meanwhile_starts_again(server: Server, path: Path) -> None:
    server.limit = [90_000, 0, 0]
    with pytest.raises(OSError, match="broke off"):
        download(f"{server.url}/data.bin", path)
    server.files["/data.bin"], server.headers = CONTENT[::-1], {"Last-Modified": "Mon, 01 Jan 2024 00:00:00 GMT"}
    fetch(server, path, sha256=None)


def test_a_part_that_is_whole_is_taken(server: Server, path: Path) -> None:
    (path.parent / "data.bin.part").write_bytes(CONTENT)
    fetch(server, path)
    assert server.asked == ["bytes=256000-"]


def test_a_part_that_is_too_long_starts_again(server: Server, path: Path) -> None:
    (path.parent / "data.bin.part").write_bytes(CONTENT + b"more")
    fetch(server, path)
    assert server.asked == ["bytes=256004-", None]


@pytest.mark.parametrize("part", [b"", CONTENT[:9]])
def test_another_checksum_is_refused_and_nothing_is_left(server: Server, path: Path, part: bytes) -> None:
    if part:
        (path.parent / "data.bin.part").write_bytes(part)
    with pytest.raises(ValueError, match=f"data.bin.part has the SHA-256 {SHA256} but 'checksums' says 0{{64}}: it is"):
        download(f"{server.url}/data.bin", path, "0" * 64)
    assert not path.exists()
    assert not (path.parent / "data.bin.part").exists()
    fetch(server, path, SHA256.upper())


def test_a_busy_server_is_asked_again(server: Server, path: Path) -> None:
    server.codes = [503, 429]
    fetch(server, path)
    server.codes = [503, 503, 503]
    with pytest.raises(OSError, match=r"broke off \(HTTP 503\); or lay the file at .*other.bin"):
        download(f"{server.url}/data.bin", path.with_name("other.bin"))


def test_a_file_that_is_not_there_is_one_line(server: Server, path: Path) -> None:
    with pytest.raises(
        OSError, match=r"nothing.bin cannot be downloaded \(HTTP 404 .*\): check 'name'.* lay the file"
    ) as caught:
        download(f"{server.url}/nothing.bin", path)
    assert "\n" not in str(caught.value)
    assert server.asked == [None]
    assert list(path.parent.iterdir()) == []


def test_no_server_is_one_line(server: Server, path: Path) -> None:
    with Server() as other:
        url = other.url
    with pytest.raises(
        OSError, match=r"the download of http://127.0.0.1:\d+/data.bin broke off \(.*refused.*\); or lay"
    ):
        download(f"{url}/data.bin", path)


def test_an_interruption_keeps_what_came(server: Server, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Bar:
        def __init__(self, **kwargs: object) -> None:
            pass

        def __enter__(self) -> Bar:
            return self

        def __exit__(self, *args: object) -> None:
            pass

        def update(self, size: int) -> None:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(_download, "tqdm", Bar)
        with pytest.raises(KeyboardInterrupt):
            download(f"{server.url}/data.bin", path)
    size = (path.parent / "data.bin.part").stat().st_size
    assert size > 0
    assert not path.exists()
    server.asked.clear()
    fetch(server, path)
    assert server.asked == [f"bytes={size}-"]


@pytest.mark.parametrize("url", [3, "", "host/file", "ftp://host/file", "file:///etc/passwd", "http://", "http://a b"])
def test_addresses_are_checked(url: object) -> None:
    with pytest.raises(ValueError, match="'url' must be an address such as"):
        check_url(url=url)
    check_url(url=None)


def test_digests_are_kept_while_size_and_time_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, kept = tmp_path / "big.b", tmp_path / "cache" / "digests.json"
    reads = []
    monkeypatch.setattr("pyg_mmrec.datasets._cache.file_digest", lambda path: reads.append(path) or file_digest(path))

    def write(content: bytes, age: float) -> None:
        file.write_bytes(content)
        os.utime(file, (time.time() - age,) * 2)

    write(CONTENT, age=100)
    assert [KeptDigests(kept)(file) for _ in range(3)] == [SHA256] * 3
    assert len(reads) == 1
    assert KeptDigests(kept, anew=True)(file) == SHA256
    assert len(reads) == 2
    write(CONTENT[::-1], age=90)
    assert KeptDigests(kept)(file) == hashlib.sha256(CONTENT[::-1]).hexdigest()
    write(b"new", age=0)  # may change again within the resolution of its time
    assert [KeptDigests(kept)(file) for _ in range(2)] == [hashlib.sha256(b"new").hexdigest()] * 2
    assert len(reads) == 5
    for damage in ("", "[]", "{" * 10_000, '{"big.b": 3}'):
        kept.write_text(damage)
        assert KeptDigests(kept)(file) == hashlib.sha256(b"new").hexdigest()
