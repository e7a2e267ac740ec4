"""Seeds, isolated atoms and test seeds, from the source structure."""

from __future__ import annotations

from aiida import orm
from aiida.engine import calcfunction

from aiida_mlip_autopipe.data import FramesData
from aiida_mlip_autopipe.data.source import source_atoms
from aiida_mlip_autopipe.labelling.base import labeller_of
from aiida_mlip_autopipe.science.parameters import (
    GenerationParameters,
)

__all__ = ['generate_structures']


@calcfunction
def generate_structures(
    structure: orm.Data, parameters: orm.Dict, labelling: orm.Dict | None = None
) -> dict[str, FramesData]:
    """Generate what the pipeline starts from.

    :param structure: ``StructureData`` or ``FramesData``, the source.
    :param parameters: ``GenerationParameters``.
    :param labelling: those of the labelling code, which prepares the source for its labels.
    :returns: ``seeds`` to explore from; ``initial``, isolated atoms and seeds, to label first; ``test_seeds``, from
        which the test set is explored.
    """
    from aiida_mlip_autopipe.science.generate import StructureGenerator

    sources = source_atoms(structure)
    if labelling is not None:
        sources = labeller_of(labelling.get_dict()).prepare(sources)
    generator = StructureGenerator(GenerationParameters(**parameters.get_dict()))
    elements = sorted({symbol for atoms in sources for symbol in atoms.symbols})
    seeds = generator.generate(sources)
    return {
        'seeds': FramesData.from_atoms(seeds),
        'initial': FramesData.from_atoms([*generator.isolated_atoms(elements), *seeds]),
        'test_seeds': FramesData.from_atoms(generator.generate_test_seeds(sources)),
    }
