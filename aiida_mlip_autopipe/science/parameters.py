"""The parameters of every stage: each default, unit, bound and its reason, written once.

The schema of ``input.yaml`` composes these models, the AiiDA ports validate their ``Dict`` with them, the worker reads
them back from JSON, and the tables of the documentation are generated from them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    TypeAdapter,
    model_serializer,
    model_validator,
)

__all__ = [
    'AceParameters',
    'CompressionParameters',
    'DescriptorParameters',
    'DynamicsParameters',
    'EvaluationParameters',
    'ExplorationParameters',
    'GenerationParameters',
    'GuardParameters',
    'LabellingParameters',
    'LimitParameters',
    'LoopParameters',
    'MaceFeaturesParameters',
    'SamplingParameters',
    'SoapParameters',
    'SparseParameters',
    'StageParameters',
    'TrainingParameters',
    'WeightingParameters',
    'descriptor_parameters',
    'named_kind',
]

PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
FiniteFloat = Annotated[float, Field(allow_inf_nan=False)]
Average = Literal['inner', 'outer']
AVERAGE = (
    'inner: average the expansion coefficients over the atoms, then multiply them; outer: average the products, '
    'so that atoms in different surroundings do not cancel.'
)


class StageParameters(BaseModel):
    """Base of all parameter models: unknown keys are errors, values are not changed after validation."""

    model_config = ConfigDict(extra='forbid', frozen=True, validate_default=True)


class SparseParameters(StageParameters):
    """A section of alternatives: those that are not given are left out of what is written."""

    @model_serializer(mode='wrap')
    def _given_only(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in handler(self).items() if value is not None}


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


class WeightingParameters(SparseParameters):
    """How a neighbour's Gaussian is weighted by its distance r, with dscribe's names; what is not given is left out."""

    function: Literal['poly', 'pow', 'exp'] | None = Field(
        None,
        description='poly: c (1 + 2 (r/r0)³ - 3 (r/r0)²)^m up to r0, then 0; pow: c / (d + (r/r0)^m); '
        'exp: c / (d + exp(-r/r0)). null: no function, w0 alone.',
    )
    r0: PositiveFloat | None = Field(None, description='The length that r is measured in, in Å.')
    c: NotNegative | None = Field(None, description='Factor of the function.')
    d: NotNegative | None = Field(None, description='Offset in the denominator of pow and exp.')
    m: NotNegative | None = Field(None, description='Exponent of poly and pow.')
    w0: NotNegative | None = Field(
        None, description='Weight of the centre itself in place of the function there; 0 hides it.'
    )
    threshold: PositiveFloat | None = Field(
        None,
        description='Taken so that a mapping made for dscribe can be copied. It changes nothing: dscribe derives a '
        'cutoff from it where none is given, and r_cut is always given here.',
    )

    @model_validator(mode='after')
    def _complete(self) -> WeightingParameters:
        needed: dict[str | None, set[str]] = {
            None: set(),
            'poly': {'r0', 'c', 'm'},
            'pow': {'r0', 'c', 'd', 'm'},
            'exp': {'r0', 'c', 'd'},
        }
        given = {name for name in ('r0', 'c', 'd', 'm') if getattr(self, name) is not None}
        missing, superfluous = needed[self.function] - given, given - needed[self.function]
        if missing:
            raise ValueError(f'function {self.function} needs {", ".join(sorted(missing))}; give a value for each')
        if superfluous:
            what = f'function {self.function} has no' if self.function else 'without a function there is no'
            raise ValueError(f'{what} {", ".join(sorted(superfluous))}; remove it or name another function')
        if self.function is None and self.w0 is None:
            raise ValueError('neither function nor w0 is given; give one, or null for no weighting')
        return self


class CompressionParameters(StageParameters):
    """How the pairs of elements are merged (Darby et al., npj Comput. Mater. 8, 166 (2022)), with dscribe's names."""

    mode: Literal['off', 'crossover', 'mu2', 'mu1nu1'] = Field(
        'off',
        description='off: all pairs of elements, features grow with their square; crossover: like pairs only; '
        'mu1nu1: each element with the sum over all, features grow in proportion; mu2: all elements in one.',
    )
    species_weighting: dict[str, FiniteFloat] | None = Field(
        None, description='Weight of each element (element: number), so that mu2 can tell them apart.'
    )


