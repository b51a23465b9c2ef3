"""What a training run can be told: a training's settings, its data, and the place of its files.

The fields carry the names of the command line's flags. Imports no TensorFlow.
"""

from __future__ import annotations

import dataclasses
import os
from typing import Any

from pnil_tf.data import DataSettings
from pnil_tf.errors import argument
from pnil_tf.training.settings import (
    PAPER_EPSILON,
    PAPER_MODEL,
    AttackTrainingSettings,
    DeviceSettings,
    ModelSettings,
    OptimizationSettings,
)
from pnil_tf.validation import LARGEST_COUNT, MOST_DRAWS, check_types, require, require_count

# File systems take 255 bytes, and the learning rate test's folder is named after the run.
_LONGEST_NAME = 240


@dataclasses.dataclass(frozen=True)
class RunSettings:
    """Where a run's files go, and what it leaves beside the model.

    Args:
        runs_dir: Folder of all runs.
        name: Name of this run's folder within it; `None` makes one from the settings.
        resume: Whether to go on with an existing run.
        overwrite: Whether to replace an existing run.
        checkpoint_steps: Steps between two checkpoints within an epoch; one is written after
            every epoch in any case.
        evaluation_images: Test images that the final evaluation attacks; 0 turns it off. Its
            clean accuracy is that of all test images.
        evaluation_eot_samples: Draws per gradient of the final evaluation's PGD.
        tensorboard: Whether to write TensorBoard logs.
    """

    runs_dir: str = "runs"
    name: str | None = None
    resume: bool = False
    overwrite: bool = False
    checkpoint_steps: int = 500
    evaluation_images: int = 1000
    evaluation_eot_samples: int = 10
    tensorboard: bool = False

    def __post_init__(self) -> None:
        check_types(self)
        require_count("checkpoint_steps", self.checkpoint_steps)
        require_count("evaluation_eot_samples", self.evaluation_eot_samples, MOST_DRAWS)
        require(
            0 <= self.evaluation_images <= LARGEST_COUNT,
            f"{argument('evaluation_images')} must lie between 0 and {LARGEST_COUNT}. "
            f"Received: {self.evaluation_images!r}.",
        )
        require(
            not (self.resume and self.overwrite),
            f"{argument('resume')} goes on with a run and {argument('overwrite')} replaces it, "
            "and both were given. Drop one.",
        )
        require(
            self.name is None or len(os.fsencode(self.name)) <= _LONGEST_NAME,
            f"{argument('name')}, made from the settings unless given, must have at most "
            f"{_LONGEST_NAME} "
            f"bytes. Received: {self.name!r}. Pass a shorter one.",
        )
        require(
            self.name is None
            or (self.name not in ("", ".", "..") and not set(self.name) & set("/\\\0")),
            f"{argument('name')} is one folder within {argument('runs_dir')}. Received: "
            f"{self.name!r}. Leave out separators; use {argument('runs_dir')} for the place.",
        )
        require(
            self.name is None or (not self.name.startswith(".") and self.name.isprintable()),
            f"{argument('name')} must not begin with a dot, as our own hidden files do, nor hold "
            f"characters that a terminal does not show. Received: {self.name!r}.",
        )


@dataclasses.dataclass(frozen=True)
class TrainSettings:
    """Everything a training run is told.

    Raises:
        UserError: If no radius is known for the data set, unless a run of some name is gone on
            with, or a value is not valid.
    """

    data: DataSettings
    model: ModelSettings = dataclasses.field(default_factory=ModelSettings)
    attack: AttackTrainingSettings = dataclasses.field(default_factory=AttackTrainingSettings)
    optimization: OptimizationSettings = dataclasses.field(default_factory=OptimizationSettings)
    device: DeviceSettings = dataclasses.field(default_factory=DeviceSettings)
    run: RunSettings = dataclasses.field(default_factory=RunSettings)

    def __post_init__(self) -> None:
        check_types(self)
        require(
            not (self.model.pnil_penalty and self.attack.norm == "l2"),
            f"{argument('pnil_penalty')} is about robustness in l_inf: in l_2 the least of the "
            "noise alone decides what can be proved. Received: "
            f"{argument('pnil_penalty', self.model.pnil_penalty)} with {argument('norm', 'l2')}. "
            f"Leave it out; {argument('pnil_trainable', False)} keeps the noise at one size.",
        )
        dataset = self.data.dataset
        if not (self.run.resume and self.run.name):  # that run's radius is not known yet
            self.require_radius()
        if self.attack.epsilon is None and self.attack.norm == "linf":
            self._fill("attack", epsilon=PAPER_EPSILON.get(dataset))
        if self.model.model is None:
            self._fill("model", model=PAPER_MODEL.get(dataset, "small_cnn"))
        if self.run.name is None:
            self._fill("run", name=self._default_name())

    def require_radius(self) -> None:
        """Refuses settings without a radius, which the run that they go on with may have.

        Raises:
            UserError: If none was given and none is preset.
        """
        if self.attack.epsilon is not None:
            return
        dataset = self.data.dataset
        require(
            self.attack.norm == "linf",
            f"The preset radii are of the l_inf norm, so {argument('norm', 'l2')} needs a "
            f"radius of its own. Pass {argument('epsilon')}.",
        )
        require(
            dataset in PAPER_EPSILON,
            f"Radii are preset for {', '.join(PAPER_EPSILON)}. Received: "
            f"{argument('dataset', dataset)} without {argument('epsilon')}. If the name is "
            f"right, pass one, a share of the pixel range, for example "
            f"{argument('epsilon', '8/255')}.",
        )

    def _fill(self, group: str, **values: Any) -> None:
        object.__setattr__(self, group, dataclasses.replace(getattr(self, group), **values))

    def _default_name(self) -> str:
        dataset = "".join(c if c.isalnum() or c in "-_" else "_" for c in self.data.dataset)
        parts = [dataset, self.attack.attack, *(["pnil"] if self.model.pnil else [])]
        name = "_".join(parts) + f"_eps{self.attack.epsilon:.4g}_seed{self.optimization.seed}"
        if self.data.fold is None:
            return name
        return f"{name}_repeat{self.data.repeat}_fold{self.data.fold}"
