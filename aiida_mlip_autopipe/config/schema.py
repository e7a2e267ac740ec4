"""The schema of ``input.yaml``: the sections, composed of the parameter models of the stages.

Everything but ``system`` has a default, so that the shortest input is two lines. ``input.yaml`` and the full
configuration have the same structure: the expansion of an expansion is itself.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from aiida_mlip_autopipe.science.parameters import (
    EvaluationParameters,
    ExplorationParameters,
    GenerationParameters,
    LabellingParameters,
    LoopParameters,
    StageParameters,
    TrainingParameters,
)

__all__ = [
    'CodesConfiguration',
    'Configuration',
    'HeuristicRules',
    'JobOptions',
    'OptionsConfiguration',
    'Protocol',
    'SystemConfiguration',
    'model_of',
]


class SparseParameters(StageParameters):
    """A section of alternatives: those that are not given are left out of what is written."""

    @model_serializer(mode='wrap')
    def _given_only(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in handler(self).items() if value is not None}


class SystemConfiguration(SparseParameters):
    """What to make a potential for: a file, an AiiDA node, or a prototype with its composition."""

    structure: str | None = Field(
        None,
        description='The path of a structure file that ASE reads (POSCAR, CIF, extxyz, ...), relative to the '
        'input file; all its frames are sources.',
    )
    node: int | str | None = Field(None, description='The pk or UUID of a StructureData or FramesData node.')
    prototype: str | None = Field(
        None, description='The name of a crystal structure: diamond, rocksalt, fcc, ...; together with composition.'
    )
    composition: str | None = Field(None, description='The chemical formula of the prototype, such as Si or NaCl.')
    lattice_constant_A: float | None = Field(
        None, gt=0, lt=100, description='The lattice constant a of the prototype, in Å.'
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
    pw: str = Field('pw@localhost', description='The label of the code of pw.x.')


class JobOptions(SparseParameters):
    """Options of the jobs of a code, as AiiDA's ``metadata.options``; those that are not given are left out."""

    resources: dict[str, int | str] = Field(
        default={'num_machines': 1, 'num_mpiprocs_per_machine': 1},
        description='The resources, in the words of the scheduler plugin.',
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
    prepend_text: str | None = Field(None, description='Shell lines before the code runs.')
    append_text: str | None = Field(None, description='Shell lines after the code ran.')
    environment_variables: dict[str, str] | None = Field(None, description='Environment variables of the job.')
    import_sys_environment: bool | None = Field(None, description="true to load the submitting shell's environment.")


class OptionsConfiguration(StageParameters):
    """Options of the jobs, per code."""

    worker: JobOptions = Field(default_factory=JobOptions, description='Options of the worker jobs.')
    pw: JobOptions = Field(default_factory=JobOptions, description='Options of the pw.x jobs.')


class Configuration(StageParameters):
    """The full configuration: what ``input.yaml`` expands to."""

    system: SystemConfiguration = Field(
        description="a section 'system' with the structure, such as 'prototype: diamond' and 'composition: Si'"
    )
    protocol: Literal['fast', 'balanced', 'stringent'] = Field('fast', description='A set of values for all stages.')
    surrogate: str = Field(
        'bootstrap',
        min_length=1,
        description='The potential that explores first: bootstrap, a '
        'path of a .model file, the name of a foundation model, or node:<pk or UUID>.',
    )
    generation: GenerationParameters = Field(default_factory=GenerationParameters, description='Seed structures.')
    exploration: ExplorationParameters = Field(default_factory=ExplorationParameters, description='MD and DIRECT.')
    labelling: LabellingParameters = Field(default_factory=LabellingParameters, description='Quantum ESPRESSO.')
    training: TrainingParameters = Field(default_factory=TrainingParameters, description='MACE training.')
    evaluation: EvaluationParameters = Field(default_factory=EvaluationParameters, description='The test set.')
    loop: LoopParameters = Field(default_factory=LoopParameters, description='When to stop.')
    codes: CodesConfiguration = Field(default_factory=CodesConfiguration, description='AiiDA codes.')
    options: OptionsConfiguration = Field(default_factory=OptionsConfiguration, description='Options of the jobs.')

    @model_validator(mode='after')
    def _consistent(self) -> Configuration:
        box, r_max = self.generation.isolated_atom_box_A, self.training.r_max
        if box <= r_max:
            raise ValueError(
                f'generation.isolated_atom_box_A ({box}) is not > training.r_max ({r_max}): an isolated '
                'atom would see its images; raise the box or lower r_max'
            )
        pressures = self.exploration.pressures_GPa
        if self.exploration.ensemble == 'nvt' and any(pressures):
            raise ValueError(
                f'exploration.pressures_GPa {pressures} needs exploration.ensemble: npt; nvt keeps the '
                'cell: change the ensemble or remove the pressures'
            )
        return self


class HeuristicRules(BaseModel):
    """How far the heuristics of a protocol go."""

    model_config = ConfigDict(extra='forbid', frozen=True)

    n_temperatures: int = Field(ge=1, description='Temperatures of the grid.')
    melting_fractions: tuple[float, float] = Field(description='Ends of the grid over the melting estimate.')
    cutoff_factor: float = Field(gt=0, description="Factor on the family's recommended cutoffs.")


class Protocol(BaseModel):
    """A protocol file: its rules and the values it sets, in the structure of ``Configuration``."""

    model_config = ConfigDict(extra='forbid', frozen=True)

    description: str
    heuristics: HeuristicRules
    configuration: dict[str, dict[str, Any]]


def model_of(location: Iterable[str]) -> type[BaseModel] | None:
    """Return the model at a place in the configuration (``['exploration', 'guards']``), or None if it is none."""
    model: type[BaseModel] = Configuration
    for name in location:
        field = model.model_fields.get(name)
        annotation = field.annotation if field else None
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            return None
        model = annotation
    return model
