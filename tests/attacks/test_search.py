"""Who leaves the work, who is kept, and that it changes no result."""

import dataclasses

import numpy as np
import pytest
from classifiers import make_judge

from pnil_tf import rng
from pnil_tf.attacks.registry import attack_settings, build_attack
from pnil_tf.attacks.search import Search, attack_standing

SEED = rng.make_seed(0)


class Counting:
    """Images are single numbers that grow by 1 at each step; y says where they fall."""

    def __init__(self, trials=1, steps=10, batch=3):
        self.calls = []
        self.search = Search(trials, steps, batch, 4, self.start, self.advance)

    def start(self, trial, x, known, seed):
        del seed
        return (x, np.zeros_like(x))

    def advance(self, trial, x, y, state, seed, first, count):
        del seed
        now, steps_so_far = state
        assert np.all(steps_so_far == first)  # the state follows its image
        assert np.all(now == x + first)
        self.calls.append((trial, len(x), first, count))
        return (now + count, steps_so_far + count)

    @property
    def work(self):
        return sum(images * count for _, images, _, count in self.calls)


def judge(x, y, seed):
    del seed
    assert 0 < len(x) <= 4
    return (x[:, 0] < y).astype(np.float32)


X = np.zeros((8, 1), np.float32)
FALLS = np.array([1, 2, 3, 4, 5, 6, 100, 100])


def test_lost_images_leave_at_the_next_look():
    counting = Counting()
    result = attack_standing(counting.search, X, FALLS, SEED, judge, check_every=2)
    assert result[:, 0].tolist() == [2, 2, 4, 4, 6, 6, 10, 10]
    assert counting.work == 2 + 2 + 4 + 4 + 6 + 6 + 10 + 10
    assert max(images for _, images, _, _ in counting.calls) == 3


def test_nobody_leaves_if_not_asked_to():
    counting = Counting()
    result = attack_standing(counting.search, X, FALLS, SEED, None, check_every=0)
    assert result[:, 0].tolist() == [10] * 8
    assert counting.work == 80


def test_restarts_begin_with_the_images_still_standing():
    counting = Counting(trials=3)
    attack_standing(counting.search, X, FALLS, SEED, judge, check_every=5)
    images = [sum(c[1] for c in counting.calls if c[0] == t and c[2] == 0) for t in range(3)]
    assert images == [8, 2, 2]


def test_work_ends_when_nobody_stands():
    counting = Counting(trials=2)
    reports = []
    attack_standing(
        counting.search,
        X,
        np.ones(8),
        SEED,
        judge,
        check_every=1,
        progress=lambda *report: reports.append(report),
    )
    assert counting.work == 8
    assert reports[-1] == (160, 160)


@pytest.mark.parametrize("check_every", [0, 3])
def test_progress_never_goes_back(check_every):
    reports = []
    attack_standing(
        Counting(trials=2).search,
        X,
        FALLS,
        SEED,
        judge,
        check_every=check_every,
        progress=lambda *report: reports.append(report),
    )
    done = [d for d, _ in reports]
    assert done == sorted(done)
    assert reports[-1] == (160, 160)
    assert max(done) == 160


def test_an_image_leaves_only_if_a_second_look_agrees():
    looks = []

    def doubtful(x, y, seed):
        looks.append((len(x), tuple(np.asarray(seed))))
        return np.full(len(x), 0.0 if len(looks) % 2 else 0.5, np.float32)

    counting = Counting(steps=4, batch=8)
    attack_standing(counting.search, X[:4], FALLS[:4], SEED, doubtful, check_every=2)
    assert counting.work == 16
    assert len({seed for _, seed in looks}) == len(looks)


@pytest.mark.parametrize("agrees", [True, False])
def test_what_a_screen_takes_for_lost_the_judge_confirms(agrees):
    asked = {"screen": 0, "judge": 0}

    def screen(x, y, seed):
        asked["screen"] += len(x)
        return judge(x, y, seed)

    def final(x, y, seed):
        asked["judge"] += len(x)
        return judge(x, y, seed) if agrees else np.full(len(x), 0.5, np.float32)

    counting = Counting()
    result = attack_standing(counting.search, X, FALLS, SEED, final, screen=screen, check_every=2)
    left = [2, 2, 4, 4, 6, 6, 10, 10] if agrees else [10] * 8
    assert result[:, 0].tolist() == left
    # The judge is asked about nobody but the images that look lost.
    assert asked == (
        {"screen": 8 + 6 + 4 + 2, "judge": 6} if agrees else {"screen": 32, "judge": 18}
    )


