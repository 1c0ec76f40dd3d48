"""Downloads of files: with progress, resumed where they broke off, checked, and never half there."""

from __future__ import annotations

import os
import re
import time
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from tqdm import tqdm

from pyg_mmrec.utils.files import one_line
from pyg_mmrec.utils.hashing import file_digest

_BLOCK = 2**20
_TIMEOUT = 60.0
#: Seconds before each further attempt; anew from the first once more of the file has come.
_PAUSES = (1.0, 4.0, 15.0)
#: Answers after which the same request may succeed.
_BUSY = (408, 425, 429, 500, 502, 503, 504)


def check_url(**values: Any) -> None:
    """Refuses what is neither None nor an address of the web.

    Raises:
        ValueError: About the first that is refused.
    """
    for name, value in values.items():
        if value is None:
            continue
        parts = urlsplit(value) if isinstance(value, str) and re.fullmatch(r"[!-~]+", value) else None
        if parts is None or parts.scheme not in ("http", "https") or not parts.netloc:
            raise ValueError(f"'{name}' must be an address such as 'https://host/folder', or None (got {value!r})")


def check_digest(path: Path, digest: str, expected: str, fix: str) -> None:
    """Refuses a file with other content than it should have.

    Args:
        path: The file.
        digest: The SHA-256 of its content.
        expected: What it should be.
        fix: What to do about it.

    Raises:
        ValueError: If they differ.
    """
    if digest != expected.lower():
        raise ValueError(f"{path} has the SHA-256 {digest} but 'checksums' says {expected.lower()}: {fix}")


def download(url: str, path: Path, sha256: str | None = None) -> None:
    """Downloads a file, by way of ``<name>.part`` beside it, which a later call goes on with.

    Where the connection breaks off, the rest is asked for, and from a server that only sends whole files, all of it. A
    file that changed on the server meanwhile starts again.

    Args:
        url: Its address.
        path: Where it goes, in a folder that is there.
        sha256: Its checksum (default: it is not checked).

    Raises:
        OSError: If it cannot be downloaded; what came is kept.
        ValueError: If it has another checksum; what came is removed.
    """
    part = path.with_name(f"{path.name}.part")
    pauses, most = list(_PAUSES), _size(part)
    while reason := _attempt(url, part):
        if _size(part) > most:
            pauses, most = list(_PAUSES), _size(part)
        if not pauses:
            kept = f": what came, {_size(part)} bytes, is kept in {part.name} and the next call goes on with it"
            raise OSError(
                f"the download of {url} broke off ({reason}){kept if _size(part) else ''}; or lay the file at {path}"
            )
        time.sleep(pauses.pop(0))
    if sha256 is not None:
        try:
            check_digest(part, file_digest(part), sha256, f"it is removed; correct 'checksums', or get {url} again")
        except ValueError:
            part.unlink()
            raise
    with part.open("rb") as file:
        os.fsync(file.fileno())
    os.replace(part, path)
    _tag(part).unlink(missing_ok=True)


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _tag(part: Path) -> Path:
    """The file that names the version on the server which a part belongs to."""
    return part.with_name(f"{part.name}.tag")


def _attempt(url: str, part: Path) -> str:
    """Fetches what is missing; says why the rest did not come, nothing where all is there."""
    have = _size(part)
    request = Request(url, headers={"User-Agent": "pyg-mmrec", "Accept-Encoding": "identity"})
    if have:
        request.add_header("Range", f"bytes={have}-")
        if _tag(part).is_file():
            request.add_header("If-Range", _tag(part).read_text(encoding="latin-1"))
    try:
        with urlopen(request, timeout=_TIMEOUT) as response:
            return _receive(response, part, have)
    except HTTPError as error:
        error.close()
        if error.code == 416 and have:  # nothing is left to send
            if error.headers.get("Content-Range", "").strip() == f"bytes */{have}":
                return ""
            part.unlink()
            return "it is shorter than what came before"
        if error.code in _BUSY:
            return f"HTTP {error.code}"
        raise OSError(
            f"{url} cannot be downloaded (HTTP {error.code} {one_line(str(error.reason))}): check 'name', which is "
            f"'Baby' and not 'baby', and 'url', or lay the file at {part.with_suffix('')}"
        ) from error
    except (URLError, HTTPException, ConnectionError, TimeoutError) as error:
        return one_line(str(getattr(error, "reason", error))) or type(error).__name__


def _receive(response: HTTPResponse, part: Path, have: int) -> str:
    """Writes an answer to its place; says why it is not whole, nothing where it is."""
    resumed = response.status == 206
    if resumed and not response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
        part.unlink()
        return "the server sent another range"
    start = have if resumed else 0
    length = response.headers.get("Content-Length", "")
    total = start + int(length) if length.isdecimal() else None
    with part.open("ab" if resumed else "wb") as file:
        if not resumed:
            _write_tag(part, response)
        name = part.name.removesuffix(".part")
        with tqdm(total=total, initial=start, unit="B", unit_scale=True, desc=name, disable=None) as bar:
            while block := response.read1(_BLOCK):
                file.write(block)
                bar.update(len(block))
    size = _size(part)
    return "" if total is None or size == total else f"{size} of {total} bytes came"


def _write_tag(part: Path, response: HTTPResponse) -> None:
    """Keeps what tells this version of the file from a later one."""
    etag = response.headers.get("ETag", "")
    version = etag if etag.startswith('"') else response.headers.get("Last-Modified", "")
    if version:
        _tag(part).write_text(version, encoding="latin-1")
    else:
        _tag(part).unlink(missing_ok=True)
