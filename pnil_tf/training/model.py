"""`AdversarialModel`: a Keras model that trains its classifier on adversarial images."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from pnil_tf import rng
from pnil_tf.attacks.class_start import class_signs
from pnil_tf.attacks.eot import EOT
from pnil_tf.attacks.one_step import StepAttack, craft, step_attack
from pnil_tf.batch_norm import fused_batch_norm
from pnil_tf.contract.classifier import Classifier
from pnil_tf.contract.own_randomness import warn_of_own_randomness
from pnil_tf.contract.pixel_range import UNIT, PixelRangeLike, check_epsilon, check_reach
from pnil_tf.errors import UserError
from pnil_tf.input_gradient import quick_input_gradients
from pnil_tf.keras_internals import all_layers
from pnil_tf.tensors import Images, Labels, Logits, PerImage, Scalar, Seed, Tensor
from pnil_tf.training.attacked_loss import attacked_loss
from pnil_tf.training.augmentation import augmented, check_axes
from pnil_tf.training.averaged_fit import AveragedFit
from pnil_tf.training.class_directions import ClassDirections
from pnil_tf.training.consistency import consistency_terms
from pnil_tf.training.losses import UserLoss, example_loss
from pnil_tf.training.settings import check_recipe, check_warmup_steps
from pnil_tf.training.smoothing import check_smoothable, smoothing_terms
from pnil_tf.training.types import Batch, Config, Logs, LossWeights, UserMetrics
from pnil_tf.training.weight_average import WeightAverage

# What a seed is for. Two passes that share a seed share their noise, and an attacker who
# knows the defender's noise is no honest opponent: every purpose has a number of its own.
(
    _CRAFT,
    _TRAIN,
    _VALIDATE_CLEAN,
    _VALIDATE_ATTACK,
    _VALIDATE_JUDGE,
    _TRANSFORM,
    _AUGMENT,
    _DIRECTIONS,
) = range(8)

_VALIDATION_METRICS = ("adversarial_loss", "adversarial_accuracy")


@keras.saving.register_keras_serializable(package="pnil_tf")
class AdversarialModel(AveragedFit):
    """Trains a classifier on adversarial images crafted at every step.

    It is used like any Keras model: `compile`, `fit`, `evaluate`, `predict`, callbacks, metrics
    and weights. `loss` and the compiled metrics are those of the adversarial images in training
    and of the clean images in `evaluate`; `evaluate` (and validation in `fit`) adds
    `adversarial_loss` and `adversarial_accuracy` under `validation_attack`, so that
    `val_adversarial_loss` can choose the checkpoint, as in the paper. Keras' callbacks cannot
    know which way these are better: tell them `mode="min"` or `mode="max"`.

    A training step makes two passes. The crafting pass runs the classifier in training mode
    (batch statistics, dropout, noise), takes gradients with respect to the images alone and
    leaves no trace: BatchNormalization's moving statistics move once per step, in the training
    pass. The two passes draw independent noise, but see their images through the same random
    transforms, where the classifier holds layers that augment images: a perturbation made for
    a flipped image has no effect on the unflipped one. All randomness of a step follows from `seed`
    and the number of the step (`steps_taken`), so a training that goes on from a checkpoint
    repeats what an undisturbed one would have done.

    With `weight_averaging` it is the classifier with averaged weights that `evaluate`, `predict`
    and validation use, and that exports and evaluations of this model take. The optimizer goes on
    with the others, which `classifier` holds; see `averaged_weights` and `averaged_classifier`.

    Args:
        classifier: A Keras model from images to logits or probabilities `(batch, classes)`, or
            `(batch, 1)` for two classes. Probabilities are attacked through the logits behind
            them.
        attack: The training attack: a name (`"fgsm"`, `"r+fgsm"`, `"rfgsm"`, `"nfgsm"`,
            `"n-fgsm"`, `"liet"`, `"pgd-7"`), `"none"` for ordinary training, or a `StepAttack`.
        epsilon: Radius of the attack as a share of the pixel range, > 0: 8/255 means 8 of 255
            whatever the range. A `StepAttack` has its own, and all its sizes are such shares.
        norm: `"linf"` or `"l2"`; a `StepAttack` has its own.
        eot_samples: Draws of the noise per gradient of the training attack. Only with a name.
        epsilon_warmup_steps: Over how many steps the training attack grows from nothing to its full
            size: step i of them (from 1) takes the share i / epsilon_warmup_steps of its radius,
            step size and start. 0 takes all from the first step on, as `evaluate` always does.
        validation_attack: The attack of `evaluate`: a name, a `StepAttack`, or `"none"`.
        validation_eot_samples: Draws per gradient of the validation attack (with a name).
        clean_weight: Share of the clean images in the training loss, from 0 (adversarial
            images alone, as in the paper) to 1.
        weight_averaging: Decay per step of the average of the weights, between 0 and 1, as
            0.9995; 0 averages nothing. See `WeightAverage`.
        label_smoothing: Share of a label that is spread over all classes in the training loss,
            from 0 to 1. Attacks and `evaluate` take the labels as they are.
        consistency: Weight of a training loss between the logits at the attack's start and those
            of the adversarial images, at least 0; see `consistency_terms`.
        augment: Which random views of the training images are attacked and trained on: `"none"`,
            `"shift"` or `"flip_crop"`; see `pnil_tf.training.augmentation`.
        pixel_range: `(low, high)` of the pixels that the classifier takes. By default that which
            its own preprocessing suits (a model that begins with `Rescaling(1 / 255)` takes 0 to
            255), and (0, 1) where it has none.
        outputs: What the classifier answers, where neither it nor the loss tells: `"logits"`,
            `"probabilities"`, `"one logit"`, `"one probability"` or `"independent probabilities"`.
        seed: Seed of all noise in training and evaluation.
        **kwargs: As for `keras.Model`.

    Raises:
        UserError: If a setting is not valid, or (in `compile`) the loss cannot be attacked or the
            images cannot be augmented.

    Examples:
        >>> classifier = keras.Sequential([
        ...     keras.Input((28, 28, 1)), PNILLayer(),
        ...     keras.layers.Flatten(), keras.layers.Dense(10)])
        >>> model = AdversarialModel(classifier, attack="nfgsm", epsilon=8 / 255)
        >>> model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    """

    def __init__(
        self,
        classifier: keras.Model,
        attack: str | StepAttack = "nfgsm",
        epsilon: float | None = None,
        *,
        norm: str = "linf",
        eot_samples: int = 1,
        epsilon_warmup_steps: int = 0,
        validation_attack: str | StepAttack = "pgd-10",
        validation_eot_samples: int = 4,
        clean_weight: float = 0.0,
        weight_averaging: float = 0.0,
        label_smoothing: float = 0.0,
        consistency: float = 0.0,
        augment: str = "none",
        pixel_range: PixelRangeLike | None = None,
        outputs: str | None = None,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        if not isinstance(classifier, keras.Model):
            raise UserError(
                "AdversarialModel trains a keras.Model. Received: "
                f"{type(classifier).__name__}. Build the classifier with Keras."
            )
        if not 0.0 <= clean_weight <= 1.0:
            raise UserError(f"clean_weight is a share between 0 and 1. Received: {clean_weight!r}.")
        check_warmup_steps(epsilon_warmup_steps)
        check_recipe(weight_averaging, label_smoothing, consistency, augment)
        super().__init__(classifier, pixel_range, outputs, **kwargs)

        if isinstance(attack, StepAttack):
            epsilon, norm = attack.epsilon, attack.norm

        def resolve(given: str | StepAttack, eot: EOT) -> StepAttack | None:
            if isinstance(given, StepAttack):
                _check_shares(given)
                return given
            if given == "none":
                return None
            if epsilon is None:
                raise UserError(
                    f"The attack {given!r} needs a radius. Received: epsilon=None. Pass epsilon, "
                    "a share of the pixel range (for example 8 / 255)."
                )
            check_epsilon(epsilon, norm, lambda: self.pixel_range)
            return step_attack(given, epsilon, norm=norm, eot=eot)

        self.built = classifier.built
        self.attack = resolve(attack, EOT(eot_samples))
        if isinstance(validation_attack, str) and self.attack is None and epsilon is None:
            validation_attack = "none"
        validation_eot = EOT(validation_eot_samples, antithetic=validation_eot_samples > 1)
        self.validation_attack = resolve(validation_attack, validation_eot)
        attacks = (self.attack, self.validation_attack)
        by_class = any(attack is not None and attack.start == "class" for attack in attacks)
        self.directions = ClassDirections(classifier) if by_class else None
        self._needs_gradients = bool(self.attack or self.validation_attack)
        self.epsilon_warmup_steps = int(epsilon_warmup_steps)
        self.clean_weight = clean_weight
        self.label_smoothing = label_smoothing
        self.consistency = consistency
        self.augment = augment
        self.average = WeightAverage(classifier, weight_averaging) if weight_averaging else None
        self.seed = seed
        # Not the optimizer's count, which stands still where a loss scale overflows.
        self.steps_taken = keras.Variable(
            "zeros",  # a number would be refused where Keras only asks for a model's shapes
            shape=(),
            dtype="int64",
            trainable=False,
            aggregation="only_first_replica",
            name="steps_taken",
        )
        if self.validation_attack is not None:
            self._adversarial_loss = keras.metrics.Mean(name=_VALIDATION_METRICS[0])
            self._adversarial_accuracy = keras.metrics.Mean(name=_VALIDATION_METRICS[1])

    def compile(
        self,
        optimizer: str | keras.optimizers.Optimizer = "adam",
        loss: UserLoss = None,
        loss_weights: LossWeights = None,
        metrics: UserMetrics = None,
        weighted_metrics: UserMetrics = None,
        **kwargs: Any,
    ) -> None:
        """As `keras.Model.compile`; refuses a loss that cannot be attacked.

        `jit_compile=True` compiles the whole step with XLA on one device. On several replicas
        TensorFlow cannot do that: there the crafting of the adversarial images is compiled,
        which is most of the step, unless a layer synchronizes its batch statistics. `"auto"`
        compiles on GPUs and not on CPUs, where XLA is slower.
        """
        _check_names([metrics, weighted_metrics])
        self._example_loss = example_loss(loss)
        if self.label_smoothing:
            check_smoothable(loss)
        self._graphs: dict[Hashable, Callable[..., Any]] = {}
        self._jit_crafting = self._told_of_randomness = False
        if self._replicated and kwargs.get("jit_compile", "auto"):
            wanted = kwargs.get("jit_compile", "auto")
            # XLA cannot exchange batch statistics between replicas.
            self._jit_crafting = not _exchanges_statistics(self.classifier) and (
                wanted is True or bool(tf.config.list_physical_devices("GPU"))
            )
            kwargs["jit_compile"] = False
        super().compile(optimizer, loss, loss_weights, metrics, weighted_metrics, **kwargs)

    def __setattr__(self, name: str, value: object) -> None:
        followers = ("average", "directions")
        if name == "classifier" and any(vars(self).get(one) is not None for one in followers):
            raise UserError(
                "An AdversarialModel with weight_averaging, or whose attack starts at the "
                "directions of classes, keeps to its classifier. Received: another one. Make a "
                "new AdversarialModel of it."
            )
        super().__setattr__(name, value)

    def _look(self, image_shape: Sequence[int | None]) -> Classifier:
        check_axes(self.augment, image_shape)
        for attack in filter(None, (self.attack, self.validation_attack)):
            check_reach(attack.epsilon, attack.norm, image_shape)
        return super()._look(image_shape)

    def _terms(self, contract: Classifier) -> str:
        attack = self.attack or self.validation_attack
        if attack is None:
            return super()._terms(contract)
        radius = contract.pixel_range.says(attack.epsilon, attack.norm)
        return f"{super()._terms(contract)}; epsilon {radius}, {attack.norm}"

    def get_compile_config(self) -> Config:
        """Returns the arguments of `compile`; without an override Keras would not save them."""
        return super().get_compile_config()

    def compile_from_config(self, config: Config) -> None:
        """Compiles as before the model was saved."""
        self.compile(**keras.saving.deserialize_keras_object(config))
        self.optimizer.build(self.classifier.trainable_variables)

    def call(self, x: Images, training: bool = False) -> Tensor:
        """Returns the classifier's outputs."""
        return self._classify(x, training=training)

    def _classify(self, x: Images, training: bool = False) -> Tensor:
        with quick_input_gradients(self.classifier), fused_batch_norm(self.classifier):
            outputs = self.classifier(x, training=training)
        if tf.is_tensor(outputs) and outputs.shape.rank is None and self._contract is not None:
            # A graph may forget it, and Keras' losses and metrics must know.
            outputs = tf.ensure_shape(outputs, [None, self._contract.outputs.count])
        return outputs

    def train_step(self, data: Batch) -> Logs:
        """Crafts adversarial images, then takes one optimizer step on them."""
        x, y, weight = self._checked_batch(data)
        step_seed = rng.replica_seed(rng.fold(rng.make_seed(self.seed), self.steps_taken))
        transforms = rng.fold(step_seed, _TRANSFORM)
        x = augmented(x, rng.fold(step_seed, _AUGMENT), self.augment, self.pixel_range.low)
        x_train, y_train, train_weight, start_logits = x, y, weight, None
        if self.attack is not None and self.clean_weight < 1.0:
            self._renew_directions(y, x.shape[1:])
            x_train, start_logits = self._craft_for_training(
                x, y, rng.fold(step_seed, _CRAFT), self.attack, transforms, self._attack_scale()
            )
            if self.clean_weight > 0.0:
                x_train, y_train, train_weight = self._with_clean(x, x_train, y, weight)

        train_seed = rng.fold(step_seed, _TRAIN)
        rng.reseed_layers(self.classifier, train_seed, transforms)
        with tf.GradientTape() as tape:
            with rng.noise_scope(train_seed):
                outputs = self._classify(x_train, training=True)
            loss = self.compute_loss(
                x=x_train, y=y_train, y_pred=outputs, sample_weight=train_weight, training=True
            )
            loss += self._added_loss(x, y_train, outputs, train_weight, start_logits)
            scaled = self.optimizer.scale_loss(loss)
        weights = self.classifier.trainable_weights
        gradients = tape.gradient(scaled, weights)
        # Data of unknown size end in a step without a batch, which must not be counted.
        with tf.control_dependencies([x]):
            self.optimizer.apply_gradients(zip(gradients, weights, strict=True))
            self.steps_taken.assign_add(1)
        if self.average is not None:
            self.average.update(self.steps_taken)
        count = tf.shape(x)[0]  # with clean images mixed in, metrics are of the adversarial half
        self._track_loss(loss, count)
        logs = self.compute_metrics(x_train[:count], y, outputs[:count], sample_weight=weight)
        return {name: value for name, value in logs.items() if name not in _VALIDATION_METRICS}

    def test_step(self, data: Batch) -> Logs:
        """Evaluates clean images, and the same images under the validation attack.

        The noise of a step follows from `seed` alone: epochs are compared on equal draws.
        """
        x, y, weight = self._checked_batch(data)
        seed = rng.replica_seed(rng.make_seed(self.seed))
        with rng.noise_scope(rng.fold(seed, _VALIDATE_CLEAN)):
            outputs = self._classify(x)
        loss = self.compute_loss(x=x, y=y, y_pred=outputs, sample_weight=weight, training=False)
        self._track_loss(loss, tf.shape(x)[0])
        if self.validation_attack is not None:
            losses, hits = self.attack_outcome(x, y, self.validation_attack, seed)
            if weight is not None:  # as Keras does it in `loss`; its `accuracy` has no weights
                losses *= tf.cast(tf.reshape(weight, [-1]), losses.dtype)
            self._adversarial_loss.update_state(losses)
            self._adversarial_accuracy.update_state(hits)
        return self.compute_metrics(x, y, outputs, sample_weight=weight)

    def _get_metrics_result_or_logs(self, logs: Logs) -> Logs:
        """The metrics that the steps of an epoch give, of all its images.

        Keras has them of the last step where its names are not those of all metrics: of several
        replicas the mean of theirs, whatever share of the images each of them had.
        """
        figures = self.get_metrics_result()
        if {*logs, *_VALIDATION_METRICS} == set(figures):
            return {name: figures[name] for name in logs}
        return super()._get_metrics_result_or_logs(logs)

    def attack_outcome(
        self, x: Images, y: Labels, attack: StepAttack, seed: Seed
    ) -> tuple[PerImage, PerImage]:
        """Attacks the classifier in inference mode and judges it by one fresh draw.

        Args:
            x: float32 images `(batch, ...)`.
            y: Labels as the compiled loss takes them.
            attack: The attack.
            seed: int32 seed pair; attack and judgement draw independently.

        Returns:
            The loss and the correctness (1 or 0) of each adversarial image, float32 `(batch,)`.
        """
        classifier = self._look(x.shape[1:])

        def crafted(x: Images, y: Labels, seed: Seed) -> Images:
            return self._crafted(classifier.logits, x, y, seed, attack)

        x_adv = self._in_graph(("validation", attack), crafted)(
            x, y, rng.fold(seed, _VALIDATE_ATTACK)
        )
        with rng.noise_scope(rng.fold(seed, _VALIDATE_JUDGE)):
            outputs = self._classify(x_adv)
            logits = classifier.outputs.logits(outputs)
        return self._example_loss(y, outputs), self._labels.correct(y, logits)

    def _craft_for_training(
        self,
        x: Images,
        y: Labels,
        seed: Seed,
        attack: StepAttack,
        transforms: Seed | None = None,
        scale: Scalar = 1.0,
    ) -> tuple[Images, Logits]:
        """Adversarial images, and the logits at the start of the attack (of its first draw)."""
        classifier = self._look(x.shape[1:])
        if not self._told_of_randomness:
            warn_of_own_randomness(self.classifier, self._free_noise)
            self._told_of_randomness = True

        # Unrolled: a classifier in training mode may exchange batch statistics between
        # replicas, which TensorFlow cannot do inside a loop of the graph.
        def crafted(
            x: Images, y: Labels, seed: Seed, transforms: Seed | None, scale: Scalar
        ) -> tuple[Images, Logits]:
            seen: list[Logits] = []

            def logits(pixels: Images) -> Logits:
                with rng.stateless_layers(self.classifier, transforms=transforms):
                    seen.append(classifier.logits(pixels, training=True))
                return seen[-1]

            x_adv = self._crafted(logits, x, y, seed, attack, training=True, scale=scale)
            return x_adv, seen[0][: tf.shape(x)[0]]

        if self._jit_crafting:
            crafted = tf.function(crafted, jit_compile=True, autograph=False)
        return self._in_graph(("training", attack), crafted)(x, y, seed, transforms, scale)

    def _attack_scale(self) -> Scalar:
        """The share of its size that the training attack has at this step."""
        if not self.epsilon_warmup_steps:
            return 1.0
        step = tf.cast(self.steps_taken + 1, tf.float32)
        return tf.minimum(step / self.epsilon_warmup_steps, 1.0)

    def _in_graph(self, purpose: Hashable, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function as a graph under `run_eagerly`, too, where the classifier has one.

        The logits behind an activation are found in graphs; eagerly a cast hides them.
        """
        if not (tf.executing_eagerly() and self._contract and self._contract.in_graph):
            return function
        if purpose not in self._graphs:
            self._graphs[purpose] = tf.function(function, autograph=False)
        return self._graphs[purpose]

    def _crafted(
        self,
        logits: Callable[[Images], Logits],
        x: Images,
        y: Labels,
        seed: Seed,
        attack: StepAttack,
        training: bool = False,
        scale: Scalar = 1.0,
    ) -> Images:
        """Adversarial images in the classifier's pixels; the attack sees them in [0, 1]."""
        pixel_range, outputs = self.pixel_range, self._look(x.shape[1:]).outputs
        unit = craft(
            lambda unit: logits(pixel_range.from_unit(unit)),
            attacked_loss(self._example_loss, outputs, self._labels),
            pixel_range.to_unit(x),
            y,
            seed,
            attack,
            unroll=training,
            signs=None if self.directions is None else self.directions.of(self._labels.classes(y)),
            alone=not (training and _normalizes_batches(self.classifier)),
            scale=scale,
        )
        return pixel_range.from_unit(unit)

    def _renew_directions(self, y: Labels, image_shape: tuple[int, int, int]) -> None:
        """Renews what attacks know of each class, from time to time."""
        if self.directions is None:
            return
        classifier = self._look(image_shape)
        loss = attacked_loss(self._example_loss, classifier.outputs, self._labels)

        # All replicas keep the same: of the step, and -1 is no replica's number.
        step_seed = rng.fold(rng.fold(rng.make_seed(self.seed), self.steps_taken), -1)
        seed = rng.fold(step_seed, _DIRECTIONS)
        labels = self._labels.of_each_class(y)

        def logits(unit: Images) -> Logits:
            return classifier.logits(self.pixel_range.from_unit(unit))

        signs = self._in_graph(
            "directions", lambda seed: class_signs(logits, loss, labels, image_shape, seed)
        )
        self.directions.renew(self.steps_taken, lambda: signs(seed))

    def _with_clean(
        self, x: Images, x_adv: Images, y: Labels, weight: PerImage | None
    ) -> tuple[Images, Labels, PerImage | None]:
        """Adversarial images first, then the clean ones; weighted to the asked mix."""
        ones = tf.ones(tf.shape(x)[0]) if weight is None else tf.reshape(weight, [-1])
        ones = tf.cast(ones, tf.float32)
        # The loss averages over both halves, hence the factor two.
        weights = [2.0 * (1.0 - self.clean_weight) * ones, 2.0 * self.clean_weight * ones]
        return tf.concat([x_adv, x], 0), tf.concat([y, y], 0), tf.concat(weights, 0)

    def _added_loss(
        self,
        x: Images,
        y: Labels,
        outputs: Tensor,
        weight: PerImage | None,
        start_logits: Logits,
    ) -> Scalar:
        """What the recipe adds to the compiled loss, reduced as Keras reduces that."""
        consistent = self.consistency > 0.0 and start_logits is not None
        if not self.label_smoothing and not consistent:
            return 0.0
        kind = self._look(x.shape[1:]).outputs
        logits, terms = kind.logits(outputs), tf.zeros(tf.shape(outputs)[0])
        if self.label_smoothing:
            losses = self._example_loss(y, outputs)
            terms += smoothing_terms(losses, logits, self.label_smoothing, kind)
        if consistent:
            adversarial = logits[: tf.shape(x)[0]]  # clean images may stand behind them
            added = consistency_terms(start_logits, adversarial, self.consistency)
            terms += tf.pad(added, [[0, tf.shape(terms)[0] - tf.shape(added)[0]]])
        if weight is not None:
            terms *= tf.cast(tf.reshape(weight, [-1]), tf.float32)
        return tf.reduce_mean(terms) / self.distribute_strategy.num_replicas_in_sync

    def _track_loss(self, loss: Scalar, count: Scalar) -> None:
        # Keras divides the loss by the number of replicas so that gradients add up.
        loss *= self.distribute_strategy.num_replicas_in_sync
        for metric in self.metrics:
            if metric.name == "loss":
                metric.update_state(loss, sample_weight=count)

    def get_config(self) -> Config:
        """Returns the arguments that rebuild the model."""

        def plain(attack: StepAttack | None) -> str | Config:
            return "none" if attack is None else dataclasses.asdict(attack)

        given = self._given_range
        return {
            **super().get_config(),
            "classifier": keras.saving.serialize_keras_object(self.classifier),
            "attack": plain(self.attack),
            "validation_attack": plain(self.validation_attack),
            "epsilon_warmup_steps": self.epsilon_warmup_steps,
            "clean_weight": self.clean_weight,
            "weight_averaging": 0.0 if self.average is None else self.average.decay,
            "label_smoothing": self.label_smoothing,
            "consistency": self.consistency,
            "augment": self.augment,
            "pixel_range": given and [given.low, given.high],
            "outputs": self._given_outputs,
            "seed": self.seed,
        }

    @classmethod
    def from_config(
        cls, config: Config, custom_objects: Mapping[str, type] | None = None
    ) -> AdversarialModel:
        """Rebuilds the model from `get_config`."""
        config = dict(config)
        config["classifier"] = keras.saving.deserialize_keras_object(
            config["classifier"], custom_objects=custom_objects
        )
        for name in ("attack", "validation_attack"):
            if isinstance(config[name], dict):
                eot = EOT(**config[name]["eot"])
                config[name] = StepAttack(**{**config[name], "eot": eot})
        return cls(**config)


def _exchanges_statistics(classifier: keras.Model) -> bool:
    return any(getattr(layer, "synchronized", False) for layer in all_layers(classifier))


def _normalizes_batches(classifier: keras.Model) -> bool:
    batch_norm = keras.layers.BatchNormalization
    return any(isinstance(layer, batch_norm) for layer in all_layers(classifier))


def _check_names(metrics: Sequence[UserMetrics]) -> None:
    """Refuses metrics that would hide this model's own."""
    for metric in keras.tree.flatten(metrics):
        name = metric if isinstance(metric, str) else getattr(metric, "name", None)
        name = name or getattr(metric, "__name__", None)
        if name in _VALIDATION_METRICS:
            raise UserError(
                f"{name!r} is the name of a figure that AdversarialModel adds itself. Received: a "
                "metric of the same name. Give it another one."
            )


def _check_shares(attack: StepAttack) -> None:
    """Refuses an attack that is given in pixels."""
    if (attack.clip_min, attack.clip_max) != (UNIT.low, UNIT.high):
        raise UserError(
            "An attack works on pixels from 0 to 1, whatever the classifier takes. Received: "
            f"clip_min={attack.clip_min!r}, clip_max={attack.clip_max!r}. Give its sizes as shares "
            "of the pixel range, and the range itself to AdversarialModel(pixel_range=...)."
        )
    check_epsilon(attack.epsilon, attack.norm)
