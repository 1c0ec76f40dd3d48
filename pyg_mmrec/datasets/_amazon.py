"""The files of the Amazon product data of 2014: reviews, metadata, image features, each read a piece at a time."""

from __future__ import annotations

import ast
import gzip
import json
import math
import re
import warnings
import zlib
from array import array
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from pyg_mmrec.datasets._inter import Array
from pyg_mmrec.typing import ITEM, USER
from pyg_mmrec.utils.files import one_line, unreadable

#: Bytes of a line, of which those of the release have a hundredth.
_MAX_LINE = 2**21
_MAX_TIME = 2**53

#: How lines of metadata begin, so that those of other items need not be parsed.
_FIRST = re.compile(rb"""\{['"]asin['"]: ?(?:'([^'"\\]+)'|"([^'"\\]+)")[,}]""")

#: Texts in a literal of Python, and what may be between them. Anything else would nest without bounds in the parser,
#: which Python 3.10 does not survive.
_QUOTED = re.compile(r"""'[^'\\]*(?:\\.?[^'\\]*)*(?:'|\Z)|"[^"\\]*(?:\\.?[^"\\]*)*(?:"|\Z)""", re.DOTALL)
_BETWEEN = re.compile(r"(?:True|False|None|[0-9eEu\s.,:+(){}\[\]-]){,10000}")

#: A product in the file of image features.
_PRODUCT = np.dtype([("asin", "S10"), ("x", "<f4", (4096,))])
_PRODUCTS = 1024  # that are read at a time, 16 MB

_AGAIN = "delete it, so that it is downloaded again, or get the whole file"


class Reviews(NamedTuple):
    """Reviews as numbers, and the ids of users and items by number."""

    table: dict[str, Array]
    names: dict[str, list[str]]


def read_reviews(path: Path) -> Reviews:
    """Reads who reviewed what, when and with how many stars; keeps 20 bytes a review and the ids.

    Args:
        path: A ``.json.gz`` file with a review a line, as JSON or as a Python literal.

    Returns:
        ``user`` and ``item`` as int32, numbered as they come, ``rating`` as float32, ``time`` as int64.

    Raises:
        ValueError: If the file is truncated or a line is malformed; names the line.
    """
    number: dict[str, dict[str, int]] = {USER: {}, ITEM: {}}
    keys = {USER: "reviewerID", ITEM: "asin"}
    columns: dict[str, array[Any]] = {USER: array("i"), ITEM: array("i"), "rating": array("f"), "time": array("q")}
    for line, raw in _lines(path):
        review = _parse(path, line, raw, "a review")
        for role, key in keys.items():
            name = _name(path, line, review, key)
            columns[role].append(number[role].setdefault(name, len(number[role])))
        rating: Any = review.get("overall")
        time: Any = review.get("unixReviewTime")
        if type(rating) not in (int, float) or not math.isfinite(rating) or abs(rating) > _MAX_TIME:
            raise _malformed(path, line, f"'overall' must be a finite number (got {_shown(rating)})")
        if type(time) is not int or abs(time) > _MAX_TIME:
            raise _malformed(path, line, f"'unixReviewTime' must be whole seconds (got {_shown(time)})")
        columns["rating"].append(rating)
        columns["time"].append(time)
    if not columns["time"]:
        raise ValueError(f"{path} has no reviews; {_AGAIN}")
    table = {role: np.frombuffer(values, values.typecode) for role, values in columns.items()}
    return Reviews(table, {role: list(names) for role, names in number.items()})


def read_metadata(path: Path, items: Sequence[str]) -> tuple[list[str], list[str], int]:
    """Reads what some items are; lines of others are passed over.

    Args:
        path: A ``.json.gz`` file with an item a line, as a Python literal or as JSON.
        items: Their ids.

    Returns:
        By item, its title, brand, categories and description in one line; its first category with those above it; how
        many of the items are in the file.

    Raises:
        ValueError: If the file is truncated, a line of an item is malformed, or it has none of the items.
    """
    node = {name.encode(): place for place, name in enumerate(items)}
    texts, categories = [""] * len(items), [""] * len(items)
    found: set[int] = set()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of escapes in texts
        for line, raw in _lines(path):
            first = _FIRST.match(raw)
            if first and (first[1] or first[2]) not in node:
                continue
            product = _parse(path, line, raw, "a product")
            place = node.get(_name(path, line, product, "asin").encode(), -1)
            if place < 0 or place in found:
                continue
            found.add(place)
            texts[place], categories[place] = _content(path, line, product)
    if not found:
        raise ValueError(f"{path} has none of the {len(items)} items; check that it is the file of this category")
    return texts, categories, len(found)


