"""Elastic constants from stress against strain, with the ions clamped.

The cell is strained, the fractional coordinates stay (clamped ions: internal strain is not relaxed, on both sides
alike), and the stress is fitted as ``stress = stress_0 + C strain``. Symmetry says which constants are independent: C
is a combination of the few tensors that no rotation of the crystal changes, and only as many components are strained as
are needed to know all of them (two for a cubic crystal). ``stress_0`` is what the crystal has at the volume that was
given; C belongs to that volume, too. Constants refer to the standard axes of spglib: the edges of a cubic crystal.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import numpy as np
from ase import Atoms, units

from aiida_mlip_autopipe.science.evaluation.physics.base import (
    Check,
    Context,
    Judgement,
    Label,
    MissingLabelsError,
    percent_of,
    row,
    strained,
)
from aiida_mlip_autopipe.science.evaluation.physics.crystal import strained_crystal, symmetry_of
from aiida_mlip_autopipe.science.evaluation.records import Row
from aiida_mlip_autopipe.science.parameters import PhysicsParameters

__all__ = ['CHECK', 'bond_matrix', 'invariant_tensors', 'strain_tensor']

VOIGT = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))
#: The order in which independent constants are sought: C11, C12, C13 before C66 or C14, as they are tabulated.
UPPER = ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2), (3, 3), (4, 4), (5, 5))
ORDER = UPPER + tuple(pair for pair in itertools.combinations(range(6), 2) if pair not in UPPER)
#: Weights of the constants in Voigt's averages.
BULK, SHEAR = np.zeros((6, 6)), np.diag([1 / 10] * 3 + [1 / 5] * 3)
BULK[:3, :3] = 1 / 9
SHEAR[:3, :3] -= 1 / 30
RANK_TOLERANCE = 1e-3
SMALL = 0.1


def structures(crystal: Atoms, parameters: PhysicsParameters) -> list[Atoms]:
    """Return the crystal with each strain that is needed."""
    half = parameters.n_elastic_strains // 2
    steps = np.concatenate([-np.arange(half, 0, -1), np.arange(1, half + 1)]) / half
    frames = []
    for component in strained_components(invariant_tensors(crystal, parameters)):
        for size in parameters.max_elastic_strain * steps:
            strain = np.zeros(6)
            strain[component] = size
            atoms = strained_crystal(crystal, np.eye(3) + strain_tensor(strain))
            frames.append(strained(atoms, 'elastic', crystal, strain=strain))
    return frames


def strain_tensor(strain: np.ndarray) -> np.ndarray:
    """Return the symmetric tensor (3, 3) of a strain in Voigt's notation (6,), with engineering shears."""
    xx, yy, zz, yz, xz, xy = strain
    return np.array([[xx, xy / 2, xz / 2], [xy / 2, yy, yz / 2], [xz / 2, yz / 2, zz]])


def bond_matrix(rotation: np.ndarray) -> np.ndarray:
    """Return the matrix (6, 6) that rotates a stress in Voigt's notation; elastic constants turn as ``M C Mᵀ``.

    W. L. Bond, Bell Syst. Tech. J. 22, 1 (1943).
    """
    matrix = np.empty((6, 6))
    for (first, (i, j)), (second, (a, b)) in itertools.product(enumerate(VOIGT), repeat=2):
        matrix[first, second] = rotation[i, a] * rotation[j, b]
        if a != b:
            matrix[first, second] += rotation[i, b] * rotation[j, a]
    return matrix


def invariant_tensors(crystal: Atoms, parameters: PhysicsParameters) -> np.ndarray:
    """Return a basis (n, 6, 6) of the elastic constants that the symmetry of a crystal allows, in its own axes."""
    vectors = crystal.cell.array.T
    fractional = np.unique(symmetry_of(crystal, parameters).rotations, axis=0)
    turns = [bond_matrix(vectors @ rotation @ np.linalg.inv(vectors)) for rotation in fractional]
    images = []
    for i, j in itertools.combinations_with_replacement(range(6), 2):
        unit = np.zeros((6, 6))
        unit[i, j] = unit[j, i] = 1
        images.append(np.mean([turn @ unit @ turn.T for turn in turns], axis=0).ravel())
    _, sizes, basis = np.linalg.svd(np.array(images))
    return basis[: int((sizes > RANK_TOLERANCE * sizes[0]).sum())].reshape(-1, 6, 6)


def strained_components(basis: np.ndarray) -> tuple[int, ...]:
    """Return the fewest components of the strain whose stresses determine all constants, well conditioned."""
    for number in range(1, 7):
        choices = list(itertools.combinations(range(6), number))
        sizes = [np.linalg.svd(_responses(basis, choice), compute_uv=False) for choice in choices]
        ratios = np.array([size[-1] / size[0] if len(size) == len(basis) else 0.0 for size in sizes])
        if ratios.max() > 0.05:
            return choices[int(np.argmax(ratios.round(6)))]
    return tuple(range(6))


