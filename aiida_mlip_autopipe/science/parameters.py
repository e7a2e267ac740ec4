"""The parameters of every stage: each default, unit, bound and its reason, written once.

The schema of ``input.yaml`` composes these models, the AiiDA ports validate their ``Dict`` with them, the worker reads
them back from JSON, and the tables of the documentation are generated from them.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

__all__ = [
    'DescriptorParameters',
    'DynamicsParameters',
    'EvaluationParameters',
    'ExplorationParameters',
    'GenerationParameters',
    'GuardParameters',
    'LabellingParameters',
    'LoopParameters',
    'SamplingParameters',
    'StageParameters',
    'TrainingParameters',
]

PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]
FiniteFloat = Annotated[float, Field(allow_inf_nan=False)]


class StageParameters(BaseModel):
    """Base of all parameter models: unknown keys are errors, values are not changed after validation."""

    model_config = ConfigDict(extra='forbid', frozen=True, validate_default=True)


class GenerationParameters(StageParameters):
    """Seed structures made from one source structure: supercell, strain, rattle; isolated atoms for the E0s."""

    target_atoms: int = Field(
        8,
        ge=1,
        le=10_000,
        description='Wanted number of atoms of a seed: the supercell is the '
        'most isotropic one with at least as many atoms.',
    )
    n_strained: int = Field(3, ge=0, le=10_000, description='Seeds with a random symmetric strain of the cell.')
    max_strain: float = Field(0.04, ge=0, lt=0.5, description='Largest strain component (dimensionless).')
    n_rattled: int = Field(4, ge=0, le=10_000, description='Seeds with randomly displaced atoms (and a small strain).')
    rattle_stdev_A: float = Field(0.08, ge=0, le=1, description='Standard deviation of the displacements, in Å.')
    n_test_seeds: int = Field(
        2,
        ge=1,
        le=1000,
        description='Further rattled seeds, kept apart: the test set is '
        'explored from these and no training frame descends from them.',
    )
    min_distance_factor: float = Field(
        0.7,
        gt=0,
        le=1.2,
        description='Shortest distance allowed in a generated '
        'structure, as a fraction of the sum of the covalent radii.',
    )
    isolated_atom_box_A: float = Field(9.0, ge=5, le=40, description='Edge of the cubic box of an isolated atom, in Å.')
    random_seed: int = Field(0, ge=0, lt=2**32, description='Seed of all random numbers of this stage.')


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
        5.0, description='Stop when the potential energy leaves the initial one by more than this, in eV per atom.'
    )
    check_interval: int = Field(10, ge=1, description='Steps between two checks of distances, volume and energy.')
    n_drop: int = Field(2, ge=0, description='Frames dropped before a tripped guard: they are already on the way.')


class DynamicsParameters(StageParameters):
    """MACE molecular dynamics: each seed is run at each temperature (and pressure) of the grid."""

    temperatures_K: list[Annotated[float, Field(gt=0, le=20_000)]] = Field(
        default=[300.0], min_length=1, description='Temperature grid, in K.'
    )
    ensemble: Literal['nvt', 'npt'] = Field('nvt', description='nvt: Langevin; npt: isotropic Martyna-Tobias-Klein.')
    pressures_GPa: list[Annotated[float, Field(ge=-100, le=1000)]] = Field(
        default=[0.0], min_length=1, description='Pressure grid, in GPa; used by npt only.'
    )
    n_steps: int = Field(1000, ge=1, description='Steps of each replica.')
    timestep_fs: float = Field(2.0, gt=0, le=10, description='Time step, in fs.')
    sample_interval: int = Field(20, ge=1, description='A frame is written every so many steps.')
    friction_per_fs: PositiveFloat = Field(0.02, description='Langevin friction, in 1/fs.')
    thermostat_time_fs: PositiveFloat = Field(100.0, description='Time constant of the npt thermostat, in fs.')
    barostat_time_fs: PositiveFloat = Field(500.0, description='Time constant of the npt barostat, in fs.')
    dtype: Literal['float32', 'float64'] = Field('float32', description='Precision of the potential.')
    device: Literal['auto', 'cpu', 'cuda'] = Field('auto', description='auto: the GPU where there is one.')
    n_processes: int = Field(
        0,
        ge=0,
        description='Replicas side by side on CPUs, one thread each; 0: one for each core that the job was given.',
    )
    guards: GuardParameters = Field(default_factory=GuardParameters, description='When a replica is stopped.')
    random_seed: int = Field(0, ge=0, lt=2**32, description='Seed of all random numbers of this stage.')

    @model_validator(mode='after')
    def _writes_a_frame(self) -> DynamicsParameters:
        if self.sample_interval > self.n_steps:
            raise ValueError(
                f'sample_interval ({self.sample_interval}) is larger than n_steps ({self.n_steps}): no '
                'frame would be written; lower sample_interval or raise n_steps'
            )
        return self


class DescriptorParameters(StageParameters):
    """How a frame becomes a vector: SOAP, averaged over the atoms."""

    kind: Literal['soap'] = Field('soap', description='Descriptor.')
    r_cut: float = Field(5.0, gt=1, le=12, description='Cutoff radius, in Å.')
    n_max: int = Field(6, ge=1, le=16, description='Number of radial basis functions.')
    l_max: int = Field(4, ge=0, le=9, description='Largest degree of the spherical harmonics.')
    sigma: float = Field(0.5, gt=0, le=3, description='Width of the atomic Gaussians, in Å.')
    average: Literal['inner', 'outer'] = Field(
        'outer',
        description='inner: average the expansion coefficients over the atoms; outer: average the power spectra.',
    )


class SamplingParameters(StageParameters):
    """DIRECT: reduce, cluster, select. ``random`` is the baseline to compare with."""

    n_to_select: int = Field(10, ge=1, le=1_000_000, description='Frames to select for labelling.')
    selection: Literal['direct', 'random'] = Field(
        'direct', description='direct: stratified over clusters; random: the baseline.'
    )
    clustering: Literal['kmeans', 'kmedoids'] = Field('kmeans', description='Clustering method.')
    min_eigenvalue: float = Field(
        1.0,
        ge=0,
        description='Principal components with a larger eigenvalue of the correlation matrix are kept (Kaiser rule).',
    )
    descriptor: DescriptorParameters = Field(default_factory=DescriptorParameters, description='Descriptor.')
    random_seed: int = Field(0, ge=0, lt=2**32, description='Seed of all random numbers of this stage.')


class ExplorationParameters(DynamicsParameters, SamplingParameters):
    """Molecular dynamics on a grid of conditions, then DIRECT on its frames."""

    n_jobs: int = Field(1, ge=1, le=1000, description='MD jobs over which the replicas are spread.')

    def dynamics(self) -> DynamicsParameters:
        """Return the part that the MD job reads."""
        return DynamicsParameters(**{name: getattr(self, name) for name in DynamicsParameters.model_fields})

    def sampling(self) -> SamplingParameters:
        """Return the part that the sampling job reads."""
        return SamplingParameters(**{name: getattr(self, name) for name in SamplingParameters.model_fields})


class LabellingParameters(StageParameters):
    """Quantum ESPRESSO single points: energy, forces and stress of each candidate."""

    pseudo_family: str = Field('autopipe/pbe', description='Label of an installed aiida-pseudo family.')
    functional: str = Field('PBE', description='Exchange-correlation functional of the pseudopotentials.')
    ecutwfc_Ry: float = Field(40.0, gt=0, le=500, description='Cutoff of the wavefunctions, in Ry.')
    ecutrho_Ry: float = Field(160.0, gt=0, le=5000, description='Cutoff of the density, in Ry.')
    kpoints_distance: float = Field(0.3, gt=0, le=5, description='Largest distance between k-points, in 1/Å.')
    smearing: Literal['cold', 'gaussian', 'methfessel-paxton', 'fermi-dirac'] = Field(
        'cold', description='Smearing; fixed occupations may never converge on displaced atoms.'
    )
    degauss_Ry: PositiveFloat = Field(0.01, description='Width of the smearing, in Ry.')
    conv_thr_per_atom_Ry: PositiveFloat = Field(1e-8, description='Convergence of the energy, in Ry per atom.')
    spin_polarised: bool = Field(False, description='Spin-polarised bulk; isolated atoms always are.')
    atomic_magnetization: dict[str, int] = Field(
        default_factory=dict, description='Unpaired electrons of each isolated atom (element: number).'
    )
    max_concurrent: int = Field(2, ge=1, le=1000, description='Lanes: labels computed side by side.')
    min_success_fraction: float = Field(0.5, ge=0, le=1, description='The stage fails below this fraction of labels.')
    max_force_eV_A: PositiveFloat = Field(50.0, description='Labels with a larger force are kept aside, in eV/Å.')

    @model_validator(mode='after')
    def _density_cutoff(self) -> LabellingParameters:
        if self.ecutrho_Ry < 4 * self.ecutwfc_Ry * (1 - 1e-9):
            raise ValueError(
                f'ecutrho_Ry ({self.ecutrho_Ry}) is below 4 x ecutwfc_Ry ({4 * self.ecutwfc_Ry}): the '
                'density would be cut; raise ecutrho_Ry'
            )
        return self


class TrainingParameters(StageParameters):
    """What ``mace_run_train`` is asked for."""

    num_channels: int = Field(32, ge=1, le=1024, description='Channels of the node features.')
    max_L: int = Field(0, ge=0, le=3, description='Largest degree of the messages.')
    r_max: float = Field(5.0, gt=1, le=12, description='Cutoff radius, in Å.')
    correlation: int = Field(3, ge=1, le=4, description='Correlation order of a layer.')
    max_ell: int = Field(3, ge=0, le=6, description='Largest degree of the spherical harmonics.')
    num_interactions: int = Field(2, ge=1, le=4, description='Number of message-passing layers.')
    energy_weight: float = Field(1.0, ge=0, description='Weight of the energy in the loss.')
    forces_weight: float = Field(10.0, ge=0, description='Weight of the forces in the loss.')
    stress_weight: float = Field(10.0, ge=0, description='Weight of the stress in the loss.')
    batch_size: int = Field(2, ge=1, description='Frames in a batch; capped by the size of the set.')
    lr: PositiveFloat = Field(0.01, description='Learning rate.')
    lr_gamma: float = Field(0.96, gt=0, le=1, description='Factor of the learning rate per epoch.')
    max_num_epochs: int = Field(85, ge=1, description='Epochs.')
    swa_fraction: float = Field(
        0.3,
        ge=0,
        lt=1,
        description='Last fraction of the epochs, with averaged weights and a larger weight of the energy; 0: off.',
    )
    swa_energy_weight: float = Field(100.0, ge=0, description='Weight of the energy in that last part.')
    swa_lr: PositiveFloat = Field(0.0005, description='Learning rate in that last part.')
    ema_decay: float = Field(0.995, gt=0, lt=1, description='Decay of the moving average of the weights.')
    validation_fraction: float = Field(
        0.15,
        gt=0,
        lt=0.9,
        description='Fraction of the origins (seed structures and what descends from them) that validate.',
    )
    dtype: Literal['float32', 'float64'] = Field('float32', description='Precision.')
    device: Literal['auto', 'cpu', 'cuda'] = Field('auto', description='auto: the GPU where there is one.')
    random_seed: int = Field(0, ge=0, lt=2**32, description='Seed of all random numbers of this stage.')


class EvaluationParameters(StageParameters):
    """The test set, which no round trains on, and the errors at which the loop may stop."""

    n_test: int = Field(8, ge=1, description='Test frames: drawn at random from the MD of the test seeds.')
    max_energy_rmse_meV: PositiveFloat | None = Field(None, description='Tolerance, in meV per atom.')
    max_force_rmse_meV_A: PositiveFloat | None = Field(None, description='Tolerance, in meV/Å.')
    max_stress_rmse_GPa: PositiveFloat | None = Field(None, description='Tolerance, in GPa.')
    dtype: Literal['float32', 'float64'] = Field('float64', description='Precision of the potential.')
    device: Literal['auto', 'cpu', 'cuda'] = Field('auto', description='auto: the GPU where there is one.')


class LoopParameters(StageParameters):
    """When to stop: at the tolerances of the evaluation, or after this many rounds."""

    max_rounds: int = Field(2, ge=1, le=100, description='Rounds of explore, label, train, evaluate.')
