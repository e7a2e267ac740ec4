"""A bundle: all that is handed over with a potential, as a folder or a zip file.

Everything in it but the archive is the same, byte for byte, whenever and from whichever profile it is exported. AiiDA's
archive holds the time at which it was written.
"""

from __future__ import annotations

import json
import logging
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml
from aiida import orm
from aiida.common.exceptions import AiidaException

from aiida_mlip_autopipe.config import Configuration
from aiida_mlip_autopipe.config.dump import dump_yaml, flatten
from aiida_mlip_autopipe.report.bundle.check import ARCHIVE, CARD, CHECKSUMS
from aiida_mlip_autopipe.report.card import POTENTIAL_FILE, model_card
from aiida_mlip_autopipe.report.card.text import card_markdown, exported, licence_text
from aiida_mlip_autopipe.report.reached import Reached, what_it_reached
from aiida_mlip_autopipe.science.frames import file_sha256, write_extxyz
from aiida_mlip_autopipe.science.potential import snippets

__all__ = ['default_name', 'write_bundle']

README, CARD_TEXT, INPUT = 'README.md', 'card.md', 'exec_config_dump.yaml'
FIRST_DAY_OF_ZIP = (1980, 1, 1, 0, 0, 0)
CONTENTS = {
    POTENTIAL_FILE: 'the potential, a MACE model',
    'training.extxyz': 'labelled frames of the training set',
    'validation.extxyz': 'labelled frames of the validation set',
    'test.extxyz': 'labelled frames of the held-out test set',
    'hot.extxyz': 'labelled frames of the hotter test set, above the temperatures of all rounds',
    CARD_TEXT: 'the model card: limits, errors, licence, how to load it',
    CARD: 'the model card, machine-readable',
    INPUT: 'the full configuration of the run, itself a valid input: `mlip-autopipe run` repeats it',
    ARCHIVE: 'the full provenance of the run, for AiiDA: `mlip-autopipe import`, or `verdi archive import`',
    CHECKSUMS: 'checksums of the other files: `sha256sum -c SHA256SUMS`, or `mlip-autopipe verify`',
}


def default_name(run: orm.WorkChainNode) -> str:
    """Return the name of the bundle of a run, the same in each profile."""
    return f'bundle_{run.uuid[:8]}'


def write_bundle(
    run: orm.WorkChainNode,
    target: Path,
    *,
    configuration: str | None = None,
    provenance: bool = True,
    tell: Callable[[str], None] = lambda words: None,
) -> list[Path]:
    """Write the bundle of a run.

    Parameters
    ----------
    run : WorkChainNode
        A run that has ended, and has trained a potential.
    target : Path
        A new or empty folder; or a new file that ends in ``.zip``.
    configuration : str, optional
        The expanded input as the run was submitted with it; made from the run's input if it is not given.
    provenance : bool
        Whether the AiiDA archive is written, too.
    tell : callable
        Told what is being done.

    Returns
    -------
    list of Path
        The files of the bundle; of a zip file, itself.

    Raises
    ------
    ValueError
        If the target holds something already, the run has nothing to hand on, or the archive cannot be written.
    """
    reached = what_it_reached(run)
    if 'exploration' not in run.inputs.configuration.get_dict():
        raise ValueError(
            f'{run.pk} is a training by itself, and a bundle is of a run of the pipeline, with its labels; '
            f'`mlip-autopipe status {run.pk} --output FOLDER` writes its potential, sets and card'
        )
    packed = target.suffix == '.zip'
    if (packed and target.exists()) or (target.is_dir() and any(target.iterdir())):
        raise ValueError(f'{target} is not empty and will not be overwritten: give another path with --output')
    if not packed and target.exists() and not target.is_dir():
        raise ValueError(f'{target} is a file: give a folder, or a file that ends in .zip, with --output')
    target.parent.mkdir(parents=True, exist_ok=True)
    # Whole or not at all: an export that fails, or is cut short, leaves nothing that looks like a bundle.
    with TemporaryDirectory(dir=target.parent, prefix='.export-') as name:
        # The folder in a zip file has the name of the run, so that the bytes do not depend on the name of the file.
        folder = Path(name) / default_name(run)
        folder.mkdir()
        _fill(folder, run, reached, configuration, provenance, tell)
        if packed:
            tell(f'packing {target.name}')
            _pack(folder, Path(name) / 'packed.zip')
            (Path(name) / 'packed.zip').rename(target)
            return [target]
        if target.is_dir():
            target.rmdir()
        folder.rename(target)
    return sorted(target.iterdir())


