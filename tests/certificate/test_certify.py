"""Certificates of whole models: exact radii of linear ones, files, resuming, and both sides."""

import dataclasses
import json
import re

import keras
import numpy as np
import pytest
from linear_models import SHAPE, exact, linear, weakest
from scipy import special

import pnil_tf
from pnil_tf.arrays import write_arrays
from pnil_tf.certificate import bounds
from pnil_tf.certificate.attacked import Subject, attacked_in
from pnil_tf.certificate.both_sides import both_sides, comparison
from pnil_tf.certificate.output import STATE, sides_in
from pnil_tf.certificate.proofs import Proofs, proofs_of
from pnil_tf.certificate.runner import certify as certify_into
from pnil_tf.certificate.runner import certify_shard
from pnil_tf.certificate.sampling import Sampler
from pnil_tf.certificate.settings import CertificateSettings
from pnil_tf.certificate.withdrawn import RefutedError
from pnil_tf.errors import UserError
from pnil_tf.evaluation.images import digests_of
from pnil_tf.evaluation.shards import Shard
from pnil_tf.evaluation.store import Store
from pnil_tf.files import sha256_of, write_record
from pnil_tf.layers import PNILLayer

QUICK = {"draws": 500, "batch_size": 100, "seed": 0, "verbose": 0}


@pytest.fixture(scope="module")
def problem():
    return weakest()


@pytest.fixture(scope="module")
def certified(problem):
    """A model, the classes of its images, and its certificate at 0.01, which stays as it is."""
    sigma, weights, bias, x = problem
    model, labels = linear(sigma, weights, bias), exact(problem)[0]
    return model, labels, pnil_tf.certify(model, x, labels, 0.01, **QUICK)


def written_evaluation(folder, identity, x, votes, labels, epsilon=0.01):
    """What `attacked_in` reads of the files that an evaluation leaves."""
    folder.mkdir(exist_ok=True)
    arrays = {"worst_case_votes": votes, "labels": labels, "image_sha256": digests_of(x)}
    write_arrays(folder / "arrays.npz", arrays)
    results = {
        "identity": identity,
        "settings": {"norm": "linf", "epsilon": epsilon},
        "arrays": {"file": "arrays.npz", "sha256": sha256_of(folder / "arrays.npz")},
    }
    write_record(folder / "results.json", results)
    return folder


@pytest.mark.parametrize(
    "scope", [pnil_tf.noise_off(), pnil_tf.noise_scope(1)], ids=["off", "seed"]
)
def test_a_noise_scope_around_it_is_refused(problem, scope):
    sigma, weights, bias, x = problem
    model = linear(sigma, weights, bias, (0, 1))
    with scope, pytest.raises(UserError, match="within a noise scope"):
        pnil_tf.certify(model, x, epsilon=0.01, **QUICK)


@pytest.mark.parametrize("pixel_range", [(0, 1), (0, 255)])
def test_a_linear_classifier_is_certified_at_most_at_its_radius_and_nearly_there(
    problem, pixel_range
):
    sigma, weights, bias, x = problem
    model = linear(sigma, weights, bias, pixel_range)
    labels, radius, quantile = exact(problem)
    pixels = pixel_range[0] + x * (pixel_range[1] - pixel_range[0])
    found = pnil_tf.certify(
        model,
        pixels,
        labels,
        0.01,
        pixel_range=pixel_range,
        draws=20_000,
        batch_size=200,
        seed=0,
        verbose=0,
    )
    near = (found.answers == labels) & (quantile < 3)
    assert near.sum() >= 3
    assert (found.radii()[found.answers == labels] <= radius[found.answers == labels]).all()
    assert (found.radii()[near] > 0.8 * radius[near] - 0.03 * (radius / quantile)[near]).all()
    left = special.ndtr(quantile - 0.01 * quantile / radius)
    assert (found.single_draws[found.answers == labels] <= left[found.answers == labels]).all()
    assert found.accuracy_at(0.01) == found.certified_accuracy


@pytest.mark.parametrize("others", [0.3, 0.9], ids=["alike", "each pixel its own"])
def test_in_l2_a_linear_classifier_of_bytes_is_certified_at_its_radius(others):
    # Along the pixels of the least noise, where nothing is given away.
    generator = np.random.default_rng(4)
    sigma, weights = np.full(16, 0.3), generator.normal(size=16)
    sigma[::2], weights[::2] = others, 0.0 if others > 0.3 else weights[::2]
    x = generator.random((4, *SHAPE)).astype(np.float32)
    x = np.round(255 * x) / 255
    scores = x.reshape(4, -1) @ weights
    bias = -float(np.mean(scores))
    inner = linear(sigma, weights, bias)
    model = keras.Sequential([keras.Input(SHAPE), keras.layers.Rescaling(1 / 255), *inner.layers])
    labels, exact_l2 = (scores + bias > 0).astype(int), abs(scores + bias) / np.linalg.norm(weights)
    found = pnil_tf.certify(
        model, 255 * x, labels, 0.1, norm="l2", draws=5_000, batch_size=200, seed=0, verbose=0
    )
    near = (exact_l2 < 0.6) & (exact_l2 > 0.1)
    assert near.sum() >= 2
    assert (found.radii("l2") <= exact_l2).all()
    assert (found.radii("l2")[near] > 0.8 * exact_l2[near] - 0.01).all()


