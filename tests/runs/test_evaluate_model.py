"""`pnil_tf.evaluate`: the command's figures, without a folder, of anything that classifies."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

import pnil_tf
from pnil_tf.errors import UserError
from pnil_tf.evaluation.result import Evaluation
from pnil_tf.runs.evaluate import evaluate_saved

QUICK = {"attacks": ("pgd", "noise"), "steps": 3, "images": 12, "checks": False, "verbose": 0}
UNSEARCHED = {**QUICK, "attacks": ("noise",), "steps": None}
KERNEL = np.random.default_rng(1).normal(size=(16, 3)).astype(np.float32)
BIAS = -KERNEL.sum(axis=0) / 2  # the classes are about as frequent


def images(n=20):
    """Images of 8 bits and their classes."""
    x = np.random.default_rng(0).integers(0, 256, (n, 4, 4, 1)).astype(np.uint8)
    return x, (x.reshape(n, 16) / 255 @ KERNEL + BIAS).argmax(axis=1)


def softmax_model():
    """A model of pixels from 0 to 255 with probabilities."""
    model = keras.Sequential(
        [
            keras.Input((4, 4, 1)),
            keras.layers.Rescaling(1 / 255),
            keras.layers.Flatten(),
            keras.layers.Dense(3, activation="softmax"),
        ]
    )
    model.layers[-1].set_weights([KERNEL, BIAS])
    return model


def in_numpy(x):
    """The same of pixels in [0, 1], as a function that TensorFlow knows nothing of."""
    return np.asarray(x).reshape(-1, 16) @ KERNEL + BIAS


def in_tensorflow(x):
    return tf.reshape(x, [-1, 16]) @ KERNEL + BIAS


def figures(results):
    """All that does not depend on the clock."""
    kept = {name: results[name] for name in ("clean", "effective_robustness", "findings")}
    attacks = {
        name: {
            key: value
            for key, value in row.items()
            if not key.startswith(("seconds", "cpu_seconds", "images_"))
        }
        for name, row in results["attacks"].items()
    }
    return json.loads(json.dumps({**kept, "attacks": attacks}))


@pytest.fixture(scope="module")
def result():
    return pnil_tf.evaluate(softmax_model(), *images(), epsilon=8 / 255, **QUICK)


def test_the_result_says_it_all(result):
    assert isinstance(result, pnil_tf.Evaluation)
    assert result.verdict == "doubtful"
    assert result.reason.startswith("doubtful")
    assert result.clean_accuracy.value == 1.0
    assert result.robust_accuracy.low <= result.robust_accuracy.value < 1.0
    assert list(result.attacks) == ["pgd", "noise"]
    assert result.attacks["pgd"].accuracy == result.robust_accuracy
    assert result.attacks["pgd"].settings["steps"] == 3
    failed = [finding.passed for finding in result.findings]
    assert failed == sorted(failed)
    assert result.to_dict()["model"]["outputs"] == "probabilities"
    assert result.to_dict()["model"]["pixel_range"] == [0.0, 255.0]


def test_adversarial_images_are_in_the_ball(result):
    x = images()[0][:12] / 255
    for name in ("pgd", "noise", "worst_case"):
        change = np.abs(result.adversarial[name] - x)
        assert 0 < change.max() <= 8 / 255 + 1e-6


def test_it_is_shown_as_text_and_in_a_notebook(result):
    text = str(result)
    assert "8/255 of the range (8 of 255)" in text
    assert result.reason in text
    assert text.count("\n") == 7
    assert "8/255" in repr(result)
    assert result._repr_html_().count("<tr>") == 6


def test_it_is_drawn_where_one_likes(result):
    from matplotlib.figure import Figure

    axes = Figure().subplots()
    assert result.plot(axes) is axes
    assert [label.get_text() for label in axes.get_yticklabels()][:2] == ["clean", "pgd"]


def test_it_is_saved_once_and_opened_again(result, tmp_path):
    folder = tmp_path / "new" / "folder"
    result.save(folder)
    found = sorted(file.name for file in folder.iterdir())
    assert found == ["adversarial.npz", "arrays.npz", "report.html", "results.json"]
    again = Evaluation.load(folder)
    assert again.to_dict() == result.to_dict()
    np.testing.assert_array_equal(again.adversarial["pgd"], result.adversarial["pgd"])
    with pytest.raises(UserError, match="overwrite=True"):
        result.save(folder)
    result.save(folder, overwrite=True)
    with pytest.raises(UserError, match="A folder needs a name"):
        result.save("")
    with pytest.raises(UserError, match="no evaluation"):
        Evaluation.load(tmp_path)


def test_what_was_not_written_by_an_evaluation_is_not_replaced(result, tmp_path):
    (tmp_path / "report.html").write_text("my own")
    with pytest.raises(UserError, match="not written by an evaluation"):
        result.save(tmp_path, overwrite=True)
    assert (tmp_path / "report.html").read_text() == "my own"


def test_the_temporary_folder_goes_with_the_result():
    result = pnil_tf.evaluate(softmax_model(), *images(), **UNSEARCHED)
    folder = result.folder
    assert folder.is_dir()
    del result
    assert not folder.exists()


SOURCES = {
    "bytes": lambda x, y: (x, y),
    "floats in the model's range": lambda x, y: (x.astype(np.float32), y),
    "tensors": lambda x, y: (tf.constant(x), tf.constant(y)),
    "one-hot labels": lambda x, y: (x, np.eye(3)[y]),
    "tf.data in batches": lambda x, y: (
        tf.data.Dataset.from_tensor_slices((x.astype(np.float32), y)).batch(5),
    ),
    "tf.data": lambda x, y: (tf.data.Dataset.from_tensor_slices((x, y)),),
}


def test_images_come_in_every_form():
    found = {
        name: pnil_tf.evaluate(softmax_model(), *source(*images()), epsilon=8 / 255, **UNSEARCHED)
        for name, source in SOURCES.items()
    }
    for name, other in found.items():
        assert figures(other.results) == figures(found["bytes"].results), name
        np.testing.assert_array_equal(
            other.adversarial["noise"], found["bytes"].adversarial["noise"]
        )


@pytest.mark.parametrize("model", [in_numpy, in_tensorflow])
def test_callables(model, result, caplog):
    x, y = images()
    found = pnil_tf.evaluate(model, x, y, **QUICK, pixel_range=(0, 1))
    assert found.clean_accuracy.value == 1.0
    assert found.results["model_name"] == model.__name__
    assert ("have no gradient with respect to the pixels" in caplog.text) == (model is in_numpy)
    if model is in_tensorflow:
        assert found.robust_accuracy.value == pytest.approx(result.robust_accuracy.value, abs=0.09)


def test_the_command_gives_the_same_figures(tmp_path):
    x, y = images()
    np.savez(tmp_path / "images.npz", x=x, y=y)
    softmax_model().save(tmp_path / "model.keras")
    data = {"dataset": f"npz:{tmp_path / 'images.npz'}"}
    options = {name: value for name, value in QUICK.items() if name != "verbose"}
    asked = {"epsilon": 8 / 255, "data": data, "options": options}
    command = evaluate_saved(str(tmp_path / "model.keras"), output=str(tmp_path / "out"), **asked)
    from pnil_tf.data import DataSettings, load

    test = load(DataSettings(**data)).test
    python = pnil_tf.evaluate(tmp_path / "model.keras", test.images, test.labels, **QUICK)
    assert figures(python.results) == figures(command)
    assert python.results["model"]["kind"] == "Keras file"
    assert python.results["identity"] == command["identity"]


def test_a_saved_model_and_an_adversarial_model(tmp_path, result):
    tf.saved_model.save(tf.Module(), str(tmp_path / "empty"))  # a folder without a model is refused
    with pytest.raises(UserError):
        pnil_tf.evaluate(tmp_path / "empty", *images(), **QUICK)
    softmax_model().export(str(tmp_path / "served"), verbose=False)
    found = pnil_tf.evaluate(str(tmp_path / "served"), *images(), pixel_range=(0, 255), **QUICK)
    assert found.clean_accuracy.value == 1.0
    assert found.results["model"]["kind"] == "SavedModel"
    model = pnil_tf.AdversarialModel(softmax_model(), "fgsm", 8 / 255)
    found = pnil_tf.evaluate(model, *images(), **QUICK)
    assert figures(found.results) == figures(result.results)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"restart": 2}, "Did you mean 'restarts'"),
        ({"pixel_rang": (0, 1)}, "Did you mean 'pixel_range'"),
        ({"zzz": 2}, "pixel_range, outputs, verbose, workers, engine, transfer_from"),
        ({"epsilon": "8/255"}, "Write 8/255 without quotes"),
        ({"attacks": 3}, r"Received: 3\.$"),
        ({"attacks": "pgd, square,nope"}, "Received: 'nope'"),
        ({"effort": "much"}, "quick, standard, thorough"),
        ({"epsilon": 8}, "8/255"),
        ({"attacks": ()}, "No attack was named"),
        ({"y": None}, "pass y"),
    ],
)
def test_mistakes_are_told_before_the_work(change, words):
    x, y = images()
    with pytest.raises(UserError, match=words):
        pnil_tf.evaluate(softmax_model(), x, **{"y": y, **QUICK, **change})


@pytest.mark.parametrize("attack", ["noise", pytest.param("square", marks=pytest.mark.slow)])
def test_without_an_attack_along_gradients_nothing_searches_for_planted_examples(attack):
    result = pnil_tf.evaluate(
        softmax_model(), *images(), 0.01, attacks=attack, images=12, check_images=2,
        epsilons=(0.01,), verbose=0,
    )  # fmt: skip
    findings = {finding["name"]: finding for finding in result.to_dict()["findings"]}
    assert not {"planted_not_found", "nothing_planted"} & set(findings)
    assert "the search for planted adv" in findings["attacks_missing"]["explanation"]
    assert result.verdict != "credible"
