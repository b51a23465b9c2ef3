"""`pnil_tf.certify`: from a model and images to what is proved of it, without a folder."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pnil_tf import rng
from pnil_tf.certificate import runner
from pnil_tf.certificate.result import Certificate
from pnil_tf.certificate.settings import CertificateSettings
from pnil_tf.contract.pixel_range import PixelRangeLike
from pnil_tf.errors import UserError
from pnil_tf.evaluation.result import Evaluation
from pnil_tf.evaluation.sources import gathered
from pnil_tf.files import sha256_of
from pnil_tf.runs.crew import crew_of, require_crew
from pnil_tf.runs.load import load_model
from pnil_tf.validation import keyword_names, require_fields


def certify(
    model: Any,
    x: Any,
    y: Any = None,
    epsilon: float = 8 / 255,
    *,
    norm: str = "linf",
    draws: int = 100_000,
    alpha: float = 0.001,
    images: int | None = None,
    pixel_range: PixelRangeLike | None = None,
    outputs: str | None = None,
    seed: int | None = None,
    evaluation: Evaluation | str | Path | Sequence[Evaluation | str | Path] | None = None,
    verbose: int = 1,
    workers: int = 1,
    engine: str = "local",
    **settings: Any,
) -> Certificate:
    """Proves how robust a classifier with PNIL in front is: a lower bound that no attack passes.

    ```python
    certificate = pnil_tf.certify(model, x_test, y_test, epsilon=8 / 255, images=500)
    print(certificate)
    certificate.save("certificate")
    ```

    What is proved is about the majority over draws of the noise, and about single draws, see
    docs/certificate.md. It needs many draws of every image; with noise that no image changes
    (`PNILLayer(use_kernel=False)`) more can be proved than with the paper's.

    Args:
        model: A Sequential or functional Keras model that begins with a `PNILLayer`, after fixed
            scaling at most; an `AdversarialModel` around one; the path of a run's folder or of a
            `.keras` file.
        x: Images, or images with labels, as for `evaluate`; a data set may be of images alone.
        y: The classes `(n,)` of images in an array. Without classes, answers are proved to stay,
            not to be right.
        epsilon: Radius, > 0, a share of the pixel range: 8/255 is 8 of 255, whatever the range.
        norm: `"linf"` or `"l2"`. Radii of both are known afterwards.
        draws: Draws of the noise for each image. With n of them no share above `alpha ** (1 / n)`
            is proved, so that they bound the radius.
        alpha: For each image, the proof is wrong with no more than this probability.
        images: How many images to take, as for `evaluate`; 1000, or all if there are fewer, unless
            given. The certificate's arrays are in the order of `x`; its `places` say which images
            of `x` they are about.
        pixel_range: As for `evaluate`.
        outputs: As for `evaluate`.
        seed: Every draw follows from it; fresh ones unless given, which the results note. Figures
            by the draws that a model or recipe was chosen with are too good.
        evaluation: An evaluation of the same model, images, labels and norm, or its folder, or
            several, each at a radius of its own: the report then shows both sides.
        verbose: 0 for silence, 1 for a bar (lines where there is no terminal), 2 for lines.
        workers: As for `evaluate`.
        engine: As for `evaluate`.
        **settings: Further fields of `pnil_tf.certificate.settings.CertificateSettings`:
            `selection_draws`, `batch_size`, `epsilons`.

    Returns:
        The certificate. Its files lie in a temporary folder as long as it lives.

    Raises:
        UserError: If the model's robustness cannot be proved this way (another layer in front,
            other randomness, batch statistics, noise off at inference, ...), or model, images,
            labels, settings and evaluation do not fit each other.
        RefutedError: If an evaluation's attacks have left less than is proved to be left.
    """
    given = {"norm": norm, "draws": draws, "alpha": alpha, "seed": seed, **settings}
    if images is not None:
        given["images"] = images
    require_fields("A certificate", CertificateSettings, given, _OWN)
    asked = CertificateSettings(epsilon=epsilon, **given)
    require_crew(workers, engine)
    several = _several(evaluation)
    name = identity = None
    if rng.in_noise_scope():
        raise UserError(
            "A certificate draws the noise itself. Received: a call within a noise scope. Call "
            "certify outside of it."
        )
    given_model = model
    if isinstance(model, (str, Path)):
        loaded = load_model(model)
        name, identity = str(model), sha256_of(loaded.file)
        model, pixel_range = loaded.model, pixel_range or loaded.pixel_range
    pixels, labels, source, places = gathered(x, y, asked.images, labelled=False)
    folders = [one.folder if isinstance(one, Evaluation) else Path(one) for one in several]
    keeper = tempfile.TemporaryDirectory(prefix="pnil_tf_")
    found = runner.certify(
        model,
        pixels,
        labels,
        asked,
        keeper.name,
        data={"source": source},
        places=places,
        model_identity=identity,
        pixel_range=pixel_range,
        outputs=outputs,
        name=name,
        evaluations=list(dict.fromkeys(folders)),
        verbose=verbose,
        crew=crew_of(given_model, pixels, labels, asked, workers, engine),
    )
    return Certificate(found.folder, found.results, keeper)


_OWN = keyword_names(certify)
"""What may be said by its name alone, beside the fields of the settings."""


def _several(evaluation: Any) -> list[Evaluation | str | Path]:
    """One evaluation, several or none as a list."""
    if evaluation is None:
        return []
    kinds = (Evaluation, str, Path)
    several = list(evaluation) if isinstance(evaluation, (list, tuple)) else [evaluation]
    for one in several:
        if not isinstance(one, kinds):
            raise UserError(
                "An evaluation is what evaluate returned, or its folder. Received: "
                f"evaluation={one!r}. Pass one of these, or a list of them."
            )
    return several