def test_the_size_of_a_pass_and_the_number_of_images_change_no_figure(problem, certified):
    x = problem[3]
    model, labels, one = certified
    fewer = pnil_tf.certify(
        model, x, labels, 0.01, draws=500, images=2, batch_size=50, seed=0, verbose=0
    )
    np.testing.assert_array_equal(one.radii()[:2], fewer.radii())
    np.testing.assert_array_equal(one.radii("l2")[:2], fewer.radii("l2"))


def moved(model, kernel, pixel_range=(0, 1)):
    """The same with noise that the image moves."""
    layer = PNILLayer(pixel_range=pixel_range)
    found = keras.Sequential([keras.Input(SHAPE), layer, *model.layers[1:]])
    layer.bias.assign(model.layers[0].bias)
    layer.kernel.assign(kernel)
    return found


# Any two of what is chosen meet.
@pytest.mark.parametrize(
    ("moving", "pixel_range", "norm"),
    [
        (False, (0, 1), "linf"),
        (False, (0, 255), "l2"),
        (True, (0, 1), "l2"),
        (True, (0, 255), "linf"),
    ],
)
def test_all_that_is_said_follows_from_the_counts_by_the_theorem_of_the_noise(
    problem, moving, pixel_range, norm
):
    sigma, weights, bias, x = problem
    model, epsilon, draws = linear(sigma, weights, bias, pixel_range), 0.003, 700
    kernel = np.random.default_rng(5).normal(0.0, 1.5, SHAPE) if moving else np.zeros(SHAPE)
    if moving:
        model = moved(model, kernel, pixel_range)
    asked = {**QUICK, "norm": norm, "draws": draws, "alpha": 0.01, "pixel_range": pixel_range}
    found = pnil_tf.certify(model, x * pixel_range[1], epsilon=epsilon, **asked)
    share = bounds.lower_confidence(found.hits, draws, 0.01)
    assert (share > 0.55).sum() >= 3
    sigmas = [sigma.reshape(SHAPE) * np.exp(kernel * image / 2) for image in x]
    slope = np.abs(kernel)
    for of in ("linf", "l2"):
        if moving:
            told = [bounds.any_radius(p, slope, s, of) for p, s in zip(share, sigmas, strict=True)]
        else:
            told = bounds.fixed_radius(share, bounds.sensitivity(sigma, of))
        np.testing.assert_allclose(found.radii(of), told, rtol=1e-4)
        assert (found.radii(of) <= np.asarray(told) * (1 + 1e-9)).all()
    if moving:
        apart = [bounds.divergence(epsilon, slope, s, norm) for s in sigmas]
        least = bounds.any_single_draw(share, np.array(apart))
    else:
        least = bounds.fixed_single_draw(share, epsilon, bounds.sensitivity(sigma, norm))
    np.testing.assert_allclose(found.single_draws, least, rtol=1e-4)


def test_noise_that_moves_with_the_image_is_certified_by_the_other_theorem(problem, certified):
    x = problem[3]
    model, labels, fixed = certified
    moving = moved(model, np.full(SHAPE, 1e-3))
    found = pnil_tf.certify(moving, x, labels, 0.01, **QUICK)
    assert "Kullback" in found.to_dict()["noise"]["method"]
    assert "Cohen" in fixed.to_dict()["noise"]["method"]
    proved = found.radii() > 0
    assert proved.any()
    assert (found.radii()[proved] < fixed.radii()[proved] * 1.1).all()


def test_without_labels_answers_are_proved_to_stay(problem):
    sigma, weights, bias, x = problem
    found = pnil_tf.certify(linear(sigma, weights, bias), x, epsilon=1e-4, **QUICK)
    assert found.certified_accuracy.value == pytest.approx((found.radii() > 1e-4).mean())
    assert "as without an attack" in str(found)


def test_a_certificate_is_saved_and_loaded(problem, tmp_path):
    sigma, weights, bias, x = problem
    found = pnil_tf.certify(
        linear(sigma, weights, bias), x, exact(problem)[0], 2 / 255, norm="l2", **QUICK
    )
    found.save(tmp_path / "kept")
    again = pnil_tf.Certificate.load(tmp_path / "kept")
    assert again.to_dict() == found.to_dict()
    np.testing.assert_array_equal(again.radii("l2"), found.radii("l2"))
    page = (tmp_path / "kept" / "certificate.html").read_text()
    for term in ("epsilon", "certified accuracy", "majority", "single draws"):
        assert f"<dt>{term}</dt>" in page
    for term in ("credible", "EOT"):
        assert f"<dt>{term}</dt>" not in page
    assert "One that came later shows both sides in its own report" in page
    assert "2/255 of pixels in [0, 1]" in page
    assert "data:image/png" in page
    assert json.loads((tmp_path / "kept" / "certificate.json").read_text())["certified"]
    with pytest.raises(UserError, match="holds a certificate"):
        found.save(tmp_path / "kept")
    found.save(tmp_path / "kept", overwrite=True)
    with pytest.raises(UserError, match="holds no certificate"):
        pnil_tf.Certificate.load(tmp_path)


