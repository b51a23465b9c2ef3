"""Label smoothing for labels of every kind."""

from __future__ import annotations

import tensorflow as tf

from pnil_tf.contract.outputs import INDEPENDENT, Outputs
from pnil_tf.errors import UserError, argument
from pnil_tf.tensors import PerImage, Tensor
from pnil_tf.training.losses import UserLoss, loss_name

_CROSS_ENTROPIES = (
    "sparse_categorical_crossentropy",
    "categorical_crossentropy",
    "binary_crossentropy",
)


def check_smoothable(loss: UserLoss) -> None:
    """Refuses a loss whose labels cannot be smoothed here.

    Args:
        loss: As `compile` takes it.

    Raises:
        UserError: If it is no cross-entropy of Keras' averaged over the batch.
    """
    reduction = getattr(loss, "reduction", "sum_over_batch_size")
    if loss_name(loss) not in _CROSS_ENTROPIES or reduction != "sum_over_batch_size":
        raise UserError(
            f"{argument('label_smoothing')} needs one of Keras' cross-entropies, averaged over the "
            f"batch. Received: {loss!r}. Use keras.losses.SparseCategoricalCrossentropy("
            "from_logits=True), or leave it at 0."
        )


def smoothing_terms(
    losses: PerImage, logits: Tensor, smoothing: float, outputs: Outputs
) -> PerImage:
    """Returns what smoothed labels add to each image's cross-entropy, float32 `(batch,)`.

    A smoothed label gives its class `1 - smoothing`, and shares `smoothing` among all classes
    (Szegedy et al. 2016, section 7). The cross-entropy is linear in the label: it becomes
    `(1 - smoothing)` times itself and `smoothing` times its mean over all classes.

    Args:
        losses: The cross-entropies, float32 `(batch,)`.
        logits: float32 `(batch, count)`.
        smoothing: From 0 to 1.
        outputs: What the logits are.

    Raises:
        UserError: If each class has a yes or no of its own, as with sigmoids.
    """
    if outputs.kind == INDEPENDENT:
        raise UserError(
            f"{argument('label_smoothing')} shares a label out among classes of which one is "
            "right. Received: a classifier with a sigmoid for each. Let it end in a softmax, or "
            "leave it at 0."
        )
    every_class = -tf.nn.log_softmax(outputs.per_class(logits))
    return smoothing * (tf.reduce_mean(every_class, axis=1) - losses)
