"""The peers' packages, which only those who compare need: the extra `peers`."""

from __future__ import annotations

import importlib
import os
import sys

from pnil_tf.errors import UserError, argument

# In this order, and before TensorFlow: PyTorch's compiler brings a library (Triton, in the builds
# for GPUs) that ends the process where TensorFlow was loaded first.
_PACKAGES = ("torch", "torch._dynamo", "foolbox", "art")


def import_peers() -> dict[str, str]:
    """Imports the peers' packages; a command calls it before it imports TensorFlow.

    PyTorch computes on the processor, with as many threads as TensorFlow takes unasked: one for
    each core. So that ours does not take a GPU beside it, GPUs are hidden from this process and
    from those that it starts.

    Returns:
        The version of each.

    Raises:
        UserError: If one of them is missing.
    """
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
    versions = {}
    for package in _PACKAGES:
        try:
            module = importlib.import_module(package)
        except ImportError as error:
            raise UserError(
                f"{argument('peers')} sets ours beside PyTorch, ART and Foolbox, and "
                f"{error.name!r} is missing. Install them with pip install 'pnil_tf[peers]'."
            ) from error
        if "." not in package:
            versions[package] = module.__version__
    sys.modules["torch"].set_num_threads(os.cpu_count() or 1)
    return versions
