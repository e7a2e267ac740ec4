"""Ensembles: each engine draws from the distribution that was asked for, by the statistics of M. R. Shirts.

See J. Chem. Theory Comput. 9, 909 (2013) and the package physical-validation, which says how many standard errors a
result is away from what it must be. Eight atoms are enough: the fewer there are, the more a wrong count of degrees of
freedom shows.
"""

import functools
import sys
import tempfile
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import physical_validation
import pytest
from ase import units
from ase.constraints import FixCom
from ase.data import atomic_masses, atomic_numbers
from ase.md.langevin import Langevin
from ase.md.nose_hoover_chain import IsotropicMTKNPT
from ase.md.nvtberendsen import NVTBerendsen
from physical_validation.data import EnsembleData, ObservableData, SimulationData, SystemData, UnitData
from pymbar.timeseries import statistical_inefficiency

from aiida_mlip_autopipe.science.dynamics.ase.trajectory import run_dynamics
from aiida_mlip_autopipe.science.dynamics.guards import degrees_of_freedom
from aiida_mlip_autopipe.science.dynamics.recorder import Recorder
from aiida_mlip_autopipe.science.dynamics.replicas import ReplicaPlan
from aiida_mlip_autopipe.science.parameters import DynamicsParameters
from aiida_mlip_autopipe.science.registry import ENSEMBLES
from tests.support.pair_crystal import PairCrystal, PairCrystalModel, argon, lithium_argon

ENGINES = ['ase'] + (['torchsim'] if find_spec('torch_sim') else [])
each_engine = pytest.mark.parametrize('engine', ENGINES)

SIGMAS = 5.0
"""What is further off than so many standard errors is wrong.

Trajectories differ between kinds of processors, so that any of them is a new draw. The errors are estimates from short
series: in fifteen repetitions they were a quarter too small.
"""

UNITS = UnitData(
    kb=units.kB, energy_conversion=96.48533, length_conversion=0.1, volume_conversion=1e-3, temperature_conversion=1,
    pressure_conversion=1e4, time_conversion=1e-3, energy_str='eV', length_str='Å', volume_str='Å^3',
    temperature_str='K', pressure_str='GPa', time_str='fs',
)  # fmt: skip

COLD, WARM = (25.0, 0.05), (29.0, 0.12)
"""Temperatures, in K, and pressures, in GPa: near enough for the distributions to overlap."""


class Witness(Recorder):
    """A recorder that keeps energies, kinetic energies and volumes, and the momenta of the checkpoints.

    A checkpoint is due after each frame.
    """

    def __init__(self, *args):
        super().__init__(*args)
        self.rows, self.momenta, self.due = [], [], False

    def frame(self, step, positions, cell, energy, temperature, max_force, disagreement=np.nan):
        """Keep a frame."""
        kinetic = temperature * units.kB * degrees_of_freedom(len(positions)) / 2
        self.rows.append((energy, kinetic, abs(np.linalg.det(cell))))
        self.due = True
        return True

    def checkpoint_due(self):
        """Return whether a frame came since the last one."""
        return self.due

    def checkpoint(self, step, state):
        """Keep the momenta."""
        self.momenta.append(np.array(state['momenta']))
        self.due = False


@dataclass
class Samples:
    """Of R replicas: energies and kinetic energies (R, F), in eV, volumes (R, F), in Å^3, momenta (R, F, N, 3)."""

    energies: np.ndarray
    kinetic: np.ndarray
    volumes: np.ndarray
    momenta: np.ndarray

    @property
    def n_atoms(self):
        """Number of atoms."""
        return self.momenta.shape[2]


STRUCTURES = {
    'argon': argon,
    'argon of 2 atoms': lambda: argon((2, 1, 1)),
    'argon of 27 atoms': lambda: argon((3, 3, 3)),
    'lithium and argon': lithium_argon,
}


