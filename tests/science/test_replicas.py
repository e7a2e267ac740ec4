"""The plan: which replicas there are, what they start from and what they will cost."""

import numpy as np
import pytest
from ase import Atoms

from aiida_mlip_autopipe.science.dynamics import ReplicaPlan
from tests.support.trajectories import few_steps, silicon


def test_plan_is_the_product_with_seeds_of_its_own():
    seeds = [silicon(), silicon()]
    plan = ReplicaPlan(
        seeds, few_steps(temperatures_K=[300, 600], ensemble='npt', pressures_GPa=[0, 1, 2], strains=[0, 0.02])
    )
    assert [replica.index for replica in plan.replicas] == list(range(24))
    assert len({(r.seed_index, r.strain, r.temperature_K, r.pressure_GPa) for r in plan.replicas}) == 24
    assert len({replica.random_seed for replica in plan.replicas}) == 24
    nvt = ReplicaPlan(seeds, few_steps(temperatures_K=[300, 600])).replicas
    assert len(nvt) == 4 and {replica.pressure_GPa for replica in nvt} == {None}


def test_random_seeds_do_not_depend_on_the_neighbours():
    one = ReplicaPlan([silicon()], few_steps(temperatures_K=[300, 600])).replicas
    two = ReplicaPlan([silicon()] * 2, few_steps(temperatures_K=[300, 600])).replicas
    assert [replica.random_seed for replica in one] == [replica.random_seed for replica in two[:2]]
    other = ReplicaPlan([silicon()], few_steps(temperatures_K=[300, 600], random_seed=1)).replicas
    assert not {replica.random_seed for replica in one} & {replica.random_seed for replica in other}


def test_a_ramp_goes_from_the_first_step_to_the_last():
    (replica,) = ReplicaPlan([silicon()], few_steps(temperatures_K=[(200, 800)])).replicas
    assert (replica.temperature_K, replica.temperature_end_K, replica.max_target_K) == (200, 800, 800)
    assert [replica.target_K(step, 7) for step in (-5, 1, 4, 7)] == [200, 200, 500, 800]
    (constant,) = ReplicaPlan([silicon()], few_steps()).replicas
    assert constant.target_K(3, 7) == 300 and constant.temperature_end_K is None


def test_supercell_and_strain_make_the_start():
    seed = silicon(cubic=False)
    plan = ReplicaPlan([seed], few_steps(supercell_atoms=60, strains=[-0.01, 0.03]))
    for replica, strain in zip(plan.replicas, (-0.01, 0.03), strict=True):
        atoms = plan.atoms(replica)
        assert len(atoms) >= 60 and atoms.info['frame_id'] == seed.info['frame_id']
        density = len(atoms) / atoms.get_volume()
        assert density == pytest.approx(2 / seed.get_volume() / (1 + strain) ** 3)
    lengths = plan.atoms(plan.replicas[0]).cell.lengths()
    assert np.ptp(lengths) < 0.1 * lengths.mean()
    assert len(seed) == 2


def test_the_shares_of_the_jobs_are_the_whole():
    plan = ReplicaPlan([silicon()], few_steps(temperatures_K=[100, 200, 300, 400, 500]))
    shares = [plan.share(index, 3) for index in range(3)]
    assert sorted(replica.index for share in shares for replica in share) == list(range(5))
    with pytest.raises(ValueError, match='job_index 5 of n_jobs 6'):
        plan.share(5, 6)


def test_the_cost_is_told_before():
    plan = ReplicaPlan(
        [silicon(), silicon(cubic=False)], few_steps(temperatures_K=[300, 600], n_steps=90, equilibration_steps=10)
    )
    cost = plan.cost()
    assert (cost.n_replicas, cost.n_frames, cost.atom_steps) == (4, 4 * 30, 2 * (8 + 2) * 100)
    assert '4 replicas' in str(cost) and '120 frames' in str(cost)
    assert plan.cost(plan.share(0, 2)).n_replicas == 2
    assert cost.megabytes > plan.cost(plan.share(0, 2)).megabytes > 0


def test_bad_seeds_are_named():
    molecule = Atoms('Si2', positions=[[0, 0, 0], [2.3, 0, 0]], info={'frame_id': 'seed-00000009'})
    with pytest.raises(ValueError, match=r"seed-00000009.*'npt'"):
        ReplicaPlan([molecule], few_steps(ensemble='npt'))
    with pytest.raises(ValueError, match='no seed structure'):
        ReplicaPlan([], few_steps())
    with pytest.raises(ValueError, match='frame_id'):
        ReplicaPlan([Atoms('Si')], few_steps())
