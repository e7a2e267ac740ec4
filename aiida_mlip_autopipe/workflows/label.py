"""The labelling stage: energy, forces and stress of each candidate from Quantum ESPRESSO."""

from __future__ import annotations

from aiida import orm
from aiida.engine import ExitCode, ProcessSpec, WorkChain
from aiida.plugins import WorkflowFactory

from aiida_mlip_autopipe.calculations.functions import collect_labels
from aiida_mlip_autopipe.data import FramesData
from aiida_mlip_autopipe.science.parameters import LabellingParameters

from .label_lane import LabelLaneWorkChain

__all__ = ['LabellingEngineWorkChain']

PwBaseWorkChain = WorkflowFactory('quantumespresso.pw.base')


class LabellingEngineWorkChain(WorkChain):
    """Label the candidates in lanes; keep aside what fails and go on with the rest."""

    @classmethod
    def define(cls, spec: ProcessSpec) -> None:  # type: ignore[override]
        """Define the ports and the outline."""
        super().define(spec)
        spec.expose_inputs(LabelLaneWorkChain, exclude=('lane', 'n_lanes'))
        spec.output('labelled', valid_type=FramesData, required=False, help='The candidates with sound labels.')
        spec.output('rejected', valid_type=orm.Dict, help='frame_id -> why its label was not taken.')
        spec.inputs.validator = _has_pseudos
        spec.outline(
            cls.run_lanes,
            cls.collect,
        )
        spec.exit_code(
            330,
            'ERROR_TOO_FEW_LABELS',
            message='{found} of {wanted} candidates were labelled, fewer than min_success_fraction asks for',
        )

    def run_lanes(self) -> None:
        """Submit the lanes."""
        labelling = LabellingParameters(**self.inputs.parameters.get_dict())
        n_lanes = min(labelling.max_concurrent, self.inputs.candidates.n_frames)
        for lane in range(n_lanes):
            node = self.submit(
                LabelLaneWorkChain,
                **{
                    **self.exposed_inputs(LabelLaneWorkChain),
                    'lane': orm.Int(lane),
                    'n_lanes': orm.Int(n_lanes),
                    'metadata': {'call_link_label': f'lane_{lane}'},
                },
            )
            self.to_context(**{f'lane_{lane}': node})
        self.report(f'{self.inputs.candidates.n_frames} candidates in {n_lanes} lane(s)')

    def collect(self) -> ExitCode | None:
        """Join the labels and report the failures."""
        results: dict[str, orm.Data] = {}
        for index, node in self.labels().items():
            if node.is_finished_ok:
                results[f'parameters_{index}'] = node.outputs.output_parameters
                results[f'trajectory_{index}'] = node.outputs.output_trajectory
            else:
                self.report(f'candidate {index}: {node.process_label}<{node.pk}> failed: {node.exit_message}')
        pseudos = {f'pseudo_{element}': pseudo for element, pseudo in self.inputs.pseudos.items()}
        collected = collect_labels(
            candidates=self.inputs.candidates,
            parameters=self.inputs.parameters,
            **results,
            **pseudos,
            metadata={'call_link_label': 'collect'},
        )
        self.out_many(collected)
        wanted = self.inputs.candidates.n_frames
        found = collected['labelled'].n_frames if 'labelled' in collected else 0
        self.report(f'{found} of {wanted} candidates labelled')
        if not found or found < LabellingParameters(**self.inputs.parameters.get_dict()).min_success_fraction * wanted:
            return self.exit_codes.ERROR_TOO_FEW_LABELS.format(found=found, wanted=wanted)
        return None

    def labels(self) -> dict[int, orm.WorkChainNode]:
        """Return the pw.x WorkChain of each candidate that had one."""
        query = orm.QueryBuilder()
        query.append(orm.WorkChainNode, filters={'id': self.node.pk}, tag='stage')
        query.append(orm.WorkChainNode, with_incoming='stage', tag='lane')
        query.append(
            orm.WorkChainNode,
            with_incoming='lane',
            edge_project='label',
            project='*',
            edge_filters={'label': {'like': r'label\_%'}},
        )
        return {int(label.removeprefix('label_')): node for node, label in query.all()}


def _has_pseudos(inputs: dict, _namespace: object) -> str | None:
    if 'candidates' not in inputs:
        return None
    missing = sorted(set(inputs['candidates'].elements) - set(inputs.get('pseudos', {})))
    if missing:
        return f'pseudos: none for {", ".join(missing)}; install a family that has one for each element'
    return None
