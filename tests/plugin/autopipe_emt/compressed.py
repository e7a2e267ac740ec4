"""Compressed seeds: short bonds, which a potential should have seen before its dynamics meets them."""

from pydantic import Field

from aiida_mlip_autopipe.science.generate import SeedGenerator


class Compressed(SeedGenerator):
    """Copies of the supercell with all lengths reduced alike."""

    n: int = Field(0, ge=0, le=100, description='Compressed seeds.')
    largest: float = Field(0.03, gt=0, lt=0.3, description='Largest compression of a length (dimensionless).')

    def count(self):
        """Return how many there are."""
        return self.n

    def make(self, base, rng, min_distance_factor):
        """Return copies at equal steps of compression."""
        seeds = []
        for step in range(1, self.n + 1):
            atoms = base.copy()
            atoms.set_cell((1 - self.largest * step / self.n) * atoms.cell.array, scale_atoms=True)
            seeds.append(atoms)
        return seeds

    def sentence(self):
        """Return what a paper says of them."""
        return f'{self.n} are compressed, by up to {100 * self.largest:g} % of each length.'
