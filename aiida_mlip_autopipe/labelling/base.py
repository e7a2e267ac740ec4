"""How a labelling code is written.

A labelling code computes energy, forces and stress of candidates. It is one class, a `Labeller`, and the class of its
parameters. Here is all of one, for a ``CalcJob`` of another package that takes a structure and has an output ``label``
of three arrays::

    from typing import Literal

    from pydantic import Field

    from aiida_mlip_autopipe.labelling import Label, Labeller, LabellingParameters, Task

    class EmtParameters(LabellingParameters):
        \"\"\"ASE's effective medium theory.\"\"\"

        kind: Literal['emt'] = Field('emt', description='Labelling code.')
        asap_cutoff: bool = Field(False, description='Cut off as the program Asap does.')

    class EmtLabeller(Labeller):
        \"\"\"ASE's effective medium theory.\"\"\"

        kind, name, program = 'emt', "ASE's effective medium theory", 'ase'
        parameters_class = EmtParameters
        level_fields = ('asap_cutoff',)
        job_type = 'aiida.calculations:my_package.emt'
        results = ('label',)
        default_code = 'python3@localhost'

        def pick(self, atoms):
            from aiida import orm

            return {'structure': orm.StructureData(ase=atoms)}

        def single(self, picked, parameters, key, options):
            from aiida.plugins import CalculationFactory

            inputs = {
                'code': self.nodes['code'],
                'structure': picked['structure'],
                'parameters': parameters,
                'metadata': {'label': key, 'options': dict(options)},
            }
            return Task(CalculationFactory('my_package.emt'), inputs)

        def label(self, outputs):
            found = outputs['label']
            return Label(float(found.get_array('energy')), found.get_array('forces'), found.get_array('stress'))

        def sentence(self):
            return 'Labels are from the effective medium theory of ASE.'

and in its ``pyproject.toml``::

    [project.entry-points."aiida_mlip_autopipe.labellers"]
    emt = "my_package.labeller:EmtLabeller"

The input then says ``labelling: {kind: emt}``. The module of the class is imported wherever an input is read, also
without AiiDA: AiiDA, and ``aiida_mlip_autopipe.config``, are imported inside of methods.

What a code needs from the profile (a code, pseudopotentials, basis sets) are the nodes of the namespace ``labelling``
of the WorkChains. Data is made by two calcfunctions alone, which ask the labeller: one picks the inputs of a candidate
out of the set, the other gathers the labels. So provenance is whole, whatever the code is.
"""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from aiida_mlip_autopipe.labelling.answers import CodeSetup, PastLabel, SetupOption, Task
from aiida_mlip_autopipe.labelling.relaxing import Relaxing
from aiida_mlip_autopipe.science.frames.carried import carried_arrays
from aiida_mlip_autopipe.science.parameters.labelling import (
    LABELLERS,
    LabellingParameters,
    labelling_parameters,
)
from aiida_mlip_autopipe.science.systems import is_isolated_atom

if TYPE_CHECKING:
    from aiida.orm import Computer, Data, Dict, ProcessNode
    from ase import Atoms

    from aiida_mlip_autopipe.config.schema import HeuristicRules
    from aiida_mlip_autopipe.data import FramesData
    from aiida_mlip_autopipe.science.label import Label
    from aiida_mlip_autopipe.science.references import Reference

__all__ = [
    'Labeller',
    'labeller_of',
    'labeller_of_process',
]