def test_arrays_that_do_not_belong_to_their_certificate_are_refused(problem, tmp_path):
    sigma, weights, bias, x = problem
    model, settings = linear(sigma, weights, bias), CertificateSettings(epsilon=0.01, draws=100)
    certify_into(model, x, None, settings, tmp_path, verbose=0)
    write_arrays(tmp_path / "certificate.npz", {"answer": np.zeros(6, int)})
    with pytest.raises(UserError, match="was damaged since it was written"):
        pnil_tf.Certificate.load(tmp_path)
    with pytest.raises(UserError, match="was damaged since it was written"):
        certify_into(model, x, None, settings, tmp_path, resume=True, verbose=0)
    certify_into(model, x, None, settings, tmp_path, overwrite=True, verbose=0)
    assert len(pnil_tf.Certificate.load(tmp_path).answers) == 6


@pytest.mark.parametrize("how", ["resume", "overwrite"])
@pytest.mark.parametrize(
    "name", ["certificate.json", "certificate.html", "certificate.npz", "pieces/identity.json"]
)
def test_a_certificate_takes_the_place_of_nothing_foreign(problem, tmp_path, name, how):
    sigma, weights, bias, x = problem
    model, settings = linear(sigma, weights, bias), CertificateSettings(epsilon=0.01, draws=100)
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text('{"certified": "by the university"}')
    with pytest.raises(UserError, match=r"not written by a certificate|no evaluation wrote"):
        certify_into(model, x, None, settings, tmp_path, verbose=0, **{how: True})
    assert [entry for entry in tmp_path.rglob("*") if entry.is_file()] == [tmp_path / name]
    assert (tmp_path / name).read_text() == '{"certified": "by the university"}'


def test_a_certificate_leaves_an_evaluation_in_its_folder_alone(problem, tmp_path):
    sigma, weights, bias, x = problem
    begun = Store(tmp_path / "state", {"settings": 1}, resume=False)
    begun.once("piece", lambda: {"a": np.arange(3)})
    settings = CertificateSettings(epsilon=0.01, draws=100)
    certify_into(linear(sigma, weights, bias), x, None, settings, tmp_path, overwrite=True)
    assert Store(tmp_path / "state", {"settings": 1}, resume=True).holds("piece")


def test_what_was_counted_before_an_interruption_is_kept(problem, tmp_path, monkeypatch):
    sigma, weights, bias, x = problem
    model, labels = linear(sigma, weights, bias), exact(problem)[0]
    settings = CertificateSettings(epsilon=0.01, draws=500, batch_size=100, seed=0)
    whole = certify_into(model, x, labels, settings, tmp_path / "whole", verbose=0)
    counts, calls = Sampler.counts, []

    def interrupted(self, *arguments):
        calls.append(1)
        if len(calls) == 11:  # two for each image, five images to a piece
            raise KeyboardInterrupt
        return counts(self, *arguments)

    monkeypatch.setattr(Sampler, "counts", interrupted)
    with pytest.raises(KeyboardInterrupt):
        certify_into(model, x, labels, settings, tmp_path / "cut", verbose=0)
    with pytest.raises(UserError, match="neither resume"):
        certify_into(model, x, labels, settings, tmp_path / "cut", verbose=0)
    again = certify_into(model, x, labels, settings, tmp_path / "cut", resume=True, verbose=0)
    assert len(calls) == 11 + 2  # the sixth image alone
    np.testing.assert_array_equal(again.radii(), whole.radii())
    done = certify_into(model, x, labels, settings, tmp_path / "cut", resume=True, verbose=0)
    assert len(calls) == 13
    assert done.to_dict() == again.to_dict()
    votes = np.repeat(labels[:, np.newaxis], 100, axis=1)
    later = written_evaluation(tmp_path, done.to_dict()["identity"], x, votes, labels)
    both = certify_into(
        model, x, labels, settings, tmp_path / "cut", resume=True, evaluations=[later], verbose=0
    )
    assert len(calls) == 13
    assert both.to_dict()["both_sides"][0]["majority"]["attacked"]["value"] == 1.0
    assert both.to_dict()["certified"] == again.to_dict()["certified"]
    other = CertificateSettings(epsilon=0.01, draws=501, batch_size=100, seed=0)
    with pytest.raises(UserError, match=r"begun with draws=\d+\. Received: draws=501\."):
        certify_into(model, x, labels, other, tmp_path / "cut", resume=True, verbose=0)


def test_draws_are_fresh_unless_a_seed_is_given_and_a_resumed_certificate_keeps_its_own(
    problem, tmp_path, monkeypatch
):
    sigma, weights, bias, x = problem
    work = (linear(sigma, weights, bias), x, None, CertificateSettings(epsilon=0.01, draws=500))
    counts, calls = Sampler.counts, []

    def interrupted(self, *arguments):
        calls.append(arguments[1])
        if len(calls) == 11:
            raise KeyboardInterrupt
        return counts(self, *arguments)

    with monkeypatch.context() as patched:
        patched.setattr(Sampler, "counts", interrupted)
        with pytest.raises(KeyboardInterrupt):
            certify_into(*work, tmp_path / "cut", verbose=0)
    found = certify_into(*work, tmp_path / "cut", resume=True, verbose=0)
    seed = found.to_dict()["settings"]["seed"]
    assert {seed} == set(calls)
    assert certify_into(*work, tmp_path / "cut", resume=True, verbose=0).results == found.results
    other = pnil_tf.certify(*work[:2], epsilon=0.01, draws=500, verbose=0)
    assert other.to_dict()["settings"]["seed"] != seed
    assert (other.hits != found.hits).any()


