"""The program that labels: ``python -m autopipe_emt.compute structure.extxyz label.json``."""

import json
import sys
from pathlib import Path

from ase.calculators.emt import EMT
from ase.io import read


def main(structure: str, label: str) -> None:
    """Compute energy (eV), forces (eV/Å) and stress (eV/Å³, Voigt, ASE's sign) of a structure."""
    atoms = read(structure)
    atoms.calc = EMT()
    found = {
        'energy': atoms.get_potential_energy(),
        'forces': atoms.get_forces().tolist(),
        'stress': atoms.get_stress().tolist(),
    }
    Path(label).write_text(json.dumps(found))


if __name__ == '__main__':
    main(*sys.argv[1:])
