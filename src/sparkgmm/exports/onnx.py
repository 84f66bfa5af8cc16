"""A mixture as an ONNX graph in float64: rows in, component, probability and log_density out."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from sparkgmm.checks import numeric_alone
from sparkgmm.covariances import FAMILIES
from sparkgmm.errors import InputError
from sparkgmm.exports.whitened import whitened
from sparkgmm.mixture import Mixture
from sparkgmm.version import __version__

# Since 18 axes are inputs of all reductions; every runtime of 2023 and later has it.
_OPSET = 18
_IR_VERSION = 8
INPUTS = ("float64", "float32")


def graph(mixture: Mixture, input_type: str = "float64") -> bytes:
    """Return the bytes of an .onnx file.

    The input `X` is (n, d), of the mixture's features in their order, which stand in the metadata
    as `features`, a JSON list. The outputs are `component` int64 (n,), `probability` (n, k) and
    `log_density` (n,), both float64: rows of float32 are cast first.

    Raises
    ------
    InputError
        If the package onnx is not installed, or the input is to be of another type.

    """
    if input_type not in INPUTS:
        raise InputError(f"the input type is {input_type!r}: use one of {', '.join(INPUTS)}")
    try:
        from onnx import TensorProto, checker, helper, numpy_helper
    except ImportError:
        raise InputError("onnx is not installed: pip install 'sparkgmm[onnx]'") from None
    double = TensorProto.DOUBLE
    given = double if input_type == "float64" else TensorProto.FLOAT
    numeric_alone(mixture.parts, "a mixture as ONNX")
    k, d = mixture.means.shape
    constants = _constants(mixture)
    nodes = [
        helper.make_node("Cast", ["X"], ["rows"], to=double),
        helper.make_node("Unsqueeze", ["rows", "first"], ["rows_of_all"]),
        helper.make_node("Sub", ["rows_of_all", "means"], ["residuals"]),
        _whitening(mixture, helper),
        helper.make_node("ReduceSumSquare", ["whitened", "last"], ["squares"], keepdims=0),
        helper.make_node("Mul", ["squares", "minus_half"], ["exponents"]),
        helper.make_node("Add", ["exponents", "log_norms"], ["joint_of_all"]),
        helper.make_node("Transpose", ["joint_of_all"], ["joint"], perm=[1, 0]),
        helper.make_node("ArgMax", ["joint"], ["component"], axis=1, keepdims=0),
        helper.make_node("ReduceMax", ["joint", "second"], ["top"], keepdims=1),
        helper.make_node("Sub", ["joint", "top"], ["below"]),
        helper.make_node("Exp", ["below"], ["shares"]),
        helper.make_node("ReduceSum", ["shares", "second"], ["sum"], keepdims=1),
        helper.make_node("Div", ["shares", "sum"], ["probability"]),
        helper.make_node("Log", ["sum"], ["log_sum"]),
        helper.make_node("Add", ["top", "log_sum"], ["log_densities"]),
        helper.make_node("Squeeze", ["log_densities", "second"], ["log_density"]),
    ]
    made = helper.make_graph(
        nodes,
        "gaussian_mixture",
        [helper.make_tensor_value_info("X", given, ["n", d])],
        [
            helper.make_tensor_value_info("component", TensorProto.INT64, ["n"]),
            helper.make_tensor_value_info("probability", double, ["n", k]),
            helper.make_tensor_value_info("log_density", double, ["n"]),
        ],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(
        made,
        producer_name="sparkgmm",
        producer_version=__version__,
        opset_imports=[helper.make_opsetid("", _OPSET)],
        ir_version=_IR_VERSION,
    )
    if mixture.features is not None:
        helper.set_model_props(model, {"features": json.dumps(list(mixture.features))})
    checker.check_model(model)
    return bytes(model.SerializeToString(deterministic=True))


def _constants(mixture: Mixture) -> dict[str, Any]:
    norms, W = whitened(mixture)
    diagonal = FAMILIES[mixture.covariance_type].diagonal
    return {
        "means": mixture.means[:, None, :],
        "whiteners": (
            np.einsum("kii->ki", W)[:, None, :].copy()
            if diagonal
            else np.ascontiguousarray(np.swapaxes(W, 1, 2))
        ),
        # a component of weight 0 is nobody's
        "log_norms": np.maximum(norms, -1e300)[:, None],
        "minus_half": np.array(-0.5),
        "first": np.array([0], dtype=np.int64),
        "second": np.array([1], dtype=np.int64),
        "last": np.array([2], dtype=np.int64),
    }


def _whitening(mixture: Mixture, helper: Any) -> Any:
    operator = "Mul" if FAMILIES[mixture.covariance_type].diagonal else "MatMul"
    return helper.make_node(operator, ["residuals", "whiteners"], ["whitened"])
