"""Flags: defined once, checked at once, turned into frozen settings."""

import dataclasses

import pytest
from absl import flags as absl_flags

from pnil_tf import flags
from pnil_tf.errors import UserError
from pnil_tf.evaluation.settings import EvaluationSettings
from pnil_tf.study.settings import StudySettings

GROUPS = ("data", "model", "attack", "optimization", "device", "run")


def read(*arguments):
    """Parses a command line of `bin/train.py` into flags of its own."""
    values = absl_flags.FlagValues()
    flags.define(*GROUPS, flag_values=values)
    values(["train.py", *arguments])
    return values


def parse(*arguments):
    return flags.train_settings(read(*arguments))


def test_the_main_job():
    settings = parse("--dataset=mnist", "--pnil")
    assert settings.data.dataset == "mnist"
    assert settings.model.pnil
    assert settings.model.model == "small_cnn"
    assert settings.attack.epsilon == pytest.approx(8 / 255)
    assert settings.run.name == "mnist_nfgsm_pnil_eps0.03137_seed0"


@pytest.mark.parametrize(
    ("dataset", "epsilon", "model"),
    [("fashion_mnist", 4 / 255, "small_cnn"), ("cifar10", 0.03, "resnet11")],
)
def test_the_papers_presets(dataset, epsilon, model):
    settings = parse(f"--dataset={dataset}")
    assert settings.attack.epsilon == pytest.approx(epsilon)
    assert settings.model.model == model


@pytest.mark.parametrize(
    ("text", "value"), [("8/255", 8 / 255), ("0.03", 0.03), ("3e-2", 0.03), ("1", 1.0)]
)
def test_epsilon_reads_fractions_and_decimals(text, value):
    assert parse(f"--epsilon={text}").attack.epsilon == pytest.approx(value)


@pytest.mark.parametrize("text", ["abc", "1/0", "nan", "inf", "8/", ""])
def test_epsilon_refuses_what_is_no_number(text):
    with pytest.raises(absl_flags.IllegalFlagValueError, match="epsilon"):
        parse(f"--epsilon={text}")


@pytest.mark.parametrize(
    "argument",
    [
        "--epsilon=0",
        "--epsilon=-0.1",
        "--epochs=0",
        "--batch_size=-1",
        "--eot_samples=0",
        "--max_lr=0",
        "--pnil_sigma=-1",
        "--pnil_log_variance=conv --nopnil_kernel",
        "--pnil_penalty=0.2",
        "--pnil_penalty=0.2 --nopnil_kernel",
        "--pnil --pnil_penalty=0.2 --nopnil_kernel --nopnil_trainable",
        "--pnil --pnil_penalty=0.2 --nopnil_kernel --norm=l2 --epsilon=0.5",
        "--clean_weight=1.5",
        "--seed=-1",
        "--name=a/b",
        "--name=..",
        "--num_cpu_devices=0",
        "--evaluation_images=-1",
        "--dataset=",
        "--data_source=auto --dataset=emnist",
        "--repeat=0",
        "--repeat=0 --fold=2",
    ],
)
def test_values_that_cannot_be_right_are_refused(argument):
    with pytest.raises(UserError, match="Received"):
        parse(*argument.split())


def test_folds_are_part_of_the_data_and_of_the_name():
    settings = parse("--repeat=1", "--fold=0")
    assert (settings.data.repeat, settings.data.fold) == (1, 0)
    assert settings.run.name == "mnist_nfgsm_eps0.03137_seed0_repeat1_fold0"
    assert parse().data.fold is None


def test_resume_and_overwrite_exclude_each_other():
    with pytest.raises(UserError, match="both"):
        parse("--resume", "--overwrite")


@pytest.mark.parametrize(
    ("name", "unless_given"), [("jit_compile", "auto"), ("mixed_precision", "false")]
)
def test_a_switch_has_three_states(name, unless_given):
    def value(*arguments):
        return getattr(parse(*arguments).device, name)

    assert value() == unless_given
    assert value(f"--{name}") == value(f"--{name}=true") == "true"
    assert value(f"--no{name}") == value(f"--{name}=off") == "false"
    assert value(f"--{name}=auto") == "auto"


@pytest.mark.parametrize(("text", "size"), [("32", (32, 32)), ("96x128", (96, 128))])
def test_image_size(text, size):
    assert parse(f"--image_size={text}").data.image_size == size


def test_max_lr_is_a_rate_or_auto():
    assert parse("--max_lr=auto").optimization.max_lr == "auto"
    assert parse("--max_lr=0.01").optimization.max_lr == 0.01


def test_given_names_only_what_was_said():
    assert flags.given(read("--epsilon=0.3", "--nopnil")) == {"epsilon": 0.3, "pnil": False}


def test_settings_are_frozen():
    settings = parse()
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.attack.epsilon = 1.0


def test_every_flag_has_a_help_text_():
    values = read()
    for name in (name for _, names in flags.groups(values) for name in names):
        assert len(values[name].help) > 10, name


