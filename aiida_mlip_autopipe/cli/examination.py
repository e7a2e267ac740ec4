"""What was found of an input before it is run."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aiida_mlip_autopipe.config import Expansion
    from aiida_mlip_autopipe.config.plan import Plan

__all__ = ['Examination']


@dataclass
class Examination:
    """What was found of an input: its plan as far as there is one, the slots of the daemon, and what is wrong.

    Attributes
    ----------
    input_file : Path
    profile : str
        Its name.
    expansion : Expansion or None
        None if the input has problems of its own.
    plan : Plan or None
    slots_needed, n_workers, slots_per_worker : int or None
        Processes alive at once; of the daemon, None where it does not run.
    problems, warnings : list of str
        What must be put right before a run can be submitted; what should be known.
    """

    input_file: Path
    profile: str
    expansion: Expansion | None = None
    plan: Plan | None = None
    slots_needed: int | None = None
    n_workers: int | None = None
    slots_per_worker: int | None = None
    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Return plain data, with None for what there is none of."""
        slots = {'needed': self.slots_needed, 'workers': self.n_workers, 'per_worker': self.slots_per_worker}
        return {
            'input': str(self.input_file),
            'profile': self.profile,
            'problems': self.problems,
            'warnings': self.warnings,
            'slots': slots,
            'keep_frames': None if self.expansion is None else self.expansion.configuration.exploration.keep_frames,
            'plan': None if self.plan is None else self.plan.as_dict(),
        }