def test_a_certificate_begun_with_another_generator_is_not_mixed_with_this_one(problem, tmp_path):
    sigma, weights, bias, x = problem
    settings = CertificateSettings(epsilon=0.01, draws=500, batch_size=100, seed=0)
    work = (linear(sigma, weights, bias), x, None, settings, tmp_path)
    identity = dict(certify_into(*work, verbose=0).results["identity"])
    identity.pop("generator", None)
    Store(tmp_path / STATE, identity, resume=False)
    earlier = r"with noise by the generator of an earlier version\. Received: noise by Philox.*over"
    with pytest.raises(UserError, match=earlier):
        certify_into(*work, resume=True, verbose=0)


class InOneProcess:
    """A crew whose shards are worked off here, one after the other, or as far as they come."""

    workers = 2

    def __init__(self, certificate, output):
        self.certificate, self.output, self.seen = certificate, output, []

    def work_off(self, target, identity, state, look):
        told = {"pixel_range": identity["pixel_range"], "outputs": target.outputs}
        for number in (1, 0):
            certify_shard(
                *self.certificate, self.output, Shard(number, 2),
                model_identity=identity["model"], **told,
            )  # fmt: skip
            self.seen.append(len(list(state.glob("draws-*.npz"))))
            look()


@pytest.mark.parametrize("labelled", [True, False])
def test_images_that_are_shared_out_have_the_draws_of_one_process(problem, tmp_path, labelled):
    sigma, weights, bias, x = problem
    x = np.concatenate([x, x])
    labels = np.arange(12) % 2 if labelled else None
    settings = CertificateSettings(epsilon=0.01, draws=200, batch_size=100, seed=0)
    work = (linear(sigma, weights, bias), x, labels, settings)
    alone = certify_into(*work, tmp_path / "alone", verbose=0)
    crew = InOneProcess(work, tmp_path / "shared")
    shared = certify_into(*work, tmp_path / "shared", verbose=0, crew=crew)
    assert crew.seen == [1, 3]  # of three pieces the second, then the others
    np.testing.assert_array_equal(alone.hits, shared.hits)
    np.testing.assert_array_equal(alone.radii(), shared.radii())
    assert alone.to_dict()["curve"] == shared.to_dict()["curve"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"epsilon": 8}, "share of the pixel range"),
        ({"epsilon": 0.1, "norm": "l1"}, "one of linf, l2"),
        ({"epsilon": 0.1, "alpha": 0.0}, "alpha"),
        ({"epsilon": 0.1, "draws": 0}, "draws"),
        ({"epsilon": 0.1, "seed": -1}, "seed"),
        ({"epsilon": 0.1, "epsilons": (-1.0,)}, "epsilons"),
        ({"epsilon": 0.1, "epsilons": (0.1, 2.0)}, "at most 1. .* write epsilons=2/255"),
    ],
)
def test_settings_that_cannot_be_right_are_refused(arguments, message):
    with pytest.raises(UserError, match=message):
        CertificateSettings(**arguments)


class Front:
    """Fixed noise of one size."""

    fixed = True

    def sigma(self, unit):
        return np.full(unit.shape, 0.25)


def proofs(hits, draws=1000):
    images, hits = np.zeros((len(hits), *SHAPE)), np.asarray(hits)
    return proofs_of(Front(), images, np.zeros(len(hits), int), hits, draws, 0.001, "linf")


def test_both_sides_stand_beside_each_other():
    labels, votes = np.zeros(40, int), np.zeros((40, 100), int)
    votes[:10] = 1  # ten images are lost, of which nothing was proved
    sides = both_sides(proofs([500] * 10 + [999] * 30), labels, votes, 0.05, "linf", 0.001)
    assert sides["majority"]["proved"]["value"] == sides["majority"]["attacked"]["value"] == 0.75
    assert sides["single_draw"]["proved"]["value"] <= sides["single_draw"]["attacked"]["value"]
    assert sides["contradicted"] == 0


def test_an_attack_that_leaves_less_than_is_proved_stops_the_run():
    labels, votes = np.zeros(40, int), np.zeros((40, 100), int)
    votes[:20] = 1
    with pytest.raises(
        RefutedError, match=r"on 20 of 40 images .* they were\): 0, 1, 2, .*, 19\. N"
    ):
        both_sides(proofs([999] * 40), labels, votes, 0.05, "linf", 0.001)


