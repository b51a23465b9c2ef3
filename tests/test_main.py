"""The installed command, `pnil-tf`, and the flagfiles that come with it."""

import re
import runpy
import sys

import pytest
from command import ROOT

from pnil_tf import __main__ as installed
from pnil_tf import flagfiles, flags
from pnil_tf.errors import UserError
from pnil_tf.training.settings import PAPER_EPSILON
from pnil_tf.version import __version__


def called(monkeypatch, capsys, *arguments):
    """Exit status, standard output and standard error."""
    monkeypatch.setattr(sys, "argv", ["pnil-tf", *arguments])
    with pytest.raises(SystemExit) as left:
        installed.main()
    out, err = capsys.readouterr()
    return left.value.code, out, err


def test_every_script_of_bin_is_an_installed_command_and_says_the_same(capsys, monkeypatch):
    scripts = {file.stem for file in (ROOT / "bin").glob("*.py")}
    assert {name.replace("-", "_") for name in installed.COMMANDS} == scripts
    ran = []
    monkeypatch.setattr("pnil_tf.cli.run", lambda main, *groups: ran.append((main, groups)))
    for name in installed.COMMANDS:
        monkeypatch.setattr(sys, "argv", ["pnil-tf", name, "--seed=1"])
        installed.main()
        assert sys.argv == [f"pnil-tf {name}", "--seed=1"]
        runpy.run_path(str(ROOT / "bin" / f"{name.replace('-', '_')}.py"), run_name="__main__")
        assert ran[-2] == ran[-1]


@pytest.mark.parametrize("arguments", [(), ("--help",), ("-h",)])
def test_without_a_command_it_says_which_there_are(monkeypatch, capsys, arguments):
    status, out, _ = called(monkeypatch, capsys, *arguments)
    assert status == 0
    for name in installed.COMMANDS:
        assert re.search(rf"^  {name} +[A-Z].*\.$", out, re.MULTILINE), name
    assert "{" not in out


def test_a_misspelt_command_gets_the_right_one(monkeypatch, capsys):
    status, out, err = called(monkeypatch, capsys, "tran")
    assert (status, out) == (2, "")
    assert err == "pnil-tf: there is no command 'tran'. Did you mean 'train'?\n"


@pytest.mark.parametrize("arguments", [("--version",), ("train", "--version")])
def test_the_version(monkeypatch, capsys, arguments):
    monkeypatch.setattr("pnil_tf.cli.pnil_flags.define", lambda *groups: None)
    # What follows is the process of the tests.
    monkeypatch.setattr("pnil_tf.cli.answer_signals", lambda: None)
    monkeypatch.setattr("pnil_tf.cli.work_and_leave", lambda work: work())
    assert called(monkeypatch, capsys, *arguments)[:2] == (0, f"pnil_tf {__version__}\n")


def test_the_flagfiles_of_the_package_are_those_of_the_clone():
    assert flagfiles.presets() == sorted(file.stem for file in (ROOT / "configs").glob("*.cfg"))


@pytest.mark.parametrize(
    "arguments",
    [["--flagfile=preset:mnist_nfgsm_pnil"], ["--flagfile", "preset:mnist_nfgsm_pnil"]],
)
def test_a_flagfile_is_found_by_its_name(arguments):
    values = flags.flags.FlagValues()
    flags.define("data", "model", "attack", "optimization", "device", "run", flag_values=values)
    flags.parse(["pnil-tf train", *arguments, "--seed=3"], values)
    settings = flags.train_settings(values)
    assert settings.model.pnil
    assert settings.attack.attack == "nfgsm"
    assert settings.optimization.seed == 3


def with_recipe(*arguments):
    values = flags.flags.FlagValues()
    groups = ("recipe", "data", "model", "attack", "optimization", "device", "run")
    flags.define(*groups, flag_values=values)
    flags.parse(["pnil-tf train", *arguments], values)
    return values


@pytest.mark.parametrize("dataset", flagfiles.DATASETS)
@pytest.mark.parametrize("recipe", flagfiles.RECIPES)
def test_a_recipe_is_the_flagfile_of_its_data_set(dataset, recipe):
    name = flagfiles.RECIPES[recipe].format(dataset)
    arguments = [f"--recipe={recipe}", "--dataset", dataset]
    of_recipe, of_file = (with_recipe(*a) for a in (arguments, [f"--flagfile=preset:{name}"]))
    assert flags.train_settings(of_recipe) == flags.train_settings(of_file)
    assert flags.given(of_recipe) == flags.given(of_file)


def test_the_paper_s_recipe_is_the_paper_s_method_for_each_of_its_data_sets():
    for dataset in flagfiles.DATASETS:
        settings = flags.train_settings(with_recipe("--recipe=paper", f"--dataset={dataset}"))
        assert (settings.attack.attack, settings.model.pnil) == ("nfgsm", True)
        assert settings.attack.epsilon == pytest.approx(PAPER_EPSILON[dataset])


@pytest.mark.parametrize("dataset", flagfiles.DATASETS)
def test_a_certificate_s_recipe_has_noise_that_no_image_changes(dataset):
    """In l_inf learned under the penalty on D; in l_2 the same everywhere, see docs/certificate."""
    settings = flags.train_settings(with_recipe("--recipe=certified", f"--dataset={dataset}"))
    model, norm = settings.model, settings.attack.norm
    assert (model.pnil, model.pnil_kernel) == (True, False)
    assert norm == ("l2" if dataset == "cifar10" else "linf")
    assert model.pnil_trainable == (norm == "linf") == (model.pnil_penalty > 0)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--epochs=1", "--pnil", "--recipe=best", "--dataset=mnist"],
        ["--recipe", "best", "--epochs=1", "--pnil"],  # the data set is MNIST unless given
        ["--flagfile={file}", "--recipe=best"],
    ],
)
def test_a_flag_beside_a_recipe_wins_in_any_order(tmp_path, arguments):
    file = tmp_path / "flags.cfg"
    file.write_text("--epochs=1\n--pnil\n")
    settings = flags.train_settings(with_recipe(*(a.format(file=file) for a in arguments)))
    assert (settings.optimization.epochs, settings.model.pnil) == (1, True)
    assert settings.attack.epsilon_warmup == 0.5
    assert settings.run.name == "mnist_best"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--recipe=bset"], "no recipe 'bset' for mnist. Did you mean 'best'? There are: paper,"),
        (["--recipe=x"], "no recipe 'x' for mnist. There are: paper, fast, best, certified."),
        (
            ["--recipe=best", "--dataset=mnits"],
            "no recipe for --dataset=mnits. Did you mean 'mnist'? There are some for mnist, fash",
        ),
    ],
)
def test_a_recipe_that_there_is_not_is_answered_with_those_there_are(arguments, words):
    with pytest.raises(UserError) as error:
        with_recipe(*arguments)
    assert words in str(error.value)


def test_a_misspelt_flagfile_gets_the_right_one():
    with pytest.raises(UserError, match="Did you mean 'mnist_nfgsm_pnil'"):
        flagfiles.preset("mnist_nfgms_pnil")
