"""The absl flags of an evaluation, and the settings they become."""

from __future__ import annotations

import dataclasses
from typing import Any

from absl import flags

from pnil_tf.errors import UserError
from pnil_tf.evaluation.settings import ATTACKS, NORMS, EvaluationSettings, parse_epsilon

_DEFAULTS: dict[str, Any] = {
    field.name: field.default for field in dataclasses.fields(EvaluationSettings)
}
_EPSILON_HELP = "Radius of the attacks for pixels in [0, 1], such as 0.3 or 8/255"

_COUNTS = {
    "eot_samples": "Draws over which the gradient of a stochastic model is averaged.",
    "images": "Test images to evaluate on.",
    "judge_draws": "Fresh draws by which each image of a stochastic model is judged.",
    "spsa_images": "Of these images, how many SPSA attacks.",
    "spsa_samples": "Evaluations behind each of SPSA's gradient estimates.",
    "check_images": "Of these images, how many the checks for hidden gradients attack.",
    "batch_size": "Images attacked at once.",
}
_SWITCHES = {
    "faithful": "Attack exactly as the paper does, at the full price.",
    "checks": "Look for hidden gradients.",
    "save_adversarial": "Write the adversarial images, too.",
    "resume": "Continue an evaluation that was cut off.",
    "overwrite": "Replace the results that the output folder holds.",
}


@dataclasses.dataclass(frozen=True)
class EvaluationFlags:
    """What the flags of one command line say, beside the data flags.

    Args:
        model: Where the model lies.
        epsilon: The radius, or None to take the one the run was trained with.
        output: Folder for the results, or None for `evaluation` inside the run's folder.
        resume: Whether to continue an evaluation that was cut off.
        overwrite: Whether to replace what `output` holds.
        options: The other fields of `EvaluationSettings`.
    """

    model: str
    epsilon: float | None
    output: str | None
    resume: bool
    overwrite: bool
    options: dict[str, Any]


def define_evaluation_flags(values: flags.FlagValues = flags.FLAGS) -> None:
    """Defines the flags; `evaluation_flags` reads them."""
    flags.DEFINE_string(
        "model",
        None,
        "A run's folder, a .keras file or a SavedModel folder.",
        flag_values=values,
        required=True,
    )
    flags.DEFINE_string(
        "epsilon", None, f"{_EPSILON_HELP}; by default that of the run.", flag_values=values
    )
    flags.DEFINE_list(
        "attacks",
        list(ATTACKS),
        f"Attacks to run, out of {', '.join(ATTACKS)}.",
        flag_values=values,
    )
    flags.DEFINE_integer(
        "steps", None, "Steps of every attack with several.", lower_bound=1, flag_values=values
    )
    flags.DEFINE_enum(
        "norm", _DEFAULTS["norm"], NORMS, "The norm that epsilon bounds.", flag_values=values
    )
    for name, text in _COUNTS.items():
        flags.DEFINE_integer(name, _DEFAULTS[name], text, lower_bound=1, flag_values=values)
    flags.DEFINE_integer(
        "seed",
        _DEFAULTS["seed"],
        "Seed of all random numbers.",
        lower_bound=0,
        flag_values=values,
    )
    flags.DEFINE_list(
        "epsilons", [], "Radii of the curve of accuracy over epsilon.", flag_values=values
    )
    for name, text in _SWITCHES.items():
        flags.DEFINE_bool(name, _DEFAULTS.get(name, False), text, flag_values=values)
    flags.DEFINE_string(
        "output",
        None,
        "Folder for the results; by default `evaluation` in the run's folder.",
        flag_values=values,
    )


def evaluation_flags(values: flags.FlagValues = flags.FLAGS) -> EvaluationFlags:
    """Returns what the parsed flags say, checked.

    Raises:
        UserError: If a value cannot be right.
    """
    if values.resume and values.overwrite:
        raise UserError(
            "--resume keeps what the output folder holds and --overwrite replaces it: give one."
        )
    options = {
        name: getattr(values, name)
        for name in _DEFAULTS
        if name not in ("epsilon", "epsilons", "attacks") and name in values
    }
    options["attacks"] = tuple(name.strip() for name in values.attacks)
    options["epsilons"] = tuple(parse_epsilon(text) for text in values.epsilons)
    epsilon = None if values.epsilon is None else parse_epsilon(values.epsilon)
    EvaluationSettings(epsilon=epsilon or 1.0, **options)  # complains before a model is loaded
    return EvaluationFlags(
        model=values.model,
        epsilon=epsilon,
        output=values.output,
        resume=values.resume,
        overwrite=values.overwrite,
        options=options,
    )
