"""Sphinx configuration."""

import pyg_mmrec

project = "pyg_mmrec"
author = "pyg_mmrec contributors"
copyright = "2026, pyg_mmrec contributors"
version = release = pyg_mmrec.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.autosummary", "sphinx.ext.napoleon"]
templates_path = ["_templates"]
exclude_patterns = ["_build"]
html_theme = "furo"

myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_custom_sections = ["Shapes"]
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
