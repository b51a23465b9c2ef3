"""pnil_tf: image classifiers made robust fast, and an honest word on how robust they are.

The public names are those of `__all__`. They are imported when first used: `import pnil_tf`
alone imports no TensorFlow, and yet makes Keras able to load what pnil_tf saved.
"""

import importlib
from typing import TYPE_CHECKING, Any

from pnil_tf import registration
from pnil_tf.version import __version__

_HOMES = {
    "AdversarialModel": "pnil_tf.training.model",
    "Certificate": "pnil_tf.certificate.result",
    "ConvLogVariance": "pnil_tf.log_variance",
    "EOT": "pnil_tf.attacks.eot",
    "Evaluation": "pnil_tf.evaluation.result",
    "OneCycle": "pnil_tf.training.schedules",
    "OverfittingGuard": "pnil_tf.training.guard",
    "PNILLayer": "pnil_tf.layers",
    "RefutedError": "pnil_tf.certificate.withdrawn",
    "SensitivityRegularizer": "pnil_tf.layers",
    "StepAttack": "pnil_tf.attacks.one_step",
    "Triangular": "pnil_tf.training.schedules",
    "UserError": "pnil_tf.errors",
    "add_pnil": "pnil_tf.surgery",
    "attack_settings": "pnil_tf.attacks.registry",
    "build_attack": "pnil_tf.attacks.registry",
    "certify": "pnil_tf.runs.certify_model",
    "evaluate": "pnil_tf.runs.evaluate_model",
    "export_onnx": "pnil_tf.serving.onnx_model",
    "export_saved_model": "pnil_tf.serving.saved_model",
    "lr_range_test": "pnil_tf.training.lr_range",
    "noise_off": "pnil_tf.rng",
    "noise_scope": "pnil_tf.rng",
    "step_attack": "pnil_tf.attacks.one_step",
}
__all__ = ["__version__", *_HOMES]

if TYPE_CHECKING:  # the same names again, with the types that `__getattr__` cannot tell
    from pnil_tf.attacks.eot import EOT as EOT
    from pnil_tf.attacks.one_step import StepAttack as StepAttack
    from pnil_tf.attacks.one_step import step_attack as step_attack
    from pnil_tf.attacks.registry import attack_settings as attack_settings
    from pnil_tf.attacks.registry import build_attack as build_attack
    from pnil_tf.certificate.result import Certificate as Certificate
    from pnil_tf.certificate.withdrawn import RefutedError as RefutedError
    from pnil_tf.errors import UserError as UserError
    from pnil_tf.evaluation.result import Evaluation as Evaluation
    from pnil_tf.layers import PNILLayer as PNILLayer
    from pnil_tf.layers import SensitivityRegularizer as SensitivityRegularizer
    from pnil_tf.log_variance import ConvLogVariance as ConvLogVariance
    from pnil_tf.rng import noise_off as noise_off
    from pnil_tf.rng import noise_scope as noise_scope
    from pnil_tf.runs.certify_model import certify as certify
    from pnil_tf.runs.evaluate_model import evaluate as evaluate
    from pnil_tf.serving.onnx_model import export_onnx as export_onnx
    from pnil_tf.serving.saved_model import export_saved_model as export_saved_model
    from pnil_tf.surgery import add_pnil as add_pnil
    from pnil_tf.training.guard import OverfittingGuard as OverfittingGuard
    from pnil_tf.training.lr_range import lr_range_test as lr_range_test
    from pnil_tf.training.model import AdversarialModel as AdversarialModel
    from pnil_tf.training.schedules import OneCycle as OneCycle
    from pnil_tf.training.schedules import Triangular as Triangular
else:

    def __getattr__(name: str) -> Any:
        if name not in _HOMES:
            raise AttributeError(f"module 'pnil_tf' has no attribute {name!r}")
        value = getattr(importlib.import_module(_HOMES[name]), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted(__all__)


registration.register()
