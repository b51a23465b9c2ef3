"""A server of SavedModels with the protocol of TensorFlow Serving: python tf_serving.py MODEL.

Prints its port and serves on the loopback interface until its standard input ends. Its clients
cannot tell it from TensorFlow Serving: messages and service are those of tensorflow-serving-api.
"""

import os
import sys
from concurrent import futures

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import grpc
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc


class Servicer(prediction_service_pb2_grpc.PredictionServiceServicer):
    def __init__(self, path):
        self._loaded = tf.saved_model.load(path)

    def Predict(self, request, context):  # noqa: N802 - the protocol's name
        name = request.model_spec.signature_name or "serving_default"
        if name not in self._loaded.signatures:
            context.abort(grpc.StatusCode.NOT_FOUND, f"no signature {name}")
        inputs = {key: tf.constant(tf.make_ndarray(t)) for key, t in request.inputs.items()}
        try:
            answers = self._loaded.signatures[name](**inputs)
        except (TypeError, tf.errors.InvalidArgumentError) as error:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        response = predict_pb2.PredictResponse(model_spec=request.model_spec)
        for key, value in answers.items():
            response.outputs[key].CopyFrom(tf.make_tensor_proto(value.numpy()))
        return response


def main(path):
    server = grpc.server(futures.ThreadPoolExecutor(8))
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(Servicer(path), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(port, flush=True)
    sys.stdin.read()
    server.stop(grace=None)


if __name__ == "__main__":
    main(*sys.argv[1:])