class Labeller(Relaxing, ABC):
    """A labelling code, with its parameters and what it has of the profile.

    Parameters
    ----------
    parameters : LabellingParameters
        Of its own `parameters_class`.
    nodes : mapping, optional
        The nodes of the namespace ``labelling`` by name: those of `find_nodes`, and ``code`` where there is one. Inside
        of calcfunctions, that is in `level_of_theory`, `key`, `pick` and `label`, there is no ``code``.

    Attributes
    ----------
    kind : str
        The name of its entry point, and its ``kind`` in the input.
    name, program : str
        What it is called in a paper ('Quantum ESPRESSO'), and the program that runs ('pw.x').
    parameters_class : type
        Its parameters: every field has a default, ``kind`` is a ``Literal``. A field ``functional`` is compared with
        what the surrogate was trained on.
    level_fields : tuple of str
        The parameters that decide the energy: labels that differ in one of them must not be mixed.
    job_type : str
        The process type of the job that computes one label; of these jobs time, version and cost are told.
    batch_type : str or None
        The process type of the job that computes many; None if there is none. See `batch`.
    results : tuple of str
        The outputs of the process for one candidate that `label` reads. The job of ``job_type``, where it is not that
        process itself, has the same outputs.
    default_code : str or None
        The label of the code that is used where the input names none; None if it needs no code.
    protocols : mapping
        Protocol ('fast', 'balanced', 'stringent') -> the parameters of its own that it sets.
    unsuggested : mapping
        Parameter -> what to beware of where it is left at its default.
    """

    kind: ClassVar[str]
    name: ClassVar[str]
    program: ClassVar[str]
    parameters_class: ClassVar[type[LabellingParameters]]
    level_fields: ClassVar[tuple[str, ...]]
    job_type: ClassVar[str]
    batch_type: ClassVar[str | None] = None
    results: ClassVar[tuple[str, ...]]
    default_code: ClassVar[str | None] = None
    protocols: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    unsuggested: ClassVar[Mapping[str, str]] = {}

    def __init__(self, parameters: LabellingParameters, nodes: Mapping[str, Any] | None = None) -> None:
        self.parameters: Any = parameters
        self.nodes: dict[str, Any] = dict(nodes or {})

    # What computes a label

    @abstractmethod
    def pick(self, atoms: Atoms) -> dict[str, Data]:
        """Return the inputs that are made for one candidate, as new nodes that are not stored.

        Parameters
        ----------
        atoms : Atoms
            The candidate; ``info['config_type'] == 'IsolatedAtom'`` says that it is an atom in a box. Along axes that
            are not `aiida_mlip_autopipe.science.systems.filled_axes` there is vacuum, and no stress is wanted then.
        """

    @abstractmethod
    def single(self, picked: Mapping[str, Data], parameters: Dict, key: str, options: Mapping[str, object]) -> Task:
        """Return the process for one candidate: any that can be submitted, a job or a WorkChain with handlers.

        Parameters
        ----------
        picked : mapping
            What `pick` made.
        parameters : Dict
            The node of the parameters.
        key : str
            To be the ``metadata.label`` of the job: by it the job is found again.
        options : mapping
            ``metadata.options`` of the job.
        """

    def batch(self, candidates: FramesData, indices: Sequence[int], parameters: Dict, options: Mapping) -> Task:
        """Return the job for several candidates; only for a code with a `batch_type`.

        It has an input ``indices`` (List), and an output ``labels`` as `aiida_mlip_autopipe.labelling.labels` makes it.
        What it does not label is labelled alone.

        Parameters
        ----------
        candidates : FramesData
            The set.
        indices : sequence of int
            The places of the candidates in it.
        parameters, options
            As for `single`.
        """
        raise NotImplementedError(f'{self.kind} has no job for several candidates')

    @abstractmethod
    def label(self, outputs: Mapping[str, Data]) -> Label:
        """Return the label in the `results` of a process that ended well."""

    def prepare(self, sources: Sequence[Atoms]) -> list[Atoms]:
        """Return the source structures with what their labels must find in the atoms, such as initial moments.

        All structures of a run descend from these: moments, charges and tags stay with their atoms through supercells,
        displacements and dynamics (`aiida_mlip_autopipe.science.frames.carried`).

        Raises
        ------
        ValueError
            If a structure cannot be labelled as asked.
        """
        return list(sources)

    def states(self, source: Atoms) -> dict[str, dict[str, Any]]:
        """Return parameters that are left open, by the name of each choice: that with the lowest energy is taken.

        Empty where nothing is open. The source has been relaxed; it is labelled once with each choice.
        """
        return {}

    def unfit(self, atoms: Atoms) -> str | None:
        """Return what keeps one structure from being labelled as asked, and the way out; None if nothing does."""
        return None

    def doubt(self, atoms: Atoms, label: Label) -> str | None:
        """Return why a label of a candidate is not what was asked for, with figures; None if it is.

        Whether its numbers are sound is looked at for all labelling codes alike; this is about what one of them alone
        knows, such as the state that the electrons ended in.
        """
        return None

    def reason(self, node: ProcessNode) -> str:
        """Return why a process of `single` gave no label: the words of its last job, which knows more than a caller."""
        from aiida.orm import CalcJobNode

        jobs = [one for one in node.called if isinstance(one, CalcJobNode)]
        last = max(jobs, key=lambda one: one.pk, default=None)
        told = node if last is None or last.is_finished_ok else last
        words = told.exit_message or told.exception or f'it was {told.process_state.value}'
        status = f' [{told.exit_status}]' if told.is_finished else ''
        return f'{told.process_label}<{told.pk}>{status}: {words.strip()}'

    # What a label depends on

    def level_of_theory(self) -> dict[str, object]:
        """Return, as plain data, what decides the energies: the `level_fields`, and checksums of data from nodes."""
        return {name: getattr(self.parameters, name) for name in self.level_fields}

    def fingerprint(self) -> str:
        """Return what identifies the level of theory: two sets with different ones must not be mixed."""
        level = {'kind': self.kind, **self.level_of_theory()}
        return hashlib.sha256(json.dumps(level, sort_keys=True).encode()).hexdigest()[:16]

    def key(self, atoms: Atoms) -> str:
        """Return what identifies a label before it is computed.

        Two candidates with the same key ask for the same calculation, whichever sets they are in. It depends on the
        positions, the cell, the elements, what the atoms carry (initial moments, charges, tags), whether it is an
        isolated atom, and on all that the code is told.
        """
        told = self.parameters.model_dump(mode='json', exclude=set(LabellingParameters.model_fields))
        place = [atoms.cell.array.round(10).tolist(), atoms.positions.round(10).tolist(), atoms.numbers.tolist()]
        carried = {name: values.tolist() for name, values in carried_arrays(atoms).items()}
        of_atoms = [*place, carried] if carried else place
        text = json.dumps([self.fingerprint(), told, of_atoms, atoms.pbc.tolist(), is_isolated_atom(atoms)])
        return hashlib.sha256(text.encode()).hexdigest()[:24]

    @property
    def charge(self) -> int:
        """Return the total charge of each structure, in units of e; isolated atoms are neutral."""
        return int(getattr(self.parameters, 'charge', 0))

    @property
    def with_plus_u(self) -> set[str]:
        """Return the elements whose labels have a Hubbard U."""
        return set()

    @property
    def functional(self) -> str | None:
        """Return the exchange-correlation functional; None where there is none to speak of."""
        return getattr(self.parameters, 'functional', None)

    # What it needs of the profile

    @classmethod
    def find_nodes(cls, parameters: Any, elements: Sequence[str]) -> dict[str, Data]:
        """Return what it needs of the profile beside its code, by name: pseudopotentials, basis sets.

        Raises
        ------
        ValueError
            If something is missing; it names the key, the value and the way out.
        """
        return {}

    def problem(self, elements: Sequence[str]) -> str | None:
        """Return what keeps candidates of some elements from being labelled with these nodes, and the way out."""
        from aiida_mlip_autopipe.config.dump import flatten

        return '; '.join(self.problems(elements, flatten(self.parameters.model_dump()), None)) or None

    # What the input is told

    @classmethod
    def recommended(cls, given: Mapping[str, Any]) -> Any:
        """Return what the profile recommends, in a form of its own: cutoffs of a family, say.

        Parameters
        ----------
        given : mapping
            The section ``labelling`` as the user gave it, flat (``atomic_magnetization.Si``), and in ``code`` the
            label of its code if one was given.

        Raises
        ------
        ValueError
            If the profile lacks what the user names.
        """
        return None

    @classmethod
    def problems(cls, elements: Sequence[str], given: Mapping[str, Any], recommended: Any) -> list[str]:
        """Return what is wrong with the section ``labelling`` for a system of some elements, each with the way out.

        ``recommended`` is None where the profile was not asked.
        """
        return []

    @classmethod
    def remarks(cls, sources: Sequence[Atoms], given: Mapping[str, Any], recommended: Any) -> dict[str, str]:
        """Return what to beware of in values that the user gave, by their keys in the section ``labelling``."""
        return {}

    def misfits(self, sources: Sequence[Atoms]) -> list[str]:
        """Return what keeps the structures of the system from being labelled so, each with the way out."""
        return []

    @classmethod
    def suggest(
        cls, elements: Sequence[str], given: Mapping[str, Any], recommended: Any, rules: HeuristicRules
    ) -> dict[str, tuple[Any, str]]:
        """Return parameters that follow from the elements, each with its reason: they stand below the user's."""
        return {}

    @classmethod
    def suggest_for(cls, sources: Sequence[Atoms], given: Mapping[str, Any]) -> dict[str, tuple[Any, str]]:
        """Return parameters that follow from the structures, as `suggest` does those from the elements; above these.

        Raises
        ------
        ValueError
            If a structure cannot be labelled as asked.
        """
        return {}

    @classmethod
    def coverage(cls) -> list[tuple[str, str]]:
        """Return which elements the loaded profile can label: what has them, and in words which there are."""
        return []

    # What init sets up

    @classmethod
    def setup_options(cls) -> tuple[SetupOption, ...]:
        """Return the options of ``mlip-autopipe init``."""
        return ()

    @classmethod
    def code_setup(cls, given: Mapping[str, Path | None]) -> CodeSetup | None:
        """Return the code to make on this computer; None if there is none to make.

        Nothing is made before this has returned: it raises ``ValueError`` where something is missing.
        """
        return None

    @classmethod
    def install(cls, given: Mapping[str, Path | None]) -> list[tuple[str, str, bool]]:
        """Install what it needs into the loaded profile.

        Returns
        -------
        list of (str, str, bool)
            Part, what there is of it now, and whether that is new.
        """
        return []

    # What is told of it

    @abstractmethod
    def sentence(self) -> str:
        """Return what the methods section of a paper says of the labels."""

    def references(self) -> tuple[Reference, ...]:
        """Return the publications that the sentence cites."""
        return ()

    def rows(self) -> list[tuple[str, str]]:
        """Return the level of theory as the rows of a table: what, and its value."""
        return [(name.replace('_', ' '), str(value)) for name, value in self.level_of_theory().items()]

    def record(self) -> dict[str, object]:
        """Return the level of theory for the model card, as plain data with units in the names."""
        return self.level_of_theory()

    @classmethod
    def version(cls, outputs: Mapping[str, Data]) -> str | None:
        """Return the version of the program, as a job of `job_type` has told it in its outputs; None if it has not."""
        return None

    # What it costs

    def effort(self, atoms: Atoms) -> float:
        """Return what the time of a label grows with, beside the atoms: k-points, say."""
        return 1.0

    def past_labels(self, computer: Computer) -> list[PastLabel]:
        """Return the newest labels of a like level of theory that were computed on a computer; `plan` goes by them."""
        return []


def labeller_of(
    parameters: LabellingParameters | Mapping[str, Any], nodes: Mapping[str, Any] | None = None
) -> Labeller:
    """Return the labelling code of some parameters, with its nodes.

    Raises
    ------
    ValueError
        If no code of that kind is registered, or a value is out of its bounds.
    """
    if not isinstance(parameters, LabellingParameters):
        parameters = labelling_parameters(**parameters)
    return LABELLERS[parameters.kind](parameters, nodes)


def labeller_of_process(node: ProcessNode) -> Labeller:
    """Return the labelling code of a run, or of one of its labelling stages, with the nodes that it was given."""
    inputs = node.inputs
    values = inputs.configuration['labelling'] if 'configuration' in inputs else inputs.parameters.get_dict()
    return labeller_of(values, dict(inputs.labelling.items()) if 'labelling' in inputs else {})