def _fill(
    folder: Path,
    run: orm.WorkChainNode,
    reached: Reached,
    configuration: str | None,
    provenance: bool,
    tell: Callable[[str], None],
) -> None:
    tell('potentials and frames')
    for name, node in {POTENTIAL_FILE.removesuffix('.model'): reached.potential, **reached.committee}.items():
        (folder / f'{name}.model').write_bytes(node.get_content(mode='rb'))
    for split, frames in reached.splits().items():
        write_extxyz(folder / f'{split}.extxyz', frames)
    tell('model card')
    card = model_card(run, reached)
    _write(folder / CARD, json.dumps(card, indent=2, ensure_ascii=False, allow_nan=False) + '\n')
    _write(folder / CARD_TEXT, card_markdown(card))
    _write(folder / INPUT, configuration if configuration is not None else _configuration(run))
    if provenance:
        tell('provenance archive; for a long run this takes minutes')
        _write_archive(folder / ARCHIVE, run)
    _write(folder / README, _readme(card, [path.name for path in folder.iterdir()]))
    sums = {path.name: file_sha256(path) for path in sorted(folder.iterdir())}
    _write(folder / CHECKSUMS, ''.join(f'{digest}  {name}\n' for name, digest in sums.items()))


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding='utf-8', newline='\n')


def _configuration(run: orm.WorkChainNode) -> str:
    """Return the configuration of a run that was not submitted from the command line."""
    values = Configuration(**run.inputs.configuration.get_dict()).model_dump(mode='json')
    return dump_yaml(values, dict.fromkeys(flatten(values), 'the run'), 'The full configuration, as it was run.')


def _write_archive(path: Path, run: orm.WorkChainNode) -> None:
    """Write the run with all that it called, all that went in, and the runs that made what went in."""
    from aiida.tools.archive import create_archive

    # Its reports, a dozen lines of what it counts, are for those who call it themselves.
    logging.getLogger('aiida.export').setLevel(logging.WARNING)
    try:
        create_archive([run], filename=path)
    except AiidaException as error:
        raise ValueError(
            f'the archive of run {run.pk} cannot be written ({error}); a related process may still be '
            'running: wait until it ends, or omit the archive with --no-provenance'
        ) from error


def _pack(folder: Path, target: Path) -> None:
    """Pack a folder, the same bytes each time."""
    with zipfile.ZipFile(target, 'w') as packed:
        for path in sorted(folder.iterdir()):
            member = zipfile.ZipInfo(f'{folder.name}/{path.name}', FIRST_DAY_OF_ZIP)
            member.external_attr = 0o644 << 16
            # The archive is packed already.
            member.compress_type = zipfile.ZIP_STORED if path.name == ARCHIVE else zipfile.ZIP_DEFLATED
            with path.open('rb') as source, packed.open(member, 'w', force_zip64=True) as sink:
                shutil.copyfileobj(source, sink, 1024**2)


def _readme(card: dict[str, Any], names: list[str]) -> str:
    elements = ', '.join(card['data']['training']['n_atoms_by_element'])
    members = {member['file']: 'another member of the committee' for member in card['potential']['committee']}
    contents = {POTENTIAL_FILE: CONTENTS[POTENTIAL_FILE], **members, **CONTENTS}
    rows = [f'| `{name}` | {text} |' for name, text in contents.items() if name in {*names, CHECKSUMS}]
    lines = [
        f'# A MACE potential for {elements}',
        '',
        f'Generated by aiida-mlip-autopipe in the run `{card["run"]["uuid"]}`. Read `card.md` before you use it.',
        '',
        '| file | |',
        '|---|---|',
        *rows,
        '',
        'A `.model` file is a pickle: loading it executes the code in it. In ASE, with mace-torch (see `card.md` '
        'for torch-sim and LAMMPS):',
        '',
        '```python',
        *snippets.ase(exported(card)).splitlines(),
        '```',
        '',
        'Labels are in `info` and `arrays` of the frames, as `REF_energy` (eV), `REF_forces` (eV/Å) and `REF_stress` '
        '(eV/Å³).',
        '',
        'To start your own run from it, use `surrogate: node:UUID` in your `input.yaml` after `mlip-autopipe '
        'import`; or `surrogate: potential.model`, without its provenance.',
        '',
        *_how_to_repeat(card),
        *licence_text(card),
    ]
    return '\n'.join(lines) + '\n'


def _how_to_repeat(card: dict[str, Any]) -> list[str]:
    """Return what is to be changed in the configuration, whose files are nodes of the archive, to run it elsewhere."""
    given = card['run']['inputs']
    if not given:
        return []
    return [
        f'Inputs of `{INPUT}` that are not in this folder are in the archive. To repeat the run, import it and use:',
        '',
        '```yaml',
        *yaml.safe_dump(given, sort_keys=False).splitlines(),
        '```',
        '',
    ]
