"""Training, its evaluation, and when the loop stops."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from aiida_mlip_autopipe.science.parameters.base import PositiveFloat, StageParameters

__all__ = ['EvaluationParameters', 'LoopParameters', 'TrainingParameters']


class TrainingParameters(StageParameters):
    """What ``mace_run_train`` is asked for. A fine-tuning takes the size of the network from its foundation."""

    method: Literal['scratch', 'naive', 'multihead'] = Field(
        'scratch',
        description='scratch: from random weights. naive: continue the training of a foundation potential. multihead: '
        "the same, while a second head is trained on the foundation's predictions for a replay set.",
    )
    num_channels: int = Field(32, ge=1, le=1024, description='Channels of the node features.')
    max_L: int = Field(0, ge=0, le=3, description='Largest degree of the messages.')
    r_max: float = Field(5.0, gt=1, le=12, description='Cutoff radius, in Å.')
    correlation: int = Field(3, ge=1, le=4, description='Correlation order of a layer.')
    max_ell: int = Field(3, ge=0, le=6, description='Largest degree of the spherical harmonics.')
    num_interactions: int = Field(2, ge=1, le=4, description='Number of message-passing layers.')
    loss: Literal['universal', 'stress'] = Field(
        'universal',
        description='universal: Huber losses, by size of the forces. stress: squared errors; not with multihead.',
    )
    energy_weight: float = Field(1.0, ge=0, description='Weight of the energy in the loss.')
    forces_weight: float = Field(10.0, ge=0, description='Weight of the forces in the loss.')
    stress_weight: float = Field(10.0, ge=0, description='Weight of the stress in the loss.')
    batch_size: int = Field(2, ge=1, description='Frames in a batch; at most the size of the set.')
    lr: PositiveFloat = Field(0.01, description='Learning rate of a training from scratch.')
    finetune_lr: PositiveFloat = Field(0.0003, description='Learning rate of a fine-tuning; the upper limit of swa_lr.')
    final_lr_factor: float = Field(
        0.12,
        gt=0,
        le=1,
        description='Learning rate at the end of the first stage, over that at its start; it falls exponentially.',
    )
    n_steps: int = Field(
        4000,
        ge=1,
        description='Steps of the optimiser, each on one batch. The number of epochs follows from that of the frames.',
    )
    patience: int | None = Field(
        None,
        ge=1,
        description='Stop a stage of the training after this many steps without a lower validation loss; none: off.',
    )
    max_continuations: int = Field(
        2,
        ge=0,
        le=20,
        description='A training goes on by a fifth of its steps while its validation errors fall, at most this often.',
    )
    free_atom: Literal['exact', 'trained', 'shifted'] = Field(
        'exact',
        description='exact: a network without a shift, whose first layer has no residual connection, gives a free atom '
        'the energy of its label. trained: with both; the isolated atoms are trained on. shifted: with both; they are '
        'not, and cohesive energies are wrong by the shift. A fine-tuning has the network of its foundation: exact is '
        'trained there.',
    )
    refit_last_layer: bool = Field(
        False,
        description='After the training, fit the weights of the last layer in closed form, where that lowers the '
        'validation errors; with free_atom: exact, whose free atoms stay as they are.',
    )
    weigh_by_represented: bool = Field(
        False,
        description='Weigh each selected frame by the number of explored frames that it represents, between 1/4 and 4 '
        'times the mean of its round. Frames that were not selected count 1.',
    )
    warm_start: bool = Field(
        False,
        description='Each round begins with the weights of the round before, and afresh where that does not lower the '
        'force error on the validation set; with the method scratch. false: each round begins with random weights.',
    )
    swa_fraction: float = Field(
        0.3,
        ge=0,
        lt=1,
        description='Last fraction of the steps, with averaged weights and a larger energy weight; 0: off.',
    )
    swa_energy_weight: float = Field(100.0, ge=0, description='Weight of the energy in that last part.')
    swa_lr: PositiveFloat = Field(0.0005, description='Learning rate in that last part.')
    ema_decay: float = Field(0.995, gt=0, lt=1, description='Decay of the moving average of the weights.')
    validation_fraction: float = Field(
        0.15,
        gt=0,
        lt=0.9,
        description='Fraction of the origins (seed structures and their descendants) in the validation set.',
    )
    committee_size: int = Field(
        1,
        ge=1,
        le=16,
        description='Number of potentials trained in parallel, from different random seeds. Their disagreement is '
        'stored with each frame that the first of them explores.',
    )
    dtype: Literal['float32', 'float64'] = Field('float32', description='Precision.')
    device: Literal['auto', 'cpu', 'cuda'] = Field('auto', description='auto: the GPU if there is one.')
    random_seed: int = Field(0, ge=0, lt=2**32, description='Seed of all random numbers of this stage.')

    @property
    def has_exact_free_atom(self) -> bool:
        """Whether the network itself gives a free atom its energy."""
        return self.free_atom == 'exact' and self.method == 'scratch'

    @property
    def trains_on_isolated_atoms(self) -> bool:
        """Whether the isolated atoms are frames of the training."""
        return self.free_atom != 'shifted' and not self.has_exact_free_atom

    @model_validator(mode='after')
    def _loss_that_mace_takes(self) -> TrainingParameters:
        if self.method == 'multihead' and self.loss != 'universal':
            raise ValueError(f"loss: {self.loss!r}, but with the method 'multihead' mace only accepts 'universal'")
        return self


class EvaluationParameters(StageParameters):
    """The test set, which no round trains on, and the errors at which the loop may stop."""

    n_test: int = Field(
        12,
        ge=1,
        description='Number of test frames: drawn at random from the MD of the test seeds, equally from each '
        'temperature, including that of the hotter test set.',
    )
    hot_factor: float | None = Field(
        1.2,
        gt=1,
        le=3,
        description='Temperature of the hotter test set, as a multiple of the highest temperature of the rounds. It '
        'tests the extrapolation beyond the training conditions. null: no hotter test set.',
    )
    max_energy_rmse_meV: PositiveFloat | None = Field(None, description='Tolerance of the energy, in meV per atom.')
    max_force_rmse_meV_A: PositiveFloat | None = Field(None, description='Tolerance of the forces, in meV/Å.')
    max_stress_rmse_GPa: PositiveFloat | None = Field(None, description='Tolerance of the stress, in GPa.')
    dtype: Literal['float32', 'float64'] = Field('float64', description='Precision of the potential.')
    device: Literal['auto', 'cpu', 'cuda'] = Field('auto', description='auto: the GPU if there is one.')


class LoopParameters(StageParameters):
    """When to stop: at the tolerances of the evaluation, where nothing new is found, or when the budget is spent."""

    min_rounds: int = Field(
        2,
        ge=1,
        le=100,
        description='Minimum number of rounds before the tolerances, or a round that finds nothing new, end the run.',
    )
    max_rounds: int = Field(2, ge=1, le=100, description='Maximum number of rounds (explore, label, train, evaluate).')
    max_labels: int | None = Field(
        None,
        ge=1,
        description='Budget of DFT calculations: seeds, test set and rounds. A round starts only if its labels fit.',
    )
    max_core_hours: PositiveFloat | None = Field(
        None,
        description='Budget of core hours (wall time times cores) of all jobs that were not taken from the cache. '
        'No round starts once it is used up.',
    )
