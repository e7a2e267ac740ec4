"""The schema of ``input.yaml``: the sections, composed of the parameter models of the stages.

Everything but ``system`` has a default, so that the shortest input is two lines. ``input.yaml`` and the full
configuration have the same structure: the expansion of an expansion is itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic.fields import FieldInfo

from aiida_mlip_autopipe.science.parameters import (
    LABELLERS,
    EvaluationParameters,
    ExplorationParameters,
    GenerationParameters,
    LabellingParameters,
    LoopParameters,
    PhysicsParameters,
    SparseParameters,
    StageParameters,
    TrainingParameters,
)
from aiida_mlip_autopipe.science.parameters.labelling import DEFAULT_LABELLER, kind_of
from aiida_mlip_autopipe.science.registry import ENSEMBLES

__all__ = [
    'CodesConfiguration',
    'Configuration',
    'HeuristicRules',
    'JobOptions',
    'OptionsConfiguration',
    'Protocol',
    'SystemConfiguration',
    'kinds_at',
    'model_of',
]


class SystemConfiguration(SparseParameters):
    """What to make a potential for: a file, an AiiDA node, or a prototype with its composition."""

    structure: str | None = Field(
        None,
        description='The path of a structure file that ASE reads (POSCAR, CIF, extxyz, ...), relative to the '
        'input file; all its frames are used.',
    )
    node: int | str | None = Field(None, description='The pk or UUID of a StructureData or FramesData node.')
    prototype: str | None = Field(
        None, description='The name of a crystal structure: diamond, rocksalt, fcc, ...; together with composition.'
    )
    composition: str | None = Field(None, description='The chemical formula of the prototype, such as Si or NaCl.')
    lattice_constant_A: float | None = Field(
        None, gt=0, lt=100, description='The lattice constant a of the prototype, in Å.'
    )
    melting_point_K: float | None = Field(
        None,
        gt=0,
        le=20_000,
        description='The melting point, in K, of which the temperatures of the exploration are fractions, where it is '
        'not that of the table.',
    )

    relax: Literal['auto', 'cell', 'in-plane', 'positions', 'none'] | None = Field(
        None,
        description='What of the structure is relaxed with the method of the labels before seeds are made of it: cell '
        '(and positions), in-plane (the cell in the plane of a slab, and positions), positions, or none. auto, which '
        'is the same as no value: what fits the structure and the cutoffs.',
    )

    @model_validator(mode='after')
    def _one_source(self) -> SystemConfiguration:
        given = [name for name in ('structure', 'node', 'prototype') if getattr(self, name) is not None]
        if self.composition is not None and self.prototype is None:
            raise ValueError(
                f"composition {self.composition!r} needs a prototype; give both, as in 'prototype: "
                "diamond, composition: Si'"
            )
        if len(given) > 1:
            raise ValueError(f'{" and ".join(given)} are given; give one of them only')
        if not given:
            raise ValueError(
                "no structure is given; give 'structure: POSCAR', 'node: 1234', or 'prototype: diamond' "
                "with 'composition: Si'"
            )
        if self.prototype is not None and self.composition is None:
            raise ValueError(f"prototype {self.prototype!r} needs a composition; give one, as 'composition: Si'")
        if self.lattice_constant_A is not None and self.prototype is None:
            raise ValueError(f'lattice_constant_A {self.lattice_constant_A} belongs to a prototype; remove it')
        return self


class CodesConfiguration(StageParameters):
    """The AiiDA codes."""

    worker: str = Field('mlip-worker@localhost', description='The label of the code of mlip-autopipe-worker.')
    labelling: str | None = Field(
        None,
        description='The label of the labelling code; by default the one that mlip-autopipe init creates.',
    )


class JobOptions(SparseParameters):
    """Options of the jobs of a code, as AiiDA's ``metadata.options``; those that are not given are left out."""

    resources: dict[str, int | str] = Field(
        default={'num_machines': 1, 'num_mpiprocs_per_machine': 1},
        description='The resources, as defined by the scheduler plugin.',
    )
    withmpi: bool = Field(False, description='true to run under mpirun, else false.')
    max_wallclock_seconds: int = Field(3600, ge=1, description='The wall-clock limit of a job, in s.')
    max_memory_kb: int | None = Field(None, ge=1, description='The memory limit of a job, in kB.')
    queue_name: str | None = Field(None, description='The queue or partition.')
    account: str | None = Field(None, description='The account to charge.')
    qos: str | None = Field(None, description='The quality of service.')
    priority: str | None = Field(None, description='The priority.')
    custom_scheduler_commands: str | None = Field(
        None, description="Lines for the job script's header, such as '#SBATCH --gres=gpu:1'."
    )
    prepend_text: str | None = Field(None, description='Shell commands before the code runs.')
    append_text: str | None = Field(None, description='Shell commands after the code has run.')
    environment_variables: dict[str, str] | None = Field(None, description='Environment variables of the job.')
    import_sys_environment: bool | None = Field(None, description="true to load the submitting shell's environment.")


