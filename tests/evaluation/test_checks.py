"""Every check is raised by what it is there for, and by nothing that scatter explains."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from pnil_tf.evaluation.finding import Weight
from pnil_tf.evaluation.obfuscation import CHECKS, COMPARISONS, compare, noise, run_checks, strength
from pnil_tf.evaluation.obfuscation import effort as strong
from pnil_tf.evaluation.obfuscation import gradients as gradient_checks
from pnil_tf.evaluation.obfuscation.evidence import (
    FEWEST_PLANTED,
    Evidence,
    Gradients,
    NoiseCells,
    NothingPlanted,
    Planted,
)
from pnil_tf.evaluation.obfuscation.floors import FLOORS

N = 100
DOCS = Path(__file__).parents[2] / "docs"


def share(accuracy, n=N):
    """Images that are right from the first on."""
    return (np.arange(n) < round(accuracy * n)).astype(float)


def gradients(**change):
    honest = {
        "cross_entropy_norm": np.ones(N),
        "margin_norm": np.ones(N),
        "along_signs": np.tile([0.99, 0.9], (N, 1)),
        "along_random": np.tile([0.99, 0.9], (N, 1)),
        "agreement": np.full(N, 0.5),
    }
    return Gradients(**{**honest, **change}, draws=20)


def planted(found=1.0):
    return Planted(np.zeros(30), by_construction=np.full(30, 0.8), by_attack=share(found, 30))


def cells(**change):
    honest = {
        "clean_without": share(0.98),
        "with_with": share(0.55),
        "with_without": share(0.6),
        "without_with": share(0.7),
        "without_without": share(0.5),
        "frozen_with": share(0.75),
        "clean_frozen": share(0.98),
        "frozen_frozen": share(0.55),
    }
    return NoiseCells(**{**honest, **change})


def effort(**change):
    spent = {
        "pgd": {"steps": 50, "reach": 2.0, "starts": 1, "images": N},
        "pgd_strong": {"steps": 100, "reach": 39.1, "starts": 4, "images": N},
        "square": {"steps": 5000, "images": N},
        "spsa": {"steps": 100, "samples": 2048, "images": N},
        "the evaluation": {"images": N, "eot_samples": 100, "judge_draws": 100},
        "the checks": {"check_images": N, "check_draws": 8},
    }
    return {name: {**of, **change.get(name, {})} for name, of in spent.items()}


HONEST = Evidence(
    classes=10,
    guessed=share(0.1),
    epsilon=0.3,
    stochastic=True,
    repeatable=True,
    outputs="logits",
    saturated=0.0,
    clean=share(0.98),
    attacks={
        "pgd": share(0.6),
        "pgd_strong": share(0.55),
        "square": share(0.56),
        "spsa": share(0.8),
        "fgsm": share(0.75),
        "noise": share(0.97),
    },
    effort=effort(),
    checked=N,
    epsilon_curve=((0.15, share(0.8)), (0.3, share(0.55)), (0.6, share(0.05))),
    unbounded=share(0.0),
    eot_curve=((1, share(0.65)), (10, share(0.56)), (50, share(0.56)), (100, share(0.55))),
    unchanged=share(0.55),
    stronger={"more_steps": share(0.54), "more_restarts": share(0.54)},
    gradients=gradients(),
    jumps=np.full(N, 0.02),
    planted=planted(),
    cells=cells(),
    sigma={"pnil": 0.2},
    called_to_train=(),
)


def changed(**change):
    attacks = {**HONEST.attacks, **change.pop("attacks", {})}
    return dataclasses.replace(
        HONEST, **{"attacks": {k: v for k, v in attacks.items() if v is not None}, **change}
    )


RAISED = {
    "no_better_than_guessing": changed(guessed=share(0.97)),
    "answers_not_finite": changed(unanswered=0.02),
    "predicts_otherwise": changed(called_to_train=("'dropout' (Dropout)",)),
    "predict_step_left_out": changed(predicts_by_itself=True),
    "one_step_stronger": changed(attacks={"fgsm": share(0.4)}),
    "collapsed": changed(
        attacks={"pgd_strong": share(0.03), "fgsm": share(0.95)},
        epsilon_curve=((0.15, share(0.4)), (0.3, share(0.03))),
    ),
    "gradient_free_stronger": changed(attacks={"spsa": share(0.2)}),
    "score_search_stronger": changed(attacks={"square": share(0.3)}),
    "random_noise_as_strong": changed(attacks={"noise": share(0.5)}),
    "unbounded_attack": changed(unbounded=share(0.4)),
    "accuracy_rises_with_epsilon": changed(
        epsilon_curve=((0.15, share(0.5)), (0.3, share(0.7)), (0.6, share(0.1)))
    ),
    "gradients_absent": changed(gradients=gradients(margin_norm=share(0.8))),
    "loss_saturated": changed(gradients=gradients(cross_entropy_norm=share(0.8))),
    "gradients_wrong": changed(gradients=gradients(along_random=np.tile([0.3, 0.1], (N, 1)))),
    "gradients_wrong_for_some": changed(
        gradients=gradients(along_random=np.outer(share(0.85), [0.99, 0.9]))
    ),
    "gradients_short_sighted": changed(
        attacks={"square": share(0.45)},
        gradients=gradients(along_signs=np.tile([0.99, 0.1], (N, 1))),
    ),
    "answers_jump": changed(jumps=0.25 * share(0.2)),
    "gradients_disagree": changed(gradients=gradients(agreement=np.full(N, 0.02))),
    "outputs_saturated": changed(outputs="probabilities", saturated=0.5),
    "frozen_noise_transfers": changed(cells=cells(frozen_with=share(0.2))),
    "noise_free_transfers": changed(cells=cells(without_with=share(0.2))),
    "rests_on_unknown_draws": changed(cells=cells(frozen_frozen=share(0.3))),
    "noise_not_held": changed(cells=None),
    "pnil_sigma": changed(sigma={"a": 0.2, "b": 1e-5}),
    "noise_not_repeatable": changed(repeatable=False),
    "settings_too_weak": changed(effort=effort(pgd_strong={"steps": 2})),
    "eot_not_converged": changed(eot_curve=((10, share(0.8)), (20, share(0.6)))),
    "attack_not_converged": changed(stronger={"more_steps": share(0.3)}),
    "planted_not_found": changed(planted=planted(0.6)),
    "nothing_planted": changed(planted=NothingPlanted(5, "5 of 9 images are far apart")),
    "attacks_missing": changed(attacks={"square": None}),
    "too_few_images": changed(
        attacks={"pgd_strong": share(0.5, 20), "spsa": share(0.9, 20), "fgsm": None}
    ),
}


def failed(evidence):
    return {finding.name for finding in run_checks(evidence) if not finding.passed}


def test_how_well_few_images_know_an_accuracy_is_said_in_points():
    (finding,) = [f for f in run_checks(RAISED["too_few_images"]) if f.name == "too_few_images"]
    assert finding.explanation.endswith("is known to within 20.1 points")


def test_an_honest_model_fails_no_check():
    assert failed(HONEST) == set()
    assert len(run_checks(HONEST)) == len(CHECKS) == len(RAISED)


@pytest.mark.parametrize("name", RAISED)
def test_the_check_is_raised(name):
    assert name in failed(RAISED[name])


@pytest.mark.parametrize("name", RAISED)
def test_a_finding_speaks_for_itself(name):
    (finding,) = [f for f in run_checks(RAISED[name]) if f.name == name]
    written = finding.to_json()
    assert set(written) == {
        "name", "passed", "value", "threshold", "explanation", "remedy", "weight",
    }  # fmt: skip
    assert isinstance(written["passed"], bool)
    assert np.isfinite([written["value"], written["threshold"]]).all()
    assert not written["explanation"].endswith(".")
    assert written["remedy"].endswith(".")


def test_one_step_that_overshoots_is_no_collapse():
    # A radius far beyond that of the training: at half of it the model still stands.
    far = changed(
        attacks={"pgd": share(0.05), "pgd_strong": share(0.02), "fgsm": share(0.77)},
        epsilon_curve=((0.15, share(0.9)), (0.3, share(0.02))),
    )
    assert "collapsed" not in failed(far)
    # Nothing is known nearer by: no more than a doubt.
    alone = dataclasses.replace(far, epsilon_curve=())
    (finding,) = [f for f in run_checks(alone) if f.name == "collapsed"]
    assert (finding.passed, finding.weight) == (False, Weight.DOUBT)


def test_a_comparison_with_weak_attacks_is_no_more_than_a_doubt_where_pgd_strong_finds_more():
    weak = changed(
        attacks={"pgd": share(0.86), "pgd_strong": None, "square": share(0.7)},
        effort=effort(pgd={"starts": 2}),
    )
    hidden = dataclasses.replace(weak, unchanged=share(0.86))
    assert told("score_search_stronger", hidden).weight is Weight.HIDES
    finding = told("score_search_stronger", dataclasses.replace(weak, unchanged=share(0.71)))
    assert (finding.passed, finding.weight) == (False, Weight.DOUBT)
    # Where it was among the attacks, it has shown what it can do.
    same = changed(
        attacks={"pgd": None, "pgd_strong": share(0.86), "square": share(0.7)},
        unchanged=share(0.71),
    )
    assert told("score_search_stronger", same).weight is Weight.HIDES


def told(name, evidence):
    (finding,) = [f for f in run_checks(evidence) if f.name == name]
    return finding


def kept(signs, random=None):
    """Gradients that keep so much of what they promise, over two lengths."""
    random = signs if random is None else random
    return gradients(along_signs=np.tile(signs, (N, 1)), along_random=np.tile(random, (N, 1)))


def test_the_length_at_which_gradient_and_function_agree_best_counts():
    # Half precision tells nothing over short lengths, and slopes change over long ones.
    assert told("gradients_wrong", changed(gradients=kept([0.1, 0.98]))).passed
    assert told("gradients_wrong", changed(gradients=kept([0.98, 0.1]))).passed
    # But along signs and along random directions it must be the same one.
    assert not told("gradients_wrong", changed(gradients=kept([0.98, 0.1], [0.1, 0.98]))).passed


def test_gradients_that_hold_nearby_alone_are_a_doubt_where_square_finds_more():
    near = kept([0.99, 0.98, 0.12, -0.03])
    found_more = {"square": share(0.45)}
    doubt = told("gradients_short_sighted", changed(gradients=near, attacks=found_more))
    assert (doubt.passed, doubt.weight) == (False, Weight.DOUBT)
    assert doubt.value == pytest.approx(0.12)
    # Honest ones bend, too: alone it proves nothing, nor does a little that Square finds.
    assert told("gradients_short_sighted", changed(gradients=near)).passed
    honest = changed(gradients=kept([1.0, 0.98, 0.9, 0.8]), attacks=found_more)
    assert told("gradients_short_sighted", honest).passed
    assert "gradients_short_sighted" not in {
        f.name for f in run_checks(changed(gradients=near, attacks={"square": None}))
    }


@pytest.mark.parametrize("sign", [-1, 1])
def test_a_step_that_happens_to_rise_does_not_make_a_gradient_right(sign):
    finding = told("gradients_wrong", changed(gradients=kept([0.2 * sign, 0.2 * sign], [0.0, 0.0])))
    assert (finding.passed, finding.weight) == (False, Weight.HIDES)


def test_a_gradient_that_is_right_for_most_images_does_not_hide_the_others():
    some = changed(gradients=gradients(along_signs=np.outer(share(0.8), [0.99, 0.9])))
    assert told("gradients_wrong", some).passed
    finding = told("gradients_wrong_for_some", some)
    assert (finding.passed, finding.weight) == (False, Weight.DOUBT)
    assert finding.value == pytest.approx(0.2)
    # One or two may stand where the slope turns; and where noise follows no seed, none can be told.
    few = changed(gradients=gradients(along_signs=np.outer(share(0.94), [0.99, 0.9])))
    assert told("gradients_wrong_for_some", few).passed
    unseeded = dataclasses.replace(some, repeatable=False)
    assert "gradients_wrong_for_some" not in {f.name for f in run_checks(unseeded)}


def test_images_without_a_gradient_do_not_count_for_or_against_it():
    honest = kept([0.98, 0.9])
    honest.along_signs[:80] = honest.along_random[:80] = np.nan
    assert told("gradients_wrong", changed(gradients=honest)).passed
    none = gradients(margin_norm=np.zeros(N))
    assert "gradients_wrong" not in {f.name for f in run_checks(changed(gradients=none))}


def test_noise_that_follows_no_seed_is_asked_along_the_signs_alone():
    nan = [np.nan, np.nan]
    of_noise = changed(repeatable=False, gradients=kept([0.3, 0.9], nan))
    assert told("gradients_wrong", of_noise).passed
    finding = told("gradients_wrong", changed(repeatable=False, gradients=kept([0.2, 0.1], nan)))
    assert (finding.passed, finding.weight) == (False, Weight.HIDES)


def test_noise_that_follows_no_seed_is_asked_along_random_directions_where_it_does_not_drown_them():
    right = changed(repeatable=False, gradients=kept([0.9, 0.98], [np.nan, 0.96]))
    assert told("gradients_wrong", right).passed
    # The decoy whose signs rise as they should.
    finding = told(
        "gradients_wrong", changed(repeatable=False, gradients=kept([0.9, 0.9], [np.nan, 0.5]))
    )
    assert (finding.passed, finding.weight) == (False, Weight.HIDES)


def test_noise_that_drowns_everything_is_a_doubt_alone():
    nan = [np.nan, np.nan]
    finding = told("gradients_wrong", changed(repeatable=False, gradients=kept(nan, nan)))
    assert (finding.passed, finding.weight) == (False, Weight.DOUBT)
    assert "drowns" in finding.explanation


POINTS = f"{100 * compare.TOLERANCE:g} points"
BY_SIZE = f"more than {POINTS}; obfuscated from {100 * compare.MUCH:g} on, doubtful below"
MUCH_BY_SCORES = 100 * strength._MUCH_BY_SCORES
LINES = {
    "no_better_than_guessing": f"no gain beyond chance, and none of {100 * compare.MUCH:g} points",
    "answers_not_finite": "any such answer",
    "predicts_otherwise": "any such layer",
    "predict_step_left_out": "such a method",
    "one_step_stronger": f"more than {POINTS}",
    "collapsed": f"less than {strength._BROKEN} of clean accuracy is left, more than "
    f"{strength._INTACT} by one step, and at half of the radius, or a third, less than "
    f"{strength._STANDING}",
    "gradient_free_stronger": BY_SIZE,
    "score_search_stronger": f"more than {POINTS}: a note; more than {MUCH_BY_SCORES:g}, or than "
    f"{strength._MUCH_OF_THE_REST:.0%} of what gradients left: doubtful; the lower end of the "
    "interval above that: obfuscated",
    "random_noise_as_strong": "noise takes half of what the attack takes, or more than it",
    "unbounded_attack": "the interval lies above 1 / classes",
    "accuracy_rises_with_epsilon": f"more than {POINTS} from one radius to a larger one",
    "gradients_absent": f"{gradient_checks._FEW:.0%} of the images",
    "loss_saturated": f"{gradient_checks._FEW:.0%} of the images",
    "gradients_wrong": f"agreement below {gradient_checks._KEPT} (1: just so, 0: it has nothing to "
    f"do with it), or {gradient_checks._KEPT_ALONG_SIGNS} where noise that follows no seed "
    "drowns random directions",
    "gradients_wrong_for_some": f"agreement below {gradient_checks._KEPT_BY_AN_IMAGE} for "
    f"{gradient_checks._FEW:.0%} of the images",
    "gradients_short_sighted": "the same over moves of a quarter and half of the radius, and "
    f"square takes more than {POINTS}",
    "answers_jump": f"{gradient_checks._AT_ONE_BOUND:.0%} of the change from class to class within "
    "1/256 of the way, or of the reach of 256 answers along it where noise can be neither held "
    f"nor switched off, for {gradient_checks._FEW:.0%} of the images",
    "gradients_disagree": f"cosine below {gradient_checks._AGREE}",
    "outputs_saturated": f"{gradient_checks._FEW:.0%} of the images",
    "frozen_noise_transfers": BY_SIZE,
    "noise_free_transfers": BY_SIZE,
    "rests_on_unknown_draws": f"more than {POINTS}",
    "noise_not_held": "any such noise",
    "pnil_sigma": f"a mean below {noise._MIN_SIGMA} or above {noise._MAX_SIGMA:g}",
    "noise_not_repeatable": "any such noise",
    "settings_too_weak": "the second table",
    "eot_not_converged": f"more than {POINTS}",
    "attack_not_converged": f"more than {POINTS}",
    "planted_not_found": f"the interval of what is found lies below {strong._FOUND:.0%}",
    "nothing_planted": f"fewer than {FEWEST_PLANTED} images",
    "attacks_missing": "any of them",
    "too_few_images": f"half the interval is more than {100 * strong._MAX_HALF_WIDTH:g} points",
}
"""From where on each is raised."""

SEVERAL = {
    "collapsed": "obfuscated; doubtful where the curve over epsilon has no such radius",
    "gradient_free_stronger": "obfuscated or doubtful",
    "score_search_stronger": "a note, doubtful or obfuscated",
    "frozen_noise_transfers": "obfuscated or doubtful",
    "noise_free_transfers": "obfuscated or doubtful",
    "gradients_wrong": "obfuscated; doubtful where noise drowns all",
    "attack_not_converged": "doubtful; a note where the other attacks leave no more than that",
}
"""What a check makes of the verdict where that depends."""


def documented():
    """The table of the checks: `python tests/evaluation/test_checks.py > docs/checks.md`."""
    effects = {Weight.HIDES: "obfuscated", Weight.DOUBT: "doubtful", Weight.NOTE: "none: a note"}
    rows = []
    for check, name in zip(CHECKS, [f.name for f in run_checks(HONEST)], strict=True):
        (raised,) = [f for f in run_checks(RAISED[name]) if f.name == name]
        when = " ".join(check.__doc__.split("\n\n")[0].removeprefix("Raised ").split())
        effect = SEVERAL.get(name, effects[raised.weight])
        cells = (f"`{name}`", when, LINES[name], effect, raised.remedy)
        rows.append("| " + " | ".join(cells) + " |")
    compared = [
        name
        for check, name in zip(CHECKS, [f.name for f in run_checks(HONEST)], strict=True)
        if check in COMPARISONS
    ]
    floors = [f"| {floor.of} | `{floor.setting}` | {floor.says} |" for floor in FLOORS]
    return "\n".join(
        [
            "# What the evaluation checks",
            "",
            "A difference between two accuracies of the same images counts if it is larger than "
            "its line and its 95 % interval excludes zero; a share of the images counts if its "
            "interval lies beyond the line. A comparison of attacks "
            f"({', '.join(f'`{name}`' for name in compared)}) is no more than a doubt where "
            "attacks with gradients may lose for want of effort: where a setting is beyond its "
            "bound (the second table), where none of them was run, and where they miss planted "
            "examples although the gradients are present and right, near and far, and no answers "
            "jump.",
            "",
            "| finding | raised | from where on | makes the verdict | remedy |",
            "| --- | --- | --- | --- | --- |",
            *rows,
            "",
            "## The least effort a verdict can rest on",
            "",
            "One attack with gradients must keep to its bounds, and `square`. `reach` is how far "
            "an attack's steps lead together, in radii of the ball, so that they can cross it; "
            "`step` is their mean length, since longer ones than the ball is wide hop from edge to "
            "edge. `starts` are restarts times losses times target classes, of all attacks with "
            "gradients that keep to the other bounds.",
            "",
            "| of | setting | bound |",
            "| --- | --- | --- |",
            *floors,
            "",
            "## Models of which the truth is known",
            "",
            *planted_models(),
            "",
        ]
    )


def planted_models():
    """What `record_planted.py` has written down."""
    file = DOCS / "results" / "planted_verdicts.json"
    record = json.loads(file.read_text(encoding="utf-8"))
    rows = [
        (
            *(one["sort"], one["model"]),
            *(f"{one['clean']:.1%}", f"{min(one['left'].values()):.1%}"),
            *(", ".join(f"`{name}`" for name in searches(one)), one["verdict"]),
            ", ".join(f"`{name}`" for name in decisive(one)) or "-",
        )
        for one in record["models"]
    ]
    dates = sorted({one["date"] for one in record["models"]})
    return [
        f"`{record['command']}`, {' and '.join(dates)}, data: scikit-learn digits. l_inf, epsilon "
        f"{record['settings']['epsilon']} (0.3 where FGSM training collapsed), sigma of the noise "
        "0.3; on 60 images (fakes) or 120 (honest models) that no training saw "
        "([settings and figures](results/planted_verdicts.json)). Noise undoes the collapse of "
        "FGSM training: one step takes most again, and the figure is right.",
        "",
        "| sort | model | clean | lowest | attacked by | verdict | decided by |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        *("| " + " | ".join(row) + " |" for row in rows),
        "",
        "Four of the lines rest on these models: between what honest ones show and what the fakes "
        "do that the check caught.",
        "",
        "| finding | value | line | honest models | fakes that it caught |",
        "| --- | --- | --- | --- | --- |",
        *(f"| `{name}` | {what} | {line} | {honest} | {fakes} |"
          for name, what, line, honest, fakes in lines(record["models"])),
    ]  # fmt: skip


def lines(models):
    """Where the values of honest models and of fakes lie."""
    for name, what, line in (
        ("gradients_wrong", "agreement of gradient and function", gradient_checks._KEPT),
        ("answers_jump", "share of images between which they jump", gradient_checks._FEW),
        ("planted_not_found", "share of planted examples that is found", strong._FOUND),
        ("score_search_stronger", "what Square takes", strength._MUCH_BY_SCORES),
    ):
        honest = [
            m["values"][name] for m in models if m["sort"] == "honest" and name in m["values"]
        ]
        fakes = [
            m["values"][name]
            for m in models
            if m["sort"] == "fake" and name in m["caught_by"] + m["doubted_by"]
        ]
        ends = (
            (round(min(v), 2) + 0.0, round(max(v), 2) + 0.0) for v in (honest, fakes)
        )  # no -0.00
        yield (name, what, line, *(f"{low:.2f} to {high:.2f}" for low, high in ends))


def searches(one):
    """The attacks that were asked for, without those of one step and none."""
    return [name for name in one["changed_settings"]["attacks"] if name not in ("fgsm", "noise")]


def decisive(one):
    """The findings behind a verdict: doubts count where nothing is hidden."""
    return one["caught_by"] or one["doubted_by"]


def test_the_documented_table_is_that_of_the_checks():
    assert (DOCS / "checks.md").read_text(encoding="utf-8") == documented()


def test_square_beyond_the_usual_is_a_symptom_and_the_usual_a_note():
    """On a deterministic model images count that Square alone fooled."""
    easy = {"pgd": share(0.6), "pgd_strong": share(0.6)}
    quiet = changed(stochastic=False, attacks={**easy, "square": 1 - share(0.43)})
    finding = told("score_search_stronger", quiet)
    assert (finding.passed, finding.weight) == (False, Weight.HIDES)
    assert finding.value == pytest.approx(0.43)
    usual = told("score_search_stronger", changed(attacks={**easy, "square": share(0.53)}))
    assert (usual.passed, usual.weight) == (False, Weight.NOTE)
    assert told("score_search_stronger", changed(attacks={**easy, "square": share(0.59)})).passed


@pytest.mark.parametrize("stochastic", [False, True])
@pytest.mark.parametrize(
    ("images", "taken", "weight"),
    [
        (1000, 0.068, Weight.NOTE),  # the most of an honest model on record
        (100, 0.12, Weight.DOUBT),  # the same model on few images may look like this
        (300, 0.13, Weight.HIDES),  # the least of a fake on record
    ],
)
def test_square_hides_nothing_until_chance_is_ruled_out(stochastic, images, taken, weight):
    attacks = {"pgd_strong": share(0.78, images), "square": share(0.78 - taken, images)}
    evidence = dataclasses.replace(HONEST, stochastic=stochastic, attacks=attacks)
    finding = told("score_search_stronger", evidence)
    assert (finding.passed, finding.weight) == (False, weight)
    assert finding.value == pytest.approx(taken)


@pytest.mark.parametrize("stochastic", [False, True])
@pytest.mark.parametrize(
    ("images", "left", "taken", "weight"),
    [
        # docs/results/autoattack.json and autoattack_l2.json: honest, the first one overfitted.
        (1000, 312, 71, Weight.NOTE),
        (300, 83, 17, Weight.NOTE),
        (1000, 188, 24, Weight.NOTE),
        (300, 48, 8, Weight.NOTE),
        # Gradients leave few, and Square takes most of them.
        (1000, 90, 70, Weight.HIDES),
        (1000, 90, 32, Weight.DOUBT),
        (100, 9, 7, Weight.DOUBT),
    ],
)
def test_of_the_little_that_gradients_leave_square_takes_no_large_share(
    stochastic, images, left, taken, weight
):
    attacks = {
        name: share(count / images, images)
        for name, count in (("pgd_strong", left), ("square", left - taken))
    }
    evidence = dataclasses.replace(HONEST, stochastic=stochastic, attacks=attacks)
    finding = told("score_search_stronger", evidence)
    assert finding.weight is weight
    assert finding.value == pytest.approx(taken / images)
    assert finding.value > finding.threshold >= compare.TOLERANCE


def test_a_large_share_of_what_chance_may_take_is_none():
    """Three of five images, of a hundred."""
    few = dataclasses.replace(HONEST, attacks={"pgd": share(0.05), "square": share(0.02)})
    assert told("score_search_stronger", few).passed


def halves(shares, draws, seed):
    """Evidence of attacks by the votes of draws that are right with these probabilities."""
    generator = np.random.default_rng(seed)
    right = {name: generator.random((len(p), draws)) < p[:, None] for name, p in shares.items()}
    return {
        "attacks": {name: votes.mean(axis=1) for name, votes in right.items()},
        "halves": {
            name: np.stack([votes[:, ::2].mean(axis=1), votes[:, 1::2].mean(axis=1)], axis=1)
            for name, votes in right.items()
        },
    }


def test_with_noise_square_counts_on_the_images_that_gradients_leave():
    """Gradients take one half of the images and Square the other: on average neither is better."""
    first = np.repeat([0.1, 0.9], 100)
    told_by = halves({"pgd_strong": first, "square": 1 - first}, 20, seed=0)
    finding = told("score_search_stronger", dataclasses.replace(HONEST, **told_by))
    assert (finding.passed, finding.weight) == (False, Weight.HIDES)
    assert finding.value == pytest.approx(0.4, abs=0.02)


def test_with_noise_square_takes_nothing_by_the_luck_of_the_draws():
    """The lower of two noisy shares would be 0.09 below either."""
    even = np.full(2000, 0.5)
    told_by = halves({"pgd_strong": even, "square": even}, 20, seed=0)
    finding = told("score_search_stronger", dataclasses.replace(HONEST, **told_by))
    assert finding.passed
    assert finding.value == pytest.approx(0.0, abs=0.01)


def test_that_nothing_could_be_planted_is_a_note():
    nothing = changed(planted=NothingPlanted(5, "5 of 9 images are far apart"))
    finding = told("nothing_planted", nothing)
    assert (finding.passed, finding.weight) == (False, Weight.NOTE)
    assert finding.explanation.endswith("could be planted: 5 of 9 images are far apart")
    assert "planted_not_found" not in {found.name for found in run_checks(nothing)}


def test_an_attack_is_called_too_weak_only_where_planted_examples_are_missed():
    found, missed = (told("planted_not_found", changed(planted=planted(p))) for p in (1.0, 0.6))
    seen = "of 30 adversarial examples planted inside the ball the attack found"
    assert (found.passed, found.explanation) == (True, f"{seen} 100.0%")
    assert missed.explanation == f"the attack is too weak for this model: {seen} 60.0%"
    easy = told("planted_not_found", changed(planted=dataclasses.replace(planted(), by_chance=2)))
    left_out = "(2 more, which random points found, do not count)"
    assert easy.explanation == f"{seen} 100.0% {left_out}"


def test_a_scatter_of_three_images_raises_nothing():
    assert failed(changed(attacks={"spsa": share(0.52), "fgsm": share(0.52)})) == set()
    assert failed(changed(unbounded=share(0.13))) == set()
    assert failed(changed(stronger={"more_restarts": share(0.52)})) == set()


def test_a_robust_model_that_no_attack_moves_is_not_blamed_for_noise():
    easy = changed(
        attacks={name: share(0.98) for name in HONEST.attacks},
        epsilon_curve=((0.01, share(0.98)),),
        eot_curve=(),
        stronger={},
        cells=None,
    )
    assert "random_noise_as_strong" not in failed(easy)


def test_an_attack_on_few_images_that_beats_noise_a_little_is_no_symptom():
    """7 points below clean, 5 below noise: too few images for that to be significant."""
    attacks = {"pgd": share(0.91)[:100], "noise": share(0.96)[:100]}
    evidence = dataclasses.replace(HONEST, clean=share(0.98)[:100], attacks=attacks)
    assert "random_noise_as_strong" not in failed(evidence)


def test_an_exploded_layer_and_gradients_that_are_no_numbers_make_json():
    evidence = changed(gradients=gradients(agreement=np.full(N, np.nan)), sigma={"n": 3e38})
    text = json.dumps([finding.to_json() for finding in run_checks(evidence)], allow_nan=False)
    assert "gradients_disagree" in text


@pytest.mark.parametrize(("left", "weight"), [(0.47, Weight.DOUBT), (0.2, Weight.HIDES)])
def test_a_slightly_stronger_attack_is_a_doubt_and_a_much_stronger_one_a_symptom(left, weight):
    findings = {f.name: f for f in run_checks(changed(attacks={"spsa": share(left)}))}
    assert not findings["gradient_free_stronger"].passed
    assert findings["gradient_free_stronger"].weight is weight


def test_gradients_of_another_model_that_do_more_harm_are_a_symptom():
    findings = {f.name: f for f in run_checks(changed(attacks={"transfer": share(0.2)}))}
    assert not findings["gradient_free_stronger"].passed
    assert "without its gradients transfer leaves" in findings["gradient_free_stronger"].explanation


def weak(evidence):
    (finding,) = [f for f in run_checks(evidence) if f.name == "settings_too_weak"]
    return None if finding.passed else finding.explanation


def test_what_is_too_weak_is_named():
    token = effort(
        pgd={"steps": 1},
        pgd_strong={"steps": 1, "starts": 2},
        spsa={"steps": 1, "samples": 2, "images": 1},
        square={"steps": 1, "images": 1},
        **{"the checks": {"check_images": 1}},
    )
    said = weak(changed(effort=token))
    assert said.startswith("settings too weak for a verdict: pgd steps=1 (at least 20), ")
    assert said.endswith("images=1 (at least 50), check_images=1 (at least 50)")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"the evaluation": {"images": 20}}, "images=20 (at least 50)"),
        ({"the evaluation": {"eot_samples": 9}}, "eot_samples=9 (at least 10)"),
        ({"the evaluation": {"judge_draws": 2}}, "judge_draws=2 (at least 10)"),
        ({"the checks": {"check_draws": 1}}, "check_draws=1 (at least 4)"),
        ({"the checks": {"check_images": 49}}, "check_images=49 (at least 50)"),
        ({"pgd_strong": {"steps": 10}}, "pgd starts=1 (at least 2)"),
        ({"pgd_strong": {"reach": 0.16}}, "pgd starts=1 (at least 2)"),
        ({"pgd_strong": {"reach": 210.0}}, "pgd starts=1 (at least 2)"),
        (
            {"pgd": {"steps": 5, "images": 9}, "pgd_strong": {"reach": 400.0}},
            "pgd_strong step=4 (at most 2)",
        ),
        ({"pgd": {"reach": 0.4}, "pgd_strong": {"reach": 0.16}}, "pgd reach=0.4 (at least 2)"),
    ],
)
def test_every_kind_of_effort_has_a_floor(change, said):
    assert said in weak(changed(effort=effort(**change)))


def test_an_attack_that_is_too_weak_proves_nothing_by_losing():
    token = changed(
        attacks={"fgsm": share(0.4)}, effort=effort(pgd={"steps": 1}, pgd_strong={"steps": 1})
    )
    (finding,) = [f for f in run_checks(token) if f.name == "one_step_stronger"]
    assert (finding.passed, finding.weight) == (False, Weight.DOUBT)


HIDING = {
    "one_step_stronger": {"attacks": {"fgsm": share(0.4)}},
    "frozen_noise_transfers": {"cells": cells(frozen_with=share(0.2))},
    "noise_free_transfers": {"cells": cells(without_with=share(0.2))},
}


@pytest.mark.parametrize("name", HIDING)
@pytest.mark.parametrize(
    ("how", "weight"),
    [
        ({}, Weight.HIDES),
        ({"effort": effort(pgd={"steps": 1}, pgd_strong={"steps": 1})}, Weight.DOUBT),
        ({"effort": effort(pgd={"reach": 0.4}, pgd_strong={"reach": 0.16})}, Weight.DOUBT),
        ({"planted": planted(0.0)}, Weight.DOUBT),
        # Wrong gradients explain that as well as few steps do.
        ({"planted": planted(0.0), "gradients": kept([0.2, 0.1])}, Weight.HIDES),
        (
            {
                "planted": planted(0.0),
                "gradients": kept([0.99, 0.1]),
                "attacks": {"fgsm": share(0.4), "square": share(0.45)},
            },
            Weight.HIDES,
        ),
        ({"planted": planted(0.0), "gradients": gradients(margin_norm=share(0.8))}, Weight.HIDES),
    ],
)
def test_attacks_that_may_lose_for_want_of_effort_prove_nothing_by_losing(name, how, weight):
    finding = told(name, changed(**{**HIDING[name], **how}))
    assert (finding.passed, finding.weight) == (False, weight)


def test_without_an_attack_of_many_gradient_steps_nothing_is_hidden():
    """`fgsm` and `noise` alone, of an honest model: the checks' own attack leaves far less."""
    sanity = {"pgd": None, "pgd_strong": None, "square": None, "spsa": None}
    alone = changed(attacks=sanity, cells=cells(frozen_with=share(0.5), without_with=share(0.5)))
    for name in ("frozen_noise_transfers", "noise_free_transfers"):
        assert (told(name, alone).passed, told(name, alone).weight) == (False, Weight.DOUBT)