def evaluation(*arguments):
    """Parses a command line of `bin/evaluate.py`."""
    values = absl_flags.FlagValues()
    flags.define("evaluation", "data", flag_values=values)
    values(["evaluate.py", "--model=m", *arguments])
    return flags.evaluation_arguments(values)


def test_evaluation_flags_become_settings():
    asked = evaluation("--epsilon=8/255", "--attacks=pgd, fgsm", "--epsilons=0.1,1/4", "--steps=7")
    assert asked["epsilon"] == pytest.approx(8 / 255)
    settings = EvaluationSettings(epsilon=asked["epsilon"], **asked["options"])
    assert settings.attacks == ("pgd", "fgsm")
    assert settings.epsilons == (0.1, 0.25)
    assert settings.steps == 7


def test_a_certificate_is_put_beside_several_evaluations():
    def named(*arguments):
        values = absl_flags.FlagValues()
        flags.define("certificate", "data", flag_values=values)
        values(["certify.py", "--model=runs/a", *arguments])
        return flags.certificate_arguments(values)["evaluation"]

    assert named("--evaluation=runs/a/at_4,runs/a/at_8") == ("runs/a/at_4", "runs/a/at_8")
    assert named() == ()
    with pytest.raises(absl_flags.IllegalFlagValueError, match="evaluation"):
        named("--evaluation=,")


def test_evaluation_flags_have_the_settings_defaults():
    asked = evaluation()
    assert asked["epsilon"] is None
    assert EvaluationSettings(epsilon=0.1, **asked["options"]) == EvaluationSettings(epsilon=0.1)


def test_every_evaluation_setting_has_a_flag():
    fields = {field.name for field in dataclasses.fields(EvaluationSettings)}
    assert fields - {"epsilon", "norm"} == set(evaluation()["options"])


def test_only_data_flags_that_were_given_replace_those_of_the_run():
    assert evaluation()["data"] == {}
    assert evaluation("--dataset=cifar10")["data"] == {"dataset": "cifar10"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--resume", "--overwrite"], "Drop one"),
        (["--epsilon=0"], "greater than 0"),
        (["--epsilons=0.1,-0.1"], "epsilons must be"),
        (["--attacks=pgd,magic"], "magic"),
        (["--model="], "no --model"),
    ],
)
def test_evaluation_flags_that_cannot_work_are_refused(arguments, words):
    with pytest.raises(UserError, match=words):
        evaluation(*arguments)


def export(*arguments):
    """Parses a command line of `bin/export.py`."""
    values = absl_flags.FlagValues()
    flags.define("export", flag_values=values)
    values(["export.py", *arguments])
    return flags.export_arguments(values)


def test_export_flags():
    assert export("--model=m", "--output=o", "--format=onnx") == {
        "model": "m",
        "output": "o",
        "overwrite": False,
        "format": "onnx",
        "pixel_range": None,
    }
    for missing in (["--model=m"], ["--output=o"]):
        with pytest.raises(UserError, match="An export needs"):
            export(*missing)


def study(*arguments):
    """Parses a command line of `bin/reproduce.py`."""
    values = absl_flags.FlagValues()
    flags.define("study", flag_values=values)
    values(["reproduce.py", *arguments])
    return flags.study_settings(values)


def test_study_flags_become_settings():
    settings = study("--study=figure4", "--budget=full", "--workers=3", "--yes")
    assert (settings.study, settings.budget, settings.workers) == ("figure4", "full", 3)
    assert settings.yes
    assert str(settings.folder) == "studies/full"
    assert str(study("--output=elsewhere").folder) == "elsewhere"
    assert study() == StudySettings()


def test_gpus_need_ray():
    with pytest.raises(UserError, match="by Ray alone"):
        study("--gpus_per_job=0.5")
    assert study("--gpus_per_job=1/2", "--engine=ray").gpus_per_job == 0.5


def test_an_effort_sets_what_no_flag_sets():
    options = evaluation("--effort=quick", "--images=7")["options"]
    assert (options["effort"], options["images"], options["check_images"]) == ("quick", 7, 25)
    assert evaluation("--images=7")["options"]["check_images"] == 100


def test_a_pixel_range_is_two_numbers():
    assert export("--model=m", "--output=o", "--pixel_range=-1,1")["pixel_range"] == (-1, 1)
    with pytest.raises(UserError, match="the smaller one first"):
        export("--model=m", "--output=o", "--pixel_range=255,0")
    with pytest.raises(absl_flags.IllegalFlagValueError):
        export("--model=m", "--output=o", "--pixel_range=255")


def test_a_choice_that_is_nearly_right_is_answered_with_the_right_one():
    values = absl_flags.FlagValues()
    flags.define("evaluation", flag_values=values)
    with pytest.raises(absl_flags.Error, match=r"quick.*Did you mean 'quick'"):
        flags.parse(["evaluate", "--effort=quik"], values)
    flags.parse(["evaluate", "--effort=quick"], values)
    assert values["effort"].value == "quick"
