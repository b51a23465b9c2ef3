"""A Triton server of an exported classifier: PYTHON triton_server.py MODEL.

PYTHON is that of an environment with nvidia-pytriton and TensorFlow. Prints Triton's HTTP port
when the server is ready, and serves on the loopback interface until its standard input ends.
"""

import os
import socket
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf
from pytriton.model_config import ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig

SERVED = ("serving_default", "seeded")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def tensors(specs):
    # Triton has no scalars: a seed arrives as one number in a row.
    return [
        Tensor(name=name, dtype=spec.dtype.as_numpy_dtype, shape=tuple(spec.shape) or (1,))
        for name, spec in specs.items()
    ]


def known(tensor):
    shape = tuple(-1 if size is None else size for size in tensor.shape)
    return Tensor(name=tensor.name, dtype=tensor.dtype, shape=shape)


def main(path):
    said = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # Triton writes its log to the standard output
    loaded = tf.saved_model.load(path)

    def infer(name):
        signature = loaded.signatures[name]

        def call(requests):
            answers = []
            for request in requests:
                inputs = {
                    key: tf.constant(value.reshape(()) if value.shape == (1,) else value)
                    for key, value in request.items()
                }
                answers.append({k: np.asarray(v) for k, v in signature(**inputs).items()})
            return answers

        return call

    ports = {"http_port": free_port(), "grpc_port": free_port()}
    # Each of them listens on every interface unless told otherwise.
    places = {"http_address": "127.0.0.1", "grpc_address": "127.0.0.1", "allow_metrics": False}
    with Triton(config=TritonConfig(**places, **ports)) as triton:
        for name in SERVED:
            signature = loaded.signatures[name]
            triton.bind(
                model_name=name,
                infer_func=infer(name),
                inputs=[known(t) for t in tensors(signature.structured_input_signature[1])],
                outputs=[known(t) for t in tensors(signature.structured_outputs)],
                config=ModelConfig(batching=False),
            )
        triton.run()
        print(ports["http_port"], file=said, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main(*sys.argv[1:])
