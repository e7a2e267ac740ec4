"""How a frame becomes a vector: SOAP, ACE, or the features of a MACE potential."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, TypeAdapter, model_validator

from aiida_mlip_autopipe.science.parameters.base import (
    FiniteFloat,
    NotNegative,
    PositiveFloat,
    SparseParameters,
    StageParameters,
)

__all__ = [
    'AceParameters',
    'CompressionParameters',
    'DescriptorParameters',
    'MaceFeaturesParameters',
    'SoapParameters',
    'WeightingParameters',
    'descriptor_parameters',
    'named_kind',
]

Average = Literal['inner', 'outer']
AVERAGE = (
    'inner: average the expansion coefficients over the atoms, then multiply them; outer: average the products, '
    'so that atoms in different environments do not cancel.'
)


class WeightingParameters(SparseParameters):
    """How a neighbour's Gaussian is weighted by its distance r, with dscribe's names; what is not given is left out."""

    function: Literal['poly', 'pow', 'exp'] | None = Field(
        None,
        description='poly: c (1 + 2 (r/r0)³ - 3 (r/r0)²)^m up to r0, then 0; pow: c / (d + (r/r0)^m); '
        'exp: c / (d + exp(-r/r0)). null: no function, w0 alone.',
    )
    r0: PositiveFloat | None = Field(None, description='Length scale of the function, in Å.')
    c: NotNegative | None = Field(None, description='Factor of the function.')
    d: NotNegative | None = Field(None, description='Offset in the denominator of pow and exp.')
    m: NotNegative | None = Field(None, description='Exponent of poly and pow.')
    w0: NotNegative | None = Field(
        None, description='Weight of the central atom, instead of the value of the function; 0 removes it.'
    )
    threshold: PositiveFloat | None = Field(
        None,
        description='Accepted so that a mapping made for dscribe can be copied; it has no effect. dscribe derives a '
        'cutoff from it if none is given, and r_cut is always given here.',
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
        description='off: all pairs of elements, features grow with the square of their number; crossover: like pairs '
        'only; mu1nu1: each element with the sum over all, features grow linearly; mu2: all elements in one.',
    )
    species_weighting: dict[str, FiniteFloat] | None = Field(
        None, description='Weight of each element (element: number), so that mu2 can distinguish them.'
    )


class SoapParameters(StageParameters):
    """SOAP, the power spectrum of the density of the neighbours: the smallest cost, nothing to train."""

    kind: Literal['soap'] = Field('soap', description='Descriptor.')
    r_cut: float = Field(
        5.0,
        gt=1,
        le=12,
        description='Cutoff radius, in Å; the second shell or more. Above 1 Å, where the innermost radial function '
        'ends; the cost grows with its cube. Atoms contribute up to r_cut + 3.717 sigma.',
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
        'above 3 Å all environments look alike.',
    )
    rbf: Literal['gto', 'polynomial'] = Field(
        'gto', description='Radial functions: Gaussian-type orbitals, or polynomials that vanish smoothly at r_cut.'
    )
    average: Average = Field('outer', description=AVERAGE)
    weighting: WeightingParameters | None = Field(
        None, description='Distance-dependent weight of a neighbour; null: none.'
    )
    compression: CompressionParameters = Field(
        default_factory=CompressionParameters, description='Reduces the number of features for many elements.'
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
        description='Number of neighbours correlated at once: 2 corresponds to SOAP, 3 adds the shape of triples '
        'around an atom. The number of features grows steeply with it, hence the bound.',
    )
    n_max: list[Annotated[int, Field(ge=1, le=16)]] | None = Field(
        None,
        description='Number of radial functions for each order, from the first to correlation_order; '
        'null: 8, 4, 2, 1 up to correlation_order.',
    )
    l_max: list[Annotated[int, Field(ge=0, le=12)]] | None = Field(
        None,
        description='Largest degree for each order: 0 for the first, where a single neighbour has no angle, at most '
        '12, 11 and 5 for the others, where couplings are tabulated; null: 0, 4, 2, 1 up to correlation_order.',
    )
    max_degree: int | None = Field(
        None,
        ge=1,
        le=16,
        description='Keep functions whose sum of n - 1 + l over the neighbours is at most this; '
        'replaces n_max and l_max.',
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
        description='Message-passing layers to use: 0 covers atoms within the cutoff of the potential, each further '
        'layer one cutoff more; null: all.',
    )
    invariants_only: bool = Field(
        True,
        description='Only the rotationally invariant components. false adds the equivariant ones, which rotate '
        'with the frame: rotated copies then count as different.',
    )
    of_last_layer: bool = Field(
        False,
        description='Instead of node features, what the readouts multiply with their last weights: few features in '
        'which the energy is linear. With selection: i-optimal, the frames that lower the variance of the potential '
        'itself (LLPR).',
    )
    average: Literal['outer'] = Field(
        'outer', description='The features are averaged over the atoms; inner is not defined for learned features.'
    )
    batch_size: int | None = Field(
        None,
        ge=1,
        le=4096,
        description='Frames in a forward pass; null: as many as make 4096 atoms on a GPU and 256 on a CPU. Halved '
        'if the memory of the GPU does not suffice.',
    )
    model_dtype: Literal['float32', 'float64'] = Field('float32', description='Precision of the potential.')
    device: Literal['auto', 'cpu', 'cuda'] = Field('auto', description='auto: the GPU if there is one.')

    @model_validator(mode='after')
    def _layers_of_nodes(self) -> MaceFeaturesParameters:
        if self.of_last_layer and self.layers is not None:
            raise ValueError(
                f'layers {self.layers} chooses node features, but of_last_layer is true; leave one of them out'
            )
        return self


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
