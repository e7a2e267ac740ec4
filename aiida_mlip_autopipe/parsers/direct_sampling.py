"""The candidates of a sampling job and why each was chosen."""

from __future__ import annotations

from typing import Any

from aiida.engine import ExitCode
from aiida.orm import Dict

from aiida_mlip_autopipe.calculations.direct_sampling import DirectSamplingCalculation
from aiida_mlip_autopipe.data import FramesData
from aiida_mlip_autopipe.data.selection import selection_array
from aiida_mlip_autopipe.science.parameters import SamplingParameters

from .worker_job import WorkerParser

__all__ = ['DirectSamplingParser']


class DirectSamplingParser(WorkerParser):
    """Attach candidates, selection table and report."""

    def parse_outputs(self, outputs: dict[str, Any]) -> ExitCode | None:
        """Attach the outputs; a selection of nothing, because nothing is new, has no candidates."""
        selection = self.read_json(DirectSamplingCalculation.SELECTION_FILE)
        self.out('selection', selection_array(selection['table'], selection['scores']))
        self.out('report', Dict(outputs))
        if outputs['n_selected'] == 0:
            parameters = SamplingParameters(**self.node.inputs.parameters.get_dict())
            return self.exit_codes.WARNING_NOTHING_NEW.format(
                min_novelty=parameters.min_novelty,
                min_expected_error=parameters.min_expected_error_eV_A,
                **{name: outputs[name] for name in ('n_frames', 'n_not_new', 'n_certain')},
            )
        with self.retrieved.base.repository.open(DirectSamplingCalculation.CANDIDATES_FILE, 'rb') as handle:
            self.out('candidates', FramesData(handle, filename=FramesData.FILENAME))
        return None
