"""A MACE potential as one node, with what must be known before it is used."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from aiida.common.exceptions import ValidationError
from aiida.orm import SinglefileData

__all__ = ['PotentialData']


class PotentialData(SinglefileData):
    """A MACE ``.model`` file.

    A model is a pickle: loading one runs code. So its checksum is an attribute, beside the elements it knows, its
    cutoff ``r_max`` (Å), precision, licence and origin, and nothing here ever loads it.

    A trained potential knows its data, too: ``training_sha256``, ``validation_sha256``, ``n_training``,
    ``n_validation``, ``label_fingerprint``; how it was trained: ``method``, ``n_epochs``, ``best_epoch``,
    ``stopped_early``, ``continued_from_epoch`` and, if it was fine-tuned, ``foundation_sha256`` and ``replay_sha256``;
    ``warm_start``, if it was to begin with the weights of an earlier one; and its ``validation_errors``.
    """

    FILENAME = 'potential.model'
    _REQUIRED = ('sha256', 'elements', 'r_max', 'dtype')

    @classmethod
    def from_file(
        cls, path: str | Path, properties: Mapping[str, object], *, origin: str, licence: str = 'unknown'
    ) -> PotentialData:
        """Return an unstored node that holds the file.

        :param path: the ``.model`` file.
        :param properties: what ``science.potential.inspect_potential`` says of the file.
        :param origin: where it comes from: a foundation name, ``file`` or ``trained``.
        :param licence: the licence of the weights.
        """
        node = cls(Path(path).resolve(), filename=cls.FILENAME)
        node.base.attributes.set_many({**properties, 'origin': origin, 'licence': licence})
        return node

    @property
    def elements(self) -> list[str]:
        """Return the chemical symbols that the potential knows."""
        return self.base.attributes.get('elements')

    @property
    def sha256(self) -> str:
        """Return the checksum of the file."""
        return self.base.attributes.get('sha256')

    @property
    def r_max(self) -> float:
        """Return the cutoff, in Å."""
        return self.base.attributes.get('r_max')

    def _validate(self) -> None:
        super()._validate()
        missing = [name for name in self._REQUIRED if name not in self.base.attributes.all]
        if missing:
            raise ValidationError(f'{", ".join(missing)}: not set; make the node with PotentialData.from_file')
