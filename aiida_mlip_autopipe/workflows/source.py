"""What is done with the source of a run before seeds are made of it: it is relaxed, and what is open is decided."""

from __future__ import annotations

from typing import Any

from aiida import orm
from aiida.engine import ToContext

from aiida_mlip_autopipe.calculations.functions.configure import change_configuration
from aiida_mlip_autopipe.config.relaxation import NONE
from aiida_mlip_autopipe.data.source import source_atoms
from aiida_mlip_autopipe.labelling.base import labeller_of
from aiida_mlip_autopipe.pipeline.stages import CHOOSE_STATE, RELAX
from aiida_mlip_autopipe.workflows.labelling.relaxation import RelaxationWorkChain
from aiida_mlip_autopipe.workflows.labelling.state import StateWorkChain
from aiida_mlip_autopipe.workflows.stage_inputs import SubmitsStages

__all__ = ['PreparesSource']


class PreparesSource(SubmitsStages):
    """A WorkChain that submits the stages before the seeds; its context has the ``structure`` reached so far."""

    def should_relax(self) -> bool:
        """Return whether the structure is relaxed first, with the method of the labels."""
        return self.ctx.configuration['system'].get('relax') not in (None, NONE)

    def relax(self) -> ToContext:
        """Relax the structure."""
        what = orm.Str(self.ctx.configuration['system']['relax'])
        return self.submit_stage(RELAX, RelaxationWorkChain, {**self.with_source(), 'what': what})

    def should_choose_state(self) -> bool:
        """Return whether the labels leave something open, as the magnetic order, that the lowest energy decides."""
        return bool(self.open_states())

    def open_states(self) -> dict[str, dict[str, Any]]:
        """Return the parameters of each state, by its name."""
        source = source_atoms(self.ctx.structure)[0]
        return labeller_of(self.ctx.configuration['labelling']).states(source)

    def choose_state(self) -> ToContext:
        """Label the structure in each state."""
        self.ctx.n_labels += len(self.open_states())
        return self.submit_stage(CHOOSE_STATE, StateWorkChain, self.with_source())

    def take_state(self) -> None:
        """Go on with the state of the lowest energy."""
        self.ctx.configuration = change_configuration(
            configuration=self.ctx.configuration,
            change=self.ctx.stage.outputs.change,
            metadata={'call_link_label': 'change_state'},
        )
        self.ctx.parameters = self.derive_parameters()

    def with_source(self) -> dict[str, Any]:
        """Return the inputs of a stage that labels the source."""
        return {
            'structure': self.ctx.structure,
            'parameters': self.ctx.parameters['labelling'],
            'labelling': dict(self.inputs.get('labelling', {})),
            'options': self.ctx.configuration['options']['labelling'],
        }
