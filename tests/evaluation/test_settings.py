import dataclasses
import json
import subprocess
import sys

import pytest
from absl import flags

from pnil_tf.errors import UserError
from pnil_tf.evaluation.flag_definitions import define_evaluation_flags, evaluation_flags
from pnil_tf.evaluation.settings import EvaluationSettings, parse_epsilon


@pytest.mark.parametrize(("text", "value"), [("0.3", 0.3), ("8/255", 8 / 255), (" 1e-2 ", 0.01)])
def test_epsilon(text, value):
    assert parse_epsilon(text) == pytest.approx(value)


@pytest.mark.parametrize("text", ["", "0", "-1", "8/0", "nan", "inf", "eight"])
def test_bad_epsilon(text):
    with pytest.raises(UserError, match="epsilon"):
        parse_epsilon(text)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"epsilon": 0}, "epsilon must be a number greater than 0"),
        ({"epsilon": float("nan")}, "epsilon must be"),
        ({"epsilons": (0.1, -0.1)}, "epsilons must be"),
        ({"eot_samples": 0}, "eot_samples must be a whole number, at least 1"),
        ({"images": 0}, "images must be"),
        ({"steps": 0}, "steps must be"),
        ({"judge_draws": 1.5}, "judge_draws must be"),
        ({"spsa_samples": 3}, "even"),
        ({"attacks": ()}, "attacks must be"),
        ({"attacks": ("pgd", "magic")}, "'magic'"),
        ({"attacks": ("pgd", "pgd")}, "once"),
        ({"seed": -1}, "seed must be"),
        ({"norm": "l7"}, "norm must be"),
    ],
)
def test_bad_settings(change, said):
    with pytest.raises(UserError, match=said):
        EvaluationSettings(**{"epsilon": 0.1, **change})


def test_settings_become_json_and_come_back():
    settings = EvaluationSettings(epsilon=8 / 255, epsilons=(0.1, 0.2), attacks=("pgd",))
    read = json.loads(json.dumps(settings.to_json()))
    lists = {name: tuple(value) for name, value in read.items() if isinstance(value, list)}
    assert EvaluationSettings(**{**read, **lists}) == settings


def parsed(*arguments):
    values = flags.FlagValues()
    define_evaluation_flags(values)
    values(["evaluate", "--model=m", *arguments])
    return evaluation_flags(values)


def test_flags_become_settings():
    asked = parsed("--epsilon=8/255", "--attacks=pgd, fgsm", "--epsilons=0.1,1/4", "--steps=7")
    assert asked.epsilon == pytest.approx(8 / 255)
    settings = EvaluationSettings(epsilon=asked.epsilon, **asked.options)
    assert settings.attacks == ("pgd", "fgsm")
    assert settings.epsilons == (0.1, 0.25)
    assert settings.steps == 7


def test_flags_have_the_settings_defaults():
    asked = parsed()
    assert asked.epsilon is None
    assert EvaluationSettings(epsilon=0.1, **asked.options) == EvaluationSettings(epsilon=0.1)


def test_every_setting_has_a_flag():
    asked = parsed()
    fields = {field.name for field in dataclasses.fields(EvaluationSettings)}
    assert fields - {"epsilon"} - set(asked.options) == {"check_draws"}


def test_contradicting_flags():
    with pytest.raises(UserError, match="give one"):
        parsed("--resume", "--overwrite")


def test_settings_and_flags_import_no_tensorflow():
    code = (
        "import sys, pnil_tf.evaluation.flag_definitions; "
        "sys.exit(any(m in sys.modules for m in ('tensorflow', 'keras', 'matplotlib')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
