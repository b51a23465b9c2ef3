"""The folder of an evaluation's results: what is ours in it, what is finished, what gives way."""

from __future__ import annotations

import contextlib
import logging
from pathlib import Path
from typing import Any

import numpy as np

from pnil_tf.errors import UserError, argument
from pnil_tf.evaluation.store import (
    IDENTITY,
    Store,
    check_identity,
    holds_pieces,
    refuse_foreign_state,
)
from pnil_tf.files import lock_folder, read_json, sha256_of, tidy, understood

RESULTS, ARRAYS, ADVERSARIAL, REPORT = (
    "results.json",
    "arrays.npz",
    "adversarial.npz",
    "report.html",
)
STATE = "state"
PLACE = "place"  # the array that says which of the images given each of them is
_OURS = (b'"verdict"', b'"identity"', b'"sha256"')

logger = logging.getLogger(__name__)


def which_images(digests: np.ndarray, places: np.ndarray | None) -> dict[str, np.ndarray]:
    """The arrays that tell which images results are about.

    Args:
        digests: As `digests_of` has them.
        places: At least as many: which of the images given each is; `None` for the first ones.
    """
    count = len(digests)
    return {
        "image_sha256": digests,
        PLACE: np.arange(count) if places is None else places[:count],
    }


def refuse_existing(
    output: Path, what: str = "an evaluation", names: tuple[str, ...] = (RESULTS, STATE)
) -> None:
    """Refuses a folder that holds results, begun or finished.

    Args:
        output: The folder.
        what: Whose results they are.
        names: What lies in the folder then.

    Raises:
        UserError: If so.
    """
    if any((output / name).exists() for name in names):
        raise UserError(
            f"{output} holds {what}, and neither {argument('resume')} (go on with it) nor "
            f"{argument('overwrite')} (replace it) was given. Pass one, or choose another "
            f"{argument('output')}."
        )


def refuse_foreign(output: Path) -> None:
    """Refuses a folder in which results would take the place of files of somebody else.

    Raises:
        UserError: If so.
    """
    refuse_foreign_state(output / STATE)
    if _is_ours(output / RESULTS) or holds_pieces(output / STATE):
        return
    for name in (RESULTS, ARRAYS, ADVERSARIAL, REPORT):
        if (output / name).exists():
            raise UserError(
                f"{str(output / name)!r} was not written by an evaluation of ours, and is not "
                f"replaced. Move it, or choose another {argument('output')}."
            )


def _is_ours(results: Path) -> bool:
    # By its text: it may be damaged, which is why it is to be replaced.
    return results.is_file() and holds_all(results, _OURS)


def holds_all(file: Path, words: tuple[bytes, ...]) -> bool:
    """Whether some words all occur in a file."""
    content = file.read_bytes()
    return all(word in content for word in words)


def batch_size_begun_with(output: Path) -> int | None:
    """Images in a batch of the evaluation that a folder holds; None if there is none to be read.

    This process may have other room in memory than the one that began it.
    """
    for file, keys in ((output / STATE / IDENTITY, ()), (output / RESULTS, ("identity",))):
        with contextlib.suppress(OSError, UserError, KeyError, TypeError):
            found: Any = read_json(file)
            for key in (*keys, "settings"):
                found = found[key]
            return int(found["batch_size"])
    return None


def finished(output: Path, identity: dict[str, Any]) -> dict[str, Any] | None:
    """Returns the results of an evaluation that is finished, if it is the one asked for.

    Args:
        output: The folder.
        identity: Everything that the results depend on.

    Raises:
        UserError: If the folder holds the results of another evaluation, or damaged ones.
    """
    if not (output / RESULTS).is_file():
        return None
    if not (output / STATE).exists():
        tidy(output)  # it may have been killed while it removed its pieces
        return _compared(output, identity)
    # There are pieces beside the results: those of an evaluation that is to replace them, or of
    # this one, killed before it had removed them.
    with contextlib.suppress(UserError), lock_folder(output):
        results = _compared(output, identity)
        Store.discard(output / STATE)
        return results
    return None


def _compared(output: Path, identity: dict[str, Any]) -> dict[str, Any]:
    results = read_json(output / RESULTS)
    with understood(output / RESULTS):
        check_identity(results["identity"], identity, output)
        check_files(output, results)
    return results


def check_files(output: Path, results: dict[str, Any]) -> None:
    """Refuses results whose arrays are not those that were written with them.

    Raises:
        UserError: If so.
    """
    for stated in (results[key] for key in ("arrays", "adversarial") if key in results):
        file = output / stated["file"]
        if not file.is_file() or sha256_of(file) != stated["sha256"]:
            raise UserError(
                f"{file} is missing, or was damaged since it was written. Received: results that "
                f"state the sha256 {stated['sha256']}. Make it again with {argument('overwrite')}."
            )


def put_in_place(output: Path) -> None:
    """Moves the finished files out of the state; what was here before gives way only now."""
    for name in (ADVERSARIAL, ARRAYS, REPORT, RESULTS):
        if (output / STATE / name).exists():
            (output / STATE / name).replace(output / name)
        else:
            (output / name).unlink(missing_ok=True)
