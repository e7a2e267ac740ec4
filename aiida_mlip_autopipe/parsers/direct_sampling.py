"""The candidates of a sampling job and why each was chosen."""

from __future__ import annotations

from typing import Any

import numpy as np
from aiida.engine import ExitCode
from aiida.orm import ArrayData, Dict

from aiida_mlip_autopipe.calculations.direct_sampling import DirectSamplingCalculation
from aiida_mlip_autopipe.data import FramesData
from aiida_mlip_autopipe.parsers.worker_job import WorkerParser
from aiida_mlip_autopipe.science.parameters import SamplingParameters

__all__ = ['DirectSamplingParser']


class DirectSamplingParser(WorkerParser):
    """Attach candidates, selection table, report, and what there was to choose from."""

    def parse_outputs(self, outputs: dict[str, Any]) -> ExitCode | None:
        """Attach the outputs; a selection of nothing, because nothing is new, has no candidates."""
        selection = self.read_json(DirectSamplingCalculation.SELECTION_FILE)
        self.out('selection', ArrayData({name: np.array(column) for name, column in selection.items()}))
        self.out('frames', self.read_arrays(DirectSamplingCalculation.FRAMES_FILE))
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
