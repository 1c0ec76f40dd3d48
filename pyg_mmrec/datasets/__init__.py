"""Data sets as PyG data sets of one ``HeteroData`` each, and a catalogue's own tables as such a graph."""

from pyg_mmrec.datasets.amazon_reviews import AmazonReviews
from pyg_mmrec.datasets.attribute_shop import AttributeShop
from pyg_mmrec.datasets.mmrec import MMRecDataset
from pyg_mmrec.datasets.poster_movies import PosterMovies
from pyg_mmrec.datasets.table_dataset import TableDataset
from pyg_mmrec.datasets.tables import from_tables

__all__ = ["AmazonReviews", "AttributeShop", "MMRecDataset", "PosterMovies", "TableDataset", "from_tables"]
