"""docs/certificate.md shows what its records say."""

import json

import certificate_table as made
import numpy as np
import pytest
from PIL import Image

MEASURED = [name for _, name, _, _ in made.ROWS if made.records_of(name)]


def test_the_tables_of_certificates_are_what_the_records_say():
    text = (made.ROOT / "docs" / "certificate.md").read_text("utf-8")
    compared = [line for lines in made.comparisons().values() for line in lines]
    for line in made.table() + compared + made.many_draws():
        assert line in text, "python tests/certificate_table.py prints the table as it should be"


@pytest.mark.parametrize("name", MEASURED)
def test_a_picture_is_that_of_its_records(name):
    with Image.open(made.ROOT / "docs" / f"{name}.png") as picture:
        drawn = made.digest(made.lines_of(made.records_of(name)))
        assert picture.text["records"] == drawn, "python tests/certificate_table.py draws it"


def figure(value, **more):
    return {"value": value, "low": value - 0.1, "high": value + 0.1, **more}


def record(value, images=100, norm="l2", sides=()):
    curve = [
        figure(value, epsilon=epsilon, single_draw=figure(value - 0.2)) for epsilon in (0, 0.5)
    ]
    settings = {"norm": norm, "epsilon": 0.5}
    both = [{"epsilon": 0.5, "images": 50, "majority": {"attacked": figure(v)}} for v in sides]
    return {
        "images": images,
        "curve": curve,
        "settings": settings,
        "certified": curve[1],
        "both_sides": both,
    }


def test_learned_noise_stands_beside_the_same_everywhere_and_attacks(tmp_path, monkeypatch):
    first = {**record(0.8, images=1000, sides=[0.9]), "first_500": record(0.75)}
    records = {"learned": [first, record(0.7, images=500)]}
    records["same_everywhere_0.25"] = [record(0.6, images=500), record(0.5, images=500)]
    records["same_everywhere_0.4"] = [record(0.4, images=500)]
    records["learned_penalty_0.2"] = [record(0.3, images=500)]
    records["learned_otherwise"] = [record(0.2, images=500)]
    (tmp_path / "some.json").write_text(json.dumps(records))
    monkeypatch.setattr(made, "_RESULTS", tmp_path)
    monkeypatch.setattr(
        made, "ROWS", [("SOME", "some", (0, 0.5), {0.5: "1%"}), ("", "none", (), {})]
    )
    assert made.table()[2:] == [
        "| SOME | 0 | 80.0% (70.0 to 90.0) | 60.0% | 70.0% (500 images) |  |  |",
        "|  | 0.5 | 80.0% (70.0 to 90.0) | 60.0% | 70.0% (500 images) | 90.0% (50 images) | 1% |",
    ]
    assert made.comparisons() == {
        "SOME": [
            "| radius | learned | penalty 0.2 | 0.25 everywhere | 0.4 everywhere |",
            "| --- | --- | --- | --- | --- |",
            "| 0 | **72.5%** (75.0, 70.0) | **30.0%** | **55.0%** (60.0, 50.0) | **40.0%** |",
            "| 0.5 | **72.5%** (75.0, 70.0) | **30.0%** | **55.0%** (60.0, 50.0) | **40.0%** |",
        ]
    }
    drawn = made.lines_of(records)
    shown = {name: points[0]["value"] for name, points in drawn["lines"].items()}
    assert list(shown.items()) == [
        ("learned noise", 0.8),
        ("0.25 everywhere (500 images)", 0.6),
        ("0.4 everywhere (500 images)", 0.4),
    ]
    assert [point["radius"] for point in drawn["dashed"]["attacked (50 images)"]] == [0.5]
    assert made.digest(drawn) != made.digest(made.lines_of({"learned": records["learned"]}))

    (tmp_path / "some.json").write_text(json.dumps({"same_everywhere_0.25": [record(0.6)]}))
    assert made.table()[2].startswith("| SOME | 0 | 60.0% (50.0 to 70.0) | 40.0% |  |  |")


def certified_run(folder, proved, radius, answers):
    """The files of a run, whose certificate has these radii and answers; all labels are 0."""
    (folder / "certificate").mkdir()
    run = {"seed": 3, "training_seconds": 60.0, "kept": {}, "settings": {"attack": {}}, "more": 1}
    (folder / "run.json").write_text(json.dumps(run))
    (folder / "certificate" / "certificate.json").write_text(json.dumps(proved))
    arrays = {"radius_linf": radius, "answer": answers, "labels": np.zeros_like(answers)}
    np.savez(folder / "certificate" / "certificate.npz", **arrays)


def test_a_run_s_record_is_of_its_training_and_its_certificate(tmp_path):
    proved = {**dict.fromkeys(made._OF_CERTIFICATE, 7), "model_name": "runs/a"}
    proved |= {"images": 4, "settings": {"norm": "linf"}}
    certified_run(tmp_path, proved, np.array([0.25, 0.5, 0, 0.1239999999]), np.array([0, 1, -1, 0]))
    found = made.record_of(tmp_path)
    assert (found["seed"], found["training"], found["curve"]) == (3, {"attack": {}}, 7)
    assert {"more", "model_name", "first_500"}.isdisjoint(found)
    # Wrong and abstained images have no radius; a radius is never rounded up.
    assert found["radius_of_each"] == [0.25, -1, -1, 0.123999999]


def test_the_record_of_many_images_has_the_curve_of_the_first_500(tmp_path):
    of_all = dict.fromkeys(made._OF_CERTIFICATE, 7) | record(0.5, images=600, norm="linf")
    radius, answers = np.zeros(600), np.zeros(600, np.int64)
    radius[:300] = 0.6
    answers[:100] = 1
    certified_run(tmp_path, of_all, radius, answers)
    curve = made.record_of(tmp_path)["first_500"]["curve"]
    assert [point["value"] for point in curve] == [400 / 500, 200 / 500]


def test_certificates_of_many_draws_are_compared_in_pairs_with_the_best_everywhere(
    tmp_path, monkeypatch
):
    def of(*radii):
        return [{"radius_of_each": radii}]

    records = {
        "learned": of(0.1, 0.1, 0.1, 0),
        "learned_penalty_0.2": of(0.1, 0.01, -1, -1),
        "same_everywhere_0.25": of(0.01, 0.01, 0.01, 0.01),
        "same_everywhere_0.35": of(0.1, 0.0, 0.0, -1),
    }
    (tmp_path / "many.json").write_text(json.dumps(records))
    monkeypatch.setattr(made, "_RESULTS", tmp_path)
    monkeypatch.setattr(made, "MANY_DRAWS", ("many", (0, 8)))
    head, _, at_0, at_8 = made.many_draws()
    assert head == (
        "| radius | learned | penalty 0.2 | 0.25 everywhere | 0.35 everywhere "
        "| learned, ahead by | penalty 0.2, ahead by |"
    )
    assert at_0.startswith("| 0 | 100.0% | 50.0% | 100.0% | 75.0% | +0.0 (")
    assert at_8.startswith("| 8/255 | 75.0% | 25.0% | 0.0% | 25.0% | +50.0 (")
    monkeypatch.setattr(made, "MANY_DRAWS", ("none", ()))
    assert made.many_draws() == []
