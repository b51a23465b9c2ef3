"""Attacks: pure functions from images to adversarial images. They never judge success.

Every attack sees a classifier as `predict(x) -> logits`: a float32 batch `(batch, ...)` in,
logits `(batch, classes)` out, one draw of the classifier's own noise per call. The noise of
pnil_tf's layers follows the `rng.noise_scope` that the attack opens around the call.
"""
