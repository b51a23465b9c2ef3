"""What the peers need is asked for before any work, in a sentence."""

import importlib
import os
import sys
import types

import pytest

from pnil_tf.benchmark.peers import packages
from pnil_tf.errors import UserError


def test_a_missing_package_names_the_extra(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    monkeypatch.setattr(packages, "_PACKAGES", ("json", "no_such_peer"))
    with pytest.raises(UserError, match=r"'no_such_peer' is missing.*'pnil_tf\[peers\]'"):
        packages.import_peers()


def test_the_versions_are_noted_and_torch_takes_every_core(monkeypatch):
    threads = []
    torch = types.SimpleNamespace(__version__="2.0", set_num_threads=threads.append)
    monkeypatch.setitem(sys.modules, "torch", torch)
    known = {
        "torch": torch,
        "torch._dynamo": object(),
        "art": types.SimpleNamespace(__version__="1"),
    }
    monkeypatch.setattr(packages, "_PACKAGES", tuple(known))
    monkeypatch.setattr(importlib, "import_module", known.get)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert packages.import_peers() == {"torch": "2.0", "art": "1"}
    assert threads[0] >= 1
    # PyTorch computes on the processor, so ours must, too.
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "-1"
