"""Data sets as PyG data sets of one ``HeteroData`` each."""

from pyg_mmrec.datasets.attribute_shop import AttributeShop
from pyg_mmrec.datasets.mmrec import MMRecDataset
from pyg_mmrec.datasets.poster_movies import PosterMovies

__all__ = ["AttributeShop", "MMRecDataset", "PosterMovies"]
