"""The report stands alone, and all of its figures come from the results."""

import re

from planted import figure, record, study

from pnil_tf.study.report import write_reports


def cells():
    runs = [(0, 0), (0, 1)]
    found = [
        record(pnil, run, 0.5 + 0.2 * pnil + 0.01 * run[1], 0.6, strong=0.4, auto=0.3 + 0.1 * pnil)
        for run in runs
        for pnil in (False, True)
    ]
    for one in found[:2]:
        for multiple in (0.5, 1.0):
            entry = {"epsilon": 0.3 * multiple, "options": {"eot_samples": 20}}
            one["evaluations"][f"epsilon{multiple:g}"] = {
                **entry,
                "pgd": figure(0.5),
                "seconds": 1.0,
            }
    for draws in (1, 10):
        entry = {"epsilon": 0.3, "options": {"eot_samples": draws}}
        found[1]["evaluations"][f"draws{draws}"] = {**entry, "pgd": figure(0.5), "seconds": 1.0}
    return found


def written(tmp_path, records):
    write_reports(tmp_path, study(records))
    return (tmp_path / "report.html").read_text(), (tmp_path / "report.md").read_text()


def test_both_reports_say_the_same_figures(tmp_path):
    page, text = written(tmp_path, cells())
    for what in ("50.5 ± 0.7", "70.5 ± 0.7", "40.0 ± 0.0", "23 ± 36", "0.003", "mnist/3.0.1"):
        assert what in page
        assert what in text


def test_the_page_needs_nothing_else(tmp_path):
    page, _ = written(tmp_path, cells())
    assert not re.search(r"""(src|href)=["'](?!data:)""", page)
    assert page.count("data:image/png;base64,") == 2


def test_the_figures_are_drawn_from_the_cells(tmp_path):
    _, text = written(tmp_path, cells())
    pictures = re.findall(r"\]\((figures/[^)]+)\)", text)
    assert pictures == ["figures/figure4.png", "figures/figure5.png"]
    for picture in pictures:
        assert (tmp_path / picture).read_bytes().startswith(b"\x89PNG")


def test_changed_figures_change_the_report(tmp_path):
    before, _ = written(tmp_path, cells())
    changed = cells()
    changed[0]["evaluations"]["pgd"]["pgd"]["value"] = 0.123
    after, _ = written(tmp_path, changed)
    assert before != after


def test_the_report_says_which_radii_are_the_papers(tmp_path):
    _, text = written(tmp_path, cells())
    assert "8/255 for MNIST, 4/255 for Fashion-MNIST, 0.03 for CIFAR-10" in text


def test_the_words_that_both_reports_use_are_explained(tmp_path):
    page, text = written(tmp_path, cells())
    for term in ("eps", "PNIL", "SPSA", "p"):
        assert f"<dt>{term}</dt>" in page or f"<dt>epsilon, {term}</dt>" in page
    assert "- **PNIL**: The layer" in text
    for term in ("effective robustness", "credible", "transfer"):
        assert f"<dt>{term}</dt>" not in page


def test_the_claim_is_judged_by_what_the_suite_leaves_too(tmp_path):
    page, text = written(tmp_path, cells())
    line = "MNIST, eps 0.3, NFGSM: 40.0 ± 0.0 with PNIL and 30.0 ± 0.0 without"
    assert f"- {line}" in text
    assert f"<li>{line}" in page


def test_what_is_not_finished_is_told(tmp_path):
    failed = {**record(True, (1, 0), 0.5, 0.5), "evaluations": {}, "training": None}
    failed |= {"status": "failed", "error": "no <images>"}
    page, text = written(tmp_path, [*cells(), failed])
    assert "no &lt;images&gt;" in page
    assert "no <images>" in text
    assert "4 of 5 cells are finished" in text


def test_a_study_of_nothing_yet_has_a_report(tmp_path):
    _, text = written(tmp_path, [])
    assert "0 of 0 cells are finished" in text


def test_subsets_are_named(tmp_path):
    one = record(True, (0, 0), 0.5, 0.5, note="MNIST (5,000 digits)")
    _, text = written(tmp_path, [one])
    assert "| MNIST (5,000 digits) | 0.3 |" in text
    assert "| MNIST |" not in text
