"""Quantum ESPRESSO as a labelling code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiida_mlip_autopipe.labelling.answers import CodeSetup, PastLabel, SetupOption, Task
from aiida_mlip_autopipe.labelling.base import Labeller
from aiida_mlip_autopipe.labelling.espresso.functionals import input_dft
from aiida_mlip_autopipe.labelling.espresso.hubbard import FIRST_WITH_CARD, U_IGNORED, manifolds
from aiida_mlip_autopipe.labelling.espresso.parameters import EspressoParameters
from aiida_mlip_autopipe.labelling.espresso.recipe import RECIPE_FIELDS, given_parts, pseudo_problems
from aiida_mlip_autopipe.labelling.espresso.recommendation import Recommendation
from aiida_mlip_autopipe.labelling.espresso.upf import Header, header_of
from aiida_mlip_autopipe.labelling.espresso.version import version_tuple
from aiida_mlip_autopipe.science.label import Label

if TYPE_CHECKING:
    from aiida.orm import Computer, Data, Dict
    from aiida_pseudo.data.pseudo import UpfData
    from ase import Atoms

    from aiida_mlip_autopipe.config.schema import HeuristicRules
    from aiida_mlip_autopipe.data import FramesData
    from aiida_mlip_autopipe.science.references import Reference

__all__ = ['PSEUDO', 'EspressoLabeller']

PSEUDO = 'pseudo_'
"""The node ``pseudo_Si`` is the pseudopotential of silicon."""
MAGNETIZATION = 'atomic_magnetization.'
HUBBARD = 'hubbard.'


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
        *RECIPE_FIELDS,
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
    def pseudos(self) -> dict[str, UpfData]:
        """Return the pseudopotential of each element."""
        return {name.removeprefix(PSEUDO): node for name, node in self.nodes.items() if name.startswith(PSEUDO)}

    def pick(self, atoms: Atoms) -> dict[str, Data]:
        """Return the structure, the namelists and the k-points."""
        from aiida import orm

        from aiida_mlip_autopipe.labelling.espresso.inputs import dft_of, kpoints_mesh, pw_parameters
        from aiida_mlip_autopipe.labelling.espresso.magnetism import species_of
        from aiida_mlip_autopipe.labelling.espresso.structures import with_hubbard

        structure = orm.StructureData(cell=atoms.cell.array, pbc=[True, True, True])
        kinds = species_of(atoms, self.parameters)
        for symbol, kind, position in zip(atoms.symbols, kinds, atoms.positions, strict=True):
            structure.append_atom(symbols=symbol, name=kind, position=position)
        structure.label = str(atoms.info['frame_id'])
        kpoints = orm.KpointsData()
        kpoints.set_kpoints_mesh(kpoints_mesh(atoms, self.parameters.kpoints_distance))
        z_valence = {element: pseudo.z_valence for element, pseudo in self.pseudos.items()}
        namelists = pw_parameters(atoms, self.parameters, z_valence, dft_of(self.parameters, self.pseudos))
        return {
            'structure': with_hubbard(structure, self.parameters),
            'parameters': orm.Dict(namelists),
            'kpoints': kpoints,
        }

    def single(self, picked: Mapping[str, Data], parameters: Dict, key: str, options: Mapping[str, object]) -> Task:
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
        self, candidates: FramesData, indices: Sequence[int], parameters: Dict, options: Mapping[str, object]
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
        from aiida_mlip_autopipe.labelling.espresso.relaxation import relaxation_inputs

        return relaxation_inputs(self.pick(atoms), what)

    def relaxation_sampling(self, picked: Mapping[str, Any]) -> str:
        """Return the mesh."""
        mesh, _ = picked['kpoints'].get_kpoints_mesh()
        return f'{" x ".join(map(str, mesh))} k-points'

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

        trajectory, told = outputs['output_trajectory'], outputs['output_parameters'].get_dict()
        scf = told.get('convergence_info', {}).get('scf_conv', {})
        has_stress = 'stress' in trajectory.get_arraynames()
        polarised = bool(told.get('lsda'))
        sites = polarised and 'atomic_magnetic_moments' in trajectory.get_arraynames()
        return Label(
            float(told['energy']),
            np.array(trajectory.get_array('forces')[-1]),
            ase_stress(np.array(trajectory.get_array('stress')[-1])) if has_stress else np.full(6, np.nan),
            converged=scf.get('convergence_achieved', True),
            problem=U_IGNORED if self._lost_u(trajectory, told) else '',
            total_magnetization_uB=told['total_magnetization'] if polarised else None,
            absolute_magnetization_uB=told['absolute_magnetization'] if polarised else None,
            fermi_energy_eV=told.get('fermi_energy'),
            n_scf_steps=scf.get('n_scf_steps'),
            site_moments_uB=np.array(trajectory.get_array('atomic_magnetic_moments')[-1]) if sites else None,
        )

    def _lost_u(self, trajectory: Any, told: Mapping[str, Any]) -> bool:
        """Return whether a structure with U was computed by a version of pw.x that passes over its card."""
        symbols = {name.rstrip('0123456789') for name in trajectory.base.attributes.get('symbols', [])}
        version = version_tuple(str(told.get('creator_version', '')))
        with_card = self.parameters.hubbard_syntax == 'card' and bool(self.with_plus_u & symbols)
        return with_card and (0, 0) < version < FIRST_WITH_CARD

    def doubt(self, atoms: Atoms, label: Label) -> str | None:
        """Return what moment a label has lost."""
        from aiida_mlip_autopipe.labelling.espresso.magnetism import lost_moment

        return lost_moment(atoms, label, self.parameters)

    @property
    def with_plus_u(self) -> set[str]:
        """Return the elements with a Hubbard U."""
        return set(manifolds(self.parameters.hubbard))

    def level_of_theory(self) -> dict[str, object]:
        """Return the level of theory; a set that lacks an element has another one, as pseudopotentials are part."""

        checksums = {element: pseudo.md5 for element, pseudo in sorted(self.pseudos.items())}
        level = {**self._told_level(), 'pseudos': checksums}
        dft = input_dft(self.parameters.functional, self._headers())
        return level if dft is None else level | {'input_dft': dft}

    def _headers(self) -> dict[str, Header]:
        """Return what the pseudopotential of each element says of itself."""
        return {element: header_of(pseudo) for element, pseudo in self.pseudos.items()}

    def _told_level(self) -> dict[str, object]:
        """Return the fields that decide the energies, without the parts of the recipe that are off."""
        from aiida_mlip_autopipe.labelling.espresso.magnetism import magnetic_level

        always = {name: getattr(self.parameters, name) for name in self.level_fields if name not in RECIPE_FIELDS}
        return always | given_parts(self.parameters) | magnetic_level(self.parameters)

    def prepare(self, sources: Sequence[Atoms]) -> list[Atoms]:
        """Return the structures with the initial moments of the magnetic order."""
        from aiida_mlip_autopipe.labelling.espresso.magnetic_order import ordered, without_moments

        asked = self.parameters
        if not asked.spin_polarised:
            return without_moments(sources)
        return ordered(sources, asked.magnetic_order, asked.magnetic_moments)

    def states(self, source: Atoms) -> dict[str, dict[str, Any]]:
        """Return the magnetic orders that are tried."""
        from aiida_mlip_autopipe.labelling.espresso.magnetic_order import orders_to_try

        asked = self.parameters
        return orders_to_try(source, asked.magnetic_moments) if asked.magnetic_order == 'try' else {}

    def unfit(self, atoms: Atoms) -> str | None:
        """Return that a structure lacks its moments."""
        from aiida_mlip_autopipe.labelling.espresso.magnetism import unfit

        return unfit(atoms, self.parameters)

    def key(self, atoms: Atoms) -> str:
        """Return what pw.x is asked, and the pseudopotentials that it names, as a checksum."""
        from aiida_mlip_autopipe.labelling.espresso.inputs import label_key

        return label_key(atoms, self.parameters, self.pseudos)

    @classmethod
    def find_nodes(cls, parameters: EspressoParameters, elements: Sequence[str]) -> dict[str, Data]:
        """Return a pseudopotential of the family for each element."""
        from aiida_mlip_autopipe.labelling.espresso.family import family_pseudos
        from aiida_mlip_autopipe.labelling.espresso.magnetism import atom_problem

        pseudos = family_pseudos(parameters.pseudo_family, elements)
        moments = parameters.atomic_magnetization
        wrong = [atom_problem(one, moments.get(one, 0), pseudos[one].z_valence) for one in elements if one in moments]
        headers = {element: header_of(pseudo) for element, pseudo in pseudos.items()}
        if problems := [*filter(None, wrong), *pseudo_problems(parameters, parameters.functional, headers)]:
            raise ValueError('; '.join(problems))
        return {f'{PSEUDO}{element}': pseudo for element, pseudo in pseudos.items()}

    def problem(self, elements: Sequence[str]) -> str | None:
        """Return the elements that have no pseudopotential, or what those that there are cannot do."""
        missing = sorted(set(elements) - set(self.pseudos))
        if not missing:
            wrong = pseudo_problems(self.parameters, self.parameters.functional, self._headers())
            return '; '.join(wrong) or None
        return (
            f'labelling: no pseudopotential for {", ".join(missing)}; give one for each element, as pseudo_ELEMENT: '
            'all from one family (labelling.pseudo_family)'
        )

    @classmethod
    def recommended(cls, given: Mapping[str, Any]) -> Recommendation:
        """Return the cutoffs (wavefunctions, density) of each element of the family, in Ry, and the version of pw.x."""
        from aiida_mlip_autopipe.labelling.espresso.family import family_cutoffs
        from aiida_mlip_autopipe.labelling.espresso.version import version_of_code

        found = Recommendation(family_cutoffs(_family(given)))
        found.pw_version = version_of_code(str(given.get('code') or cls.default_code))
        return found

    @classmethod
    def problems(
        cls, elements: Sequence[str], given: Mapping[str, Any], recommended: Mapping[str, Any] | None
    ) -> list[str]:
        """Return the elements without a pseudopotential, and the moments of those that are not there."""
        from aiida_mlip_autopipe.config.elements import elements_not_there
        from aiida_mlip_autopipe.labelling.espresso.magnetic_order import MOMENTS
        from aiida_mlip_autopipe.labelling.espresso.suggestions import missing_pseudos, version_problems

        missing = [] if recommended is None else missing_pseudos(elements, recommended, _family(given))
        for prefix in (MAGNETIZATION, MOMENTS):
            named = [key.removeprefix(prefix) for key in given if key.startswith(prefix)]
            symbols = [name.rstrip('0123456789') if prefix == MOMENTS else name for name in named]
            missing += elements_not_there(symbols, elements, f'labelling.{prefix}')
        with_u = {key.removeprefix(HUBBARD).partition('-')[0] for key in given if key.startswith(HUBBARD)}
        return [
            *missing,
            *elements_not_there(sorted(with_u), elements, f'labelling.{HUBBARD}'),
            *(version_problems(given, recommended.pw_version) if isinstance(recommended, Recommendation) else []),
        ]

    @classmethod
    def remarks(
        cls, sources: Sequence[Atoms], given: Mapping[str, Any], recommended: Mapping[str, Any] | None
    ) -> dict[str, str]:
        """Return where the recipe is below what the family, the balanced protocol and the structures ask for."""
        from aiida_mlip_autopipe.labelling.espresso.suggestions import recipe_remarks

        return recipe_remarks(sources, given, recommended or {}, cls.protocols['balanced']['kpoints_distance'])

    def misfits(self, sources: Sequence[Atoms]) -> list[str]:
        """Return the structures that the boundary condition does not suit."""
        from aiida_mlip_autopipe.labelling.espresso.boundary import boundary_of, boundary_problem

        boundary = boundary_of(self.parameters.boundary)
        return list(filter(None, (boundary_problem(boundary, atoms) for atoms in sources)))

    @classmethod
    def coverage(cls) -> list[tuple[str, str]]:
        """Return the elements of each installed family."""
        from aiida_mlip_autopipe.labelling.espresso.coverage import families_covered

        return families_covered()

    @classmethod
    def suggest(
        cls,
        elements: Sequence[str],
        given: Mapping[str, Any],
        recommended: Mapping[str, tuple[float, float]] | None,
        rules: HeuristicRules,
    ) -> dict[str, tuple[Any, str]]:
        """Return spins, and the cutoffs of the hardest element."""
        from aiida_mlip_autopipe.labelling.espresso.suggestions import (
            suggested_cutoffs,
            suggested_spins,
            suggested_syntax,
        )

        found = suggested_spins(elements)
        if isinstance(recommended, Recommendation) and any(key.startswith(HUBBARD) for key in given):
            found |= suggested_syntax(recommended.pw_version)
        if recommended is not None:
            found |= suggested_cutoffs(elements, recommended, rules.cutoff_factor, given.get('ecutwfc_Ry'))
        return found

    @classmethod
    def suggest_for(cls, sources: Sequence[Atoms], given: Mapping[str, Any]) -> dict[str, tuple[Any, str]]:
        """Return the magnetic order of the structures, and the boundary condition that their vacuum asks for."""
        from aiida_mlip_autopipe.labelling.espresso.boundary import suggested_boundary
        from aiida_mlip_autopipe.labelling.espresso.magnetic_order import suggested_order

        return suggested_boundary(sources) | suggested_order(sources, given)

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
        from aiida_mlip_autopipe.labelling.espresso.version import ask_version

        executable = find_pw(given.get('pw'))
        read_table(given.get('pseudos') or DEBIAN_FOLDER)
        version = ask_version(executable)
        return CodeSetup('pw', executable, 'quantumespresso.pw', 'export OMP_NUM_THREADS=1', version)

    @classmethod
    def install(cls, given: Mapping[str, Path | None]) -> list[tuple[str, str, bool]]:
        """Install the family of pseudopotentials."""
        from aiida_mlip_autopipe.labelling.espresso.coverage import covered
        from aiida_mlip_autopipe.labelling.espresso.pseudos import (
            DEBIAN_FOLDER,
            cutoffs_told,
            family_label,
            install_family,
        )

        folder = given.get('pseudos') or DEBIAN_FOLDER
        family, added = install_family(folder, family_label(folder))
        told = cutoffs_told(folder)
        return [
            ('pseudopotentials', f'{family.label}: {" ".join(sorted(family.elements))}{told}', bool(added)),
            ('elements to label', covered(family.elements), False),
        ]

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

    def record(self) -> dict[str, object]:
        """Return the level of theory for the model card."""

        return {
            **self._told_level(),
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
