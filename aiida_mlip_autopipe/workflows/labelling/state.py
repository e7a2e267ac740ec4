"""The state of the labels, where the input leaves it open: that in which the relaxed source has the lowest energy."""

from __future__ import annotations

from aiida import orm
from aiida.engine import ExitCode, ProcessSpec, WorkChain

from aiida_mlip_autopipe.calculations.functions.choose_state import (
    LABELLED,
    PARAMETERS,
    REJECTED,
    SOURCE,
    ask_states,
    choose_state,
)
from aiida_mlip_autopipe.data import FramesData
from aiida_mlip_autopipe.labelling.states import tell_states
from aiida_mlip_autopipe.pipeline.exit_codes import NO_STATE, add_exit_codes
from aiida_mlip_autopipe.workflows.labelling.engine import LabellingEngineWorkChain
from aiida_mlip_autopipe.workflows.labelling.sequence import define_labelling_stage

__all__ = ['StateWorkChain']


class StateWorkChain(WorkChain):
    """Label one structure in each state that the parameters leave open, as magnetic orders, and take the lowest."""

    @classmethod
    def define(cls, spec: ProcessSpec) -> None:  # type: ignore[override]
        """Define the ports and the outline."""
        super().define(spec)
        define_labelling_stage(spec)
        spec.input('structure', valid_type=(orm.StructureData, FramesData), help='One structure.')
        spec.output('report', valid_type=orm.Dict, help='Energies in eV per atom, reasons of missing ones, the choice.')
        spec.output('change', valid_type=orm.Dict, required=False, help='What becomes of the configuration.')
        spec.outline(cls.label_states, cls.choose)
        add_exit_codes(spec, NO_STATE)

    def label_states(self) -> None:
        """Submit the label of each state."""
        asked = ask_states(
            structure=self.inputs.structure,
            parameters=self.inputs.parameters,
            metadata={'call_link_label': 'ask_states'},
        )
        self.ctx.parameters = {name: node for name, node in asked.items() if name.startswith(PARAMETERS)}
        for link, parameters in self.ctx.parameters.items():
            name = link.removeprefix(PARAMETERS)
            node = self.submit(
                LabellingEngineWorkChain,
                candidates=asked[f'{SOURCE}_{name}'],
                parameters=parameters,
                labelling=dict(self.inputs.get('labelling', {})),
                options=self.inputs.options,
                metadata={'call_link_label': name},
            )
            self.to_context(**{name: node})

    def choose(self) -> ExitCode | None:
        """Compare the energies."""
        found = {}
        for link in self.ctx.parameters:
            name = link.removeprefix(PARAMETERS)
            outputs = self.ctx[name].outputs
            if 'labelled' in outputs:
                found[LABELLED + name] = outputs.labelled
            elif 'rejected' in outputs:
                found[REJECTED + name] = outputs.rejected
        chosen = choose_state(
            parameters=self.inputs.parameters,
            **self.ctx.parameters,
            **found,
            metadata={'call_link_label': 'choose_state'},
        )
        self.out_many(chosen)
        report = chosen['report'].get_dict()
        if 'change' not in chosen:
            reasons = '; '.join(f'{name}: {reason}' for name, reason in report['rejected'].items())
            return self.exit_codes.ERROR_NO_STATE.format(reasons=reasons or 'no label')
        self.report(tell_states(report))
        return None