class SoapParameters(StageParameters):
    """SOAP, the power spectrum of the density of the neighbours: the smallest cost, nothing to train."""

    kind: Literal['soap'] = Field('soap', description='Descriptor.')
    r_cut: float = Field(
        5.0,
        gt=1,
        le=12,
        description='Cutoff radius, in Å: the second shell and beyond. Above 1 Å, where the innermost radial function '
        'ends; the cost grows with its cube. Atoms count up to r_cut + 3.717 sigma.',
    )
    n_max: int = Field(
        6,
        ge=1,
        le=16,
        description='Number of radial functions; with too many inside r_cut they become linearly dependent.',
    )
    l_max: int = Field(
        4, ge=0, le=12, description='Largest degree of the spherical harmonics; the cost grows with its square.'
    )
    sigma: float = Field(
        0.5,
        ge=0.1,
        le=3,
        description='Width of the atomic Gaussians, in Å. Below 0.1 Å the radial functions cannot resolve them, '
        'above 3 Å all surroundings look alike.',
    )
    rbf: Literal['gto', 'polynomial'] = Field(
        'gto', description='Radial functions: Gaussian-type orbitals, or polynomials that vanish smoothly at r_cut.'
    )
    average: Average = Field('outer', description=AVERAGE)
    weighting: WeightingParameters | None = Field(
        None, description='Weight of a neighbour by its distance; null: none.'
    )
    compression: CompressionParameters = Field(
        default_factory=CompressionParameters, description='Fewer features for many elements.'
    )


#: For each correlation order; beyond, there are no coupling coefficients (or no angle).
LARGEST_ACE_DEGREES = (0, 12, 11, 5)


class AceParameters(StageParameters):
    """ACE, the atomic cluster expansion: correlations of several neighbours at once, nothing to train."""

    kind: Literal['ace'] = Field('ace', description='Descriptor.')
    r_cut: float = Field(
        5.0, gt=1, le=12, description='Cutoff radius, in Å, where all functions vanish; the cost grows with its cube.'
    )
    correlation_order: int = Field(
        3,
        ge=1,
        le=4,
        description='Neighbours that are correlated at once: 2 is what SOAP sees, 3 adds the shape of triples '
        'around an atom. Features grow steeply with it, hence the bound.',
    )
    n_max: list[Annotated[int, Field(ge=1, le=16)]] | None = Field(
        None,
        description='Number of radial functions for each order, from the first to correlation_order; '
        'null: 8, 4, 2, 1 as far as the order goes.',
    )
    l_max: list[Annotated[int, Field(ge=0, le=12)]] | None = Field(
        None,
        description='Largest degree for each order: 0 for the first, where a single neighbour has no angle, at most '
        '12, 11 and 5 for the others, where couplings are tabulated; null: 0, 4, 2, 1 as far as the order goes.',
    )
    max_degree: int | None = Field(
        None,
        ge=1,
        le=16,
        description='Functions are kept whose sum of n - 1 + l over the neighbours is at most this; '
        'in place of n_max and l_max.',
    )
    average: Average = Field('outer', description=AVERAGE)

    @model_validator(mode='after')
    def _one_size(self) -> AceParameters:
        if self.max_degree is not None and (self.n_max is not None or self.l_max is not None):
            raise ValueError(
                f'max_degree ({self.max_degree}) is given together with n_max or l_max; give max_degree alone, '
                'or n_max and l_max'
            )
        for name in ('n_max', 'l_max'):
            values = getattr(self, name)
            if values is not None and len(values) != self.correlation_order:
                raise ValueError(
                    f'{name} {values} has {len(values)} values for correlation_order {self.correlation_order}; '
                    'give one for each order'
                )
        for order, (degree, largest) in enumerate(zip(self.l_max or (), LARGEST_ACE_DEGREES, strict=False), start=1):
            if degree > largest:
                raise ValueError(f'l_max {self.l_max} has {degree} for order {order}; give at most {largest} there')
        return self


