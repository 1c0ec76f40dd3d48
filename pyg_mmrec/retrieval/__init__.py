"""Recommendations out of a model: ranked items for one user or a million, and exports for other engines."""

from pyg_mmrec.retrieval.export import export_faiss, export_onnx, export_torch
from pyg_mmrec.retrieval.retriever import Retriever
from pyg_mmrec.retrieval.table import recommendation_tables, write_recommendations

__all__ = [
    "Retriever",
    "export_faiss",
    "export_onnx",
    "export_torch",
    "recommendation_tables",
    "write_recommendations",
]
