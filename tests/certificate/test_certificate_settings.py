import json

import numpy as np

from pnil_tf.certificate.settings import CertificateSettings


def test_numbers_of_numpy_are_taken():
    settings = CertificateSettings(epsilon=np.float32(0.1), draws=np.int64(5))
    json.dumps(settings.to_json())
    assert (settings.epsilon, type(settings.draws)) == (float(np.float32(0.1)), int)
