import json

import numpy as np
import pytest

from pnil_tf.certificate.settings import CertificateSettings
from pnil_tf.errors import UserError


def test_numbers_of_numpy_are_taken():
    settings = CertificateSettings(epsilon=np.float32(0.1), draws=np.int64(5))
    json.dumps(settings.to_json())
    assert (settings.epsilon, type(settings.draws)) == (float(np.float32(0.1)), int)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("batch_size", 2**31 - 1, "batch_size must be .* at most 10000"),  # one graph for all
        ("draws", 2**31 - 1, "draws must be .* at most 1000000000"),  # of which 32 bits lose count
        ("selection_draws", 10**400, "selection_draws must be .* more than 400 digits"),
        ("epsilons", (10**400,), "epsilons must be greater than 0, and finite"),
        ("epsilons", (-0.1,), "epsilons must be greater than 0"),
    ],
)
def test_vast_numbers_are_refused(name, value, message):
    with pytest.raises(UserError, match=message):
        CertificateSettings(epsilon=0.1, **{name: value})


def test_a_curve_may_begin_at_no_step():
    assert CertificateSettings(epsilon=0.1, epsilons=(0.0, 0.2)).curve() == (0.0, 0.1, 0.2)


def test_the_usual_curve_ends_at_the_whole_range():
    assert max(CertificateSettings(epsilon=0.8).curve()) == 1.0
    assert max(CertificateSettings(epsilon=0.8, norm="l2").curve()) == 3.2