def test_square_is_asked_for_its_own_floors():
    few = effort(square={"steps": 100})
    assert weak(changed(effort=few)).endswith(": square steps=100 (at least 1000)")
    # Without it (a doubt of its own) those of another search without gradients count.
    assert weak(changed(attacks={"square": None})) is None
    assert "spsa steps=1 (at least 20)" in weak(
        changed(attacks={"square": None}, effort=effort(spsa={"steps": 1}))
    )


def test_a_stronger_version_is_held_against_the_attack_itself():
    falls = {"unchanged": share(0.7), "stronger": {"more_steps": share(0.6)}}
    moved = told("attack_not_converged", changed(**falls))
    # The figure is that of all attacks, and those leave 55 %.
    assert (moved.passed, moved.weight) == (False, Weight.NOTE)
    assert moved.value == pytest.approx(0.1)
    assert moved.explanation.endswith(
        "leaves 70.0% of 100 images, with twice the steps 60.0%, and the strongest of the attacks "
        "55.0%"
    )
    below = told(
        "attack_not_converged", changed(**{**falls, "stronger": {"more_steps": share(0.4)}})
    )
    assert (below.passed, below.weight) == (False, Weight.DOUBT)
    assert below.value == pytest.approx(0.15)
    assert told("attack_not_converged", changed(unchanged=share(0.55))).passed


