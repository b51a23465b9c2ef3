"""The draws behind a certificate: independent, whatever the size of a pass, and Gaussian."""

import numpy as np
import pytest
import tensorflow as tf
from scipy import special, stats

from pnil_tf.certificate import sampling
from pnil_tf.certificate.bounds import lower_confidence
from pnil_tf.certificate.counting import Counting
from pnil_tf.certificate.sampling import DRAWS_OF_A_BLOCK, Sampler, gaussian
from pnil_tf.certificate.settings import CertificateSettings
from pnil_tf.evaluation.store import Store
from pnil_tf.layers import PNILLayer

SHAPE = (2, 2, 1)


@pytest.fixture
def linear():
    """Class 1 where the sum of the noisy pixels is above 0."""
    layer = PNILLayer(use_kernel=False, initial_sigma=1.0)
    layer.build((None, *SHAPE))

    def predict(unit):
        total = tf.reduce_sum(layer(unit), axis=[1, 2, 3])
        return tf.stack([tf.zeros_like(total), total], axis=1)

    return predict


def test_the_size_of_a_pass_changes_no_count(linear):
    image = np.full(SHAPE, 0.1, np.float32)
    found = [
        Sampler(linear, SHAPE, 2, size).counts(image, 3, 0, 777)
        for size in (1, DRAWS_OF_A_BLOCK + 1, 300)
    ]
    assert found[0].sum() == 777
    for other in found[1:]:
        np.testing.assert_array_equal(found[0], other)


def test_more_draws_begin_with_the_fewer(linear):
    image = np.zeros(SHAPE, np.float32)
    sampler = Sampler(linear, SHAPE, 2, 100)
    few, many = (sampler.counts(image, 0, 0, draws) for draws in (130, 160))
    assert (many >= few).all()
    assert (many - few).sum() == 30


def test_the_share_is_that_of_the_normal_distribution(linear):
    image = np.full(SHAPE, 0.25, np.float32)
    hits = Sampler(linear, SHAPE, 2, 200).counts(image, 1, 0, 20_000)[1]
    assert stats.binomtest(int(hits), 20_000, special.ndtr(1.0 / 2.0)).pvalue > 1e-6


def test_of_1000_images_the_drawn_bound_fails_no_more_often_than_alpha_says(linear, tmp_path):
    """As `certify` draws: some draws choose the class, others bound its share."""
    x = np.random.default_rng(8).uniform(-1.0, 1.0, (1000, *SHAPE)).astype(np.float32)
    asked = CertificateSettings(epsilon=0.1, draws=200, selection_draws=20, alpha=0.05, seed=9)
    sampler = Sampler(linear, SHAPE, 2, 200)
    found = Counting(sampler, x, asked, Store(tmp_path / "pieces", {}, resume=False)).of_all()
    bound = lower_confidence(found["hits"], asked.draws, asked.alpha)
    above = special.ndtr(x.reshape(1000, -1).sum(axis=1) / 2.0)
    share = np.where(found["selected"] == 1, above, 1.0 - above)
    failed = (bound > share).sum()
    assert failed <= stats.binom.ppf(1 - 1e-6, 1000, asked.alpha)
    assert failed >= 10  # a bound that never fails would be far too low


def test_every_image_has_draws_of_its_own_to_choose_its_class_and_others_to_prove_it(tmp_path):
    taken = []

    class Recording:
        def counts(self, image, seed, stream, draws, progress=None):
            taken.append((seed, stream, draws))
            # The class that most of the choosing draws answer with is not that of the others.
            return np.array([draws, 0, 0] if draws == 20 else [60, 140, 0])

    asked = CertificateSettings(epsilon=0.1, draws=200, selection_draws=20, seed=9)
    store = Store(tmp_path / "pieces", {}, resume=False)
    found = Counting(Recording(), np.zeros((7, *SHAPE), np.float32), asked, store).of_all()
    assert [draws for _, _, draws in taken] == 7 * [20, 200]
    assert len({stream for _, stream, _ in taken}) == 14
    assert {seed for seed, _, _ in taken} == {9}
    assert found["selected"].tolist() == 7 * [0]
    assert found["hits"].tolist() == 7 * [60]


