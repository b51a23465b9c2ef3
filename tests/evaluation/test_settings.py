import json

import pytest

from pnil_tf.errors import UserError
from pnil_tf.evaluation.settings import EvaluationSettings
from pnil_tf.vocabulary import ATTACKS, SUITES


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"epsilon": 0}, "epsilon must be greater than 0"),
        ({"epsilon": float("nan")}, "epsilon must be"),
        ({"epsilons": (0.1, -0.1)}, "epsilons must be"),
        ({"eot_samples": 0}, "eot_samples must be a whole number, at least 1"),
        ({"images": 0}, "images must be"),
        ({"steps": 0}, "steps must be"),
        ({"judge_draws": 1.5}, "judge_draws must be"),
        ({"judge_draws": 10**9}, "judge_draws must be .* at most 100000"),
        ({"eot_samples": 2**31 - 1}, "eot_samples must be .* at most 100000"),
        ({"spsa_samples": 3}, "even"),
        ({"attacks": ()}, "No attack was named. Name one or more of"),
        ({"attacks": ("pgd", "magic")}, "'magic'"),
        ({"attacks": ("pgd", "pgd")}, "once"),
        ({"seed": -1}, "seed must be"),
        ({"norm": "l7"}, "norm must be"),
        ({"epsilon": 8.0}, "at most 1. Received: 8. For 8 of 255 write epsilon=8/255"),
        ({"epsilons": (0.1, 5.0)}, "at most 1. Received: 5"),
        ({"epsilons": (0.1,), "checks": False}, "one of the checks"),
        ({"restarts": 0}, "restarts must be"),
        ({"step_size": 0.0}, "step_size must be"),
        ({"loss": "margin+hinge"}, "'hinge'"),
        ({"average": "gradients"}, "average must be"),
        ({"targeted": True, "target_class": 3}, "targeted=True and target_class=3. Leave one out"),
    ],
)
def test_bad_settings(change, said):
    with pytest.raises(UserError, match=said):
        EvaluationSettings(**{"epsilon": 0.1, **change})


def test_the_suite_of_the_lowest_accuracy_at_the_least_cost_is_the_default():
    assert EvaluationSettings(epsilon=0.1).attacks == ("auto",)
    assert EvaluationSettings(epsilon=2.0, norm="l2").attacks == ("auto",)


@pytest.mark.parametrize("name", [*ATTACKS, *SUITES])
def test_every_attack_and_suite_can_be_asked_for(name):
    assert EvaluationSettings(epsilon=0.1, attacks=(name,)).attacks == (name,)


def test_a_list_is_as_good_as_a_tuple():
    settings = EvaluationSettings(epsilon=0.1, attacks=["pgd"], epsilons=[0.1, 0.2])
    assert (settings.attacks, settings.epsilons) == (("pgd",), (0.1, 0.2))
    with pytest.raises(UserError, match=r"epsilons must be .*Received: \['0.1'\]"):
        EvaluationSettings(epsilon=0.1, epsilons=["0.1"])


def test_settings_become_json_and_come_back():
    settings = EvaluationSettings(epsilon=8 / 255, epsilons=(0.1, 0.2), attacks=("pgd",))
    read = json.loads(json.dumps(settings.to_json()))
    lists = {name: tuple(value) for name, value in read.items() if isinstance(value, list)}
    assert EvaluationSettings(**{**read, **lists}) == settings