@pytest.mark.parametrize("kind", ["single draws", "majorities"])
def test_many_images_contradict_their_proofs_where_no_single_one_does(kind):
    """51 % are proved of each of 1,000 images, and attacks leave 49 %, by 100 draws."""
    count, labels = 1000, np.zeros(1000, int)
    single = np.full(count, 0.51 if kind == "single draws" else 0.0)
    radius = {"linf": np.full(count, 0.0 if kind == "single draws" else 0.1)}
    proved = Proofs(labels, labels, labels, np.full(count, 0.6), radius, lambda epsilon: single)
    generator = np.random.default_rng(0)
    share = 0.49 if kind == "single draws" else 0.47
    votes = (generator.random((count, 100)) > share).astype(int)
    with pytest.raises(RefutedError, match=rf"100000 draws, .* proved to be left \({kind};"):
        both_sides(proved, labels, votes, 0.05, "linf", 0.001)
    honest = (generator.random((count, 100)) > 0.51).astype(int)
    sides = both_sides(proved, labels, honest, 0.05, "linf", 0.001)
    assert sides["contradicted"] < 0.6 * count


@pytest.mark.slow
def test_a_finished_certificate_is_compared_with_the_evaluation_that_stands_there_now(
    problem, tmp_path, caplog
):
    sigma, weights, bias, x = problem
    labels = exact(problem)[0]
    settings = CertificateSettings(epsilon=0.01, draws=500, batch_size=100, seed=0)
    work = (linear(sigma, weights, bias), x, labels, settings, tmp_path / "certificate")
    identity = certify_into(*work, verbose=0).to_dict()["identity"]
    votes = np.repeat(labels[:, np.newaxis], 100, axis=1)
    fewer = votes.copy()
    fewer[:, 0] = 1 - labels  # one of 100 draws is lost

    def again(name, votes=None, labels=labels, must_fit=True):
        folder = tmp_path / name
        if votes is not None:
            written_evaluation(folder, identity, x, votes, labels)
        asked = {"evaluations": [folder], "must_fit": must_fit}
        return certify_into(*work, resume=True, verbose=0, **asked).to_dict()["both_sides"]

    assert again("one", votes)[0]["single_draw"]["attacked"]["value"] == 1.0
    (two,) = again("two", fewer)
    assert two["single_draw"]["attacked"]["value"] == pytest.approx(0.99)
    assert two["evaluation"] == str(tmp_path / "two")
    assert again("two", votes)[0]["single_draw"]["attacked"]["value"] == 1.0
    with pytest.raises(UserError, match=r"two does not fit .*labels are others.*Choose another"):
        again("two", votes, 1 - labels)
    assert again("four", must_fit=False)[0]["evaluation"] == str(tmp_path / "two")
    assert "No evaluation" not in caplog.text
    assert again("two", must_fit=False) == []
    assert "No evaluation is put beside" in caplog.text
    assert "the labels are others" in caplog.text
    with pytest.raises(RefutedError, match="error of ours"):
        again("three", 1 - votes)
    for refused in (lambda: again("two", votes), lambda: pnil_tf.Certificate.load(work[-1])):
        with pytest.raises(UserError, match=r"was withdrawn\. An error of ours.*overwrite"):
            refused()
    record = json.loads((work[-1] / "certificate.json").read_text())
    assert "certified" not in record
    page = (work[-1] / "certificate.html").read_text()
    assert "Withdrawn." in page
    assert "Proved" not in page
    assert certify_into(*work, overwrite=True, verbose=0).certified_accuracy.value > 0
    with pytest.raises(RefutedError, match="error of ours"):  # as soon as it is finished
        certify_into(*work, overwrite=True, evaluations=[tmp_path / "three"], verbose=0)
    with pytest.raises(UserError, match="was withdrawn"):
        pnil_tf.Certificate.load(work[-1])


def test_a_python_evaluation_shows_what_is_proved(problem, certified, tmp_path):
    x = problem[3]
    model, labels, certificate = certified  # nobody else finds its folder
    pnil_tf.Certificate(certificate.folder, certificate.results).save(tmp_path)
    asked = {"attacks": "noise", "checks": False, "judge_draws": 5, "verbose": 0}
    found = pnil_tf.evaluate(model, x, labels, 0.01, certificate=tmp_path, **asked)
    assert found.to_dict()["both_sides"]["images"] == len(x)
    assert "proved, single draws" in str(found)
    wider = pnil_tf.evaluate(model, x, labels, 0.02, certificate=certificate, **asked).to_dict()
    assert wider["both_sides"]["certificate"] is None
    assert wider["both_sides"]["epsilon"] == 0.02
    with pytest.raises(UserError, match="the norm is l2 there and linf here"):
        pnil_tf.evaluate(model, x, labels, 0.02, norm="l2", certificate=tmp_path, **asked)


def test_an_evaluation_that_was_named_is_refused_before_the_work(problem, tmp_path, monkeypatch):
    sigma, weights, bias, x = problem
    model, labels = linear(sigma, weights, bias), exact(problem)[0]
    monkeypatch.setattr(Sampler, "counts", lambda *_: pytest.fail("the work had begun"))
    with pytest.raises(UserError, match=f"There is no evaluation at {tmp_path}"):
        pnil_tf.certify(model, x, labels, 0.01, evaluation=tmp_path, **QUICK)
    with pytest.raises(UserError, match="does not fit a certificate without labels"):
        pnil_tf.certify(model, x, epsilon=0.01, evaluation=tmp_path, **QUICK)
    for wrong in (3, [tmp_path, None]):
        with pytest.raises(UserError, match="An evaluation is what evaluate returned, or its fol"):
            pnil_tf.certify(model, x, epsilon=0.01, evaluation=wrong, **QUICK)