class OptionsConfiguration(StageParameters):
    """Options of the jobs, per code."""

    worker: JobOptions = Field(default_factory=JobOptions, description='Options of the worker jobs.')
    labelling: JobOptions = Field(default_factory=JobOptions, description='Options of the labelling jobs.')


def _with_kind(value: Any) -> Any:
    """Return what a labelling code is asked with its kind: the default one, where none is named."""
    return {'kind': kind_of(value), **value} if isinstance(value, Mapping) else value


if TYPE_CHECKING:
    Labelling = LabellingParameters
else:
    # The default one first: an error in a section without a kind is told of it.
    _MODELS = [LABELLERS[kind].parameters_class for kind in sorted(LABELLERS, key=lambda one: one != DEFAULT_LABELLER)]
    #: The parameters of any registered labelling code; ``kind`` says of which.
    Labelling = Annotated[
        Annotated[reduce(or_, _MODELS), Field(discriminator='kind' if len(_MODELS) > 1 else None)],
        BeforeValidator(_with_kind),
    ]


class Configuration(StageParameters):
    """The full configuration: what ``input.yaml`` expands to."""

    system: SystemConfiguration = Field(
        description="a section 'system' with the structure, such as 'prototype: diamond' and 'composition: Si'"
    )
    protocol: Literal['fast', 'balanced', 'stringent'] = Field('fast', description='A set of values for all stages.')
    surrogate: str = Field(
        'bootstrap',
        min_length=1,
        description='The potential for the first exploration: bootstrap, a '
        'path of a .model file, the name of a foundation model, or node:<pk or UUID>.',
    )
    data: str | None = Field(
        None,
        min_length=1,
        description='Labelled frames of earlier work, with the level of theory of labelling, for the training set '
        'from the start. The path of a file that ASE reads, or node:<pk or UUID>.',
    )
    replay: str | None = Field(
        None,
        min_length=1,
        description='Frames on which a multihead fine-tuning keeps the predictions of the surrogate. '
        'The path of a file that ASE reads, or node:<pk or UUID>; labels in it are ignored.',
    )
    generation: GenerationParameters = Field(default_factory=GenerationParameters, description='Seed structures.')
    exploration: ExplorationParameters = Field(default_factory=ExplorationParameters, description='MD and selection.')
    labelling: Labelling = Field(
        default_factory=LABELLERS[DEFAULT_LABELLER].parameters_class, description='The labelling code.'
    )
    training: TrainingParameters = Field(default_factory=TrainingParameters, description='MACE training.')
    evaluation: EvaluationParameters = Field(default_factory=EvaluationParameters, description='The test set.')
    physics: PhysicsParameters = Field(default_factory=PhysicsParameters, description='Physics checks.')
    loop: LoopParameters = Field(default_factory=LoopParameters, description='Stopping criteria.')
    codes: CodesConfiguration = Field(default_factory=CodesConfiguration, description='AiiDA codes.')
    options: OptionsConfiguration = Field(default_factory=OptionsConfiguration, description='Options of the jobs.')

    @model_validator(mode='before')
    @classmethod
    def _code_that_labels(cls, data: Any) -> Any:
        """Name the usual code of the labelling code, where the input names none."""
        if not isinstance(data, Mapping) or not isinstance(codes := data.get('codes', {}), Mapping):
            return data
        kind = kind_of(data.get('labelling'))
        if codes.get('labelling') is not None or kind not in LABELLERS:
            return data
        return {**data, 'codes': {**codes, 'labelling': LABELLERS[kind].default_code}}

    @model_validator(mode='after')
    def _consistent(self) -> Configuration:
        box, r_max = self.generation.isolated_atom_box_A, self.training.r_max
        if box <= r_max:
            raise ValueError(
                f'generation.isolated_atom_box_A ({box}) is not > training.r_max ({r_max}): an isolated '
                'atom would interact with its periodic images; enlarge the box or lower r_max'
            )
        pressures, ensemble = self.exploration.pressures_GPa, self.exploration.ensemble
        if any(pressures) and not ENSEMBLES[ensemble].controls_pressure:
            fit = ' or '.join(name for name, one in ENSEMBLES.items() if one.controls_pressure)
            raise ValueError(
                f'exploration.pressures_GPa {pressures} needs exploration.ensemble: {fit}; {ensemble} has a fixed '
                'cell: change the ensemble or remove the pressures'
            )
        return self

    @model_validator(mode='after')
    def _has_what_it_fine_tunes(self) -> Configuration:
        method = self.training.method
        if method != 'scratch' and self.surrogate == 'bootstrap':
            raise ValueError(
                f'training.method: {method} fine-tunes the surrogate, but surrogate is bootstrap; give a potential, or '
                'train from scratch'
            )
        if (method == 'multihead') != (self.replay is not None):
            raise ValueError(
                f'replay: {self.replay!r}, but training.method is {method}; give a replay set with multihead only'
            )
        return self

    @model_validator(mode='after')
    def _tests_everywhere(self) -> Configuration:
        hot = self.evaluation.hot_factor is not None
        n_temperatures = len(self.exploration.temperatures_K) + hot
        if self.evaluation.n_test < n_temperatures:
            raise ValueError(
                f'evaluation.n_test ({self.evaluation.n_test}) is not >= {n_temperatures}, the number of temperatures'
                f'{" with the hotter one" if hot else ""}: one of them would have no test frame; increase it, or '
                'explore at fewer temperatures'
            )
        return self


