"""FlexUNet as ONNX: the bytes of a model file, with holes where the weights go.

The file follows from the network's parameters, the number of classes and the provenance alone. So
``export`` writes it without any converter, the same bytes every time, and a file that comes from
anyone is compared with it byte by byte: nothing but its weights is the stranger's.

The graph is that of :mod:`model.flexunet` in the order that ONNX prefers, channels first. Its nodes
have the names of the layers. Sources: onnx/onnx.proto and docs/Operators.md of ONNX 1.15.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from model.inference.protobuf import field, key
from model.params import Network

IR_VERSION, OPSET = 9, 20
PICTURE, PROBABILITIES, PROVENANCE = "picture", "probabilities", "provenance"
METADATA = 14  # the field of a model that holds pairs of key and value
_GROUPS = 8  # as in model.flexunet
_EPSILON = 1e-3  # of Keras' layers
_FLOAT, _UINT8, _INT64 = 1, 2, 7  # TensorProto.DataType
_ACTIVATIONS: dict[str, tuple[str, dict[str, float]]] = {
    "relu": ("Relu", {}),
    "leaky_relu": ("LeakyRelu", {"alpha": 0.2}),
    "elu": ("Elu", {"alpha": 1.0}),
    "selu": ("Selu", {}),
    "gelu": ("Gelu", {}),
    "silu": ("Sigmoid", {}),
    "mish": ("Softplus", {}),
    "softplus": ("Softplus", {}),
    "tanh": ("Tanh", {}),
}
"""The operator of each activation, with its values in Keras; silu and mish multiply as well."""


@dataclass(frozen=True)
class Hole:
    """Where an array of float32 goes: its name (``<layer>.<weight>``) and its shape."""

    name: str
    shape: tuple[int, ...]

    @property
    def length(self) -> int:
        """Bytes."""
        return 4 * math.prod(self.shape)


Layout = list[bytes | Hole]


def length(layout: Layout) -> int:
    """The bytes of the file."""
    return sum(one.length if isinstance(one, Hole) else len(one) for one in layout)


def layout(network: Network, classes: int, provenance: str = "") -> Layout:
    """The model file: pictures (B, px, px, channels) uint8 -> probabilities (B, px, px, classes).

    The order of its fields is that of their numbers, which is how ONNX' own library writes them.
    """
    px = network.image_px
    graph = _Graph()
    graph.network(network, classes)
    body: Layout = [
        *(field(1, node) for node in graph.nodes),
        field(2, "flexunet"),
        *graph.tensors,
        field(11, _value(PICTURE, _UINT8, (px, px, network.inputs))),
        field(12, _value(PROBABILITIES, _FLOAT, (px, px, classes))),
    ]
    return [
        field(1, IR_VERSION) + field(2, "flexunet-pipeline"),
        key(7, length(body)),
        *body,
        field(8, field(1, "") + field(2, OPSET)),
        field(METADATA, field(1, PROVENANCE) + field(2, provenance)),
    ]


class _Graph:
    """Nodes and tensors as they come. An output has its node's name."""

    def __init__(self) -> None:
        self.nodes: list[bytes] = []
        self.tensors: Layout = []
        self._constants: set[str] = set()

    def network(self, network: Network, classes: int) -> None:
        """Every node from the pictures to the probabilities."""
        levels = range(network.num_layers - 1)
        x = self._node("Transpose", "channels_first", [PICTURE], perm=[0, 3, 1, 2])
        x = self._node("Cast", "numbers", [x], to=_FLOAT)
        x = self._node("Mul", "unit_range", [x, self._floats("of_255", [1 / 255])])
        filters = network.inputs
        skips = []
        for level in levels:
            x = self._block(x, filters, network, level, f"encoder_{level}")
            filters = _filters(network, level)
            skips.append(x)
            x = self._node("MaxPool", f"down_{level}", [x], kernel_shape=[2, 2], strides=[2, 2])
        x = self._block(x, filters, network, network.num_layers - 1, "bridge")
        for level in reversed(levels):
            wide, filters = _filters(network, level + 1), _filters(network, level)
            up = [x, *self._kernel(f"up_{level}", (wide, filters, 2, 2), filters)]
            x = self._node("ConvTranspose", f"up_{level}", up, kernel_shape=[2, 2], strides=[2, 2])
            x = self._node("Concat", f"joint_{level}", [x, skips[level]], axis=1)
            x = self._block(x, 2 * filters, network, level, f"decoder_{level}")
        x = self._convolution(x, "head", (classes, filters, 1, 1))
        x = self._node("Transpose", "channels_last", [x], perm=[0, 2, 3, 1])
        self._node("Softmax", PROBABILITIES, [x], axis=2**64 - 1)  # -1, as a varint has it

    def _block(self, x: str, filters: int, network: Network, level: int, name: str) -> str:
        side, own = max(network.base_kernels - 2 * level, 3), _filters(network, level)
        for half, incoming in enumerate((filters, own)):
            shape = (own, incoming, side, side)
            dilation = max(network.dilation - level, 1)
            x = self._convolution(x, f"{name}_conv_{half}", shape, dilation)
            x = self._activated(x, network.activation)
            px = network.image_px >> level
            x = self._normalised(x, network.normalization, f"{name}_norm_{half}", own, px)
        return x

    def _convolution(
        self, x: str, name: str, shape: tuple[int, int, int, int], dilation: int = 1
    ) -> str:
        side, margin = shape[-1], dilation * (shape[-1] - 1) // 2
        return self._node(
            "Conv",
            name,
            [x, *self._kernel(name, shape, shape[0])],
            dilations=[dilation, dilation],
            kernel_shape=[side, side],
            pads=[margin] * 4,
        )

    def _kernel(self, name: str, shape: tuple[int, ...], filters: int) -> list[str]:
        return [self._hole(f"{name}.kernel", shape), self._hole(f"{name}.bias", (filters,))]

    def _activated(self, x: str, how: str) -> str:
        operator, values = _ACTIVATIONS[how]
        y = self._node(operator, f"{x}_{how}", [x], **values)
        if how == "mish":
            y = self._node("Tanh", f"{x}_mish_gate", [y])
        if how in ("silu", "mish"):
            y = self._node("Mul", f"{x}_{how}_product", [x, y])
        return y

    def _normalised(self, x: str, how: str, name: str, filters: int, px: int) -> str:
        if how == "none":
            return x
        if how == "batch":
            names = ("gamma", "beta", "moving_mean", "moving_variance")
            four = [self._hole(f"{name}.{one}", (filters,)) for one in names]
            return self._node("BatchNormalization", name, [x, *four], epsilon=_EPSILON)
        if how == "instance":
            two = [self._hole(f"{name}.{one}", (filters,)) for one in ("gamma", "beta")]
            return self._node("InstanceNormalization", name, [x, *two], epsilon=_EPSILON)
        x = self._by_groups(x, f"{name}_groups", filters, px)
        gamma, beta = (self._hole(f"{name}.{one}", (filters, 1, 1)) for one in ("gamma", "beta"))
        x = self._node("Mul", f"{name}_scale", [x, gamma])
        return self._node("Add", name, [x, beta])

    def _by_groups(self, x: str, name: str, filters: int, px: int) -> str:
        """Each group of filters of each picture to mean 0 and standard deviation 1."""
        groups = math.gcd(_GROUPS, filters)
        x = self._node("Reshape", f"{name}_rows", [x, self._integers([0, groups, -1])])
        ones = self._floats(f"ones_{groups}", [1.0] * groups)
        zeros = self._floats(f"zeros_{groups}", [0.0] * groups)
        x = self._node("InstanceNormalization", name, [x, ones, zeros], epsilon=_EPSILON)
        return self._node("Reshape", f"{name}_back", [x, self._integers([0, filters, px, px])])

    def _node(
        self, operator: str, name: str, inputs: Sequence[str], **values: int | float | list[int]
    ) -> str:
        self.nodes.append(
            b"".join(field(1, one) for one in inputs)
            + field(2, name)
            + field(3, name)
            + field(4, operator)
            + b"".join(field(5, _attribute(one, values[one])) for one in sorted(values))
        )
        return name

    def _hole(self, name: str, shape: tuple[int, ...]) -> str:
        hole = Hole(name, shape)
        head = _tensor(name, _FLOAT, shape) + key(9, hole.length)
        self.tensors += [key(5, len(head) + hole.length) + head, hole]
        return name

    def _floats(self, name: str, values: Sequence[float]) -> str:
        raw = struct.pack(f"<{len(values)}f", *values)
        return self._constant(name, _FLOAT, len(values), raw)

    def _integers(self, values: Sequence[int]) -> str:
        name = "integers_" + "_".join(map(str, values))
        raw = struct.pack(f"<{len(values)}q", *values)
        return self._constant(name, _INT64, len(values), raw)

    def _constant(self, name: str, kind: int, count: int, raw: bytes) -> str:
        if name not in self._constants:
            self._constants.add(name)
            self.tensors.append(field(5, _tensor(name, kind, (count,)) + field(9, raw)))
        return name


def _filters(network: Network, level: int) -> int:
    return int(network.base_filters * 2**level)


def _tensor(name: str, kind: int, shape: Sequence[int]) -> bytes:
    """A tensor up to its content."""
    return b"".join(field(1, one) for one in shape) + field(2, kind) + field(8, name)


def _attribute(name: str, value: int | float | list[int]) -> bytes:
    if isinstance(value, list):
        return field(1, name) + b"".join(field(8, one) for one in value) + field(20, 7)
    if isinstance(value, float):
        return field(1, name) + field(2, value) + field(20, 1)
    return field(1, name) + field(3, value) + field(20, 2)


def _value(name: str, kind: int, shape: Sequence[int]) -> bytes:
    """An input or output: any number of arrays of ``shape``."""
    sides = field(1, field(2, "batch")) + b"".join(field(1, field(1, one)) for one in shape)
    return field(1, name) + field(2, field(1, field(1, kind) + field(2, sides)))
