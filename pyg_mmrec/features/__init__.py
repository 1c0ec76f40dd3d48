"""Features of items from their texts and images, by trained models of other libraries."""

from pyg_mmrec.features.image_encoder import ImageEncoder
from pyg_mmrec.features.libraries import import_library
from pyg_mmrec.features.text_encoder import TextEncoder

__all__ = ["ImageEncoder", "TextEncoder", "import_library"]