def test_answers_that_are_not_finite_are_counted_apart():
    layer = PNILLayer(use_kernel=False, initial_sigma=1.0)
    layer.build((None, *SHAPE))

    def predict(unit):
        noisy = layer(unit)[:, 0, 0]
        return tf.concat([tf.math.log(noisy), tf.zeros_like(noisy)], axis=1)

    found = Sampler(predict, SHAPE, 2, 50).counts(np.zeros(SHAPE, np.float32), 1, 0, 1000)
    assert found.sum() == 1000
    assert 400 < found[-1] < 600


def test_every_bit_of_the_seed_and_every_stream_and_block_have_other_noise():
    """Seeds of 32 bits would give two of 100,000 blocks the same noise more often than not."""
    keys = [0, *(2**bit for bit in range(63))]
    streams, blocks = ([2**bit for bit in range(count)] for count in (62, 31))
    places = [(key, 0, 0) for key in keys]
    places += [(0, stream, 0) for stream in streams] + [(0, 0, block) for block in blocks]
    draw = tf.function(lambda place: gaussian([1000], place[0], place[1], place[2]))
    drawn = np.stack([draw(tf.constant(place, tf.int64)) for place in places])
    assert np.abs(np.corrcoef(drawn) - np.eye(len(places))).max() < 6 / np.sqrt(1000)


def test_neighbouring_blocks_share_no_counter():
    """The last of a block's numbers is not the first of the next one's, however near they are."""
    long, following = (gaussian([200_000], 0, 0, block).numpy() for block in (0, 1))
    assert len(np.intersect1d(long, following)) < 200_000 * 0.02


def test_the_noise_is_normal_in_the_middle_and_in_the_tails():
    drawn = gaussian(tf.constant([400_001]), 5, 0, 0).numpy()
    assert drawn.shape == (400_001,)
    assert stats.kstest(drawn, "norm").pvalue > 1e-4
    pairs = np.corrcoef(drawn[:200_000], drawn[200_001:])[0, 1]  # cosine and sine of one pair
    serial = np.corrcoef(drawn[:-1], drawn[1:])[0, 1]
    assert max(abs(pairs), abs(serial)) < 5 / np.sqrt(200_000)


def test_the_tails_reach_8_5_standard_deviations(monkeypatch):
    """Of 10^7 draws none is expected beyond 5.65, where the noise of training ends."""
    numbers = sampling._uniform(tf.constant(1000), 6, 0, 0, tf.float64).numpy()
    steps = numbers * 2.0**52
    assert (steps == np.floor(steps)).all()
    assert (steps % 2 == 1).any()  # as fine as it looks: numbers next to 1 are 1 - 2**-52

    def farthest(size, key, stream, block, dtype):
        return tf.fill([size], tf.constant(1.0 - 2.0**-52 if dtype == tf.float64 else 0.0, dtype))

    monkeypatch.setattr(sampling, "_uniform", farthest)
    assert gaussian(tf.constant([2]), 6, 0, 0).numpy()[0] == pytest.approx(8.49, abs=0.01)


@pytest.mark.slow
def test_ten_million_draws_are_normal_far_out():
    drawn = gaussian(tf.constant([10_000_000]), 6, 0, 0).numpy()
    assert stats.kstest(drawn, "norm").pvalue > 1e-4
    for edge in (1.0, 2.0, 3.0, 4.0, 5.0):
        for beyond in (drawn > edge, drawn < -edge):
            expected = len(drawn) * special.ndtr(-edge)
            assert stats.poisson.sf(beyond.sum() - 1, expected) > 1e-5, edge
            assert stats.poisson.cdf(beyond.sum(), expected) > 1e-5, edge
    half = len(drawn) // 2
    for lag in (1, 2, 50, 784, half):
        limit = 5 / np.sqrt(len(drawn) - lag)
        assert abs(np.corrcoef(drawn[:-lag], drawn[lag:])[0, 1]) < limit
        assert abs(np.corrcoef(drawn[:-lag] ** 2, drawn[lag:] ** 2)[0, 1]) < limit