def test_an_evaluation_of_the_same_images_is_put_beside_and_of_others_not(
    problem, certified, tmp_path
):
    x = problem[3]
    model, labels, alone = certified[0], certified[1], certified[2].to_dict()
    votes = np.repeat(labels[:, np.newaxis], 100, axis=1)
    folder = written_evaluation(tmp_path, alone["identity"], x, votes, labels)
    found = pnil_tf.certify(model, x, labels, 0.01, evaluation=folder, **QUICK)
    (sides,) = found.to_dict()["both_sides"]
    assert sides["images"] == len(x)
    assert sides["majority"]["attacked"]["value"] == 1.0
    assert "attacked, at most" in (found.folder / "certificate.html").read_text()
    assert re.search(r"of 255\) +majority of draws .*\n.*single draws .* 100\.0% \(", str(found))
    same = Subject(alone["identity"], digests_of(x), labels, "linf")
    assert attacked_in(folder, same).votes.shape == (len(x), 100)
    for other, words in (
        ({"norm": "l2"}, "the norm is linf there and l2 here"),
        ({"identity": {**same.identity, "model": "another"}}, "the model is another"),
        ({"identity": {**same.identity, "pixel_range": [0, 255]}}, "pixel range is another"),
        ({"images": digests_of(1 - x)}, "the images are others"),
        ({"images": digests_of(1 - x)[:4], "labels": labels[:4]}, "the images are others"),
        ({"images": None}, "an earlier version wrote one of them"),
        ({"labels": 1 - labels}, "the labels are others"),
    ):
        different = dataclasses.replace(same, **other)
        with pytest.raises(UserError, match=f"{tmp_path} does not fit .*{words}"):
            attacked_in(folder, different)
        assert comparison(found, different, 0.01) is None
    with pytest.raises(UserError, match=r"images are others\. Choose another certificate, or none"):
        comparison(found, dataclasses.replace(same, images=digests_of(1 - x)), 0.01, must_fit=True)
    assert comparison(found, same, 0.01)(votes)["majority"] == sides["majority"]
    fewer = dataclasses.replace(same, labels=labels[:4], images=same.images[:4])
    assert comparison(found, fewer, 0.01)(votes[:4])["images"] == 4
    with pytest.raises(
        RefutedError, match=r"error of ours: .* counted from 0 as the files have them"
    ):
        comparison(found, same, 0.01)(1 - votes)
    assert "Withdrawn." in (found.folder / "certificate.html").read_text()
    with (folder / "arrays.npz").open("ab") as file:
        file.write(b"damage")
    with pytest.raises(UserError, match="damaged"):
        attacked_in(folder, same)


def attacked_at(folder, problem, identity, epsilons, shift=0.0):
    """Evaluations of a linear classifier by the strongest attack: what it leaves is known."""
    labels, radius, quantile = exact(problem)
    generator, folders = np.random.default_rng(5), []
    for epsilon in epsilons:
        left = special.ndtr(quantile - epsilon * quantile / radius - shift)
        right = generator.random((len(labels), 400)) < left[:, np.newaxis]
        votes = np.where(right, labels[:, np.newaxis], 1 - labels[:, np.newaxis])
        place = folder / f"at_{epsilon}"
        folders.append(written_evaluation(place, identity, problem[3], votes, labels, epsilon))
    return folders


def test_both_sides_at_several_radii_stop_the_run_where_any_contradicts_its_proof(
    problem, tmp_path
):
    sigma, weights, bias, x = problem
    labels, radius, quantile = exact(problem)
    settings = CertificateSettings(epsilon=0.01, draws=2000, batch_size=200, seed=0)
    work = (linear(sigma, weights, bias), x, labels, settings, tmp_path / "certificate")
    identity = certify_into(*work, verbose=0).results["identity"]
    far, near = attacked_at(tmp_path, problem, identity, (0.017, 0.005))
    found = certify_into(*work, resume=True, evaluations=[far, near], verbose=0)
    for sides, epsilon in zip(found.results["both_sides"], (0.005, 0.017), strict=True):
        assert sides["epsilon"] == epsilon
        left = special.ndtr(quantile - epsilon * quantile / radius)
        proved, attacked = (sides["single_draw"][side]["value"] for side in ("proved", "attacked"))
        assert proved <= left.mean()
        assert attacked == pytest.approx(left.mean(), abs=0.03)
        majority = sides["majority"]
        assert majority["proved"]["value"] <= (radius > epsilon).mean()
        assert majority["attacked"]["value"] == pytest.approx((radius > epsilon).mean())
        assert f"{proved:.1%}" in str(found)
    page = (found.folder / "certificate.html").read_text()
    assert page.count('<td data-label="radius">0.017 of the range') == 2

    # The run's own is added to those that were named; others that are named take their place.
    (own,) = attacked_at(tmp_path, problem, identity, (0.01,))
    again = certify_into(*work, resume=True, evaluations=[own], must_fit=False, verbose=0)
    assert [sides["epsilon"] for sides in again.results["both_sides"]] == [0.005, 0.01, 0.017]
    (alone,) = certify_into(*work, resume=True, evaluations=[far], verbose=0).results["both_sides"]
    assert alone["epsilon"] == 0.017

    # An attack that leaves less than is proved at any of the radii.
    (wrong,) = attacked_at(tmp_path, problem, identity, (0.001,), shift=4.0)
    with pytest.raises(RefutedError, match="error of ours"):
        certify_into(*work, evaluations=[own, wrong], resume=True, verbose=0)
    with pytest.raises(UserError, match="was withdrawn"):
        pnil_tf.Certificate.load(work[-1])


