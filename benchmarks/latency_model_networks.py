"""The networks that the latency model and Vela are compared on: int8 .tflite files, the same everywhere.

K is the depth of a product: inputs of a fully connected layer, channels times taps of a convolution.
"""

from collections.abc import Callable
from dataclasses import replace

from latency_model_files import NO_TENSOR, Operator, Tensor, Writer

SAME, VALID = 0, 1
NONE, RELU, TANH = 0, 1, 4
STATE_SCALE, CELL_SCALE = 2.0**-7, 2.0**-11

Shape = tuple[int, int, int]  # height, width, channels


class Network(Writer):
    """A network that grows layer by layer; `at` is the last result."""

    def __init__(self, seed: int, *shape: int) -> None:
        super().__init__(seed)
        self.start = self.at = self.activation(*shape)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.tensors[self.at].shape

    def dense(self, outputs: int, activation: int = RELU) -> "Network":
        rows, depth = self.shape
        operands = (self.at, self.weight(outputs, depth), self.bias(outputs))
        result = self.activation(rows, outputs)
        options = "FullyConnectedOptions"
        self.at = self.operator(
            "FULLY_CONNECTED", operands, result, options, fused_activation_function=activation
        )
        return self

    def convolution(
        self,
        outputs: int,
        kernel: tuple[int, int] = (3, 3),
        stride: int = 1,
        dilation: int = 1,
        activation: int = RELU,
    ) -> "Network":
        weight = self.weight(outputs, *kernel, self.shape[-1])
        fields = _window(stride, dilation, activation)
        return self._window_layer("CONV_2D", "Conv2DOptions", weight, outputs, stride, fields)

    def depthwise(self, kernel: tuple[int, int] = (3, 3), stride: int = 1) -> "Network":
        channels = self.shape[-1]
        weight = self.weight(1, *kernel, channels)
        fields = _window(stride, 1, RELU) | {"depth_multiplier": 1}
        return self._window_layer(
            "DEPTHWISE_CONV_2D", "DepthwiseConv2DOptions", weight, channels, stride, fields
        )

    def _window_layer(
        self, name: str, options: str, weight: int, outputs: int, stride: int, fields: dict[str, int]
    ) -> "Network":
        batch, height, width, _ = self.shape
        result = self.activation(batch, -(-height // stride), -(-width // stride), outputs)
        self.at = self.operator(name, (self.at, weight, self.bias(outputs)), result, options, **fields)
        return self

    def pool(self, name: str, size: int) -> "Network":
        batch, height, width, channels = self.shape
        kind = self.tensors[self.at]
        pooled = (batch, height // size, width // size, channels)
        result = self.tensor(replace(kind, shape=pooled))
        fields = {"padding": VALID, "stride_w": size, "stride_h": size}
        fields |= {"filter_width": size, "filter_height": size}
        self.at = self.operator(name, (self.at,), result, "Pool2DOptions", **fields)
        return self

    def flat(self) -> "Network":
        size = 1
        for extent in self.shape:
            size *= extent
        result = self.tensor(replace(self.tensors[self.at], shape=(1, size)))
        self.at = self.operator("RESHAPE", (self.at, self.numbers(1, size)), result, "ReshapeOptions")
        return self

    def residual(self, *layers: Callable[["Network"], "Network"]) -> "Network":
        """The layers' result and their input, added."""
        before = self.at
        for layer in layers:
            layer(self)
        operands, result = (before, self.at), self.activation(*self.shape, scale=0.08)
        self.at = self.operator("ADD", operands, result, "AddOptions", fused_activation_function=RELU)
        return self

    def lstm(self, units: int) -> "Network":
        """A layer over [1, T, I] with 16-bit cells."""
        _, time, width = self.shape
        result = self.activation(1, time, units, scale=STATE_SCALE, zero_point=0)
        weights = [self.weight(units, size) for size in (width,) * 4 + (units,) * 4]
        biases = [self.bias(units) for _ in range(4)]
        hidden = self.tensor(Tensor((1, units), scale=STATE_SCALE, variable=True))
        cell = self.tensor(Tensor((1, units), "int16", CELL_SCALE, variable=True))
        absent = [NO_TENSOR]
        operands = [self.at, *weights, *absent * 3, *biases, *absent * 2, hidden, cell, *absent * 4]
        between = [self.tensor(Tensor((1,), "int16", 2.0**-12)) for _ in range(4)]
        between.append(self.tensor(Tensor((1,), scale=STATE_SCALE)))
        fields = {"fused_activation_function": TANH, "time_major": False}
        self.operators.append(
            Operator(
                "UNIDIRECTIONAL_SEQUENCE_LSTM",
                tuple(operands),
                (result,),
                "UnidirectionalSequenceLSTMOptions",
                fields,
                tuple(between),
                3,
            )
        )
        self.at = result
        return self

    def file(self) -> bytes:
        return self.bytes([self.start], [self.at])


def _window(stride: int, dilation: int, activation: int) -> dict[str, int]:
    fields = {"padding": SAME, "stride_w": stride, "stride_h": stride}
    fields |= {"dilation_w_factor": dilation, "dilation_h_factor": dilation}
    return fields | {"fused_activation_function": activation}


def _dense(seed: int, rows: int, *widths: int) -> Network:
    network = Network(seed, rows, widths[0])
    for width in widths[1:-1]:
        network.dense(width)
    return network.dense(widths[-1], NONE)


def _keywords() -> Network:
    """A depthwise-separable net for keywords over 49 frames of 10 features."""
    network = Network(7, 1, 49, 10, 1).convolution(64, (10, 4), 2)
    for _ in range(4):
        network.depthwise().convolution(64, (1, 1))
    return network.pool("AVERAGE_POOL_2D", 5).flat().dense(12, NONE)


def _separable() -> Network:
    network = Network(8, 1, 16, 16, 256)
    for _ in range(3):
        network.depthwise().convolution(256, (1, 1))
    return network


def _block(network: Network, channels: int) -> Network:
    return network.residual(
        lambda net: net.convolution(channels), lambda net: net.convolution(channels, activation=NONE)
    )


def _residual() -> Network:
    network = Network(9, 1, 16, 16, 64)
    for _ in range(3):
        _block(network, 64)
    return network


def _pictures() -> Network:
    """Residual blocks of 16, 32 and 64 channels on 32 x 32 pictures."""
    network = _block(Network(10, 1, 32, 32, 3).convolution(16), 16)
    network = _block(network.convolution(32, stride=2), 32)
    network = _block(network.convolution(64, stride=2), 64)
    return network.pool("AVERAGE_POOL_2D", 8).flat().dense(10, NONE)


def _frames() -> Network:
    """A time-delay net: 1 x 5 and dilated 1 x 3 windows over 100 frames of 64 features."""
    network = Network(11, 1, 1, 100, 64).convolution(256, (1, 5))
    for dilation in (2, 3):
        network.convolution(256, (1, 3), dilation=dilation)
    return network.convolution(256, (1, 1))


def _deep() -> Network:
    network = Network(12, 1, 16, 16, 128).convolution(128, stride=2).convolution(256)
    return network.convolution(256, stride=2)


def _classifier() -> Network:
    network = Network(13, 1, 24, 24, 32).convolution(64).pool("MAX_POOL_2D", 2)
    return network.convolution(64).pool("MAX_POOL_2D", 2).flat().dense(128).dense(10, NONE)


NETWORKS: dict[str, Callable[[], Network]] = {
    "dense_512": lambda: _dense(1, 1, 512, 512),
    "dense_128_rows": lambda: _dense(2, 128, 512, 512),
    "dense_64": lambda: _dense(3, 1, 64, 64),
    "mlp_speech": lambda: _dense(4, 1, 400, 512, 512, 512, 64),
    "mlp_rows": lambda: _dense(5, 32, 256, 512, 256),
    "autoencoder": lambda: _dense(6, 1, 640, *[128] * 4, 8, *[128] * 4, 640),
    "keywords_ds_cnn": _keywords,
    "separable_256": _separable,
    "residual_64": _residual,
    "resnet_8": _pictures,
    "tdnn": _frames,
    "conv_deep": _deep,
    "classifier": _classifier,
    "pointwise_512": lambda: Network(14, 1, 8, 8, 512).convolution(512, (1, 1)),
    "conv_3x3": lambda: Network(15, 1, 32, 32, 64).convolution(64),
    "lstm_256": lambda: Network(16, 1, 1, 256).lstm(256),
    "lstm_512": lambda: Network(17, 1, 1, 320).lstm(512),
    "lstm_64": lambda: Network(18, 1, 1, 40).lstm(64),
    "lstm_256_4_frames": lambda: Network(16, 1, 4, 256).lstm(256),
    "lstm_64_8_frames": lambda: Network(18, 1, 8, 40).lstm(64),
}
