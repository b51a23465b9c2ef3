"""Runs the official AutoAttack on a trained run, and sets it beside ours image by image.

The run's weights are ported to PyTorch, and the two networks' logits compared first. The official
code is Croce and Hein's, https://github.com/fra31/auto-attack; it is installed beside ours:

    export PNIL_VENV=build/peers  # an environment of its own
    bin/in_env python -m pip install torch git+https://github.com/fra31/auto-attack
    bin/in_env python bin/evaluate.py --model=runs/NAME --attacks=auto,pgd --images=1000
    bin/in_env python tests/attacks/beside_autoattack.py --model=runs/NAME --images=1000 \\
        --evaluation=runs/NAME/evaluation --output=official.json

It attacks the same first test images, on a GPU where PyTorch finds one. Of a model with noise it
runs the two attacks of the published version `rand` (APGD on two losses, 20 draws a gradient). That
version drops an image once a single draw is wrong; here each image is judged by 100 fresh draws, as
the better of the two left it by 20 others.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from autoattack import AutoAttack
from autoattack.autopgd_base import APGDAttack

from pnil_tf.benchmark.peers.torch_twin import PARITY, TorchTwin, images
from pnil_tf.evaluation.statistics import paired_difference, wilson
from pnil_tf.files import write_json
from pnil_tf.runs.evaluate import settle

NORMS = {"linf": "Linf", "l2": "L2"}

JUDGED, CHOSEN = 100, 20
"""Draws that judge an image, and those that choose which attack's it keeps."""


def standard(twin, x, y, norm, epsilon, batch=500):
    """The published ensemble on a model without noise, one attack after another.

    Args:
        twin: The network.
        x: Images, channels first.
        y: Their classes.
        norm: One of `NORMS`.
        epsilon: Radius.
        batch: Images attacked at once.

    Yields:
        `(attack, bool (n,): which images stand)`, the unattacked ones first.
    """
    attacks = AutoAttack(
        twin, norm=NORMS[norm], eps=epsilon, seed=0, device=x.device, verbose=False
    )
    logits = twin(x)
    targets = min(9, logits.shape[1] - 1)
    attacks.apgd_targeted.n_target_classes = attacks.fab.n_target_classes = targets
    left = logits.argmax(1) == y
    yield "clean", left.cpu().numpy().copy()
    for name in list(attacks.attacks_to_run):
        attacks.attacks_to_run = [name]
        standing = left.nonzero().flatten()
        if len(standing):
            found = attacks.run_standard_evaluation(x[standing], y[standing], bs=batch)
            left[standing] = twin(found).argmax(1) == y[standing]
        yield name, left.cpu().numpy().copy()


def rand(twin, x, y, norm, epsilon, batch=500):
    """The two attacks of the published ensemble for models with noise, as `standard`.

    Yields:
        `(attack, float (n,): the share of draws that are right)`.
    """

    def share(points, draws):
        with torch.no_grad():
            return sum((twin(points).argmax(1) == y).float() for _ in range(draws)) / draws

    yield "clean", share(x, JUDGED).cpu().numpy()
    best = lowest = None
    for loss in ("ce", "dlr"):
        attack = APGDAttack(
            twin, n_iter=100, norm=NORMS[norm], eps=epsilon, seed=0, eot_iter=20, loss=loss,
            device=x.device, verbose=False,
        )  # fmt: skip
        parts = zip(x.split(batch), y.split(batch), strict=True)
        found = torch.cat([attack.perturb(*part, best_loss=True) for part in parts])
        yield f"apgd-{loss}", share(found, JUDGED).cpu().numpy()
        chosen = share(found, CHOSEN)
        if best is None:
            best, lowest = found, chosen
        else:
            better = chosen < lowest
            best[better] = found[better]
    yield "both", share(best, JUDGED).cpu().numpy()


def beside(evaluation, left):
    """Ours on the same images: each attack's accuracy, and who alone fooled how many.

    Args:
        evaluation: The folder of an evaluation of the same images.
        left: `(n,)`, what the official ensemble left, as shares of right draws.
    """
    results = json.loads((Path(evaluation) / "results.json").read_text(encoding="utf-8"))
    with np.load(Path(evaluation) / "arrays.npz") as arrays:
        labels = arrays["labels"]
        shares = {
            name.removesuffix("_votes"): (arrays[name] == labels[: len(arrays[name]), None]).mean(1)
            for name in arrays.files
            if name.endswith("_votes")
        }
    n = min(len(left), *map(len, shares.values()))
    ours, left = shares["worst_case"][:n], left[:n]
    difference = paired_difference(ours, left)
    return {
        "images": n,
        **{name: round(float(share[:n].mean()), 4) for name, share in shares.items()},
        "verdict": results["verdict_reason"],
        "official": round(float(left.mean()), 4),
        "worst_case_above_official": [
            round(value, 4) for value in (difference.value, difference.low, difference.high)
        ],
        "withstand_ours_alone": int(((ours >= 0.5) & (left < 0.5)).sum()),
        "withstand_official_alone": int(((ours < 0.5) & (left >= 0.5)).sum()),
    }


def main():
    """Reads the command line, attacks, and writes the record."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--model", required=True, help="folder of a run")
    parser.add_argument("--output", required=True, help="the record, a JSON file")
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--epsilon", type=float, help="by default the run's")
    parser.add_argument("--norm", choices=NORMS, help="by default the run's")
    parser.add_argument("--evaluation", help="folder of our evaluation of the same images")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    settled = settle(args.model, args.epsilon, norm=args.norm)
    saved = settled.load()
    test = saved.dataset.test.take(args.images)
    pixels = test.images.astype(np.float32) / (255 if test.images.dtype == np.uint8 else 1)
    twin = TorchTwin(saved.loaded.model)
    parity = twin.differs_by(pixels[:50])
    if parity > PARITY:
        raise SystemExit(f"The ported network is another one: its logits differ by {parity:.3g}.")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    twin.to(device)
    x, y = images(pixels).to(device), torch.tensor(test.labels).long().to(device)
    record = {
        "model": args.model,
        "norm": settled.norm,
        "epsilon": settled.epsilon,
        "images": len(y),
        "version": "rand" if twin.noises else "standard",
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        "logits_differ_by": parity,
        "stages": {},
    }
    begun = time.process_time()
    for name, left in (rand if twin.noises else standard)(
        twin, x, y, settled.norm, settled.epsilon
    ):
        interval = wilson(left)
        record["stages"][name] = {
            **{key: round(getattr(interval, key), 4) for key in ("value", "low", "high")},
            "cpu_seconds": round(time.process_time() - begun, 1),
        }
        print(name, record["stages"][name], flush=True)
    if args.evaluation:
        record["ours"] = beside(args.evaluation, left)
    record["left"] = [round(float(share), 4) for share in left]
    write_json(args.output, record)


if __name__ == "__main__":
    main()
