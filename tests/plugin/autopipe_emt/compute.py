"""The program that labels: ``python -m autopipe_emt.compute structure.extxyz label.json [cell|positions]``."""

import json
import sys
from pathlib import Path

from ase.calculators.emt import EMT
from ase.filters import FrechetCellFilter
from ase.io import read
from ase.optimize import BFGS


def main(structure: str, label: str, relax: str = '') -> None:
    """Compute energy (eV), forces (eV/Å) and stress (eV/Å³, Voigt, ASE's sign) of a structure, relaxed or not."""
    atoms = read(structure)
    atoms.calc = EMT()
    if relax:
        moving = FrechetCellFilter(atoms) if relax == 'cell' else atoms
        BFGS(moving, logfile=None).run(fmax=1e-3, steps=200)
    found = {
        'energy': atoms.get_potential_energy(),
        'forces': atoms.get_forces().tolist(),
        'stress': atoms.get_stress().tolist(),
        **({'cell': atoms.cell.tolist(), 'positions': atoms.positions.tolist()} if relax else {}),
    }
    Path(label).write_text(json.dumps(found))


if __name__ == '__main__':
    main(*sys.argv[1:])
