"""The report of a run: one HTML file to look at."""

from .document import SECTIONS, embedded, render, write_report

__all__ = ['SECTIONS', 'embedded', 'render', 'write_report']