@functools.cache
def simulate(engine, ensemble, condition, n_steps, n_replicas=1, structure='argon', timestep_fs=10.0, **settings):
    """Run replicas that differ in their random seed, and return what they showed."""
    atoms = STRUCTURES[structure]()
    atoms.info['frame_id'] = 'seed-00000001'
    temperature, pressure = condition
    defaults = {'equilibration_steps': 200, 'sample_interval': 5, 'friction_per_fs': 0.01, 'thermostat_time_fs': 200.0,
                'barostat_time_fs': 2000.0 if engine == 'ase' else 200.0, 'checkpoint_interval_s': 1e-9}  # fmt: skip
    parameters = DynamicsParameters(
        engine=engine,
        ensemble=ensemble,
        temperatures_K=[temperature] * n_replicas,
        pressures_GPa=[pressure],
        n_steps=n_steps,
        timestep_fs=timestep_fs,
        **(defaults | settings),
    )
    plan = ReplicaPlan([atoms], parameters)
    with tempfile.TemporaryDirectory() as folder:
        witnesses = [Witness(plan, replica, Path(folder), engine) for replica in plan.replicas]
        ended = run_all(engine, witnesses, atoms, parameters)
    assert ended == ['completed'] * n_replicas
    rows = np.array([witness.rows for witness in witnesses])
    return Samples(*np.moveaxis(rows, 2, 0), np.array([witness.momenta for witness in witnesses]))


def run_all(engine, witnesses, atoms, parameters):
    """Run replicas with an engine and return how they ended."""
    if engine == 'ase':
        return [run_dynamics(witness, PairCrystal(atoms), parameters)['ended'] for witness in witnesses]
    from aiida_mlip_autopipe.science.dynamics.batch.run import BatchRun
    from aiida_mlip_autopipe.science.dynamics.batch.state import Slot

    ended = []
    slots = [Slot(witness, -parameters.equilibration_steps) for witness in witnesses]
    BatchRun(
        PairCrystalModel(atoms),
        slots,
        parameters,
        room=10**6,
        on_end=lambda result: ended.append(result['ended']),
    ).run()
    return ended


def sampled(engine, ensemble, condition=COLD, **kwargs):
    """Return as many samples as an engine gives in some seconds: of one long replica, or of many short ones."""
    length = {'n_steps': 10_000} if engine == 'ase' else {'n_steps': 1000, 'n_replicas': 64}
    return simulate(engine, ensemble, condition, **({'random_seed': int(condition[0])} | length | kwargs))


def inefficiency(series):
    """Return how many samples of series (R, F) count as one."""
    return max(1.0, float(np.mean([statistical_inefficiency(each) for each in series])))