def test_apgd_begins_with_steps_as_long_as_the_ball_is_wide():
    """It shortens them by itself, so that what it begins with is within the bounds."""
    begins = {"steps": 100, "reach": 200.0, "starts": 9, "images": N}
    apgd = changed(
        attacks={"apgd_t": share(0.55)},
        effort={**effort(pgd_strong={"steps": 2}), "apgd_t": begins},
    )
    assert weak(apgd) is None


def test_one_attack_above_its_floors_is_enough():
    assert weak(changed(effort=effort(pgd={"steps": 5}))) is None
    assert weak(changed(effort=effort(pgd_strong={"starts": 1}))) is None  # together with pgd's


def test_always_saying_the_majority_is_guessing():
    majority = share(0.95)
    assert "no_better_than_guessing" in failed(changed(clean=majority, guessed=majority))
    assert "no_better_than_guessing" not in failed(changed(clean=share(0.99), guessed=share(0.8)))


def test_few_images_do_not_make_a_classifier_none():
    few = changed(clean=share(0.9, 12), guessed=share(0.5, 12))
    assert "no_better_than_guessing" not in failed(few)


def test_a_gain_that_few_images_do_not_show_is_no_guessing():
    """58 of 60 right, where always saying one class is in 53: one in fifteen cases by chance."""
    few = changed(clean=share(0.967, 60), guessed=share(0.883, 60)[::-1])
    (found,) = [f for f in run_checks(few) if f.name == "no_better_than_guessing"]
    assert not found.passed
    assert found.explanation.endswith(
        "right in 96.7% of the unperturbed images, which cannot be told from guessing (88.3%) on "
        "60 images"
    )
    assert found.remedy.startswith("Evaluate on more images")


