"""The batched engine in equilibrium: energy, temperature, volume and ramps, with soft spheres and with none."""

import numpy as np
import pytest
from ase import units
from batch_cases import argon, batch_of, column, ends, parameters, run, soft_model

from aiida_mlip_autopipe.science.dynamics.batch.integrators import draw_momenta
from aiida_mlip_autopipe.science.dynamics.ensembles.base import ensemble_of
from aiida_mlip_autopipe.science.potential.batch import compressibility, evaluate


def test_energy_is_conserved_in_nve(tmp_path):
    settings = parameters(ensemble='nve', n_steps=400, timestep_fs=4.0, sample_interval=10, equilibration_steps=50)
    recorders, _ = run(tmp_path, [argon(5.5)] * 8, settings, soft_model(compute_stress=False))
    kinetic = np.array([column(recorder, 4) for recorder in recorders]) * units.kB * 9 / 2
    total = np.array([column(recorder, 3) for recorder in recorders]) + kinetic
    drift = np.polyfit(np.arange(40) * 0.04, total.T, 1)[0] / 4  # eV per atom and ps
    assert np.abs(drift).max() < 1e-4
    assert total.std(axis=1).max() < 0.05 * kinetic.std(axis=1).min()


def test_temperatures_and_their_spread_are_those_of_nvt(tmp_path):
    settings = parameters(
        temperatures_K=[100], n_steps=200, timestep_fs=8.0, sample_interval=10, friction_per_fs=0.02,
        equilibration_steps=25,
    )  # fmt: skip
    recorders, _ = run(tmp_path, [argon(5.5)] * 64, settings, soft_model(compute_stress=False))
    temperatures = np.concatenate([column(recorder, 4)[4:] for recorder in recorders])
    assert temperatures.mean() == pytest.approx(100, rel=0.06)  # four standard errors
    assert temperatures.std() == pytest.approx(100 * np.sqrt(2 / 9), rel=0.12)


def test_volumes_are_those_of_npt_at_two_pressures(tmp_path):
    settings = parameters(
        ensemble='npt', temperatures_K=[100], pressures_GPa=[1.0, 1.25], n_steps=600, timestep_fs=6.0,
        equilibration_steps=50, sample_interval=20, barostat_time_fs=150, thermostat_time_fs=60,
    )  # fmt: skip
    recorders, _ = run(tmp_path, [argon()] * 48, settings)
    assert {how for how, _, _ in ends(tmp_path, recorders)} == {'completed'}
    volumes = {1.0: [], 1.25: []}
    for recorder in recorders:
        volumes[recorder.replica.pressure_GPa].append(np.linalg.det(column(recorder, 2))[10:])
    low, high = (np.concatenate(each) for each in volumes.values())
    edges = np.linspace(*np.percentile(np.concatenate([low, high]), [10, 90]), 9)
    counts = [np.histogram(each, edges)[0] for each in (low, high)]
    weights = 1 / np.sqrt(1 / counts[0] + 1 / counts[1])
    slope = np.polyfit((edges[1:] + edges[:-1]) / 2, np.log(counts[1] / counts[0]), 1, w=weights)[0]
    assert slope == pytest.approx(-0.25 * units.GPa / (units.kB * 100), rel=0.2)
    temperatures = np.concatenate([column(recorder, 4)[5:] for recorder in recorders])
    assert temperatures.mean() == pytest.approx(100, rel=0.04)


def test_volumes_of_an_ideal_gas_are_those_of_the_textbook(tmp_path):
    pressure = 5 * units.kB * 300 / 200  # (N + 1) kT / V with four atoms
    settings = parameters(
        ensemble='npt', temperatures_K=[300], pressures_GPa=[pressure / units.GPa], barostat_time_fs=100,
        thermostat_time_fs=50,
    )  # fmt: skip
    batch, integrator, volumes = batch_of(settings, [argon()] * 256, tmp_path), ensemble_of(settings).batch_step(), []
    draw_momenta(batch)
    batch.compressibility = batch.compressibility + 1 / pressure
    for step in range(1500):
        integrator.before_forces(batch)
        integrator.after_forces(batch)
        if step >= 300:
            volumes.append(batch.volume().numpy())
    assert np.mean(volumes) == pytest.approx(200, rel=0.03)
    assert np.std(volumes) == pytest.approx(200 / np.sqrt(5), rel=0.06)  # p(V) ~ V**N exp(-P V / kT)


def test_the_barostat_knows_how_stiff_a_start_is(tmp_path):
    settings = parameters(ensemble='npt')
    batch = batch_of(settings, [argon(6.0), argon(5.3)], tmp_path)
    moduli = (1 / (compressibility(soft_model(), batch) * units.GPa)).tolist()
    pressures = {}
    for a in (5.99, 6.01, 5.29, 5.31):
        stress = evaluate(soft_model(), batch_of(settings, [argon(a)], tmp_path))['stress'][0]
        pressures[a] = -float(stress.trace()) / 3 / units.GPa
    exact = [(pressures[a - 0.01] - pressures[a + 0.01]) / 0.02 * a / 3 for a in (6.0, 5.3)]
    assert np.log2(moduli) == pytest.approx(np.round(np.log2(exact)))


def test_a_ramp_warms_up_and_equilibration_reaches_its_start(tmp_path):
    settings = parameters(
        temperatures_K=[(50.0, 250.0)], n_steps=200, sample_interval=10, equilibration_steps=60, timestep_fs=8.0,
        friction_per_fs=0.03,
    )  # fmt: skip
    recorders, _ = run(tmp_path, [argon(5.5)] * 32, settings, soft_model(compute_stress=False))
    temperatures = np.mean([column(recorder, 4) for recorder in recorders], axis=0)
    targets = np.array([recorders[0].replica.target_K(step, 200) for step in range(10, 201, 10)])
    assert temperatures[:4].mean() == pytest.approx(targets[:4].mean(), rel=0.25)
    assert temperatures[-4:].mean() == pytest.approx(targets[-4:].mean(), rel=0.15)
    assert column(recorders[0], 0).tolist() == list(range(10, 201, 10))