def independent(*series):
    """Return independent samples of series of shape (R, F), flat, those of the first tenth left out."""
    settled = [each[:, each.shape[1] // 10 :] for each in series]
    stride = int(np.ceil(max(inefficiency(each) for each in settled)))
    return [each[:, ::stride].ravel() for each in settled]


def mean_and_error(series):
    """Return mean and standard error of series of shape (R, F)."""
    settled = series[:, series.shape[1] // 10 :]
    return settled.mean(), settled.std() * np.sqrt(inefficiency(settled) / settled.size)


def state(ensemble, condition, n_atoms, rest=3, **observables):
    """Return what physical-validation takes; ``rest`` is the number of momenta that are not free."""
    temperature, pressure = condition
    kind = {'volume': 1.0} if ensemble == 'nvt' else {'pressure': pressure}
    return SimulationData(
        units=UNITS,
        ensemble=EnsembleData(ensemble.upper(), natoms=n_atoms, temperature=temperature, **kind),
        system=SystemData(
            natoms=n_atoms, nconstraints=0, ndof_reduction_tra=rest, ndof_reduction_rot=0, mass=np.ones(n_atoms)
        ),
        observables=ObservableData(**observables),
    )


def kinetic_deviations(samples, temperature, rest=3):
    """Return by how many standard errors mean and width of the kinetic energies are off, and the p value of all."""
    (kinetic,) = independent(samples.kinetic)
    seen = state('nvt', (temperature, 0.0), samples.n_atoms, rest, kinetic_energy=kinetic)
    check = functools.partial(
        physical_validation.kinetic_energy.distribution, seen, verbosity=0, data_is_uncorrelated=True
    )
    return max(check(strict=False, bootstrap_seed=1)), check(strict=True)


def ensemble_deviation(ensemble, one, two):
    """Return by how many standard errors the ratio of two distributions is off; each is a condition and samples."""
    seen = []
    for condition, samples in (one, two):
        observed = {'potential_energy': samples.energies}
        observed |= {'volume': samples.volumes} if ensemble == 'npt' else {}
        seen.append(
            state(
                ensemble,
                condition,
                samples.n_atoms,
                **dict(zip(observed, independent(*observed.values()), strict=True)),
            )
        )
    return max(physical_validation.ensemble.check(*seen, verbosity=0, data_is_uncorrelated=True))


def plain_ase(ensemble, condition, n_steps):
    """Return samples of ASE's own integrators, run without the engine."""
    temperature, pressure = condition
    atoms, rng = moving('argon of 27 atoms', temperature)
    timestep = 10 * units.fs
    if ensemble == 'nvt':
        atoms.set_constraint(FixCom())
        friction = 0.01 / units.fs
        dynamics = Langevin(atoms, timestep, temperature_K=temperature, friction=friction, fixcm=False, rng=rng)
    else:
        dynamics = IsotropicMTKNPT(
            atoms,
            timestep,
            temperature_K=temperature * (1 - 1 / len(atoms)),  # it counts 3 N degrees of freedom
            pressure_au=pressure * units.GPa,
            tdamp=200 * units.fs,
            pdamp=2000 * units.fs,
        )
    return witnessed(atoms, dynamics, n_steps)


def berendsen(condition, n_steps):
    """Return samples of a thermostat that has the right mean temperature and no ensemble."""
    atoms, _ = moving('argon', 2 * condition[0])
    target = condition[0] * degrees_of_freedom(len(atoms)) / (3 * len(atoms))
    dynamics = NVTBerendsen(atoms, 10 * units.fs, temperature_K=target, taut=500 * units.fs)
    return witnessed(atoms, dynamics, n_steps)


def moving(structure, temperature):
    """Return a structure with a calculator and momenta, and the generator that these came from."""
    atoms, rng = STRUCTURES[structure](), np.random.default_rng(5)
    atoms.calc = PairCrystal(atoms)
    momenta = rng.normal(size=(len(atoms), 3)) * np.sqrt(atoms.get_masses()[:, None] * units.kB * temperature)
    atoms.set_momenta(momenta - momenta.mean(axis=0))
    return atoms, rng


def witnessed(atoms, dynamics, n_steps):
    """Return samples of every fifth step of an integrator of ASE."""
    rows, momenta = [], []
    for _ in range(n_steps // 5):
        for _ in range(5):
            dynamics.step()
        rows.append((atoms.get_potential_energy(), atoms.get_kinetic_energy(), atoms.get_volume()))
        momenta.append(atoms.get_momenta())
    return Samples(*np.array(rows).T[:, None], np.array([momenta]))


def test_both_engines_are_tested_where_python_has_them():
    assert ('torchsim' in ENGINES) == (sys.version_info >= (3, 12))


@pytest.mark.slow
@pytest.mark.parametrize('ensemble', ['nvt', pytest.param('npt', marks=pytest.mark.nightly)])
@each_engine
def test_kinetic_energies_are_those_of_maxwell_and_boltzmann(engine, ensemble):
    for condition in (COLD, WARM):
        deviation, probability = kinetic_deviations(sampled(engine, ensemble, condition), condition[0])
        assert deviation < SIGMAS and probability > 1e-4


@pytest.mark.nightly
@each_engine
def test_two_atoms_have_three_momenta_at_constant_pressure(engine):
    deviation, _ = kinetic_deviations(sampled(engine, 'npt', structure='argon of 2 atoms'), COLD[0])
    assert deviation < SIGMAS


@pytest.mark.parametrize('ensemble', ['nvt', pytest.param('npt', marks=pytest.mark.nightly)])
@each_engine
def test_energies_and_volumes_are_those_of_the_ensemble(engine, ensemble):
    cold, warm = ((condition, sampled(engine, ensemble, condition)) for condition in (COLD, WARM))
    assert ensemble_deviation(ensemble, cold, warm) < SIGMAS


@pytest.mark.slow
@each_engine
def test_all_momenta_have_the_same_share_of_the_energy(engine):
    mixed = sampled(engine, 'nvt', structure='lithium and argon', timestep_fs=5.0, sample_interval=10)
    masses = atomic_masses[[atomic_numbers[symbol] for symbol in STRUCTURES['lithium and argon']().symbols]]
    for samples, of_each in ((mixed, masses), (sampled(engine, 'npt'), np.full(8, atomic_masses[18]))):
        shares = energy_shares(samples, of_each, COLD[0])
        error = np.sqrt(2 / len(shares))
        assert np.abs(shares.mean(axis=0) - 1).max() < SIGMAS * error
        for group in (shares[:, ::2], shares[:, 1::2], *np.moveaxis(shares, 2, 0)):
            assert abs(group.mean() - 1) < SIGMAS * error / np.sqrt(group[0].size)


@pytest.mark.slow
@pytest.mark.parametrize('ensemble', [name for name, one in ENSEMBLES.items() if one.controls_pressure])
@each_engine
def test_volumes_at_two_pressures_differ_as_they_must(engine, ensemble):
    """At one temperature the ratio of two distributions P(V) is exp(-(P2 - P1) V / kT), up to a factor."""
    if engine not in ENSEMBLES[ensemble].integrators:
        pytest.skip(f'{ensemble} has no integrator for {engine}')
    low, high = COLD, (COLD[0], WARM[1])
    states = ((condition, sampled(engine, ensemble, condition)) for condition in (low, high))
    volumes = [independent(samples.volumes)[0] for _, samples in states]
    slope, error = log_ratio_slope(*volumes)
    expected = -(high[1] - low[1]) * units.GPa / (units.kB * COLD[0])
    assert abs(slope - expected) < SIGMAS * error and abs(slope) > SIGMAS * error


def log_ratio_slope(one, other):
    """Return the slope of the logarithm of the ratio of two distributions, other over one, and its standard error."""
    edges = np.linspace(*np.percentile(np.concatenate([one, other]), [5, 95]), 11)
    counts = np.array([np.histogram(values, edges)[0] for values in (one, other)]).clip(min=0.5)
    weights = 1 / np.sqrt((1 / counts).sum(axis=0))
    middles = (edges[1:] + edges[:-1]) / 2
    (slope, _), covariance = np.polyfit(middles, np.log(counts[1] / counts[0]), 1, w=weights, cov='unscaled')
    return slope, np.sqrt(covariance[0, 0])


def energy_shares(samples, masses, temperature):
    """Return the energy of each momentum over its mean in the ensemble, independent samples, shape (F, N, 3).

    Where the centre of mass rests, the mean is kT / 2 times 1 - m / M.
    """
    squares = samples.momenta**2 / (masses * (1 - masses / masses.sum()))[:, None]
    squares = squares[:, squares.shape[1] // 10 :] / (units.kB * temperature)
    stride = int(np.ceil(max(inefficiency(squares[:, :, first::2].mean(axis=(2, 3))) for first in (0, 1))))
    return squares[:, ::stride].reshape(-1, *squares.shape[2:])


@pytest.mark.slow
@pytest.mark.parametrize('ensemble', ['nvt', pytest.param('npt', marks=pytest.mark.nightly)])
@each_engine
def test_means_are_those_of_plain_ase_and_of_the_other_engine(engine, ensemble):
    ours, *others = (
        plain_ase(ensemble, WARM, 8000) if name == 'plain' else sampled(name, ensemble, WARM, **LARGER[name])
        for name in (engine, 'plain', *(name for name in ENGINES if name != engine))
    )
    for other in others:
        for name in ('energies', 'volumes') if ensemble == 'npt' else ('energies',):
            (mean, error), (expected, its_error) = (mean_and_error(getattr(each, name)) for each in (ours, other))
            assert abs(mean - expected) < SIGMAS * np.hypot(error, its_error)


LARGER = {
    'ase': {'structure': 'argon of 27 atoms', 'n_steps': 8000},
    'torchsim': {'structure': 'argon of 27 atoms', 'n_steps': 800, 'n_replicas': 24, 'random_seed': 1},
}


@each_engine
def test_energy_is_conserved_to_second_order_in_the_time_step(engine):
    duration_fs, runs = 3200, []
    for timestep_fs in (8.0, 4.0):
        samples = simulate(engine, 'nve', COLD, int(duration_fs / timestep_fs), timestep_fs=timestep_fs,
                           sample_interval=int(16 / timestep_fs), equilibration_steps=0)  # fmt: skip
        total = (samples.energies + samples.kinetic)[0]
        drift = np.polyfit(np.linspace(0, 1, len(total)), total, 1)[0]
        assert abs(drift) < total.std()
        assert total.std() < 0.01 * samples.kinetic.std()
        runs.append(SimulationData(dt=timestep_fs, observables=ObservableData(constant_of_motion=total)))
    assert physical_validation.integrator.convergence(runs, verbose=False) < 0.1


@pytest.mark.slow
def test_what_is_wrong_is_found():
    right = sampled('ase', 'nvt')
    assert kinetic_deviations(right, 1.1 * COLD[0])[0] > SIGMAS
    assert kinetic_deviations(right, COLD[0], rest=0)[0] > SIGMAS
    cold, warm = ((condition, berendsen(condition, 8000)) for condition in (COLD, WARM))
    assert ensemble_deviation('nvt', cold, warm) > SIGMAS
    deviation, probability = kinetic_deviations(cold[1], COLD[0])
    assert deviation > SIGMAS and probability < 1e-4