def test_that_noise_cannot_be_held_is_said_wherever_checks_ran():
    """A `GaussianNoise` of Keras is no PNIL layer: its draws cannot be told to an attack."""
    finding = told("noise_not_held", changed(cells=None))
    assert (finding.passed, finding.weight) == (False, Weight.NOTE)
    assert "noise_not_held" not in {
        f.name for f in run_checks(changed(cells=None, checked=0, stronger={}))
    }


def test_a_deterministic_model_is_not_asked_about_noise():
    quiet = changed(
        stochastic=False,
        cells=None,
        sigma={},
        eot_curve=(),
        effort=effort(**{"the evaluation": {"eot_samples": 1, "judge_draws": 1}}),
    )
    names = {finding.name for finding in run_checks(quiet)}
    assert names.isdisjoint({"gradients_disagree", "noise_not_repeatable", "noise_not_held"})
    assert failed(quiet) == set()


def test_without_checks_the_evaluation_says_what_is_missing():
    bare = Evidence(
        classes=10,
        guessed=share(0.1),
        epsilon=0.3,
        stochastic=False,
        repeatable=True,
        outputs="logits",
        saturated=0.0,
        clean=share(0.9),
        attacks={"pgd": share(0.5)},
        effort=effort(),
    )
    (finding,) = [f for f in run_checks(bare) if f.name == "attacks_missing"]
    assert not finding.passed
    assert (
        "the search over scores alone (square) and the search for hidden gradients were left out"
        in finding.explanation
    )


