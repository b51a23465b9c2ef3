"""A served model proves while it answers: at most what is true, and nearly that."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from linear_models import SHAPE, exact, linear, weakest
from scipy import stats
from served_models import noise_layer, noisy, offered, sequential

from pnil_tf.certificate import bounds
from pnil_tf.layers import PNILLayer
from pnil_tf.serving.card import model_card
from pnil_tf.serving.certified import ALPHA, MOST_DRAWS, SELECTION_DRAWS
from pnil_tf.serving.record import Record
from pnil_tf.serving.saved_model import export_saved_model
from pnil_tf.serving.signatures import build_signatures, descriptions, servable

DRAWS = 20_000


def proved(served, images, draws):
    return served["certified"](
        images=tf.constant(images, tf.float32), draws=tf.constant(draws, tf.int32)
    )


def card(model):
    classifier = servable(model)
    return model_card(classifier, Record(), descriptions(classifier))


@pytest.mark.parametrize("pixel_range", [(0, 1), (0, 255)])
def test_a_linear_classifier_is_certified_at_most_at_its_radius_and_nearly_there(pixel_range):
    problem = weakest()
    served = offered(linear(*problem[:3], pixel_range), pixel_range=pixel_range)
    labels, radius, quantile = exact(problem)
    found = proved(served, problem[-1] * pixel_range[1], DRAWS)
    right = found["class"] == labels
    assert ((found["class"] == -1) | right).all()
    near = right & (quantile < 3)
    assert near.sum() >= 3
    assert (found["radius_linf"][right] <= radius[right]).all()
    assert (
        found["radius_linf"][near] > 0.8 * radius[near] - 0.03 * radius[near] / quantile[near]
    ).all()
    assert (found["radius_l2"][right] > found["radius_linf"][right]).all()
    assert (found["p_low"] <= ALPHA ** (1 / DRAWS)).all()


def test_where_no_class_has_a_majority_it_abstains():
    sigma, weights, _, x = weakest()
    on_the_plane = np.repeat(x[:1], 300, axis=0)
    bias = -float(x[0].ravel() @ weights)
    found = proved(offered(linear(sigma, weights, bias)), on_the_plane, 500)
    abstained = found["class"] == -1
    assert abstained.sum() >= 297
    assert not found["radius_linf"][abstained].any()
    assert not found["radius_l2"][abstained].any()
    assert len(np.unique(found["p_low"])) > 10  # every image has draws of its own


def test_an_image_without_a_class_has_no_proof_and_harms_no_other():
    problem = weakest()
    served, images = offered(linear(*problem[:3]), pixel_range=(0, 1)), problem[-1].copy()
    clearest = int(exact(problem)[2].argmax())
    others = [i for i in range(6) if i != clearest]
    images[others[:3], 0, 0, 0] = np.nan, 1e30, 2.1
    found = proved(served, images, 500)
    for name, nothing in (("class", -1), ("radius_linf", 0), ("radius_l2", 0), ("p_low", 0)):
        assert (found[name][others[:3]] == nothing).all(), name
    assert found["radius_linf"][clearest] > 0
    assert proved(served, images[:0], 5)["radius_linf"].shape == (0,)


def test_every_call_has_draws_of_its_own():
    served, images = offered(sequential(noise_layer(0.5))), np.full((4, 8, 8, 1), 0.5)
    once, again = (proved(served, images, 1000)["p_low"] for _ in range(2))
    assert (once != again).any()


def test_noise_that_moves_with_the_image_is_certified_by_the_other_theorem():
    layer = noise_layer(0.5, kernel_initializer=keras.initializers.Constant(0.01))
    model = sequential(layer)
    model.layers[-1].bias.assign([9.0, 0.0, 0.0, 0.0])
    images = np.full((1, 8, 8, 1), 0.5)
    assert "Kullback" in card(model)
    moving = proved(offered(model), images, 1000)
    layer.kernel.assign(tf.zeros_like(layer.kernel))
    assert "Cohen" in card(model)
    fixed = proved(offered(model), images, 1000)
    assert 0 < moving["radius_linf"][0] < fixed["radius_linf"][0]


@pytest.mark.parametrize("pixel_range", [(0, 1), (0, 255)])
def test_radii_follow_from_the_share_and_the_noise_in_shares_of_the_range(pixel_range):
    sigma, weights, bias, x = weakest()
    model = linear(sigma, weights, bias, pixel_range)
    layer = PNILLayer(pixel_range=pixel_range)
    moving = keras.Sequential([keras.Input(SHAPE), layer, *model.layers[1:]])
    layer.bias.assign(model.layers[0].bias)
    kernel = np.random.default_rng(5).normal(0.0, 1.5, SHAPE)
    layer.kernel.assign(kernel)
    found = proved(offered(moving, pixel_range=pixel_range), x * pixel_range[1], 700)
    assert (found["p_low"] > 0.55).sum() >= 3
    for norm in ("linf", "l2"):
        told = [
            bounds.any_radius(
                p, np.abs(kernel), sigma.reshape(SHAPE) * np.exp(kernel * image / 2), norm
            )
            for p, image in zip(found["p_low"], x, strict=True)
        ]
        np.testing.assert_allclose(found[f"radius_{norm}"], told, rtol=1e-4)


def test_the_draws_that_choose_a_class_are_not_those_that_prove_it():
    """Ten classes that are all alike: the one that came most often would look too good."""
    model = keras.Sequential(
        [
            keras.Input((2, 5, 1)),
            noise_layer(0.5),
            keras.layers.Flatten(),
            keras.layers.Dense(10, use_bias=False, kernel_initializer="identity"),
        ]
    )
    images = np.full((2000, 2, 5, 1), 0.5)
    found = proved(offered(model, pixel_range=(0, 1)), images, SELECTION_DRAWS)
    hits = np.arange(SELECTION_DRAWS + 1)
    known = bounds.lower_confidence(hits, SELECTION_DRAWS, ALPHA)
    chance = stats.binom.pmf(hits, SELECTION_DRAWS, 0.1)
    mean = (chance * known).sum()
    error = np.sqrt((chance * (known - mean) ** 2).sum() / len(images))
    assert abs(found["p_low"].mean() - mean) < 5 * error


def test_numbers_of_draws_that_are_refused():
    served = offered(linear(*weakest()[:3]))
    for draws in (0, -1, MOST_DRAWS + 1):
        with pytest.raises(tf.errors.InvalidArgumentError, match="number of draws must be"):
            proved(served, np.zeros((1, *SHAPE)), draws)


def test_the_card_and_the_log_say_why_nothing_is_proved(tmp_path, caplog):
    assert "no more than 0.001 (alpha)" in card(sequential(noise_layer(0.5)))
    with caplog.at_level("INFO", "pnil_tf"):
        path = export_saved_model(noisy(), tmp_path / "2")
    assert "has 2 PNIL layers" in caplog.text
    text = (path / "model_card.md").read_text()
    assert "There is no signature `certified`. Nothing can be proved" in text
    assert not (path / "assets" / "certificate.json").exists()
    assert "certified" not in tf.saved_model.load(str(path)).signatures


def test_it_keeps_no_draw():
    """Memory that grew with the draws would show as lists of tensors in the graph."""
    signature = build_signatures(servable(linear(*weakest()[:3])), False)["certified"]
    library = signature.get_concrete_function().graph.as_graph_def().library
    nodes = [node for function in library.function for node in function.node_def]
    assert not [node.name for node in nodes if node.op.startswith("TensorList")]
