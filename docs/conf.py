"""Sphinx configuration."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / '_ext'))

from aiida_mlip_autopipe import __version__

project = 'aiida-mlip-autopipe'
author = 'The aiida-mlip-autopipe developers'
copyright = f'2026, {author}'
release = __version__

extensions = ['from_code', 'myst_parser', 'sphinx_design']
myst_enable_extensions = ['colon_fence', 'deflist', 'dollarmath']
myst_heading_anchors = 3
exclude_patterns = ['_build']
html_theme = 'furo'
html_title = project
