"""Make ``data/ace_oracle.npz``: values of python-ace for the tests of the atomic cluster expansion.

python-ace has a licence for academic use only, so it is no dependency, not even of the tests: only its numbers are
kept. Run this in an environment of its own::

    python -m venv oracle && oracle/bin/pip install python-ace==0.4.0rc1
    oracle/bin/python tests/science/make_ace_oracle.py

For each system the file has ``numbers``, ``positions``, ``cell``, ``pbc``, ``r_cut``, what was asked for (``n_max`` and
``l_max`` by order); per element Z of the centre ``functions_Z`` (F, 14): order, then atomic number, n and l of four
channels (0 where there is none), and L of the first pair; and ``projections`` (N, F), those of an atom being values of
the functions of its own element.
"""

from pathlib import Path

import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.data import atomic_numbers
from pyace import ACEBBasisSet, PyACECalculator
from pyace.multispecies_basisextension import create_multispecies_basis_config

#: Within this of the cutoff python-ace multiplies a further cutoff function; it takes no less than a spline's interval.
DCUT = 0.001


def rattled(atoms, stdev, seed):
    atoms = atoms.copy()
    atoms.positions += np.random.default_rng(seed).normal(scale=stdev, size=(len(atoms), 3))
    return atoms


def cluster():
    positions = [
        [0.0, 0.0, 0.0],
        [1.9, 0.2, -0.3],
        [-0.4, 1.8, 0.9],
        [0.7, -1.1, 2.0],
        [2.3, 2.1, 0.6],
        [-1.6, -1.2, 0.4],
    ]
    return Atoms('SiCSiCCSi', positions=positions)


def alloy():
    atoms = bulk('Cu', cubic=True) * (2, 2, 1)
    atoms.symbols[:] = ['Au' if i in (0, 3, 4, 5, 10, 13) else 'Cu' for i in range(16)]
    atoms.set_cell(atoms.cell * 1.06, scale_atoms=True)
    return rattled(atoms, 0.15, 3)


#: The elements of the alloy are sorted otherwise by name, as python-ace does, than by number: other pairs are coupled.
SYSTEMS = {
    'alloy': (alloy(), 4.0, (2, 2, 2, 2), (0, 2, 1, 1)),
    'silicon': (rattled(bulk('Si', cubic=True), 0.1, 0), 5.0, (8, 4, 3, 2), (0, 4, 3, 2)),
    'silicon_deep': (rattled(bulk('Si', cubic=True), 0.1, 1)[:5], 4.0, (2, 2, 2, 1), (0, 6, 5, 4)),
    'carbide': (rattled(bulk('SiC', 'zincblende', a=4.36, cubic=True), 0.08, 2), 4.0, (4, 3, 2, 1), (0, 3, 2, 2)),
    'cluster': (cluster(), 4.5, (3, 2, 2, 2), (0, 2, 2, 1)),
}


def basis_set(elements, r_cut, n_max, l_max):
    """Return the B basis of all functions up to n_max and l_max, by order."""
    embedding = {
        'npot': 'FinnisSinclairShiftedScaled',
        'fs_parameters': [1, 1],
        'ndensity': 1,
        'rho_core_cut': 200000,
        'drho_core_cut': 250,
    }
    bond = {
        'radbase': 'ChebExpCos',
        'radparameters': [5.25],
        'rcut': r_cut,
        'dcut': DCUT,
        'NameOfCutoffFunction': 'cos',
        'core-repulsion': [0.0, 1.0],
    }
    configuration = create_multispecies_basis_config(
        {
            'deltaSplineBins': 0.001,
            'elements': sorted(elements),
            'embeddings': {'ALL': embedding},
            'bonds': {'ALL': bond},
            'functions': {'ALL': {'nradmax_by_orders': list(n_max), 'lmax_by_orders': list(l_max)}},
        }
    )
    return ACEBBasisSet(configuration)


def labels(basis, centre):
    """Return (F, 14) labels of the functions around an element, in the order of the projections."""
    numbers = [atomic_numbers[name] for name in basis.elements_name]
    rows = []
    for function in [*basis.basis_rank1[centre], *basis.basis[centre]]:
        channels = [(numbers[mu], n, l) for mu, n, l in zip(function.mus, function.ns, function.ls, strict=True)]  # noqa: E741
        flat = [value for channel in channels for value in channel]
        intermediate = function.LS[0] if function.rank == 4 else 0
        rows.append([function.rank, *flat, *[0] * (12 - len(flat)), intermediate])
    return np.array(rows, dtype=np.int16)


def main():
    arrays = {}
    for name, (atoms, r_cut, n_max, l_max) in SYSTEMS.items():
        basis = basis_set(set(atoms.symbols), r_cut, n_max, l_max)
        calculator = PyACECalculator(basis)
        calculator.calculate(atoms)
        arrays |= {
            f'{name}/numbers': atoms.numbers,
            f'{name}/positions': atoms.positions,
            f'{name}/cell': atoms.cell.array,
            f'{name}/pbc': atoms.pbc,
            f'{name}/r_cut': np.array(r_cut),
            f'{name}/n_max': np.array(n_max),
            f'{name}/l_max': np.array(l_max),
            f'{name}/projections': np.array(calculator.projections),
        }
        for centre, symbol in enumerate(basis.elements_name):
            arrays[f'{name}/functions_{atomic_numbers[symbol]}'] = labels(basis, centre)
        print(name, arrays[f'{name}/projections'].shape)
    path = Path(__file__).with_name('data') / 'ace_oracle.npz'
    path.parent.mkdir(exist_ok=True)
    np.savez_compressed(path, **arrays)
    print(path.name, path.stat().st_size, 'bytes')


if __name__ == '__main__':
    main()
