"""A certificate that an attack has refuted: its files must not go on claiming what they did."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pnil_tf.certificate.output import REPORT, RESULTS, sides_in
from pnil_tf.errors import RunFailedError, UserError, argument
from pnil_tf.evaluation.beside import take_away
from pnil_tf.files import read_json, understood, write_record, write_text
from pnil_tf.html import escape, page

_WITHDRAWN, _WAS = "withdrawn", "was"


class RefutedError(RunFailedError):
    """An attack leaves less than is proved to be left, and chance does not explain it."""


def withdraw(folder: Path, results: Mapping[str, Any], why: str) -> None:
    """Has the record and the page in a folder say that nothing is proved; the arrays stay.

    The evaluations that it names show its figures no longer, unless somebody works there.

    Args:
        folder: The certificate's.
        results: What it claims, which the record keeps below another name.
        why: One sentence or more.
    """
    words = f'<p class="verdict obfuscated"><strong>Withdrawn.</strong> {escape(why)}</p>'
    write_text(folder / REPORT, page("Certificate", "A certificate that was withdrawn", [words]))
    write_record(folder / RESULTS, {_WITHDRAWN: why, _WAS: dict(results)})
    for sides in sides_in(results):
        with contextlib.suppress(OSError, UserError):  # the certificate itself says it
            take_away(Path(sides["evaluation"]), folder, stated_arrays(folder))


def stated_arrays(folder: Path) -> set[str]:
    """The sha256 of the arrays of a folder's certificate, withdrawn or not, if there is one.

    Raises:
        UserError: If its record is damaged.
    """
    file = folder / RESULTS
    if not file.is_file():
        return set()
    record = read_json(file)
    with understood(file):
        return {record.get(_WAS, record)["arrays"]["sha256"]}


def refuse_withdrawn(folder: Path) -> None:
    """Refuses a folder whose certificate was withdrawn.

    Raises:
        UserError: If so.
    """
    file = folder / RESULTS
    why = read_json(file).get(_WITHDRAWN) if file.is_file() else None
    if why is not None:
        raise UserError(
            f"The certificate in {folder} was withdrawn. {why} To certify again, ask for "
            f"{argument('overwrite')}."
        )
