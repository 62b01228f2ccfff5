"""Runs Flower's strategies over given inputs; for the interpreter of `make flower`.

    python ask_flower.py QUESTIONS ANSWERS

QUESTIONS is an npz: ``cases`` is a JSON list of ``{"name", "api", "strategy", "args", "shapes"}``,
and by the case's name ``{name}.base`` is [size], ``{name}.updates`` [rounds, clients, size] and
``{name}.weights`` [rounds, clients]. ANSWERS has ``{name}`` [rounds, size], float64, or
``{name}.error`` with what was raised.

Flower is given float64 arrays, so that what differs is the method and not the rounding; between
rounds the model is rounded to float32, as a model of ours is.
"""

import contextlib
import json
import logging
import sys

import numpy as np

logging.disable(logging.CRITICAL)

from flwr.app import Array, ArrayRecord, MetricRecord, RecordDict  # noqa: E402
from flwr.common import (  # noqa: E402
    Code,
    FitRes,
    Status,
    ndarrays_to_parameters,
    parameters_to_ndarrays,
)
from flwr.server import strategy as older  # noqa: E402
from flwr.serverapp import strategy as newer  # noqa: E402


def split(vector, shapes):
    sizes = [int(np.prod(shape)) for shape in shapes]
    parts = np.split(np.asarray(vector, np.float64), np.cumsum(sizes)[:-1])
    return [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]


def join(arrays):
    return np.concatenate([np.asarray(array, np.float64).ravel() for array in arrays])


def record(arrays):
    return ArrayRecord({f"a{number}": Array(array) for number, array in enumerate(arrays)})


def ask_older(case, base, updates, weights):
    shapes, kind = case["shapes"], getattr(older, case["strategy"])
    strategy = kind(initial_parameters=ndarrays_to_parameters(split(base, shapes)), **case["args"])
    strategy.inplace = False
    for number, (round_, counts) in enumerate(zip(updates, weights, strict=True), start=1):
        results = [
            (
                None,
                FitRes(
                    Status(Code.OK, ""),
                    ndarrays_to_parameters(split(vector, shapes)),
                    int(count),
                    {},
                ),
            )
            for vector, count in zip(round_, counts, strict=True)
        ]
        parameters, _ = strategy.aggregate_fit(number, results, [])
        model = join(parameters_to_ndarrays(parameters))
        yield model
        rounded = split(model.astype(np.float32), shapes)
        strategy.initial_parameters = ndarrays_to_parameters(rounded)
        strategy.current_weights = rounded


class Reply:
    """As much of a reply as a strategy looks at; a real one needs a server to have been asked."""

    def __init__(self, vector, shapes, count):
        metrics = MetricRecord({"num-examples": int(count)})
        self.content = RecordDict({"arrays": record(split(vector, shapes)), "metrics": metrics})

    def has_error(self):
        return False


def ask_newer(case, base, updates, weights):
    shapes, strategy = case["shapes"], getattr(newer, case["strategy"])(**case["args"])
    for number, (round_, counts) in enumerate(zip(updates, weights, strict=True), start=1):
        now = record(split(base, shapes))
        opt = isinstance(strategy, newer.fedopt.FedOpt)
        strategy.current_arrays = {k: v.numpy() for k, v in now.items()} if opt else now
        replies = [Reply(vector, shapes, n) for vector, n in zip(round_, counts, strict=True)]
        arrays, _ = strategy.aggregate_train(number, replies)
        model = join(arrays[f"a{position}"].numpy() for position in range(len(shapes)))
        yield model
        base = model.astype(np.float32)


def main(questions_path, answers_path):
    answers = {}
    with np.load(questions_path) as questions, np.errstate(all="ignore"):
        for case in json.loads(str(questions["cases"])):
            name = case["name"]
            inputs = [questions[f"{name}.{what}"] for what in ("base", "updates", "weights")]
            ask = ask_older if case["api"] == "older" else ask_newer
            try:
                with contextlib.redirect_stdout(sys.stderr):
                    answers[name] = np.array(list(ask(case, *inputs)))
            except Exception as err:
                answers[f"{name}.error"] = np.array(repr(err))
    np.savez(answers_path, **answers)


if __name__ == "__main__":
    main(*sys.argv[1:])
