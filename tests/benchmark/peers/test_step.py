"""Only steps that are the same computation are timed. Needs the extra `peers`."""

import importlib.util
import subprocess
import sys

import pytest

needs_torch = pytest.mark.skipif(
    not importlib.util.find_spec("torch"), reason="pip install 'pnil_tf[peers]'"
)
OTHERS = {
    "no number": "lambda *_: [float('nan')] * 2",
    "no attack": "lambda *how: losses(*how[:3], StepAttack(1e-9, 1e-9))",
}
# In a process of its own: PyTorch's compiler must be imported before TensorFlow.
CODE = """
from pnil_tf.benchmark.peers.packages import import_peers
import_peers()
from pnil_tf.attacks.one_step import StepAttack
from pnil_tf.benchmark.peers import step
losses = step._torch_losses
step._torch_losses = {other}
step.alternate = lambda *_: print("it was timed")
step.step_peers("small_cnn", width=4, batch_size=20, steps=1, rounds=1)
"""


@pytest.mark.slow
@needs_torch
@pytest.mark.parametrize("other", OTHERS)
def test_another_computation_is_not_timed(other):
    code = CODE.format(other=OTHERS[other])
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "it was timed" not in ended.stdout
    assert "not the same computation" in ended.stderr