class MaceFeaturesParameters(StageParameters):
    """The node features of a MACE potential, averaged over the atoms: the encoding that the potential has learned.

    The potential is the one that drives the dynamics.
    """

    kind: Literal['mace'] = Field('mace', description='Descriptor.')
    layers: list[Annotated[int, Field(ge=0, le=15)]] | None = Field(
        None,
        min_length=1,
        description='Which message-passing layers: 0 sees atoms within the cutoff of the potential, each further one '
        'as far again; null: all.',
    )
    invariants_only: bool = Field(
        True,
        description='Only the components that do not change under rotation. false adds the others, which rotate '
        'with the frame: turned copies then count as different.',
    )
    average: Literal['outer'] = Field(
        'outer', description='The features are averaged over the atoms; inner has no meaning for learned ones.'
    )
    batch_size: int | None = Field(
        None,
        ge=1,
        le=4096,
        description='Frames in a forward pass; null: as many as make 4096 atoms on a GPU and 256 on a CPU. Halved '
        'where the memory of the GPU does not suffice.',
    )
    model_dtype: Literal['float32', 'float64'] = Field('float32', description='Precision of the potential.')
    device: Literal['auto', 'cpu', 'cuda'] = Field('auto', description='auto: the GPU where there is one.')


def named_kind(value: Any) -> Any:
    """Return the bare name of a descriptor (``ace``) as a mapping (``{'kind': 'ace'}``); anything else as it is."""
    return {'kind': value} if isinstance(value, str) else value


def _with_kind(value: Any) -> Any:
    """Return what a descriptor is given as with its kind: SOAP, where none is named."""
    value = named_kind(value)
    return {'kind': 'soap', **value} if isinstance(value, Mapping) else value


#: How a frame becomes a vector. In input: a mapping whose ``kind`` says which of the three, or the bare name of one.
DescriptorParameters = Annotated[
    Annotated[SoapParameters | AceParameters | MaceFeaturesParameters, Field(discriminator='kind')],
    BeforeValidator(_with_kind),
]


def descriptor_parameters(value: Any) -> SoapParameters | AceParameters | MaceFeaturesParameters:
    """Return the parameters that a bare name or a mapping stands for.

    Raises
    ------
    pydantic.ValidationError
        If the kind is unknown or a value is out of its bounds; it is a ``ValueError``.
    """
    return TypeAdapter(DescriptorParameters).validate_python(value)


class LimitParameters(StageParameters):
    """What a frame must satisfy to be selected: whatever is odd about it would make it win.

    The others are left out, and the report counts them by the limit; null lifts a limit. Frames whose geometry is not
    finite are always left out.
    """

    min_distance_factor: float | None = Field(
        0.6,
        gt=0,
        le=1.2,
        description='Shortest distance, as a fraction of the sum of the covalent radii. The guards of the molecular '
        'dynamics look at it as well, but these limits hold whatever made the frames.',
    )
    min_volume_A3: PositiveFloat | None = Field(
        None,
        description='Smallest volume per atom, in Å³; for frames that are periodic in all directions. '
        'null: what is usual differs from one material to the next by more than a factor of ten.',
    )
    max_volume_A3: PositiveFloat | None = Field(
        None, description='Largest volume per atom, in Å³; for frames that are periodic in all directions.'
    )
    max_force_eV_A: PositiveFloat | None = Field(
        50.0,
        description='Largest force on an atom according to the potential that made the frame, in eV/Å. The default '
        "is labelling.max_force_eV_A's: a label beyond it would be kept aside after it was paid for.",
    )
    energy_window_eV: PositiveFloat | None = Field(
        5.0,
        description='Largest distance of the potential energy from that of the first frame of the trajectory, in eV '
        'per atom. As wide as that of the guards, far beyond what heat and melting take.',
    )

    @model_validator(mode='after')
    def _leaves_a_volume(self) -> LimitParameters:
        low, high = self.min_volume_A3, self.max_volume_A3
        if low is not None and high is not None and low >= high:
            raise ValueError(
                f'min_volume_A3 ({low}) is not < max_volume_A3 ({high}): no frame would be left; lower min_volume_A3 '
                'or raise max_volume_A3, or give null for no limit'
            )
        return self


