"""What a classifier is: the one place that looks at a stranger's model.

The rest of the package works on images in [0, 1] ("unit") and on logits. This package maps both:
`pixel_range` says which pixels a model takes, `outputs` what its output is, and `classifier` puts
them together into `Classifier`, whose `predict(unit_images)` gives logits.
"""
