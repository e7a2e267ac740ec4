"""Everything that knows MACE: potentials are loaded, inspected, run in batches, trained and exported here."""
