"""Quantum ESPRESSO as a labelling code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiida_mlip_autopipe.labelling.answers import CodeSetup, PastLabel, SetupOption, Task
from aiida_mlip_autopipe.labelling.base import Labeller
from aiida_mlip_autopipe.labelling.espresso.parameters import EspressoParameters
from aiida_mlip_autopipe.science.label import Label

if TYPE_CHECKING:
    from aiida.orm import Computer, Data, Dict
    from ase import Atoms

    from aiida_mlip_autopipe.config.schema import HeuristicRules
    from aiida_mlip_autopipe.data import FramesData
    from aiida_mlip_autopipe.science.references import Reference

__all__ = ['PSEUDO', 'EspressoLabeller']

PSEUDO = 'pseudo_'
"""The node ``pseudo_Si`` is the pseudopotential of silicon."""
MAGNETIZATION = 'atomic_magnetization.'


class EspressoLabeller(Labeller):
    """Quantum ESPRESSO: a single point of pw.x, with the handlers of aiida-quantumespresso; or many in one job."""

    kind = 'espresso'
    name = 'Quantum ESPRESSO'
    program = 'pw.x'
    parameters_class = EspressoParameters
    level_fields = (
        'functional',
        'ecutwfc_Ry',
        'ecutrho_Ry',
        'kpoints_distance',
        'smearing',
        'degauss_Ry',
        'spin_polarised',
    )
    job_type = 'aiida.calculations:quantumespresso.pw'
    batch_type = 'aiida.calculations:mlip_autopipe.pw_batch'
    results = ('output_parameters', 'output_trajectory')
    relaxation_results = ('output_structure',)
    default_code = 'pw@localhost'
    protocols = {
        'fast': {'kpoints_distance': 0.45},
        'balanced': {'kpoints_distance': 0.2, 'conv_thr_per_atom_Ry': 1e-9},
        'stringent': {'kpoints_distance': 0.12, 'conv_thr_per_atom_Ry': 1e-10},
    }
    unsuggested = dict.fromkeys(('ecutwfc_Ry', 'ecutrho_Ry'), 'the family has no recommendation; check its convergence')

    @property
    def pseudos(self) -> dict[str, Any]:
        """Return the pseudopotential of each element."""
        return {name.removeprefix(PSEUDO): node for name, node in self.nodes.items() if name.startswith(PSEUDO)}

    def pick(self, atoms: Atoms) -> dict[str, Data]:
        """Return the structure, the namelists and the k-points."""
        from aiida import orm

        from aiida_mlip_autopipe.labelling.espresso.inputs import kpoints_mesh, pw_parameters

        structure = orm.StructureData(cell=atoms.cell.array, pbc=[True, True, True])
        for symbol, position in zip(atoms.symbols, atoms.positions, strict=True):
            structure.append_atom(symbols=symbol, position=position)
        structure.label = str(atoms.info['frame_id'])
        kpoints = orm.KpointsData()
        kpoints.set_kpoints_mesh(kpoints_mesh(atoms, self.parameters.kpoints_distance))
        z_valence = {element: pseudo.z_valence for element, pseudo in self.pseudos.items()}
        namelists = pw_parameters(atoms, self.parameters, z_valence)
        return {'structure': structure, 'parameters': orm.Dict(namelists), 'kpoints': kpoints}

    def single(self, picked: Mapping[str, Data], parameters: Dict, key: str, options: Mapping[str, Any]) -> Task:
        """Return aiida-quantumespresso's WorkChain with handlers."""
        from aiida import orm
        from aiida.plugins import WorkflowFactory

        structure: Any = picked['structure']
        pseudos = self.pseudos
        inputs = {
            'pw': {
                'code': self.nodes['code'],
                'structure': structure,
                'parameters': picked['parameters'],
                'pseudos': {kind.name: pseudos[kind.symbol] for kind in structure.kinds},
                'metadata': {'label': key, 'options': dict(options)},
            },
            'kpoints': picked['kpoints'],
            'clean_workdir': orm.Bool(True),
        }
        return Task(WorkflowFactory('quantumespresso.pw.base'), inputs)

    def batch(
        self, candidates: FramesData, indices: Sequence[int], parameters: Dict, options: Mapping[str, Any]
    ) -> Task:
        """Return the job that runs pw.x for one candidate after the other."""
        from aiida import orm

        from aiida_mlip_autopipe.labelling.espresso.batch import PwBatchCalculation

        inputs = {
            'code': self.nodes['code'],
            'candidates': candidates,
            'indices': orm.List(list(indices)),
            'parameters': parameters,
            'pseudos': self.pseudos,
            'metadata': {'options': dict(options)},
        }
        return Task(PwBatchCalculation, inputs)

    @classmethod
    def relaxation_problem(cls, what: str, atoms: Atoms, given: Mapping[str, Any], recommended: Any) -> str | None:
        """Return why a cell cannot be relaxed: its cutoffs are too low, or its plane is not that of x and y."""
        from aiida_mlip_autopipe.labelling.espresso.relaxation import relaxation_problem

        return relaxation_problem(what, atoms, given, recommended)

    def pick_relaxation(self, atoms: Atoms, what: str) -> dict[str, Data]:
        """Return the structure, the namelists and the k-points."""
        from aiida import orm

        from aiida_mlip_autopipe.labelling.espresso.relaxation import relaxation_namelists

        picked: dict[str, Any] = self.pick(atoms)
        namelists = relaxation_namelists(picked['parameters'].get_dict(), what)
        return {**picked, 'parameters': orm.Dict(namelists)}

    def relaxation(self, picked: Mapping[str, Data], what: str, parameters: Dict, options: Mapping[str, Any]) -> Task:
        """Return aiida-quantumespresso's WorkChain, which starts again until the basis fits the cell."""
        from aiida_mlip_autopipe.labelling.espresso.relaxation import relaxation_task

        return relaxation_task(self.single(picked, parameters, 'relaxation', options).inputs)

    def relaxed(self, outputs: Mapping[str, Any]) -> Atoms:
        """Return the relaxed structure."""
        return outputs['output_structure'].get_ase()

    def label(self, outputs: Mapping[str, Any]) -> Label:
        """Return the label in ``output_parameters`` and ``output_trajectory`` of pw.x."""
        import numpy as np

        from aiida_mlip_autopipe.labelling.espresso.units import ase_stress

        told, trajectory = outputs['output_parameters'], outputs['output_trajectory']
        scf = told.get_dict().get('convergence_info', {}).get('scf_conv', {})
        return Label(
            float(told['energy']),
            np.array(trajectory.get_array('forces')[-1]),
            ase_stress(np.array(trajectory.get_array('stress')[-1])),
            converged=scf.get('convergence_achieved', True),
        )

    def level_of_theory(self) -> dict[str, Any]:
        """Return the level of theory; a set that lacks an element has another one, as pseudopotentials are part."""
        checksums = {element: pseudo.md5 for element, pseudo in sorted(self.pseudos.items())}
        return {**super().level_of_theory(), 'pseudos': checksums}

    def key(self, atoms: Atoms) -> str:
        """Return what pw.x is asked, and the pseudopotentials that it names, as a checksum."""
        from aiida_mlip_autopipe.labelling.espresso.inputs import label_key

        return label_key(atoms, self.parameters, self.pseudos)

    @classmethod
    def find_nodes(cls, parameters: EspressoParameters, elements: Sequence[str]) -> dict[str, Data]:
        """Return a pseudopotential of the family for each element."""
        from aiida_mlip_autopipe.labelling.espresso.family import family_pseudos

        pseudos = family_pseudos(parameters.pseudo_family, elements)
        return {f'{PSEUDO}{element}': pseudo for element, pseudo in pseudos.items()}

    def problem(self, elements: Sequence[str]) -> str | None:
        """Return the elements that have no pseudopotential."""
        missing = sorted(set(elements) - set(self.pseudos))
        if not missing:
            return None
        return (
            f'labelling: no pseudopotential for {", ".join(missing)}; give one for each element, as pseudo_ELEMENT: '
            'all from one family (labelling.pseudo_family)'
        )

    @classmethod
    def recommended(cls, given: Mapping[str, Any]) -> dict[str, tuple[float, float]]:
        """Return the cutoffs (wavefunctions, density) of each element of the family, in Ry."""
        from aiida_mlip_autopipe.labelling.espresso.family import family_cutoffs

        return family_cutoffs(_family(given))

    @classmethod
    def problems(
        cls, elements: Sequence[str], given: Mapping[str, Any], recommended: Mapping[str, Any] | None
    ) -> list[str]:
        """Return the elements without a pseudopotential, and the moments of those that are not there."""
        from aiida_mlip_autopipe.config.elements import elements_not_there
        from aiida_mlip_autopipe.labelling.espresso.suggestions import missing_pseudos

        moments = [key.removeprefix(MAGNETIZATION) for key in given if key.startswith(MAGNETIZATION)]
        missing = [] if recommended is None else missing_pseudos(elements, recommended, _family(given))
        return [*missing, *elements_not_there(moments, elements, f'labelling.{MAGNETIZATION}')]

    @classmethod
    def suggest(
        cls,
        elements: Sequence[str],
        given: Mapping[str, Any],
        recommended: Mapping[str, tuple[float, float]] | None,
        rules: HeuristicRules,
    ) -> dict[str, tuple[Any, str]]:
        """Return spins, and the cutoffs of the hardest element."""
        from aiida_mlip_autopipe.labelling.espresso.suggestions import suggested_cutoffs, suggested_spins

        found = suggested_spins(elements)
        if recommended is not None:
            found |= suggested_cutoffs(elements, recommended, rules.cutoff_factor, given.get('ecutwfc_Ry'))
        return found

    @classmethod
    def setup_options(cls) -> tuple[SetupOption, ...]:
        """Return where pw.x and the pseudopotentials are."""
        from aiida_mlip_autopipe.labelling.espresso.pseudos import DEBIAN_FOLDER, FAMILY_LABEL

        return (
            SetupOption('pw', 'pw.x; by default the one on PATH.'),
            SetupOption('pseudos', f'Folder of UPF files for the family {FAMILY_LABEL}.', DEBIAN_FOLDER),
        )

    @classmethod
    def code_setup(cls, given: Mapping[str, Path | None]) -> CodeSetup:
        """Return the code of pw.x; the folder of pseudopotentials is looked into, too."""
        from aiida_mlip_autopipe.labelling.espresso.pseudos import DEBIAN_FOLDER, find_pw, read_table

        executable = find_pw(given.get('pw'))
        read_table(given.get('pseudos') or DEBIAN_FOLDER)
        return CodeSetup('pw', executable, 'quantumespresso.pw', 'export OMP_NUM_THREADS=1')

    @classmethod
    def install(cls, given: Mapping[str, Path | None]) -> list[tuple[str, str, bool]]:
        """Install the family of pseudopotentials."""
        from aiida_mlip_autopipe.labelling.espresso.pseudos import DEBIAN_FOLDER, install_family

        family, added = install_family(given.get('pseudos') or DEBIAN_FOLDER)
        return [('pseudopotentials', f'{family.label}: {" ".join(sorted(family.elements))}', bool(added))]

    def sentence(self) -> str:
        """Return the level of theory in words."""
        from aiida_mlip_autopipe.labelling.espresso.words import sentence

        return sentence(self.parameters, self.pseudos)

    def references(self) -> tuple[Reference, ...]:
        """Return the publications of the program, the functional, the smearing and the pseudopotentials."""
        from aiida_mlip_autopipe.labelling.espresso.words import references

        return references(self.parameters, self.pseudos)

    def rows(self) -> list[tuple[str, str]]:
        """Return the level of theory as the rows of a table."""
        from aiida_mlip_autopipe.labelling.espresso.words import rows

        return rows(self.parameters, self.pseudos)

    def record(self) -> dict[str, Any]:
        """Return the level of theory for the model card."""
        return {
            **super().level_of_theory(),
            'pseudo_family': self.parameters.pseudo_family,
            'pseudopotentials': [
                {'element': element, 'file': pseudo.filename, 'md5': pseudo.md5}
                for element, pseudo in sorted(self.pseudos.items())
            ],
        }

    @classmethod
    def version(cls, outputs: Mapping[str, Data]) -> str | None:
        """Return the version of pw.x."""
        told = outputs.get('output_parameters')
        return None if told is None else told.base.attributes.get('creator_version', None)

    def effort(self, atoms: Atoms) -> float:
        """Return the number of k-points."""
        from aiida_mlip_autopipe.labelling.espresso.inputs import kpoints_mesh

        return prod(kpoints_mesh(atoms, self.parameters.kpoints_distance))

    def past_labels(self, computer: Computer) -> list[PastLabel]:
        """Return the newest labels at the same cutoffs."""
        from aiida_mlip_autopipe.labelling.espresso.past import past_labels

        return past_labels(computer, self.parameters)


def _family(given: Mapping[str, Any]) -> str:
    return str(given.get('pseudo_family', EspressoParameters.model_fields['pseudo_family'].default))
