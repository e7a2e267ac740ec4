"""Programs in the place of pw.x, for what the real one does not show: NaN, a failure that can be mended, no time."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from ase.build import bulk

from aiida_mlip_autopipe.labelling.espresso.inputs import PSEUDO_FOLDER, pseudo_file, pw_input
from aiida_mlip_autopipe.labelling.espresso.parameters import EspressoParameters

__all__ = ['write_guarded_pw', 'write_stand_in']

PSEUDO = Path('/usr/share/espresso/pseudo/Si.pbe-rrkj.UPF')
STAND_IN = """#!/bin/bash
# pw.x -in FILE: the results of another run, written as this one would write them.
outdir=$(sed -n "s/^ *outdir *= *'\\(.*\\)'.*/\\1/p" "$2")
prefix=$(sed -n "s/^ *prefix *= *'\\(.*\\)'.*/\\1/p" "$2")
mkdir -p "$outdir/$prefix.save"
result="$outdir/$prefix.save/data-file-schema.xml"
cp {template}.xml "$result"
if [ -n '{not_a_number}' ] && grep -q '{not_a_number}' "$2"; then
  sed -i '/<forces/,/<\\/forces>/ s/[-0-9.]*e[-+][0-9]*/NaN/' "$result"
fi
cat {template}.out
"""
GUARDED = """#!/bin/bash
# The real pw.x; without the file that mends it, it dies of some inputs.
if grep -q '{pattern}' "$2" && [ ! -e {mended} ]; then
  exit 1
fi
exec {pw} "$@"
"""


def write_stand_in(folder: Path, not_a_number: str = '') -> Path:
    """Run pw.x once on two atoms of silicon and return a program that repeats what it said.

    :param folder: where the program and what it repeats are written.
    :param not_a_number: of inputs that hold this pattern, the forces are NaN.
    """
    template = folder / 'template'
    labelling = EspressoParameters(ecutwfc_Ry=12, ecutrho_Ry=48, kpoints_distance=1.5, conv_thr_per_atom_Ry=1e-8)
    (folder / PSEUDO_FOLDER).mkdir()
    shutil.copy(PSEUDO, folder / PSEUDO_FOLDER / pseudo_file('Si'))
    atoms = bulk('Si', 'diamond', a=5.43)
    atoms.positions[1] += 0.05
    template.with_suffix('.in').write_text(pw_input(atoms, labelling, {'Si': 4}))
    with template.with_suffix('.out').open('w') as printed:
        subprocess.run(['pw.x', '-in', 'template.in'], cwd=folder, stdout=printed, check=True)
    shutil.copy(folder / 'out' / 'pw.save' / 'data-file-schema.xml', template.with_suffix('.xml'))
    return _write(folder / 'stand-in-pw', STAND_IN.format(template=template, not_a_number=not_a_number))


def write_guarded_pw(folder: Path, pattern: str) -> tuple[Path, Path]:
    """Return a program that runs pw.x, but dies of inputs that hold a pattern until a file exists; and that file."""
    mended = folder / 'mended'
    program = _write(folder / 'guarded-pw', GUARDED.format(pattern=pattern, mended=mended, pw=shutil.which('pw.x')))
    return program, mended


def _write(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o755)
    return path
