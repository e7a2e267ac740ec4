"""How many labels a potential needs: frames chosen by the pipeline, and as many drawn at random from the same dynamics.

    mlip-autopipe init --yes
    OMP_NUM_THREADS=1 verdi run tests/benchmarks/label_efficiency.py --seeds 0 1 2 --driver MODEL --output FILE.json

Silicon, eight atoms, protocol `fast`. Everything is judged on one set that no round sees, made once by another route:
hot dynamics of a good potential (`--driver`, the result of another run) from other seeds, drawn at random. Hot dynamics
of the surrogate would not do: it leaves what is physical, and a few such frames make most of the error. The random arm
labels and trains what the pipeline would have, had it drawn its frames at random: same seeds, same frames of each
round, same trainings. The errors are root mean squares over the members of the committee.

A run that is broken off is taken up where it was: AiiDA's cache has what is done.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from aiida import engine, orm
from ase.build import bulk

from aiida_mlip_autopipe.calculations.functions.configure import round_parameters
from aiida_mlip_autopipe.calculations.functions.generate import generate_structures
from aiida_mlip_autopipe.data import FramesData, PotentialData
from aiida_mlip_autopipe.provenance.calls import call_tree
from aiida_mlip_autopipe.science.potential import inspect_potential
from aiida_mlip_autopipe.science.systems import is_isolated_atom
from aiida_mlip_autopipe.workflows.autopipe import AutoPipeWorkChain
from aiida_mlip_autopipe.workflows.evaluation.evaluate import EvaluationWorkChain
from aiida_mlip_autopipe.workflows.exploration.direct_sampling_base import DirectSamplingBaseWorkChain
from aiida_mlip_autopipe.workflows.exploration.explorer import ExplorerWorkChain
from aiida_mlip_autopipe.workflows.labelling.engine import LabellingEngineWorkChain
from aiida_mlip_autopipe.workflows.training.engine import TrainingEngineWorkChain

SURROGATE = Path('examples/silicon/silicon.model')  # verdi run says nothing of where this file is
TEMPERATURES_K = [600.0, 1800.0]
FIXED_SET_SEED, FIXED_SET_TEMPERATURES_K, N_FIXED = 4711, [900.0, 1500.0, 2100.0], 24


class Arms:
    """Both arms for one random seed, and the set that judges them."""

    def __init__(self, driver: Path, random_seed: int, n_rounds: int, per_round: int) -> None:
        self.driver = PotentialData.from_file(driver, inspect_potential(driver), origin='file')
        self.random_seed, self.n_rounds, self.per_round = random_seed, n_rounds, per_round
        self.builder = self._build()
        self.configuration = self.builder.configuration.get_dict()
        self.worker = self.builder.worker_code
        self.options = self.configuration['options']['worker']

    def _build(self) -> Any:
        seeds = {'random_seed': self.random_seed}
        return AutoPipeWorkChain.get_builder_from_protocol(
            'mlip-worker@localhost',
            'pw@localhost',
            orm.StructureData(ase=bulk('Si', 'diamond', a=5.43)),
            'fast',
            {
                'generation': seeds,
                'exploration': {'temperatures_K': TEMPERATURES_K, 'n_to_select': self.per_round, **seeds},
                'training': seeds,
                'loop': {'max_rounds': self.n_rounds},
            },
            PotentialData.from_file(SURROGATE, inspect_potential(SURROGATE), origin='file'),
        )

    def fixed_set(self) -> FramesData:
        """Return the labelled set that judges, the same for all seeds."""
        values = {**self.configuration, 'generation': {**self.configuration['generation'], 'random_seed': 0}}
        exploration = {**values['exploration'], 'temperatures_K': FIXED_SET_TEMPERATURES_K}
        exploration |= {'random_seed': FIXED_SET_SEED, 'keep_frames': 'keep'}
        values |= {'exploration': exploration, 'evaluation': {**values['evaluation'], 'n_test': N_FIXED}}
        values['evaluation']['hot_factor'] = None
        values['generation']['random_seed'] = FIXED_SET_SEED
        parameters = round_parameters(configuration=orm.Dict(values), round_number=orm.Int(0))
        structures = generate_structures(structure=self.builder.structure, parameters=parameters['generation'])
        explored = run(
            ExplorerWorkChain,
            worker_code=self.worker,
            potential=self.driver,
            seeds=structures['test_seeds'],
            dynamics=parameters['dynamics'],
            sampling=parameters['sampling'],
            options=self.options,
        )
        return self.label(explored.outputs.candidates)

    def label(self, candidates: FramesData) -> FramesData:
        """Return labelled candidates."""
        labelled = run(
            LabellingEngineWorkChain,
            candidates=candidates,
            parameters=orm.Dict(self.configuration['labelling']),
            labelling=dict(self.builder.labelling),
            options=self.configuration['options']['labelling'],
        )
        return labelled.outputs.labelled

    def error(self, potential: PotentialData, fixed: FramesData) -> float:
        """Return the force error on the fixed set, in meV/Å."""
        job = {
            'code': self.worker,
            'parameters': orm.Dict(self.configuration['evaluation']),
            'potential': potential,
            'frames': fixed,
            'metadata': {'options': dict(self.options)},
        }
        return run(EvaluationWorkChain, job=job).outputs.metrics['force_rmse_meV_A']

    def chosen(self, fixed: FramesData) -> tuple[list[tuple[int, float]], dict[str, orm.WorkChainNode]]:
        """Run the pipeline; return labels and error of each round, and its stages."""
        node = run(self.builder)
        stages = {call.link: orm.load_node(call.pk) for call in call_tree(node.pk) if call.parent == node.pk}
        trainings = [stages[f'train_r{number}'] for number in range(1, self.n_rounds + 1)]
        return [self._point(training, fixed) for training in trainings], stages

    def at_random(self, stages: dict[str, orm.WorkChainNode], fixed: FramesData) -> list[tuple[int, float]]:
        """Draw as many frames of each round's dynamics at random; return labels and error of each round."""
        labelled = {'round_0': stages['label_initial'].outputs.labelled}
        points = []
        for number in range(1, self.n_rounds + 1):
            exploration = stages[f'explore_r{number}']
            (sampling,) = (
                orm.load_node(call.pk)
                for call in call_tree(exploration.pk)
                if call.process_type.endswith('calculations:mlip_autopipe.direct_sampling')
            )
            parameters = sampling.inputs.parameters.get_dict()
            parameters |= {'selection': 'random', 'n_to_select': stages[f'label_r{number}'].inputs.candidates.n_frames}
            parameters |= {'min_expected_error_eV_A': 0.0, 'min_novelty': 0.0}
            job = {
                'code': self.worker,
                'parameters': orm.Dict(parameters),
                'shards': dict(sampling.inputs.shards),
                'metadata': {'options': dict(self.options)},
            }
            drawn = run(DirectSamplingBaseWorkChain, job=job).outputs.candidates
            labelled[f'round_{number}'] = self.label(drawn)
            training = run(
                TrainingEngineWorkChain,
                worker_code=self.worker,
                parameters=stages[f'train_r{number}'].inputs.parameters,
                labelled=dict(labelled),
                options=self.options,
            )
            points.append(self._point(training, fixed))
        return points

    def _point(self, training: orm.WorkChainNode, fixed: FramesData) -> tuple[int, float]:
        n_labels = sum(not is_isolated_atom(atoms) for atoms in training.outputs.dataset.get_atoms())
        members = [training.outputs.potential, *dict(training.outputs.committee).values()]
        return n_labels, float(np.sqrt(np.mean([self.error(member, fixed) ** 2 for member in members])))