Fraction = Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)]
Share = Literal['equal', 'proportional']


class SamplingParameters(StageParameters):
    """DIRECT: reduce, cluster, select. ``random`` and ``farthest`` are baselines to compare with."""

    n_to_select: int = Field(10, ge=1, le=1_000_000, description='Frames to select for labelling.')
    selection: Literal['direct', 'random', 'farthest'] = Field(
        'direct',
        description='direct: stratified over clusters; random: the baseline; farthest: each frame the farthest from '
        'those before it.',
    )
    min_eigenvalue: float = Field(
        1.0,
        ge=0,
        description='Principal components with a larger eigenvalue of the correlation matrix are kept (Kaiser rule).',
    )
    weighting: Literal['none', 'half', 'maml'] = Field(
        'none',
        description='Components times their explained-variance ratio to the power of 0, 1/2 or 1. maml is what the '
        'published code does; none trains better forces.',
    )
    clustering: Literal['kmeans', 'birch', 'kmedoids', 'sklearn_extra'] = Field(
        'kmeans',
        description='Clustering method. kmeans: any number of frames; birch: some 1e5; kmedoids, or sklearn_extra for '
        'the one of that package: some 1e4. What does not fit into max_memory_GB is refused.',
    )
    n_clusters: int | None = Field(
        None, ge=1, le=1_000_000, description='Clusters; null: as many as frames come from them.'
    )
    n_per_cluster: int = Field(1, ge=1, description='Frames from each cluster, where n_clusters is null.')
    cluster_share: Share = Field(
        'equal', description='What a cluster gives: as many frames as the others, or in proportion to its population.'
    )
    min_cluster_size: int = Field(1, ge=1, description='Clusters with fewer frames give none.')
    fill: Fraction = Field(
        0.1, description='Fraction of the frames that are the farthest from all others: clusters overlook what is rare.'
    )
    coverage_fill: Fraction = Field(
        0.0,
        description='Fraction from bins of the components in which no frame was selected: lifts the coverage score of '
        'DIRECT, not by itself the potential.',
    )
    environment_fill: Fraction = Field(
        0.0,
        description='Fraction with unusual atoms, such as a lone defect that the average of a frame hides. Above 0 all '
        'atoms are described, twice.',
    )
    group_by: Literal['none', 'trajectory', 'temperature', 'pressure', 'seed'] = Field(
        'none', description='Each group of frames gives its share.'
    )
    group_share: Share = Field('equal', description='What a group gives: as many as the others, or in proportion.')
    min_novelty: NotNegative = Field(
        1e-3,
        description='Frames at most so far from a labelled one are not selected; in the reduced space, where a feature '
        'has a variance of 1. If no frame is farther, exploration has found nothing new.',
    )
    max_memory_GB: PositiveFloat = Field(2.0, description='Largest memory that birch and kmedoids may take, in GB.')
    descriptor: DescriptorParameters = Field(
        default_factory=SoapParameters,
        description='How a frame becomes a vector: soap, ace or mace, or a section with one of these as kind.',
    )
    limits: LimitParameters = Field(
        default_factory=LimitParameters, description='What a frame must satisfy to be selected.'
    )
    random_seed: int = Field(0, ge=0, lt=2**32, description='Seed of all random numbers of this stage.')

    @model_validator(mode='after')
    def _clusters_get_something(self) -> SamplingParameters:
        fills = {name: getattr(self, name) for name in ('fill', 'coverage_fill', 'environment_fill')}
        if sum(fills.values()) >= 1:
            total = f'{" + ".join(fills)} is {sum(fills.values()):g}'
            raise ValueError(f'{total}: nothing is left for the clusters; lower one of them')
        if self.environment_fill and self.group_by != 'none':
            raise ValueError(
                f'environment_fill ({self.environment_fill:g}) looks at all frames, group_by ({self.group_by}) at one '
                'group after the other; set one of them to 0 or none'
            )
        return self


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
