"""The model of a training, built from its seed and compiled."""

from __future__ import annotations

from typing import Any

import keras

from pnil_tf.keras_internals import all_layers
from pnil_tf.layers import PNILLayer, SensitivityRegularizer
from pnil_tf.log_variance import ConvLogVariance
from pnil_tf.models import build_model
from pnil_tf.runs.training_job import TrainingJob
from pnil_tf.surgery import add_pnil
from pnil_tf.training.model import AdversarialModel


def compiled(job: TrainingJob, rate: Any) -> tuple[AdversarialModel, keras.metrics.Metric]:
    """Builds the model from the seed and compiles it, with `accuracy` as its one metric.

    Args:
        job: The training.
        rate: The learning rate, or its schedule.
    """
    settings = job.settings
    keras.utils.set_random_seed(settings.optimization.seed)
    with job.strategy.scope():
        model = _new_model(job)
        accuracy = keras.metrics.SparseCategoricalAccuracy("accuracy")
        model.compile(
            _optimizer(model.classifier, rate, settings.optimization.weight_decay),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=[accuracy],
            jit_compile={"auto": "auto", "true": True, "false": False}[settings.device.jit_compile],
        )
    return model, accuracy


def _optimizer(classifier: keras.Model, rate: Any, decay: float) -> keras.optimizers.Optimizer:
    """Adam, whose weight decay spares all but kernels.

    A PNIL layer's weights are spared, too: those of no noise at all lie far from 0.
    """
    if not decay:
        return keras.optimizers.Adam(rate)
    optimizer = keras.optimizers.AdamW(rate, weight_decay=decay)
    noise = [layer for layer in all_layers(classifier) if isinstance(layer, PNILLayer)]
    of_noise = {id(weight) for layer in noise for weight in layer.weights}
    optimizer.exclude_from_weight_decay(
        [w for w in classifier.trainable_weights if len(w.shape) < 2 or id(w) in of_noise]
    )
    return optimizer


def _new_model(job: TrainingJob) -> AdversarialModel:
    settings, data = job.settings, job.data
    in_front = settings.model.pnil and settings.model.pnil_before is None
    classifier = build_model(
        str(settings.model.model),
        data.input_shape,
        data.num_classes,
        width=settings.model.width,
        pnil=PNILLayer(**_noise(job)) if in_front else None,
        pixel_range=job.pixel_range,
        weights=settings.model.weights,
        freeze_batch_norm=settings.model.freeze_batch_norm,
    )
    if settings.model.pnil and not in_front:
        classifier = add_pnil(classifier, settings.model.pnil_before, **_noise(job))
    # Without noise of its own a classifier has nothing to average over.
    noisy = settings.model.pnil and settings.model.noise_at_inference
    return AdversarialModel(
        classifier,
        "none" if job.attack is None else job.attack,
        settings.attack.epsilon,
        norm=settings.attack.norm,
        epsilon_warmup_steps=job.warmup_steps,
        validation_attack=settings.attack.validation_attack,
        validation_eot_samples=settings.attack.validation_eot_samples if noisy else 1,
        clean_weight=settings.attack.clean_weight,
        weight_averaging=settings.optimization.weight_averaging,
        label_smoothing=settings.optimization.label_smoothing,
        consistency=settings.optimization.consistency,
        augment=settings.optimization.augment,
        pixel_range=job.pixel_range,
        seed=settings.optimization.seed,
    )


def _noise(job: TrainingJob) -> dict[str, Any]:
    """The arguments of the noise layer that was asked for."""
    asked = job.settings.model
    penalty = None
    if asked.pnil_penalty:
        penalty = SensitivityRegularizer(asked.pnil_penalty, asked.pnil_sigma_floor)
    return {
        "per_channel": asked.pnil_per_channel,
        "noise_at_inference": asked.noise_at_inference,
        "initial_sigma": asked.pnil_sigma,
        "pixel_range": job.pixel_range,
        "use_kernel": asked.pnil_kernel,
        "sigma_floor": asked.pnil_sigma_floor,
        "bias_regularizer": penalty,
        "trainable": asked.pnil_trainable,
        "log_variance": ConvLogVariance() if asked.pnil_log_variance == "conv" else None,
        "name": "pnil",
    }
