"""Which files the Amazon product data of 2014 has, and the sizes that papers report of them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from pyg_mmrec.datasets._files import did_you_mean
from pyg_mmrec.utils.checks import check_choice, check_flag, check_int, check_names

IMAGE, TEXT = "image", "text"
CORE = 5  #: least interactions in the published files with few reviews


class Statistics(NamedTuple):
    """Sizes of a data set."""

    users: int
    items: int
    interactions: int

    @property
    def sparsity(self) -> float:
        """Share of the user-item pairs without an interaction."""
        return 1 - self.interactions / (self.users * self.items)

    def __str__(self) -> str:
        return (
            f"{self.users:,} users, {self.items:,} items and {self.interactions:,} interactions "
            f"({100 * self.sparsity:.2f} % sparse)"
        )


#: Sizes of the 5-cores in the tables of SEA, DRepMRec and MDR.
PUBLISHED = {
    "Baby": Statistics(19_445, 7_050, 160_792),
    "Sports_and_Outdoors": Statistics(35_598, 18_357, 296_337),
    "Clothing_Shoes_and_Jewelry": Statistics(39_387, 23_033, 278_677),
    "Toys_and_Games": Statistics(19_412, 11_924, 167_597),
    "Office_Products": Statistics(4_905, 2_420, 53_258),
}


@dataclass(frozen=True)
class AmazonFiles:
    """The arguments that choose the raw files and what is read of them; see :class:`AmazonReviews`.

    Raises:
        ValueError: If one is out of range.
    """

    name: str
    full: bool
    min_interactions: int
    modalities: Sequence[str]

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not re.fullmatch(r"\w+", self.name, re.ASCII):
            raise ValueError(f"'name' must be a category as its files spell it, such as 'Baby' (got {self.name!r})")
        check_flag(full=self.full)
        check_int(0, min_interactions=self.min_interactions)
        if self.min_interactions < CORE and not self.full:
            raise ValueError(
                f"'min_interactions' {self.min_interactions} needs all reviews: the file of the {CORE}-core has none "
                "of users and items with fewer; pass full=True"
            )
        check_names(modalities=self.modalities)
        for modality in self.modalities:
            check_choice((IMAGE, TEXT), modalities=modality)

    @property
    def reviews(self) -> str:
        """The file of the reviews."""
        return f"reviews_{self.name}.json.gz" if self.full else f"reviews_{self.name}_{CORE}.json.gz"

    @property
    def metadata(self) -> str:
        """The file of what the items are."""
        return f"meta_{self.name}.json.gz"

    @property
    def image_features(self) -> str:
        """The file of the items' image features."""
        return f"image_features_{self.name}.b"

    def folders(self) -> dict[str, str]:
        """The files that are read, with their folders on the web."""
        files = {self.reviews: "categoryFiles"}
        if TEXT in self.modalities:
            files[self.metadata] = "categoryFiles"
        if IMAGE in self.modalities:
            files[self.image_features] = "image_features/categoryFiles"
        return files

    def check_present(self, folder: Path) -> None:
        """Refuses a folder that lacks a file.

        Raises:
            FileNotFoundError: About the first.
        """
        for file in self.folders():
            if not (folder / file).is_file():
                raise FileNotFoundError(f"no file {folder / file}: lay it there, or give 'url' to download it")


def check_checksums(checksums: Any, name: str) -> dict[str, str]:
    """The SHA-256 of files by name.

    Args:
        checksums: The argument.
        name: The category.

    Raises:
        ValueError: If it is no dictionary of checksums of the category's files.
    """
    if checksums is None:
        return {}
    if not isinstance(checksums, Mapping):
        raise ValueError(f"'checksums' must be a dictionary from file names to SHA-256 (got {checksums!r})")
    known = [AmazonFiles(name, full, CORE, (IMAGE, TEXT)).folders() for full in (False, True)]
    names = list(known[0] | known[1])
    for file, digest in checksums.items():
        if file not in names:
            hint = did_you_mean(str(file), names)
            raise ValueError(f"'checksums' names {file!r} but the files of {name} are {', '.join(names)}{hint}")
        if not isinstance(digest, str) or not re.fullmatch(r"[0-9a-fA-F]{64}", digest):
            raise ValueError(f"'checksums' must give {file} a SHA-256 of 64 hexadecimal digits (got {digest!r})")
    return dict(checksums)
