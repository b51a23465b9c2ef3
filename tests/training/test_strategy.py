"""What the environment says about devices."""

import pytest

from pnil_tf.errors import UserError
from pnil_tf.training.settings import DeviceSettings
from pnil_tf.training.strategy import make_strategy


@pytest.mark.parametrize("text", ["worker0", "[1]", "{"])
def test_a_cluster_that_is_none_is_refused(monkeypatch, text):
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(UserError, match="TF_CONFIG"):
        make_strategy(DeviceSettings())
