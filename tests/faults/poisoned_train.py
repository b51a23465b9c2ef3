"""bin/train.py on a machine whose memory spoils one weight after the first epoch."""

import runpy
import sys
from pathlib import Path

BIN = Path(__file__).resolve().parents[2] / "bin"

if __name__ == "__main__":
    sys.path.insert(0, str(BIN.parent))
    from pnil_tf.training.keep import KeepClassifier

    kept = KeepClassifier.on_epoch_end

    def keep_and_spoil(self, epoch, logs=None):
        kept(self, epoch, logs)
        weight = self.model.classifier.trainable_weights[-1]
        weight.assign(weight.numpy() * float("nan"))

    KeepClassifier.on_epoch_end = keep_and_spoil
    runpy.run_path(str(BIN / "train.py"), run_name="__main__")
