"""A small HTTP service of recommendations, with a page to look at them."""

from pyg_mmrec.serve.app import create_app
from pyg_mmrec.serve.catalogue import Catalogue
from pyg_mmrec.serve.explain import explain

__all__ = ["Catalogue", "create_app", "explain"]