def _responses(basis: np.ndarray, components: tuple[int, ...]) -> np.ndarray:
    """Return the stresses (6 m, n) of each tensor of the basis under unit strains."""
    return basis[:, :, list(components)].reshape(len(basis), -1).T


def judge(context: Context) -> Judgement:
    """Compare the constants of both sides."""
    basis = invariant_tensors(context.pristine, context.parameters)
    frames = context.frames('elastic')
    n_needed = context.parameters.n_elastic_strains * len(strained_components(basis))
    if len(frames) < n_needed:
        raise MissingLabelsError(f'{len(frames)} of {n_needed} strained cells have a label: all are needed')
    predicted, reference = (_stresses(frames, side) for side in context.sides)
    strains = np.array([atoms.info['strain'] for atoms in frames])
    turn = bond_matrix(symmetry_of(context.pristine, context.parameters).std_rotation_matrix)
    turned = np.array([turn @ tensor @ turn.T for tensor in basis])
    coefficients = [_fit(strains, stresses, basis)[0] for stresses in (predicted, reference)]
    covariance = _fit(strains, predicted - reference, basis)[1]
    matrices = [np.tensordot(values, turned, axes=1).tolist() for values in coefficients]
    return Judgement(
        rows=_rows(context.parameters, turned, coefficients, covariance),
        uncertainty='covariance of the least squares fit of the differences of the stresses',
        data={'C_GPa': matrices[0], 'reference_C_GPa': matrices[1]},
        note='clamped ions',
    )


def _stresses(frames: list[Atoms], side: Mapping[str, Label]) -> np.ndarray:
    """Return the stresses (n, 6) of one side, in GPa."""
    stresses = np.array([side[atoms.info['frame_id']].stress for atoms in frames]) / units.GPa
    if not np.isfinite(stresses).all():
        raise MissingLabelsError('a strained cell has no stress in its label: have the labelling code compute it')
    return stresses


def _fit(strains: np.ndarray, stresses: np.ndarray, basis: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the coefficients (n,) of the basis, in GPa, and their covariance (n, n).

    Half the difference of the stresses of a strain and its opposite has neither ``stress_0`` nor what is quadratic.
    """
    opposite = np.abs(strains[:, None] + strains[None]).sum(axis=2).argmin(axis=1)
    odd = (stresses - stresses[opposite])[opposite > np.arange(len(strains))] / 2
    design = np.einsum('nij,fj->fin', basis, strains[opposite > np.arange(len(strains))]).reshape(-1, len(basis))
    solution, *_ = np.linalg.lstsq(design, odd.ravel(), rcond=None)
    residuals = odd.ravel() - design @ solution
    n_free = len(residuals) - len(solution)
    variance = residuals @ residuals / n_free if n_free else np.nan
    return solution, variance * np.linalg.inv(design.T @ design)


def _rows(
    parameters: PhysicsParameters, turned: np.ndarray, coefficients: list[np.ndarray], covariance: np.ndarray
) -> list[Row]:
    """Return a row for each independent constant and for Voigt's averages: linear in the coefficients."""
    wanted = [(f'C{i + 1}{j + 1}', turned[:, i, j]) for i, j in _independent(turned)]
    for name, weights in (('bulk_modulus', BULK), ('shear_modulus', SHEAR)):
        wanted.append((f'{name}_voigt', np.tensordot(turned, weights, axes=2)))
    references = [float(weights @ coefficients[1]) for _, weights in wanted]
    floor = SMALL * max(map(abs, references))
    rows = []
    for (name, weights), reference in zip(wanted, references, strict=True):
        error = float(np.sqrt(weights @ covariance @ weights))
        tolerance = percent_of(parameters.max_elastic_error_percent, max(abs(reference), floor))
        value = float(weights @ coefficients[0])
        rows.append(row(name, 'GPa', value, reference, uncertainty=error, tolerance=tolerance))
    return rows


def _independent(turned: np.ndarray) -> list[tuple[int, int]]:
    """Return the constants (i, j) of which the others follow."""
    chosen: list[tuple[int, int]] = []
    for i, j in ORDER:
        columns = np.array([turned[:, a, b] for a, b in [*chosen, (i, j)]])
        if np.linalg.matrix_rank(columns, tol=RANK_TOLERANCE) > len(chosen):
            chosen.append((i, j))
    return chosen


def sentence(parameters: PhysicsParameters) -> str:
    """Return what a paper says."""
    return (
        'Elastic constants with clamped ions were compared with DFT, from the stresses at strains of up to '
        f'{100 * parameters.max_elastic_strain:g} %.'
    )


CHECK = Check(
    structures,
    judge,
    sentence,
    about='Elastic constants from stress against strain, with clamped ions.',
    rank=10,
)
