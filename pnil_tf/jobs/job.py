"""What an engine knows of a job. Imports no TensorFlow."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from pnil_tf.errors import speech


class Job(abc.ABC):
    """A folder, and the module whose process does there what its files say.

    Args:
        path: The folder.
    """

    module: ClassVar[str]
    """Full name of the module; its one argument is the folder."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.log = path / "log.txt"
        # Noted here: who starts the process may be one of a cluster's, whom nobody has told.
        self.speech = speech()

    @property
    def environment(self) -> Mapping[str, str]:
        """Variables that the process has besides those of its parent."""
        return {}

    @abc.abstractmethod
    def note_end(self, status: int) -> None:
        """Notes that the process has ended; a negative status is a signal's number."""

    @abc.abstractmethod
    def note_failure(self, why: str) -> None:
        """Notes why the process could not be started, or was lost, one sentence."""
