"""DIRECT, and what a frame must satisfy to be selected."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from aiida_mlip_autopipe.science.parameters.base import NotNegative, PositiveFloat, StageParameters
from aiida_mlip_autopipe.science.parameters.descriptors import DescriptorParameters, SoapParameters

__all__ = ['LimitParameters', 'SamplingParameters']


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
    min_expected_error_eV_A: NotNegative = Field(
        0.0,
        description='Where a committee explored: frames on which the largest error of a force is expected to be '
        'smaller are not selected, in eV/Å. Expected is the disagreement times disagreement_factor. 0: all may be.',
    )
    disagreement_factor: PositiveFloat = Field(
        1.0,
        description='What a disagreement is multiplied by for the error to be expected. The pipeline puts in what the '
        'last committee needed on the test set.',
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