@pytest.mark.parametrize("moving", [False, True])
def test_a_certificate_that_is_read_again_proves_no_more_at_other_radii(tmp_path, moving):
    whole = proofs([400, 700, 900, 999])
    arrays = {"answer": whole.answer, "selected": whole.selected, "hits": whole.hits}
    arrays |= {"share": whole.share, "single_draw": whole.single_draw(0.05)}
    arrays |= {f"radius_{norm}": radius for norm, radius in whole.radius.items()}
    write_arrays(tmp_path / "certificate.npz", arrays)
    noise = {"sensitivity": None if moving else bounds.sensitivity(np.full(SHAPE, 0.25), "linf")}
    settings = {"epsilon": 0.05, "norm": "linf"}
    found = pnil_tf.Certificate(tmp_path, {"settings": settings, "noise": noise}).proofs()
    for epsilon in (0.01, 0.05, 0.1, 0.15):
        here, there = found.single_draw(epsilon), whole.single_draw(epsilon)
        assert (here <= there + 1e-12).all()
        if epsilon == 0.05 or not moving:
            np.testing.assert_allclose(here, there)
        else:  # as much as follows from the radii, and from the bound at a larger radius
            assert (here[whole.radius["linf"] > epsilon] >= 0.5).all()
            assert epsilon > 0.05 or (here >= whole.single_draw(0.05)).all()


def test_a_record_of_an_earlier_version_has_one_comparison():
    settings, before = {"epsilon": 0.01}, {"images": 3, "evaluation": "there"}
    now = {"epsilon": 0.01, **before}
    assert sides_in({"settings": settings, "both_sides": before}) == [now]
    assert sides_in({"settings": settings, "both_sides": [now]}) == [now]
    assert sides_in({"settings": settings}) == []


def test_a_certificate_that_took_the_place_of_a_refuted_one_stays(problem, tmp_path, caplog):
    sigma, weights, bias, x = problem
    work, labels = (linear(sigma, weights, bias), x, exact(problem)[0], 0.01), exact(problem)[0]
    pnil_tf.certify(*work, **QUICK).save(tmp_path)
    found = pnil_tf.Certificate.load(tmp_path)
    same = Subject(found.results["identity"], digests_of(x), labels, "linf")
    compare = comparison(found, same, 0.01)
    assert compare(labels[:, np.newaxis])["certificate"] == str(tmp_path)
    pnil_tf.certify(*work, **{**QUICK, "seed": 1}).save(tmp_path, overwrite=True)
    with pytest.raises(pnil_tf.RefutedError, match="relied on until it is known which"):
        compare(np.repeat(1 - labels[:, np.newaxis], 100, axis=1))
    assert "was replaced or withdrawn since" in caplog.text
    assert pnil_tf.Certificate.load(tmp_path).results["settings"]["seed"] == 1


def by_class(images=24):
    """Grey images from dark to bright, sorted by class; the exact radius of each is known."""
    model = linear(np.full(16, 0.3), np.ones(16), -8.0)
    grey = np.linspace(0.0, 1.0, images)
    x = np.broadcast_to(grey[:, None, None, None], (images, *SHAPE)).astype(np.float32)
    return model, x, (grey > 0.5).astype(int), np.abs(grey - 0.5)


def test_images_sorted_by_class_keep_their_places(tmp_path):
    model, x, y, exact_radius = by_class()
    images = 10
    attack = {"images": images, "attacks": "pgd", "steps": 2, "checks": False, "verbose": 0}
    attacked = pnil_tf.evaluate(model, x, y, 0.05, eot_samples=2, **attack)
    found = pnil_tf.certify(model, x, y, 0.05, images=images, evaluation=attacked, **QUICK)
    found.save(tmp_path / "kept")
    for one in (found, pnil_tf.Certificate.load(tmp_path / "kept")):
        there = one.places
        assert (np.diff(there) > 0).all()
        np.testing.assert_array_equal(one.labels, y[there])
        assert set(one.labels) == {0, 1}
        proved = one.answers != -1
        np.testing.assert_array_equal(one.answers[proved], y[there][proved])
        np.testing.assert_array_equal(one.image_digests, digests_of(x[there]))
        assert (one.radii() <= exact_radius[there]).all()
        far = exact_radius[there] > 0.15
        assert (one.single_draws[far] > 0.5).all()
        assert (one.hits[far] > 250).all()
        np.testing.assert_array_equal(one.selected[far], y[there][far])
    np.testing.assert_array_equal(attacked.places, there)
    (sides,) = found.to_dict()["both_sides"]
    assert sides["images"] == images
    for change in attacked.adversarial.values():
        assert np.abs(change - x[there]).max() <= 0.05 + 1e-6
    again = pnil_tf.evaluate(model, x, y, 0.05, eot_samples=2, certificate=found, **attack)
    assert again.to_dict()["both_sides"]["images"] == images


