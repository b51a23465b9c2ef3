"""The files of a certificate, and what stands in their way."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pnil_tf.errors import UserError, argument
from pnil_tf.evaluation import output as evaluation
from pnil_tf.evaluation.store import holds_pieces, refuse_foreign_state

RESULTS, ARRAYS, REPORT = "certificate.json", "certificate.npz", "certificate.html"
STATE = "pieces"  # not the name of an evaluation's, which may lie in the same folder
_OURS = (b'"certified"', b'"single_draw"', b'"sha256"')


def sides_in(results: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What is proved beside what attacks left, at each of their radii, increasing.

    Args:
        results: A certificate's; an earlier version wrote one such comparison, at the
            certificate's own radius.
    """
    found = results.get("both_sides", [])
    if isinstance(found, Mapping):
        return [{"epsilon": results["settings"]["epsilon"], **found}]
    return list(found)


def refuse_existing(output: Path) -> None:
    """Refuses a folder that holds a certificate, begun or finished.

    Raises:
        UserError: If so.
    """
    evaluation.refuse_existing(output, "a certificate", (RESULTS, STATE))


def refuse_foreign(output: Path) -> None:
    """Refuses a folder in which a certificate would take the place of files of somebody else.

    Raises:
        UserError: If so.
    """
    refuse_foreign_state(output / STATE)
    results = output / RESULTS
    if holds_pieces(output / STATE) or (results.is_file() and evaluation.holds_all(results, _OURS)):
        return
    for name in (RESULTS, ARRAYS, REPORT):
        if (output / name).exists():
            raise UserError(
                f"{str(output / name)!r} was not written by a certificate of ours, and is not "
                f"replaced. Move it, or choose another {argument('output')}."
            )