def run(process: Any, **inputs: Any) -> orm.WorkChainNode:
    """Submit to the daemon and wait; what fails ends the comparison."""
    node = engine.submit(process, **inputs)
    while not node.is_terminated:
        time.sleep(2)
    if not node.is_finished_ok:
        raise SystemExit(f'{node.process_label}<{node.pk}> failed: {node.exit_message}')
    return node


def share_of_labels(chosen: list[tuple[int, float]], random: list[tuple[int, float]]) -> float | None:
    """Return the explored labels that the pipeline needs for the last error of the random arm, over the random arm's.

    Between rounds the error is interpolated in logarithms; None where the pipeline does not reach it.
    """
    n_random, target = random[-1]
    n, errors = np.array(chosen, dtype=float).T
    if errors.min() > target:
        return None
    last = int(np.argmax(errors <= target))
    if last == 0:
        return float(n[0] / n_random)
    fraction = np.log(errors[last - 1] / target) / np.log(errors[last - 1] / errors[last])
    return float((n[last - 1] + fraction * (n[last] - n[last - 1])) / n_random)


def main() -> None:
    """Run both arms for each seed and write their points."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2])
    parser.add_argument('--driver', type=Path, required=True)
    parser.add_argument('--rounds', type=int, default=3)
    parser.add_argument('--per-round', type=int, default=10)
    parser.add_argument('--output', type=Path, required=True)
    arguments = parser.parse_args()
    results = []
    for seed in arguments.seeds:
        arms = Arms(arguments.driver, seed, arguments.rounds, arguments.per_round)
        fixed = arms.fixed_set()
        chosen, stages = arms.chosen(fixed)
        random = arms.at_random(stages, fixed)
        surrogate = arms.error(arms.builder.surrogate, fixed)
        share = share_of_labels(chosen, random)
        results.append({'seed': seed, 'surrogate': surrogate, 'chosen': chosen, 'random': random, 'share': share})
        print(json.dumps(results[-1]), flush=True)
        arguments.output.write_text(json.dumps(results, indent=1) + '\n', encoding='utf-8')


if __name__ == '__main__':
    main()
