import io
from html.parser import HTMLParser

import numpy as np
from matplotlib.image import imread

from pnil_tf.evaluation.plots import accuracy_bars, accuracy_curve, image_grid
from pnil_tf.evaluation.report import render

NASTY = '<script>alert("1")</script>&'


def figure(value):
    row = {"value": value, "low": max(value - 0.1, 0), "high": min(value + 0.1, 1)}
    extra = {"images": 10, "draws": 5, "noise_std": 0.01}
    return {**row, **extra, "majority_vote": row, "worst_draw": row}


RESULTS = {
    "verdict": "doubtful",
    "verdict_reason": f"doubtful: {NASTY}.",
    "guessing": {"value": 0.1, "class": 0},
    "clean": figure(0.9),
    "attacks": {"pgd": {**figure(0.5), "images_per_second": 3.0}},
    "effective_robustness": {"attack": "pgd", **figure(0.5)},
    "worst_case_per_image": figure(0.4),
    "findings": [
        {
            "name": "a_check",
            "passed": False,
            "value": 0.5,
            "threshold": 0.1,
            "explanation": NASTY,
            "remedy": NASTY,
        }
    ],
    "epsilon_curve": [{"epsilon": e, **figure(0.9 - e)} for e in (0.1, 0.2, 0.4)],
    "eot_curve": [{"draws": d, **figure(0.5)} for d in (1, 10, 100)],
    "noise_cells": {
        name: figure(0.5)
        for name in (
            "clean_without", "with_with", "with_without",
            "without_with", "without_without", "frozen_with",
            "clean_frozen", "frozen_frozen",
        )
    },
    "settings": {"epsilon": 0.2, "norm": "linf", "eot_samples": 10, "check_draws": 4},
    "model": {"num_classes": 10, "stochastic": True, "pixel_range": [0.0, 255.0]},
    "data": {"name": NASTY},
    "versions": {},
    "attack_seconds": 1.0,
    "finished": "now",
}  # fmt: skip


class Page(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.links, self.open, self.text = [], [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def picture(png):
    return imread(io.BytesIO(png))


def test_the_page_is_well_formed_and_needs_nothing_else():
    page = Page(render(RESULTS, accuracy_bars([("clean", figure(0.9))], 0.1)))
    assert page.open == []
    assert len(page.links) == page.tags.count("img") == 4
    assert all(link.startswith("data:image/png;base64,") for link in page.links)


def test_everything_is_escaped():
    page = Page(render(RESULTS, b""))
    assert "script" not in page.tags
    assert page.text.count("<script>") == 4


def test_a_deterministic_models_page():
    quiet = {**RESULTS, "eot_curve": [], "noise_cells": None, "epsilon_curve": []}
    assert "EOT draws" not in render(quiet, b"")


def test_pictures():
    assert picture(accuracy_bars([("clean", figure(0.9)), ("pgd", figure(0.0))], 0.1)).ndim == 3
    assert picture(accuracy_curve(RESULTS["eot_curve"], "draws", "draws", None, log=True)).ndim == 3
    for channels in (1, 3, 2):
        x = np.random.default_rng(0).random((3, 5, 5, channels)).astype(np.float32)
        assert picture(image_grid(x, x, [("a $ b", "c")] * 3)).ndim == 3
