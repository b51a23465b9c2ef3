"""`pnil_tf.evaluate`: from a model and images to what it is worth, without a folder."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from pnil_tf.certificate.both_sides import beside
from pnil_tf.certificate.result import Certificate
from pnil_tf.contract.pixel_range import PixelRangeLike
from pnil_tf.evaluation import runner
from pnil_tf.evaluation.effort import settings_with
from pnil_tf.evaluation.result import Evaluation
from pnil_tf.evaluation.sources import gathered
from pnil_tf.evaluation.transfer import Source
from pnil_tf.files import sha256_of
from pnil_tf.runs.crew import crew_of, require_crew
from pnil_tf.runs.load import load_model, load_source
from pnil_tf.validation import keyword_names


def evaluate(
    model: Any,
    x: Any,
    y: Any = None,
    epsilon: float = 8 / 255,
    *,
    norm: str = "linf",
    pixel_range: PixelRangeLike | None = None,
    outputs: str | None = None,
    effort: str = "standard",
    attacks: str | Sequence[str] | None = None,
    images: int | None = None,
    seed: int = 0,
    verbose: int = 1,
    workers: int = 1,
    engine: str = "local",
    transfer_from: Any = None,
    certificate: Certificate | str | Path | None = None,
    **settings: Any,
) -> Evaluation:
    """Says how robust a classifier is, how sure that is, and whether it is real.

    ```python
    result = pnil_tf.evaluate(model, x_test, y_test, epsilon=8 / 255)
    print(result)
    result.save("evaluation")
    ```

    It does what the command `evaluate` does: the same model, images, settings and seed give the
    same figures.

    Args:
        model: A Keras model, an `AdversarialModel`, the path of a `.keras` file, of a SavedModel
            or of a run's folder, or a callable from images `(batch, height, width, channels)` to
            logits or probabilities `(batch, classes)`.
        x: Images `(n, height, width, channels)`, an array or a tensor: uint8 from 0 to 255, or
            other numbers in the model's own pixel range. Or images with their labels: a
            `tf.data.Dataset`, in batches or not, or a `keras.utils.PyDataset`. The model must not
            have been trained on them.
        y: The classes `(n,)` of images in an array; one-hot rows will do, too.
        epsilon: Radius of the attacks, > 0, a share of the pixel range: 8/255 is 8 of 255,
            whatever the range.
        norm: `"linf"` or `"l2"`.
        pixel_range: `(low, high)` of the pixels that the model takes; by default what it says or
            what its preprocessing suits, and (0, 1) where nothing tells.
        outputs: What the model answers, one of `pnil_tf.vocabulary.OUTPUT_KINDS`, where nothing
            else tells.
        effort: `"quick"` is a first look (a minute or two on two cores for images like MNIST's);
            its verdict is 'doubtful' at best. `"standard"` is the default, `"thorough"` what a
            paper needs.
        attacks: Names of the attacks to run, or of suites, in a list or joined by commas; the
            effort's by default.
        images: How many images to take, the first ones (mixed before, if they are sorted by
            class); the effort's number by default.
        seed: Every random number of the evaluation follows from it.
        verbose: 0 for silence, 1 for a bar (lines where there is no terminal), 2 for lines.
        workers: Processes that share the images out, batch by batch; the figures are the same.
            Each loads a copy of the model, so that it must be a Keras model or a path.
        engine: What runs them: `"local"` (this machine) or `"ray"`, a Ray cluster, whose nodes
            share this machine's folder of temporary files (`TMPDIR`).
        transfer_from: Another model (or its path) of the same images and classes. The attack
            `transfer` looks for adversarial images along its gradients; they are judged on `model`
            and count as those of any attack.
        certificate: What `certify` has proved of the same model, images, labels and norm, or its
            folder: the report then shows both sides at the radius of the attacks.
        **settings: Further fields of `pnil_tf.evaluation.settings.EvaluationSettings`; they take
            the place of the effort's.

    Returns:
        The result. Its adversarial images lie in a temporary folder as long as it lives.

    Raises:
        UserError: If model, images, labels, settings and certificate do not fit each other.
        RefutedError: If the attacks leave less than is proved to be left, an error of ours. Saved
            in a folder, the certificate is withdrawn there.
    """
    given = {"epsilon": epsilon, "norm": norm, "seed": seed, "save_adversarial": True, **settings}
    if attacks is not None:
        given["attacks"] = _names(attacks)
    if images is not None:
        given["images"] = images
    asked = settings_with(effort, given, _OWN)
    require_crew(workers, engine)
    kind = name = identity = recorded = None
    given_model = model
    if isinstance(model, (str, Path)):
        loaded = load_model(model)
        name, kind, identity = str(model), loaded.kind, sha256_of(loaded.file)
        model, recorded = loaded.model, loaded.pixel_range
        outputs = outputs or loaded.outputs
    other = _source(transfer_from)
    if certificate is not None and not isinstance(certificate, Certificate):
        certificate = Certificate.load(certificate)
    proved = None
    if certificate is not None:
        proved = beside(certificate, asked.epsilon, asked.norm, must_fit=True)
    pixels, labels, source, places = gathered(x, y, asked.images)
    assert labels is not None
    keeper = tempfile.TemporaryDirectory(prefix="pnil_tf_")
    results = runner.evaluate(
        model,
        pixels,
        labels,
        asked,
        keeper.name,
        data={"source": source},
        places=places,
        model_identity=identity,
        kind=kind,
        pixel_range=pixel_range or recorded,
        range_recorded=recorded is not None and pixel_range is None,
        outputs=outputs,
        name=name,
        verbose=verbose,
        crew=crew_of(given_model, pixels, labels, asked, workers, engine, other),
        transfer_from=other,
        beside=proved,
    )
    return Evaluation(Path(keeper.name), results, keeper)


_OWN = keyword_names(evaluate)
"""What may be said by its name alone, beside the fields of the settings."""


def _names(given: Any) -> Any:
    """Names as the settings hold them; what cannot be names stays as it is, to be refused so."""
    if isinstance(given, str):
        return tuple(part.strip() for part in given.split(",") if part.strip())
    return tuple(given) if isinstance(given, Iterable) else given


def _source(given: Any) -> Source | None:
    if given is None:
        return None
    return load_source(given) if isinstance(given, (str, Path)) else Source.of(given)
