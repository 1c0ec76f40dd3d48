"""Data sets as PyG data sets of one ``HeteroData`` each."""

from pyg_mmrec.datasets.attribute_shop import AttributeShop
from pyg_mmrec.datasets.mmrec import MMRecDataset

__all__ = ["AttributeShop", "MMRecDataset"]
