"""The labels of a batch, and why a candidate of it has none.

Read are the few things that a label is made of, from the XML file of each pw.x. aiida-quantumespresso's reader takes
all of it and validates it against its schema: 0.2 s of the daemon's worker for each file, where this takes 1 ms. The
two give the same labels, and a test says so.
"""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from aiida.engine import ExitCode
from aiida.parsers import Parser
from ase import Atoms
from qe_tools import CONSTANTS

from aiida_mlip_autopipe.labelling.espresso.batch import PwBatchCalculation
from aiida_mlip_autopipe.labelling.espresso.hubbard import U_IGNORED, manifolds
from aiida_mlip_autopipe.labelling.espresso.inputs import label_key
from aiida_mlip_autopipe.labelling.espresso.parameters import EspressoParameters
from aiida_mlip_autopipe.labelling.espresso.results import electrons_of, occupied_top_band
from aiida_mlip_autopipe.labelling.espresso.units import ase_stress
from aiida_mlip_autopipe.labelling.labels import batch_array
from aiida_mlip_autopipe.science.label import Label
from aiida_mlip_autopipe.science.systems import fills_its_cell

__all__ = ['NoLabelError', 'PwBatchParser', 'read_label']

ERROR_BOX = re.compile(r'%{10,}\s*\n(?P<text>.*?)\n\s*%{10,}', re.DOTALL)


class NoLabelError(Exception):
    """A run of pw.x that made no label, and why."""


class PwBatchParser(Parser):
    """Attach the labels that there are."""

    def parse(self, **kwargs: object) -> ExitCode | None:
        """Read the results of each candidate; a batch that was cut short gives those that it came to."""
        folder = Path(str(kwargs['retrieved_temporary_folder']))
        indices = self.node.inputs.indices.get_list()
        frames, labels, failed = self.node.inputs.candidates.get_atoms(), {}, {}
        with_u = set(manifolds(EspressoParameters(**self.node.inputs.parameters.get_dict()).hubbard))
        for index in indices:
            try:
                labels[index] = read_label(
                    folder / PwBatchCalculation.result_file(index),
                    folder / PwBatchCalculation.output_file(index),
                    with_stress=fills_its_cell(frames[index]),
                    with_u=not with_u.isdisjoint(frames[index].symbols),
                )
            except NoLabelError as problem:
                failed[index] = str(problem)
        self.out('labels', batch_array(labels, self.keys(indices, frames), failed))
        if not failed:
            return None
        words = {'wanted': len(indices), 'found': len(labels), 'reason': next(iter(failed.values()))}
        if labels:
            return self.exit_codes.WARNING_NOT_ALL_LABELLED.format(**words)
        # The scheduler's own word, if it has one, says more: out of memory, out of time.
        return None if self.node.exit_status else self.exit_codes.ERROR_NO_LABEL.format(**words)

    def keys(self, indices: list[int], frames: list[Atoms]) -> dict[int, str]:
        """Return the key of each candidate of the batch."""
        inputs = self.node.inputs
        labelling = EspressoParameters(**inputs.parameters.get_dict())
        pseudos = dict(inputs.pseudos.items())
        return {index: label_key(frames[index], labelling, pseudos) for index in indices}


def read_label(result: Path, printed: Path, with_stress: bool = True, with_u: bool = False) -> Label:
    """Return the label in the results of one pw.x.

    :param result: the XML file.
    :param printed: what pw.x printed; it tells why there is no label.
    :param with_stress: whether the stress was asked for; else it is NaN.
    :param with_u: whether pw.x was told of a Hubbard U.
    :raises NoLabelError: if there is none, or none to believe: among these one whose highest band holds electrons.
    """
    try:
        output = ElementTree.parse(result).find('output')
    except (FileNotFoundError, ElementTree.ParseError):
        raise NoLabelError(_why(printed)) from None
    if output is None or _text(output, 'convergence_info/scf_conv/convergence_achieved') != 'true':
        raise NoLabelError(f'the SCF cycle did not converge, or was stopped ({_why(printed)})')
    if with_u and output.find('dft/dftU') is None:
        raise NoLabelError(U_IGNORED)
    if reason := occupied_top_band(output):
        raise NoLabelError(reason)
    try:
        label = Label(
            float(_text(output, 'total_energy/etot')) * CONSTANTS.hartree_to_ev,
            _numbers(output, 'forces') * CONSTANTS.hartree_to_ev / CONSTANTS.bohr_to_ang,
            ase_stress(_numbers(output, 'stress') * CONSTANTS.au_gpa) if with_stress else np.full(6, np.nan),
            **electrons_of(output, printed),
        )
    except ValueError:
        raise NoLabelError(f'energy, forces or stress are missing ({_why(printed)})') from None
    if not label.is_usable(with_stress):
        raise NoLabelError('energy, forces or stress are not finite')
    return label


def _text(element: ElementTree.Element, path: str) -> str:
    return (element.findtext(path) or '').strip()


def _numbers(output: ElementTree.Element, path: str) -> np.ndarray:
    """Return rows of three numbers."""
    values = np.array([float(word) for word in _text(output, path).split()])
    if not values.size:
        raise ValueError(f'{path} is empty')
    return values.reshape(-1, 3)


def _why(printed: Path) -> str:
    """Return the error that pw.x printed, or how far it came."""
    if not printed.is_file():
        return 'pw.x was not started: the job ended first'
    text = printed.read_text(errors='replace')
    if match := ERROR_BOX.search(text):
        return ' '.join(match['text'].split())
    if 'convergence NOT achieved' in text:
        return next(' '.join(line.split()) for line in text.splitlines() if 'convergence NOT achieved' in line)
    return 'pw.x ended without an error and without results: it was killed'
