"""One answer for all images is told from a classifier."""

import numpy as np
import pytest

from pnil_tf.training.learned import only_guesses

LABELS = np.array([0] * 6 + [1] * 3 + [2])


@pytest.mark.parametrize("accuracy", [0.0, 0.3, 0.6, float(np.float32(0.6))])
def test_no_more_than_one_answer_for_all_is_guessing(accuracy):
    said = only_guesses(accuracy, LABELS)
    assert f"right in {accuracy:.1%} of 10 validation images" in said
    assert "is in 60.0%" in said


def test_a_classifier_recognises_more():
    assert only_guesses(float(np.float32(0.7)), LABELS) is None
