"""Evaluations shared out on a local Ray cluster. Skipped without ray."""

import pytest
from test_crew import SMALL, images, noisy_linear, same_arrays

import pnil_tf

ray = pytest.importorskip("ray")

SHARED = {"workers": 2, "engine": "ray"}


@pytest.fixture(scope="module", autouse=True)
def cluster():
    """Two CPUs of this machine, one for each worker."""
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture(autouse=True)
def ended(monkeypatch):
    """The jobs that Ray has done, by their numbers."""
    found, really = [], pnil_tf.jobs.on_ray._note

    def note(module, reference, job):
        found.append(job.path.name)
        really(module, reference, job)

    monkeypatch.setattr(pnil_tf.jobs.on_ray, "_note", note)
    yield found
    assert sorted(found) == ["0", "1"]


@pytest.mark.slow
def test_an_evaluation_has_the_numbers_of_one_process():
    model, (x, y) = noisy_linear(), images()
    alone = pnil_tf.evaluate(model, x, y, 0.1, **SMALL)
    shared = pnil_tf.evaluate(model, x, y, 0.1, **SMALL, **SHARED)
    for file in ("arrays.npz", "adversarial.npz"):
        same_arrays(alone.folder / file, shared.folder / file)
    assert shared.robust_accuracy == alone.robust_accuracy
