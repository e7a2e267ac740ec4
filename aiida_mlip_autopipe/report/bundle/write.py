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
    'training.extxyz': 'frames with labels that it was trained on',
    'validation.extxyz': 'frames with labels that told when to stop the training',
    'test.extxyz': 'frames with labels that it was judged on, and that no round trained on',
    'hot.extxyz': 'the same, hotter than any round explored',
    CARD_TEXT: 'the model card: what it is good for and what not, errors, licence, how to load it',
    CARD: 'the same for programs',
    INPUT: 'the full configuration of the run; an input itself: `mlip-autopipe run` repeats it',
    ARCHIVE: 'the whole provenance of the run, for AiiDA: `mlip-autopipe import`, or `verdi archive import`',
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
    packed = target.suffix == '.zip'
    if (packed and target.exists()) or (target.is_dir() and any(target.iterdir())):
        raise ValueError(f'{target} holds something already, and nothing is overwritten: name another with --output')
    if not packed and target.exists() and not target.is_dir():
        raise ValueError(f'{target} is a file: name a folder, or a file that ends in .zip, with --output')
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
        tell('provenance, for AiiDA; of a long run this takes minutes')
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
            f'the archive of run {run.pk} cannot be written ({error}); a process that has to do with it may still be '
            'at work: wait for its end, or leave the archive out with --no-provenance'
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
    members = {member['file']: 'another potential of its committee' for member in card['potential']['committee']}
    contents = {POTENTIAL_FILE: CONTENTS[POTENTIAL_FILE], **members, **CONTENTS}
    rows = [f'| `{name}` | {text} |' for name, text in contents.items() if name in {*names, CHECKSUMS}]
    lines = [
        f'# A MACE potential for {elements}',
        '',
        f'Made by aiida-mlip-autopipe in the run `{card["run"]["uuid"]}`. Read `card.md` before you use it.',
        '',
        '| file | |',
        '|---|---|',
        *rows,
        '',
        'A `.model` file is a pickle: loading one runs the code in it. In ASE, with mace-torch (`card.md` has '
        'torch-sim and LAMMPS, too):',
        '',
        '```python',
        *snippets.ase(exported(card)).splitlines(),
        '```',
        '',
        'Labels are in `info` and `arrays` of the frames, as `REF_energy` (eV), `REF_forces` (eV/Å) and `REF_stress` '
        '(eV/Å³).',
        '',
        'Start a run of your own from it: after `mlip-autopipe import`, write `surrogate: node:UUID` into your '
        '`input.yaml`; or `surrogate: potential.model`, without its provenance.',
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
        f'What `{INPUT}` names and this folder does not hold is in the archive. To repeat the run, import it and '
        'write:',
        '',
        '```yaml',
        *yaml.safe_dump(given, sort_keys=False).splitlines(),
        '```',
        '',
    ]