def test_a_screen_does_not_choose_between_restarts():
    def blind(x, y, seed):
        return np.ones(len(x), np.float32)

    counting = Counting(trials=2)
    attack_standing(counting.search, X, FALLS, SEED, judge, screen=blind, check_every=5)
    images = [sum(c[1] for c in counting.calls if c[0] == t and c[2] == 0) for t in range(2)]
    assert images == [8, 2]


def test_each_image_keeps_its_best_restart():
    class Offsets(Counting):
        def start(self, trial, x, known, seed):
            self.trial = getattr(self, "trial", -1) + 1
            return (x + self.trial, np.zeros_like(x))

        def advance(self, trial, x, y, state, seed, first, count):
            return (state[0], state[1])

    best = np.array([0, 1, 2, 1])

    def distance(x, y, seed):
        return np.abs(x[:, 0] - y).astype(np.float32) / 10 + 0.1

    result = attack_standing(Offsets(3, 5, 8).search, X[:4], best, SEED, distance)
    assert result[:, 0].tolist() == best.tolist()


def test_targeted_images_are_lost_once_they_reach_the_class():
    counting = Counting()
    reached = lambda x, y, seed: 1 - judge(x, y, seed)  # noqa: E731
    result = attack_standing(counting.search, X, FALLS, SEED, reached, targeted=True, check_every=2)
    assert result[:, 0].tolist() == [2, 2, 4, 4, 6, 6, 10, 10]


def test_images_that_a_trial_gives_up_leave_it_and_begin_the_next():
    counting = Counting(trials=2, steps=6)
    search = dataclasses.replace(counting.search, given_up=lambda state: state[0][:, 0] >= 4)
    result = attack_standing(search, X, FALLS, SEED, judge, check_every=2)
    # Those that fell by 4 are lost; the others leave there, and stand in the next trial.
    assert result[:, 0].tolist() == [2, 2, 4, 4, 4, 4, 4, 4]
    assert [call[1:] for call in counting.calls if call[0] == 1 and call[2] == 0] == [
        (3, 0, 2),
        (1, 0, 2),
    ]
    assert max(call[2] for call in counting.calls) == 2


def test_what_all_trials_need_is_prepared_once_and_follows_its_image():
    counting = Counting(trials=2)
    asked = []

    def prepare(x, y, seed):
        asked.append(len(x))
        return (np.asarray(y, np.float32),)

    def start(trial, x, known, seed):
        return (x, np.zeros_like(x), known[0])

    def advance(trial, x, y, state, seed, first, count):
        np.testing.assert_array_equal(state[2], y)
        return (state[0] + count, state[1] + count, state[2])

    search = dataclasses.replace(counting.search, start=start, advance=advance, prepare=prepare)
    attack_standing(search, X, FALLS, SEED, judge, check_every=5)
    assert asked == [3, 3, 2]


def test_no_images_is_no_work():
    counting = Counting()
    result = attack_standing(counting.search, X[:0], FALLS[:0], SEED, judge, check_every=2)
    assert result.shape == (0, 1)
    assert not counting.calls


@pytest.mark.parametrize(
    "name",
    ["pgd", *(pytest.param(name, marks=pytest.mark.slow) for name in ("pgd_strong", "spsa"))],
)
def test_compaction_changes_no_result(trained, blobs, name):
    """Against the plain loop, on the same images, within sampling error."""
    count = 100 if name == "spsa" else 150
    x, y = blobs[0][:count], blobs[1][:count]
    predict = lambda x: trained(x, training=False)  # noqa: E731
    judge = make_judge(predict, 30)
    options = {"steps": 10, "restarts": 1, "loss": "margin"}
    options |= (
        {"samples": 128, "step_size": 0.05, "delta": 0.1} if name == "spsa" else {"draws": 10}
    )
    left = {}
    for check_every in (0, 2):
        settings = attack_settings(name, 0.25, check_every=check_every, **options)
        moved = build_attack(predict, settings, judge).run(x, y, 1)
        left[check_every] = judge(moved, y, rng.make_seed(99))
    assert 0.05 < left[0].mean() < 0.95  # else there is nothing to compare
    difference = left[2] - left[0]
    assert abs(difference.mean()) < 0.01 + 3 * difference.std() / np.sqrt(count)