def test_a_finished_certificate_gets_another_curve_without_drawing(problem, tmp_path):
    sigma, weights, bias, x = problem
    work = (linear(sigma, weights, bias), x, exact(problem)[0])
    settings = CertificateSettings(epsilon=0.01, draws=500, batch_size=100, seed=0)
    first = certify_into(*work, settings, tmp_path, verbose=0)
    wanted = dataclasses.replace(settings, epsilons=(0.0, 0.002, 0.02))
    found = certify_into(*work, wanted, tmp_path, resume=True, verbose=0)
    curve = found.results["curve"]
    assert [point["epsilon"] for point in curve] == [0.0, 0.002, 0.01, 0.02]
    for point in curve[1:]:
        assert point["value"] == found.accuracy_at(point["epsilon"]).value
    assert found.results["settings"]["epsilons"] == [0.0, 0.002, 0.02]
    assert found.results["arrays"] == first.results["arrays"]
    assert "0.002" in (tmp_path / "certificate.html").read_text()
    # Without a wish the curve stays as it is.
    same = certify_into(*work, settings, tmp_path, resume=True, verbose=0)
    assert same.results["curve"] == curve


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda model, x: pnil_tf.certify(model, None), "come as an array"),
        (lambda model, x: pnil_tf.certify(model, {"x": x}), "come as an array"),
        (lambda model, x: pnil_tf.certify(model, [x, x[:1]]), "come as an array"),
        (lambda model, x: pnil_tf.certify(model, x, batchsize=3), "Did you mean 'batch_size'"),
        (lambda model, x: pnil_tf.certify(model, x, epsilon=0), "epsilon must be a number above 0"),
    ],
    ids=["none", "dict", "ragged", "setting", "epsilon"],
)
def test_a_mistake_gets_one_clear_sentence(problem, call, says):
    sigma, weights, bias, x = problem
    with pytest.raises(UserError, match=says):
        call(linear(sigma, weights, bias), x)


def test_questions_that_a_certificate_cannot_answer_are_refused(certified):
    found = certified[2]
    with pytest.raises(UserError, match="norm must be one of linf, l2"):
        found.radii("l1")
    for epsilon in (-1.0, np.nan, "a"):
        with pytest.raises(UserError, match="epsilon must be a number of at least 0"):
            found.accuracy_at(epsilon)


@pytest.mark.slow
@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("moving", [False, True])
def test_a_strong_attack_finds_nothing_on_certified_images(blobs, moving, norm):
    """200 pale images, a trained network, and an attack that averages over many draws."""
    x, y = 0.5 + 0.3 * (blobs[0] - 0.5), blobs[1]
    kernel = keras.initializers.RandomNormal(0.0, 0.5, seed=0) if moving else "zeros"
    front = PNILLayer(use_kernel=moving, kernel_initializer=kernel, initial_sigma=0.3)
    layers = [front, keras.layers.Flatten(), keras.layers.Dense(64, "relu"), keras.layers.Dense(4)]
    network = keras.Sequential([keras.Input((8, 8, 1)), *layers])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    network.compile("adam", loss)
    network.fit(x, y, epochs=30, verbose=0)
    draws = {"images": 200, "draws": 5000, "seed": 0, "verbose": 0, "norm": norm}
    radii = pnil_tf.certify(network, x, y, 0.01, **draws).radii(norm)
    epsilon = float(np.quantile(radii, 0.3))  # the attack stands at the edge of many proofs
    assert 0.0 < epsilon < np.median(radii)
    attack = {"images": 200, "attacks": "pgd_strong", "judge_draws": 500, "checks": False}
    attack |= {"verbose": 0, "norm": norm}
    evaluation = pnil_tf.evaluate(network, x, y, epsilon, **attack)
    found = pnil_tf.certify(network, x, y, epsilon, evaluation=evaluation, **draws)
    (sides,) = found.to_dict()["both_sides"]
    certified = (found.answers == y[:200]) & (found.radii(norm) > epsilon)
    assert certified.mean() > 0.5
    with np.load(evaluation.folder / "arrays.npz") as arrays:
        votes = arrays["worst_case_votes"][certified]
    right = (votes == y[:200][certified][:, np.newaxis]).mean(axis=1)
    # A share above one half, as judged by so many draws.
    assert right.min() > 0.5 - 4 * 0.5 / np.sqrt(votes.shape[1])
    assert sides["single_draw"]["proved"]["value"] <= sides["single_draw"]["attacked"]["value"]


def test_bytes_do_not_tell_the_range_of_a_model_that_does_not_scale_them(problem):
    sigma, weights, bias, x = problem
    images = np.round(255 * np.clip(x, 0, 1)).astype(np.uint8)
    for pixel_range in ((0, 1), (0, 255)):
        model = linear(sigma, weights, bias, pixel_range)
        with pytest.raises(UserError, match="Nothing tells which pixels the model takes"):
            pnil_tf.certify(model, images, epsilon=0.01, **QUICK)
        pnil_tf.certify(model, images, epsilon=0.01, pixel_range=pixel_range, **QUICK)
