"""Writes a classifier for servers: {program} --model=runs/NAME --output=DIR.

The model may also be a .keras file. DIR is then a SavedModel that needs TensorFlow alone, with
model_card.md, the names of the classes and the preprocessing in it. With --format=onnx it holds an
ONNX model, with onnx_noise_input one whose caller draws the noise.
"""

from pnil_tf import flags
from pnil_tf.logs import import_tensorflow

FLAGS = ("export",)


def main() -> None:
    """Reads the flags, exports, says where."""
    arguments = flags.export_arguments()
    import_tensorflow()
    from pnil_tf.runs.export import export_saved

    print(f"Exported to {export_saved(**arguments)}")