def read_image_features(path: Path, items: Sequence[str]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_], int]:
    """Reads the image features of some items, 16 MB of the file at a time; memory holds those of the items.

    Args:
        path: Ten bytes of id and 4096 little-endian floats a product.
        items: Their ids.

    Returns:
        ``[num_items, 4096]``, zero where there are none; ``[num_items]``, which items have some; how many of the others
        are in the file, with zeros, NaN or infinity.

    Raises:
        ValueError: If the file is truncated or has features of none of the items.
    """
    node = {name.encode(): place for place, name in enumerate(items)}
    features = np.zeros((len(items), 4096), np.float32)
    has, found = np.zeros((2, len(items)), bool)
    try:
        size = path.stat().st_size
        if size % _PRODUCT.itemsize:
            raise ValueError(
                f"{path} is truncated: {size} bytes are no multiple of the {_PRODUCT.itemsize} of a product; {_AGAIN}"
            )
        with path.open("rb") as file:
            while len(block := np.fromfile(file, _PRODUCT, _PRODUCTS)):
                place = np.array([node.get(asin, -1) for asin in block["asin"].tolist()])
                found[place[place >= 0]] = True
                x, place = block["x"][place >= 0], place[place >= 0]
                good = np.isfinite(x).all(axis=1) & (x != 0).any(axis=1)
                features[place[good]] = x[good]
                has[place[good]] = True
    except OSError as error:
        raise unreadable(path, error) from error
    if not has.any():
        raise ValueError(
            f"{path} has features of none of the {len(items)} items, and of {found.sum()} only zeros, NaN or infinity; "
            "check that it is the file of this category"
        )
    return features, has, int((found & ~has).sum())


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """The lines that are not blank, numbered from 1."""
    try:
        with gzip.open(path, "rb") as file:
            for number, raw in enumerate(iter(lambda: file.readline(_MAX_LINE), b""), start=1):
                if len(raw) == _MAX_LINE:
                    raise _malformed(path, number, f"it is longer than {_MAX_LINE} bytes")
                if not raw.isspace():
                    yield number, raw
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{path} is truncated or no gzip file ({one_line(str(error))}); {_AGAIN}") from error
    except OSError as error:
        raise unreadable(path, error) from error


def _parse(path: Path, number: int, raw: bytes, what: str) -> Mapping[str, Any]:
    """A line as a dictionary: JSON, else a literal of Python, which is read without running anything."""
    record: Any = None
    try:
        text = raw.decode()
        try:
            record = json.loads(text)
        except ValueError:
            if _BETWEEN.fullmatch(_QUOTED.sub("", text)):
                record = ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        pass
    if not isinstance(record, dict):
        raise _malformed(
            path, number, f"it must be {what} as a dictionary (got {_shown(raw.decode(errors='replace'))})"
        )
    return record


def _name(path: Path, number: int, record: Mapping[str, Any], key: str) -> str:
    name = record.get(key)
    if not isinstance(name, str) or not name or not name.isprintable():
        raise _malformed(path, number, f"{key!r} must be an id (got {_shown(name)})")
    return name


def _content(path: Path, number: int, product: Mapping[str, Any]) -> tuple[str, str]:
    """The text of an item; its first category, from the widest on."""
    parts = {}
    for key in ("title", "brand", "categories", "description"):
        try:
            parts[key] = " ".join(_words(product.get(key)))
        except (TypeError, RecursionError):
            raise _malformed(path, number, f"{key!r} must be texts (got {_shown(product[key])})") from None
    paths = product.get("categories")
    first = " > ".join(_words(paths[0])) if isinstance(paths, list | tuple) and paths else ""
    return _plain(" ".join(parts.values())), _plain(first)


def _words(value: Any) -> Iterator[str]:
    """The texts in lists of lists."""
    if isinstance(value, list | tuple):
        for entry in value:
            yield from _words(entry)
    elif isinstance(value, str):
        yield value
    elif value is not None:
        raise TypeError


def _plain(text: str) -> str:
    """A text on one line, without halves of characters."""
    return " ".join(text.encode(errors="replace").decode().split())


def _shown(value: Any) -> str:
    return one_line(repr(value), 60)


def _malformed(path: Path, number: int, reason: str) -> ValueError:
    return ValueError(f"{path} line {number}: {reason}; correct or drop the line, or get the file again")
