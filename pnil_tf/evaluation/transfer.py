"""The other model through which the attack 'transfer' looks for adversarial images."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from pnil_tf.contract.checks import gradients_reach
from pnil_tf.contract.pixel_range import PixelRange
from pnil_tf.errors import UserError, argument
from pnil_tf.evaluation.images import check_accuracy_elsewhere, range_is_told, unit_images
from pnil_tf.evaluation.target import Target, looked_at, range_is_known, target_of, with_terms

_FEW = 4


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
        return cls(*with_terms(given, None, None))

    def target(self, images: np.ndarray, labels: np.ndarray, attacked: Target) -> Target:
        """Looks at the model: it must tell the same classes apart in the same images.

        And there must be gradients along which its attack can go, of the pixels that it takes.

        Args:
            images: The evaluation's images, in the pixels of the model under test.
            labels: int32, their classes.
            attacked: The model under test.

        Raises:
            UserError: If it does not.
        """
        unit = unit_images(images, attacked.pixel_range)
        try:
            classifier = looked_at(self.model, images.shape[1:], self.pixel_range, self.outputs)
            found = target_of(classifier, unit)
            if not gradients_reach(classifier, unit[:_FEW]):
                raise UserError(
                    "Its answers have no gradient with respect to the pixels, and the attack moves "
                    f"along gradients. Received: {_named(self.model)}. Give a Keras model, or a "
                    "function that TensorFlow can differentiate."
                )
        except UserError as error:
            raise self._unfit(error) from error
        if found.num_classes != attacked.num_classes:
            raise UserError(
                "Adversarial images are transferred from a model of the same classes. Received: "
                f"{argument('transfer_from')} with {found.num_classes} of them, where the model "
                f"has {attacked.num_classes}. Choose another one."
            )
        if not range_is_known(self.model, self.pixel_range):
            try:
                told = range_is_told(classifier, images)
                check_accuracy_elsewhere(found, unit, labels, said=False, told=told)
            except UserError as error:
                raise self._unfit(error) from error
        return found

    def _unfit(self, error: UserError) -> UserError:
        said = (
            f"No images can be transferred from the model of {argument('transfer_from')}. {error}"
        )
        names = [argument("outputs"), argument("pixel_range")]
        if any(f"{name}=" in said for name in names):
            said += (
                f" {' and '.join(names)} speak of the model under test: of this one, say it by "
                "Source of pnil_tf.evaluation.transfer."
            )
        return UserError(said)


def _named(model: Any) -> str:
    return getattr(model, "name", None) or getattr(model, "__name__", None) or type(model).__name__
