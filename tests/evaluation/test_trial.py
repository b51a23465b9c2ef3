"""A trial judges and attacks batch by batch, and does nothing twice."""

import keras
import numpy as np

from pnil_tf.attacks.registry import attack_settings
from pnil_tf.evaluation.settings import EvaluationSettings
from pnil_tf.evaluation.store import Store
from pnil_tf.evaluation.target import as_target
from pnil_tf.evaluation.trial import Trial

X = np.random.default_rng(0).random((30, 6, 6, 1)).astype(np.float32)


def trial_in(folder):
    model = keras.Sequential(
        [keras.Input((6, 6, 1)), keras.layers.Flatten(), keras.layers.Dense(4)]
    )
    model.layers[-1].kernel.assign(np.random.default_rng(1).normal(size=(36, 4)))
    y = model.predict(X, verbose=0).argmax(axis=1)
    y[::5] = (y[::5] + 1) % 4  # some are lost without any attack
    settings = EvaluationSettings(epsilon=0.1, batch_size=8)
    return Trial(as_target(model, X), X, y, settings, Store(folder, {}, False))


def attacked(trial):
    """What two attacks leave, the second of images that end within a batch."""
    return [
        trial.attack(name, attack_settings(name, 0.1, draws=1), images)
        for name, images in (("fgsm", 30), ("noise", 13))
    ]


def test_unperturbed_images_are_judged_once_however_many_attacks_begin_with_them(
    tmp_path, monkeypatch
):
    trial, judged = trial_in(tmp_path / "one"), []
    really = trial.judge.votes

    def votes(images, seed):
        judged.append(len(images))
        return really(images, seed)

    monkeypatch.setattr(trial.judge, "votes", votes)
    clean = trial.clean_votes()
    found = attacked(trial)
    standing = clean[:, 0] == trial.y
    counts = [standing[rows].sum() for rows in (slice(0, 8), slice(8, 13))]
    assert judged[:4] == [8, 8, 8, 6]
    assert judged[8:] == counts
    assert len(judged) == 10
    # The same as where nobody has asked for the clean votes before.
    for one, other in zip(found, attacked(trial_in(tmp_path / "other")), strict=True):
        np.testing.assert_array_equal(one.votes, other.votes)
        np.testing.assert_array_equal(one.adversarial, other.adversarial)
