"""One total charge a data set: what frames tell of theirs, and which are refused."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms

from aiida_mlip_autopipe.labelling.labels import labelled_atoms
from aiida_mlip_autopipe.science.charge import charge_problem, told_charge
from aiida_mlip_autopipe.science.existing_data import existing_data
from aiida_mlip_autopipe.science.label import Label


def frame(**info: object) -> Atoms:
    """Return a labelled atom of silicon with some ``info``."""
    atoms = Atoms('Si', cell=[3.0] * 3, pbc=True, info={'REF_energy': -1.0, 'REF_stress': np.zeros(6), **info})
    atoms.arrays['REF_forces'] = np.zeros((1, 3))
    return atoms


@pytest.mark.parametrize('name', ['total_charge', 'REF_charge', 'charge'])
def test_existing_data_keep_the_charge_that_they_tell(name):
    """Under one name, whichever they have."""
    (kept,) = existing_data([frame(**{name: -1})])
    assert kept.info['total_charge'] == -1 == told_charge(kept)
    assert 'total_charge' not in existing_data([frame()])[0].info


def test_frames_of_another_charge_are_refused():
    """With both charges; those that tell none are not judged."""
    told = charge_problem([frame(), frame(charge=-1), frame(charge=0)], 0)
    assert told is not None and 'total charge of -1, but labelling.charge is +0' in told
    assert charge_problem([frame(), frame(charge=2)], 2) is None


def test_a_label_tells_the_charge_of_its_run():
    """That of the run; an isolated atom is neutral, and a neutral run tells nothing."""
    label = Label(-1.0, np.zeros((1, 3)), np.zeros(6))
    assert labelled_atoms(frame(), label, 'level', 1).info['total_charge'] == 1
    assert 'total_charge' not in labelled_atoms(frame(config_type='IsolatedAtom'), label, 'level', 1).info
    assert 'total_charge' not in labelled_atoms(frame(), label, 'level').info