class HeuristicRules(BaseModel):
    """How far the heuristics of a protocol go."""

    model_config = ConfigDict(extra='forbid', frozen=True)

    n_temperatures: int = Field(ge=1, description='Number of temperatures in the grid.')
    melting_fractions: tuple[float, float] = Field(
        description='Ends of the temperature grid, as fractions of the melting estimate.'
    )
    cutoff_factor: float = Field(gt=0, description="Factor on the family's recommended cutoffs.")


class Protocol(BaseModel):
    """A protocol file: its rules and the values it sets, in the structure of ``Configuration``."""

    model_config = ConfigDict(extra='forbid', frozen=True)

    description: str
    heuristics: HeuristicRules
    configuration: dict[str, dict[str, Any]]


def model_of(location: Sequence[str], data: Any = None) -> type[BaseModel] | None:
    """Return the model at a place in the configuration (``['exploration', 'guards']``), or None if it is none.

    Where there is one for each kind (``['exploration', 'descriptor']``) it is that of the kind in the data, else the
    first. Where null may stand for a section, it is one only if the data has one.
    """
    model: type[BaseModel] = Configuration
    for name in location:
        data = data.get(name) if isinstance(data, Mapping) else None
        field = model.model_fields.get(name)
        annotation = _required(field.annotation, data) if field else None
        if kinds := _kinds(field):
            model = kinds.get(str(data.get('kind')) if isinstance(data, Mapping) else '', next(iter(kinds.values())))
        elif isinstance(annotation, type) and issubclass(annotation, BaseModel):
            model = annotation
        else:
            return None
    return model


def _required(annotation: Any, data: Any) -> Any:
    """Return what an annotation allows beside None, if the data is a section."""
    parts = [part for part in get_args(annotation) if part is not type(None)]
    return parts[0] if isinstance(data, Mapping) and len(parts) == 1 else annotation


def kinds_at(location: Sequence[str]) -> dict[str, type[BaseModel]]:
    """Return the models, by kind, that a place in the configuration may have; empty where there are no kinds."""
    model = model_of(location[:-1]) if location else None
    return _kinds(model.model_fields.get(location[-1])) if model else {}


def _kinds(field: FieldInfo | None) -> dict[str, type[BaseModel]]:
    if field is None or field.discriminator is None:
        return {}
    return {model.model_fields['kind'].default: model for model in get_args(field.annotation)}
