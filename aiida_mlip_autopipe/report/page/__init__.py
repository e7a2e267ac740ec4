"""The report of a run: one HTML file to look at."""

from aiida_mlip_autopipe.report.page.document import SECTIONS, embedded, render, write_report

__all__ = ['SECTIONS', 'embedded', 'render', 'write_report']
