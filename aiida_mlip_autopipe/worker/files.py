"""The JSON files between the worker and whoever sent it: their names, their version, how they are written."""

from __future__ import annotations

import json
from pathlib import Path

__all__ = ['PROGRESS_FILE', 'RESULT_FILE', 'SCHEMA_VERSION', 'write_json']

SCHEMA_VERSION = 1
RESULT_FILE = 'result.json'
PROGRESS_FILE = 'progress.json'


def write_json(path: Path, content: object) -> None:
    """Write a JSON file in one go: a reader sees the old content or the new."""
    partial = path.with_name(f'{path.name}.part')
    partial.write_text(json.dumps(content, indent=1, allow_nan=False))
    partial.replace(path)
