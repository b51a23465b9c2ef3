"""What an evaluation asks of the noise beyond a seed: to be frozen to one constant."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import tensorflow as tf

from pnil_tf import rng


class _Frozen(rng._Scope):
    """A scope whose noise depends on neither an image's place in the batch nor the batch."""

    def draw(self, shape: Any) -> Any:
        return tf.broadcast_to(super().draw(tf.concat([[1], shape[1:]], axis=0)), shape)


@contextlib.contextmanager
def frozen_noise(seed: Any) -> Iterator[None]:
    """Makes every noise layer called inside add one constant, that of `seed`.

    Args:
        seed: int32 seed pair.
    """
    with rng.noise_scope(seed):
        scope = rng._local.scope
        rng._local.scope = _Frozen(seeds=scope.seeds, signs=scope.signs, graph=scope.graph)
        yield


def in_seeded_scope() -> bool:
    """Whether a surrounding noise scope gives the noise a seed."""
    scope = getattr(rng._local, "scope", None)
    return scope is not None and bool(scope.seeds)
