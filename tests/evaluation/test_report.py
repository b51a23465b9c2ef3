import io
from html.parser import HTMLParser
from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib.image import imread

from pnil_tf.contract.pixel_range import UNIT
from pnil_tf.evaluation import report
from pnil_tf.evaluation.plots import accuracy_bars, accuracy_curve, image_grid
from pnil_tf.evaluation.report import budgets, render
from pnil_tf.evaluation.room import UNBOUNDED
from pnil_tf.evaluation.trial import Trial

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
    "attacks": {
        "pgd": {
            **figure(0.5),
            "images_per_second": 3.0,
            "seconds": 75.0,
            "settings": {
                "name": "pgd",
                "steps": 1000,
                "restarts": 3,
                "targets": 4,
                "step_size": 0.125,
                "loss": "cross_entropy+margin",
                "eot": {"draws": 17},
            },
        }
    },
    "suites": {"autoattack": figure(0.45)},
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
    "settings": {
        "epsilon": 0.2, "norm": "linf", "eot_samples": 10, "check_draws": 4, "effort": "quick",
        "seed": 5,
    },
    "model": {
        "num_classes": 10, "stochastic": True, "pixel_range": [0.0, 255.0], "kind": "Keras file",
        "outputs": "logits",
    },
    "model_name": NASTY,
    "data": {"name": NASTY, "source": "files"},
    "versions": {"pnil_tf": "1.2.3"},
    "attack_seconds": 1.0,
    "process_seconds": 61.0,
    "finished": "2026-01-02T03:04:05+00:00",
}  # fmt: skip


class Page(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.links, self.open, self.text = [], [], [], ""
        self.alts = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in ("src", "href")]
        self.alts += [value for name, value in attrs if name == "alt"]
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


def test_a_suites_figure_stands_under_its_name():
    page = Page(render(RESULTS, b""))
    assert "autoattack45.0%" in page.text
    assert any("autoattack 45.0%" in alt for alt in page.alts)
    assert "Croce and Hein" in page.text


def test_everything_is_escaped():
    page = Page(render(RESULTS, b""))
    assert "script" not in page.tags
    assert page.text.count("<script>") == 6


def test_a_deterministic_models_page():
    quiet = {**RESULTS, "eot_curve": [], "noise_cells": None, "epsilon_curve": []}
    quiet["model"] = {**RESULTS["model"], "stochastic": False}
    page = render(quiet, b"")
    for words in ("EOT draws", "majority vote", "right in every draw", "sd of noise"):
        assert words in render(RESULTS, b"")
        assert words not in page


def test_the_head_says_what_was_evaluated_and_how():
    text = Page(render(RESULTS, b"")).text
    for words in (
        "0.2 of the range (51 of 255), in linf",
        "10, the first of them",
        "quick, 1:01",
        "2026-01-02 03:04:05 UTC",
        "pnil_tf 1.2.3",
        "(Keras file)",
    ):
        assert words in text


def test_every_attack_has_its_budget():
    assert budgets(RESULTS) == [
        (
            "pgd",
            "1,000",
            "3 for each of 4 targets",
            "0.125",
            "cross-entropy, margin",
            "17",
            "10",
            "1:15",
        )
    ]


def budget(epsilon, name, **settings):
    found = {
        "name": name,
        "steps": 1,
        "restarts": 1,
        "step_size": epsilon,
        "loss": "margin",
        "eot": {"draws": 1},
        **settings,
    }
    row = {**RESULTS["attacks"]["pgd"], "settings": found}
    of_radius = {**RESULTS["settings"], "epsilon": epsilon}
    return budgets({**RESULTS, "settings": of_radius, "attacks": {name: row}})[0][3:6]


@pytest.mark.parametrize(
    ("name", "settings", "cells"),
    [
        ("noise", {}, ("–", "–", "–")),
        ("square", {}, ("–", "margin", "–")),
        ("spsa", {"step_size": 0.01, "samples": 2048}, ("2.55/255", "margin", "2,048 points")),
        (
            "spsa",
            {"step_size": 0.01, "samples": 128, "eot": {"draws": 3}},
            ("2.55/255", "margin", "128 points, 3 draws each"),
        ),
        ("fgsm", {"loss": "cross_entropy"}, ("8/255", "cross-entropy", "1")),
        ("pgd_strong", {"step_size": 8 / 255 / 3}, ("2.67/255", "margin", "1")),
        ("fab_t", {}, ("–", "–", "1")),
        ("apgd_t", {}, ("8/255", "targeted DLR", "1")),
        ("apgd_dlr", {}, ("8/255", "DLR", "1")),
        ("apgd_dlr", {"targeted": True}, ("8/255", "margin", "1")),
    ],
)
def test_a_budget_says_only_what_an_attack_has(name, settings, cells):
    assert budget(8 / 255, name, **settings) == cells


def test_steps_are_shares_where_the_radius_is_said_as_one():
    assert budget(0.3, "pgd", step_size=0.012)[0] == "0.012"


def test_the_curve_says_radii_as_the_page_does():
    curve = [{"epsilon": n * 8 / 255, **figure(0.5)} for n in (0.25, 1)]
    settings = {**RESULTS["settings"], "epsilon": 8 / 255}
    page = Page(render({**RESULTS, "settings": settings, "epsilon_curve": curve}, b""))
    assert "A curve: 50.0% at epsilon 2/255, 50.0% at epsilon 8/255." in page.alts
    assert (
        "A curve: 80.0% at epsilon 0.1, 70.0% at epsilon 0.2" in Page(render(RESULTS, b"")).alts[2]
    )


def test_who_cannot_see_the_pictures_is_told_what_they_show():
    page = Page(render(RESULTS, b""))
    assert len(page.alts) == 4
    assert "pgd 50.0%" in page.alts[0]
    assert all(page.alts)


def test_a_phone_reads_rows_as_cards():
    text = render(RESULTS, b"")
    assert 'name="viewport"' in text
    assert '<td data-label="accuracy (95 % interval)">' in text


def test_images_that_flipped_are_drawn_first(monkeypatch):
    drawn = []
    monkeypatch.setattr(report, "image_grid", lambda x, *_: drawn.extend(x.ravel()) or b"")
    x = np.arange(12, dtype=np.float32).reshape(12, 1, 1, 1)
    y, clean = np.zeros(12, int), np.zeros((12, 1), int)
    clean[3] = 1  # wrong from the start
    votes = clean.copy()
    votes[[7, 10]] = 1
    trial = Trial(
        SimpleNamespace(stochastic=False, predict=None, pixel_range=UNIT, room=UNBOUNDED),
        x,
        y,
        SimpleNamespace(judge_draws=1, batch_size=100),
        None,
    )
    outcome = SimpleNamespace(votes=votes, share=(votes[:, 0] == y).astype(float), adversarial=x)
    report._grid(trial, clean, outcome, None)
    assert drawn[:2] == [7, 10]
    assert drawn[2:] == [0, 1, 2, 3, 4, 5]


def test_pictures():
    assert picture(accuracy_bars([("clean", figure(0.9)), ("pgd", figure(0.0))], 0.1)).ndim == 3
    assert picture(accuracy_curve(RESULTS["eot_curve"], "draws", "draws", None, log=True)).ndim == 3
    for channels in (1, 3, 2):
        x = np.random.default_rng(0).random((3, 5, 5, channels)).astype(np.float32)
        assert picture(image_grid(x, x, [("a $ b", "c")] * 3, 255)).ndim == 3
