"""How `make docs` builds the documentation: Markdown by MyST, reference pages from the code."""

import sys
from importlib.metadata import version as version_of
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import reference_pages  # noqa: E402

project = "Skadi"
version = release = version_of("skadi")
copyright = "the Skadi project"
extensions = ["myst_parser"]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"Skadi {version}"
html_show_sourcelink = False
# Pages name files of the repository, which are no pages; tests/docs holds those links.
suppress_warnings = ["myst.xref_missing"]

reference_pages.write(HERE / "reference")
