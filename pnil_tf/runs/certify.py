"""What `bin/certify.py` calls: from a path and a few words to a certificate."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pnil_tf.certificate.attacked import require_evaluation
from pnil_tf.certificate.output import REPORT, refuse_existing, sides_in
from pnil_tf.certificate.result import Certificate
from pnil_tf.certificate.runner import certify
from pnil_tf.certificate.settings import CertificateSettings
from pnil_tf.contract.pixel_range import PixelRange
from pnil_tf.errors import UserError
from pnil_tf.evaluation.beside import put_beside
from pnil_tf.files import sha256_of
from pnil_tf.runs.crew import crew_of, leave_room_on_gpus, require_crew
from pnil_tf.runs.evaluate import (
    failure_told,
    going_on_told,
    own_pixels,
    refuted_taken_away,
    settle,
)
from pnil_tf.runs.names import CERTIFICATE, EVALUATION

logger = logging.getLogger(__name__)


def certify_saved(
    model: str,
    *,
    epsilon: float | None = None,
    norm: str | None = None,
    output: str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    data: Mapping[str, Any] | None = None,
    options: Mapping[str, Any] | None = None,
    pixel_range: tuple[float, ...] | None = None,
    outputs: str | None = None,
    evaluation: Sequence[str] = (),
    workers: int = 1,
    engine: str = "local",
) -> Certificate:
    """Certifies a saved classifier on the test images of a data set.

    Args:
        model: A run's folder or a `.keras` file.
        epsilon: Radius; by default that of the run's training.
        norm: Norm of the radius; by default the run's, or l_inf.
        output: Folder for the files; by default `certificate` in the run's folder.
        resume: As for `certify`.
        overwrite: As for `certify`.
        data: Fields of `DataSettings` that were said explicitly; the run's fill the rest.
        options: Further fields of `CertificateSettings`.
        pixel_range: As for `evaluate_saved`.
        outputs: As for `certify`.
        evaluation: Folders of evaluations to put beside it, each at its own radius, which must
            fit; by default the run's own, if it fits.
        workers: Processes that share the images out.
        engine: What runs them, one of `ENGINES`.

    Raises:
        UserError: If something is missing or does not fit; before the work begins.
        RefutedError: If an evaluation's attacks have left less than is proved to be left.
    """
    require_crew(workers, engine)
    settled = settle(model, epsilon, data, norm)
    settings = CertificateSettings(epsilon=settled.epsilon, norm=settled.norm, **(options or {}))
    output = settled.folder(output, CERTIFICATE)
    given = None if pixel_range is None else PixelRange.of(pixel_range)
    named = [Path(folder) for folder in dict.fromkeys(evaluation)]
    # Before the images are read; whether they fit is seen then.
    if not (resume or overwrite):
        refuse_existing(Path(output))
    for folder in named:
        require_evaluation(folder)
    if workers > 1:
        leave_room_on_gpus()
    saved = settled.load(given)
    test = saved.first_images(settings.images, workers)
    chosen = given or saved.loaded.pixel_range
    images = own_pixels(saved.loaded.model, test.images, chosen, outputs)
    own = Path(model) / EVALUATION
    refuted = refuted_taken_away({*named, own}, Path(output))
    with failure_told(output), going_on_told(output), refuted:
        certificate = certify(
            saved.loaded.model,
            images,
            test.labels,
            settings,
            output,
            resume=resume,
            overwrite=overwrite,
            data=saved.dataset.describe(),
            model_identity=sha256_of(saved.loaded.file),
            pixel_range=chosen,
            outputs=outputs,
            name=model,
            evaluations=named or [own],
            must_fit=bool(named),
            crew=crew_of(model, images, test.labels, settings, workers, engine),
        )
    logger.info("The report is in %s", Path(output) / REPORT)
    for sides in sides_in(certificate.results):
        if "evaluation_arrays" in sides:
            _show_beside(Path(sides["evaluation"]), {**sides, **certificate.mark})
    return certificate


def _show_beside(evaluation: Path, sides: Mapping[str, Any]) -> None:
    """Has the evaluation's own report show both sides, too, if that can be."""
    try:
        shown = put_beside(evaluation, sides, sides["evaluation_arrays"])
    except (OSError, UserError) as error:  # the certificate is whole without it
        logger.warning("The report in %s does not show both sides: %s", evaluation, error)
        return
    if not shown:
        logger.info("The report in %s is an older one, and does not show both sides.", evaluation)
