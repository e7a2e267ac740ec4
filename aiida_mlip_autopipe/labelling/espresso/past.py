"""Labels that pw.x has computed on a computer, and what they took."""

from __future__ import annotations

from math import prod

from aiida import orm
from ase.units import Rydberg

from aiida_mlip_autopipe.labelling.answers import PastLabel
from aiida_mlip_autopipe.labelling.espresso.labeller import EspressoLabeller
from aiida_mlip_autopipe.labelling.espresso.parameters import EspressoParameters

__all__ = ['past_labels']

MOST_LABELS = 500
TOLERANCE = 1e-3


def past_labels(computer: orm.Computer, asked: EspressoParameters) -> list[PastLabel]:
    """Return the newest labels that were computed on a computer at the cutoffs of a level of theory."""
    query = orm.QueryBuilder(limit=MOST_LABELS)
    query.append(orm.Computer, filters={'id': computer.pk}, tag='computer')
    query.append(
        orm.CalcJobNode,
        with_computer='computer',
        filters={
            'process_type': EspressoLabeller.job_type,
            'attributes.exit_status': 0,
            'extras': {'!has_key': '_aiida_cached_from'},
        },
        project='attributes.resources',
        tag='job',
    )
    near = [
        {f'attributes.{name}': {'and': [{'>': value * (1 - TOLERANCE)}, {'<': value * (1 + TOLERANCE)}]}}
        for name, value in (('wfc_cutoff', asked.ecutwfc_Ry * Rydberg), ('rho_cutoff', asked.ecutrho_Ry * Rydberg))
    ]
    query.append(
        orm.Dict,
        with_incoming='job',
        edge_filters={'label': 'output_parameters'},
        filters={'and': near},
        project=['attributes.wall_time_seconds', 'attributes.number_of_atoms'],
    )
    query.append(orm.StructureData, with_outgoing='job', project='attributes.kinds')
    single = {'attributes.CONTROL.calculation': 'scf'}  # a relaxation takes many times as long
    query.append(orm.Dict, with_outgoing='job', edge_filters={'label': 'parameters'}, filters=single)
    query.append(orm.KpointsData, with_outgoing='job', project='attributes.mesh')
    query.order_by({'job': {'ctime': 'desc'}})
    return [
        PastLabel(
            frozenset(symbol for kind in kinds for symbol in kind['symbols']),
            n_atoms,
            prod(mesh),
            wall_s,
            resources or {},
        )
        for resources, wall_s, n_atoms, kinds, mesh in query.all()
        if wall_s and mesh
    ]
