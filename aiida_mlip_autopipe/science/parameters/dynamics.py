"""Molecular dynamics."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from aiida_mlip_autopipe.science.parameters.base import NotNegative, PositiveFloat, StageParameters
from aiida_mlip_autopipe.science.parameters.descriptors import DescriptorParameters, SoapParameters
from aiida_mlip_autopipe.science.registry import ENSEMBLES

__all__ = ['DynamicsParameters', 'EarlyStopParameters', 'GuardParameters']

Temperature = Annotated[float, Field(gt=0, le=20_000)]
# YAML has lists only, and its values are validated strictly.
Ramp = Annotated[
    tuple[Temperature, Temperature], BeforeValidator(lambda pair: tuple(pair) if isinstance(pair, list) else pair)
]


class GuardParameters(StageParameters):
    """When a replica is stopped: forces alone do not reveal a collapse, so geometry and temperature are watched."""

    max_temperature_factor: float = Field(
        4.0,
        gt=1,
        description='Stop above this multiple of the target temperature '
        '(checked with a margin for the fluctuations of few atoms).',
    )
    min_distance_factor: float = Field(
        0.6,
        gt=0,
        le=1.2,
        description='Stop when two atoms come closer than this fraction of the sum of their covalent radii.',
    )
    min_volume_ratio: float = Field(0.6, gt=0, lt=1, description='Stop below this volume over the initial volume.')
    max_volume_ratio: float = Field(1.6, gt=1, description='Stop above this volume over the initial volume.')
    energy_window_eV: PositiveFloat = Field(
        5.0,
        description='Stop when the potential energy differs from the initial one by more than this, in eV per atom.',
    )
    max_bond_stretch: float | None = Field(
        None,
        gt=1,
        le=5,
        description='Stop when a bond of the starting structure is longer than this multiple of the sum of the '
        'covalent radii (for molecules). null: bonds may break.',
    )
    check_interval: int = Field(10, ge=1, description='Steps between two checks of distances, bonds and energy.')
    n_drop: int = Field(2, ge=0, description='Frames dropped before a guard stops: they are already unphysical.')


class EarlyStopParameters(StageParameters):
    """When to stop a replica that has generated no new frames for a while.

    Each chunk of frames is asked whether one of them is new; either measure suffices, and with neither a replica runs
    to its end. What a replica has seen is its own: what its neighbours do does not change it.
    """

    min_novelty: NotNegative = Field(
        0.0,
        description='A frame is new if its descriptor is farther than this from the start of the replica and from all '
        'earlier new frames of it, as a fraction of the norm of the descriptor of the start. 0: not used.',
    )
    min_disagreement_eV_A: NotNegative = Field(
        0.0,
        description='A frame is new if the forces of the committee disagree by more than this on an atom, in eV/Å. '
        '0: not used; needs several potentials.',
    )
    chunk_frames: int = Field(10, ge=1, description='Frames of a chunk.')
    patience: int = Field(3, ge=1, description='A replica ends after this many chunks without a new frame.')
    descriptor: DescriptorParameters = Field(
        default_factory=lambda: SoapParameters(n_max=4, l_max=3),
        description='Descriptor of the frames: soap or ace.',
    )


class DynamicsParameters(StageParameters):
    """MACE molecular dynamics: each seed is run at each strain, temperature and pressure of the grid."""

    temperatures_K: list[Temperature | Ramp] = Field(
        default=[300.0],
        min_length=1,
        description='Temperature grid, in K; a pair is a linear ramp from the first to the second.',
    )
    ensemble: Annotated[str, ENSEMBLES] = Field(
        'nvt', description='What is held constant, and with it the integrator: the name of an ensemble.'
    )
    pressures_GPa: list[Annotated[float, Field(ge=-100, le=1000)]] = Field(
        default=[0.0], min_length=1, description='Pressure grid, in GPa; only for an ensemble with a barostat.'
    )
    supercell_atoms: int | None = Field(
        None,
        ge=1,
        le=1_000_000,
        description='Each seed is repeated to the most isotropic supercell of at least this size; null: not repeated.',
    )
    strains: list[Annotated[float, Field(gt=-0.3, lt=0.3)]] = Field(
        default=[0.0], min_length=1, description='Isotropic strains of the starting cell (dimensionless).'
    )
    n_steps: int = Field(1000, ge=1, description='Number of steps of each replica.')
    equilibration_steps: int = Field(
        0, ge=0, description='Equilibration steps, with a Berendsen thermostat (and barostat); no frame is written.'
    )
    timestep_fs: float = Field(2.0, gt=0, le=10, description='Time step, in fs.')
    sample_interval: int = Field(20, ge=1, description='Number of steps between two written frames.')
    friction_per_fs: PositiveFloat = Field(0.02, description='Langevin friction, in 1/fs.')
    thermostat_time_fs: PositiveFloat = Field(
        100.0, description='Time constant of the thermostat where there is a barostat, and in equilibration, in fs.'
    )
    barostat_time_fs: PositiveFloat = Field(
        500.0,
        description='Time constant of the barostat, in fs. In ase, the volume of a solid then oscillates with a '
        'period four to ten times shorter, which timestep_fs must resolve.',
    )
    engine: Literal['auto', 'ase', 'torchsim'] = Field(
        'auto',
        description='ase: replicas side by side as processes; torchsim: many replicas in one batch on a GPU. auto: '
        'torchsim if there is a GPU and the package is installed, else ase.',
    )
    dtype: Literal['float32', 'float64'] = Field('float32', description='Precision of the potential.')
    device: Literal['auto', 'cpu', 'cuda'] = Field('auto', description='auto: the GPU if there is one.')
    n_processes: int = Field(
        0,
        ge=0,
        description='Replicas side by side on CPUs, one thread each; 0: one for each core of the job.',
    )
    max_batch_atoms: int | None = Field(
        None,
        ge=1,
        description='Atoms in a batch of torchsim; null: as many as are likely to fit in the memory of the GPU. Halved '
        'if they do not.',
    )
    cuequivariance: bool = Field(
        False, description='Use cuEquivariance, if installed; switched off if the forces of the first frame differ.'
    )
    compile: bool = Field(
        False, description='Compile the potential for the GPU; switched off if the forces of the first frame differ.'
    )
    shard_megabytes: PositiveFloat = Field(
        256.0, description='Beyond this size a trajectory is continued in another file, in MB.'
    )
    checkpoint_interval_s: PositiveFloat = Field(
        60.0, description='Wall time between two checkpoints of a replica, in s: the most that a killed job loses.'
    )
    early_stop: EarlyStopParameters = Field(
        default_factory=EarlyStopParameters, description='When to stop a replica that generates no new frames.'
    )
    guards: GuardParameters = Field(default_factory=GuardParameters, description='When to stop an unphysical replica.')
    random_seed: int = Field(0, ge=0, lt=2**32, description='Seed of all random numbers of this stage.')

    @model_validator(mode='after')
    def _writes_a_frame(self) -> DynamicsParameters:
        if self.sample_interval > self.n_steps:
            raise ValueError(
                f'sample_interval ({self.sample_interval}) is larger than n_steps ({self.n_steps}): no '
                'frame would be written; lower sample_interval or raise n_steps'
            )
        return self