def curve(**radii):
    """A curve of these radii, in shares of epsilon, at which so much is left."""
    return tuple((float(of) * HONEST.epsilon, share(left)) for of, left in radii.items())


def test_a_curve_of_one_radius_is_none():
    """Asked for with `--epsilons=EPSILON`: nothing is known of a rise over the radii."""
    alone = changed(epsilon_curve=curve(**{"1": 0.55}))
    assert "accuracy_rises_with_epsilon" not in {f.name for f in run_checks(alone)}
    finding = told("attacks_missing", alone)
    assert (finding.passed, finding.weight) == (False, Weight.DOUBT)
    assert finding.explanation == (
        "a radius 1.5 to 4 times as large or as small as epsilon in the curve over it was left out"
    )


@pytest.mark.parametrize(
    ("other", "tells"),
    [
        *((other, False) for other in ("1.0001", "1.4", "0.7", "0.2", "0.001", "5")),
        *((other, True) for other in ("1.5", "2", "4", "0.6", "0.5", "0.25")),
    ],
)
def test_a_curve_needs_a_radius_that_is_clearly_another_one(other, tells):
    evidence = changed(epsilon_curve=tuple(sorted(curve(**{"1": 0.55, other: 0.55}))))
    assert told("attacks_missing", evidence).passed is tells


def test_a_rise_in_small_steps_is_one():
    creeping = {f"{1 + i / 10}": 0.55 + 0.015 * i for i in range(11)}
    finding = told("accuracy_rises_with_epsilon", changed(epsilon_curve=curve(**creeping)))
    assert (finding.passed, finding.weight) == (False, Weight.HIDES)
    assert finding.explanation == "accuracy rises by 15.0% from epsilon 0.3 to 0.6"


@pytest.mark.parametrize("other", ["0.001", "0.25"])
def test_a_model_that_stands_far_below_half_the_radius_may_have_collapsed(other):
    """Every model stands in a ball that is small enough: half of epsilon has to be among them."""
    attacks = {"pgd_strong": share(0.03), "fgsm": share(0.95)}
    finding = told(
        "collapsed", changed(attacks=attacks, epsilon_curve=curve(**{other: 0.98, "1": 0.03}))
    )
    assert (finding.passed, finding.weight) == (False, Weight.DOUBT)


if __name__ == "__main__":
    print(documented(), end="")
