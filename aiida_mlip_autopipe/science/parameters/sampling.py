"""How frames are selected, and what a frame must satisfy to be."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from aiida_mlip_autopipe.science.parameters.base import NotNegative, PositiveFloat, StageParameters
from aiida_mlip_autopipe.science.parameters.descriptors import DescriptorParameters, SoapParameters
from aiida_mlip_autopipe.science.registry import SELECTION_RULES

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
        'dynamics check it as well, but this limit applies to frames of any source.',
    )
    min_volume_A3: PositiveFloat | None = Field(
        None,
        description='Smallest volume per atom, in Å³; for frames without vacuum. '
        'null: no limit, since typical values of materials differ by more than a factor of ten.',
    )
    max_volume_A3: PositiveFloat | None = Field(
        None, description='Largest volume per atom, in Å³; for frames without vacuum.'
    )
    max_force_eV_A: PositiveFloat | None = Field(
        50.0,
        description='Largest force on an atom predicted by the potential of the exploration, in eV/Å. The default '
        'is that of labelling.max_force_eV_A: a label beyond it would be rejected after it was computed.',
    )
    energy_window_eV: PositiveFloat | None = Field(
        5.0,
        description='Largest difference of the potential energy from that of the first frame of the trajectory, in eV '
        'per atom. As large as that of the guards, far above the effect of heating and melting.',
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
DEFAULT_RULE = 'i-optimal'


class SamplingParameters(StageParameters):
    """How frames are described, reduced and selected; the keys of clusters and fills are those of DIRECT alone."""

    n_to_select: int = Field(10, ge=1, le=1_000_000, description='Frames to select for labelling.')
    selection: Annotated[str, SELECTION_RULES] = Field(DEFAULT_RULE, description='The rule of selection, by name.')
    random_fraction: Fraction = Field(
        0.0,
        description='Fraction of the budget drawn at random first: where the frames are. The rule selects the rest. '
        'With i-optimal 0.5, if not given.',
    )
    min_eigenvalue: float = Field(
        1.0,
        ge=0,
        description='Principal components with a larger eigenvalue of the correlation matrix are kept (Kaiser rule). '
        'With i-optimal 0.01, if not given.',
    )
    weighting: Literal['none', 'half', 'maml'] = Field(
        'none',
        description='Components are multiplied by their explained-variance ratio to the power of 0, 1/2 or 1. maml is '
        'the published method; none gives better forces.',
    )
    clustering: Literal['kmeans', 'birch', 'kmedoids', 'sklearn_extra'] = Field(
        'kmeans',
        description='Clustering method. kmeans: any number of frames; birch: some 1e5; kmedoids, or sklearn_extra for '
        'that of scikit-learn-extra: some 1e4. Refused if max_memory_GB would be exceeded.',
    )
    n_clusters: int | None = Field(
        None, ge=1, le=1_000_000, description='Number of clusters; null: the number of frames to take from them.'
    )
    n_per_cluster: int = Field(1, ge=1, description='Frames per cluster, if n_clusters is null.')
    cluster_share: Share = Field('equal', description='Share of a cluster: equal, or proportional to its population.')
    min_cluster_size: int = Field(1, ge=1, description='Smaller clusters are not used.')
    fill: Fraction = Field(
        0.1,
        description='Fraction of the budget for the frames farthest from all others (clusters overlook them).',
    )
    coverage_fill: Fraction = Field(
        0.0,
        description='Fraction of the budget for frames from bins of the components without a selected frame: increases '
        'the coverage score of DIRECT, but does not by itself improve the potential.',
    )
    environment_fill: Fraction = Field(
        0.0,
        description='Fraction of the budget for frames with unusual atoms, such as a single defect that the average '
        'over a frame hides. Above 0 all atoms are described, in two passes.',
    )
    group_by: Literal['none', 'trajectory', 'temperature', 'pressure', 'seed'] = Field(
        'none', description='Each group of frames contributes its share.'
    )
    group_share: Share = Field('equal', description='Share of a group: equal, or proportional to its size.')
    min_novelty: NotNegative = Field(
        1e-3,
        description='Frames at most this far from a labelled one are not selected; in the reduced space, where '
        'a feature has a variance of 1. If no frame is farther, the exploration has found nothing new.',
    )
    min_expected_error_eV_A: NotNegative = Field(
        0.0,
        description='With a committee: frames with a smaller expected largest force error are not selected, in eV/Å. '
        'The expected error is the disagreement times disagreement_factor. 0: not used.',
    )
    disagreement_factor: PositiveFloat = Field(
        1.0,
        description='Factor that converts the disagreement into an expected error. The pipeline sets it to the '
        'calibration factor of the last committee on the test set.',
    )
    max_memory_GB: PositiveFloat = Field(2.0, description='Memory limit of birch and kmedoids, in GB.')
    descriptor: DescriptorParameters = Field(
        default_factory=SoapParameters,
        description='Descriptor of the frames: soap, ace or mace, or a section with one of these as kind.',
    )
    limits: LimitParameters = Field(
        default_factory=LimitParameters, description='Conditions that a frame must satisfy to be selected.'
    )
    random_seed: int = Field(0, ge=0, lt=2**32, description='Seed of all random numbers of this stage.')

    @model_validator(mode='before')
    @classmethod
    def _as_suits_the_rule(cls, data: Any) -> Any:
        """Put in the defaults of the rule, where nothing is given."""
        rule = data.get('selection', DEFAULT_RULE) if isinstance(data, Mapping) else None
        if isinstance(rule, str) and rule in SELECTION_RULES:
            return {**SELECTION_RULES[rule].defaults, **data}
        return data

    @model_validator(mode='after')
    def _settings_of_the_rule(self) -> SamplingParameters:
        """Refuse what only another rule would read."""
        asked = {name for name, field in type(self).model_fields.items() if getattr(self, name) != field.default}
        for name, rule in SELECTION_RULES.items():
            if unread := sorted(asked & rule.settings - SELECTION_RULES[self.selection].settings):
                raise ValueError(
                    f'{", ".join(unread)}: {name} alone looks at it, but selection is {self.selection}; add selection: '
                    f'{name}, or leave it out'
                )
        return self

    @model_validator(mode='after')
    def _clusters_get_something(self) -> SamplingParameters:
        fills = {name: getattr(self, name) for name in ('fill', 'coverage_fill', 'environment_fill')}
        if sum(fills.values()) >= 1:
            total = f'{" + ".join(fills)} is {sum(fills.values()):g}'
            raise ValueError(f'{total}: no frames are left for the clusters; lower one of them')
        if self.environment_fill and self.group_by != 'none':
            raise ValueError(
                f'environment_fill ({self.environment_fill:g}) uses all frames at once, group_by ({self.group_by}) one '
                'group after the other; set one of them to 0 or none'
            )
        if self.group_by != 'none' and self.uses_environments:
            raise ValueError(
                f'selection {self.selection} uses all frames at once, group_by ({self.group_by}) one group after the '
                'other; take another rule, or group_by: none'
            )
        return self

    @property
    def uses_environments(self) -> bool:
        """Whether all atoms are described, not only the frames."""
        return self.environment_fill > 0 or SELECTION_RULES[self.selection].needs_environments
