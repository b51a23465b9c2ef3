"""The other model through which the attack 'transfer' looks for adversarial images."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from pnil_tf.contract.pixel_range import PixelRange
from pnil_tf.errors import UserError, argument
from pnil_tf.evaluation.images import unit_images
from pnil_tf.evaluation.target import Target, looked_at, target_of, unwrapped
from pnil_tf.training.model import AdversarialModel


@dataclasses.dataclass(frozen=True)
class Source:
    """A model with what is known of it before anybody looks at it.

    Args:
        model: A Keras model, or a callable from images to logits or probabilities.
        pixel_range: The pixels that it takes, where its run or export says so.
        outputs: What it answers, one of `pnil_tf.contract.outputs.KINDS`, where that is known.
        path: Where it lies on the disk.
        identity: Fingerprint of what lies there.
    """

    model: Any
    pixel_range: PixelRange | None = None
    outputs: str | None = None
    path: Path | None = None
    identity: str | None = None

    @classmethod
    def of(cls, given: Any) -> Source:
        """Makes one of a `Source`, an `AdversarialModel` or any other model."""
        if isinstance(given, Source):
            return given
        if isinstance(given, AdversarialModel):
            return cls(unwrapped(given), given.given_range, given.given_outputs)
        return cls(given)

    def target(self, images: np.ndarray, attacked: Target) -> Target:
        """Looks at the model: it must tell the same classes apart in the same images.

        Args:
            images: The evaluation's images, in the pixels of the model under test.
            attacked: The model under test.

        Raises:
            UserError: If it does not.
        """
        try:
            classifier = looked_at(self.model, images.shape[1:], self.pixel_range, self.outputs)
            found = target_of(classifier, unit_images(images, attacked.pixel_range))
        except UserError as error:
            raise UserError(
                f"No images can be transferred from the model of {argument('transfer_from')}. "
                f"{error}"
            ) from error
        if found.num_classes != attacked.num_classes:
            raise UserError(
                "Adversarial images are transferred from a model of the same classes. Received: "
                f"{argument('transfer_from')} with {found.num_classes} of them, where the model "
                f"has {attacked.num_classes}. Choose another one."
            )
        return found
