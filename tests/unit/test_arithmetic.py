from __future__ import annotations

import itertools
import math
import re
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from torch.nn import functional

from alexnet.build import build
from alexnet.checkpoints import Checkpoint
from alexnet.data.preprocessing import Geometry, Preprocessing
from alexnet.errors import UserError
from alexnet.inference import Viewer
from alexnet.spec import (
    LRN,
    AdaptiveAvgPool,
    Conv,
    Dropout,
    Flatten,
    Linear,
    MaxPool,
    ReLU,
    SameMapNorm,
    Softmax,
    Tanh,
)
from analysis import formats
from analysis.activations import activations
from analysis.arithmetic import (
    ConnectedSum,
    ConvolutionSum,
    CrossEntropy,
    LargestOf,
    MeanOf,
    Normalised,
    PassedOn,
    SoftmaxShare,
    cross_entropy,
    number,
    working,
)
from tests.bvlc import bvlc_checkpoint, photographs

if TYPE_CHECKING:
    from collections.abc import Callable

    from alexnet.spec import Layer, Network
    from analysis.activations import Activations
    from analysis.arithmetic import Working

SHAPE = (3, 12, 10)


def looked_through(
    network: Network, classes: tuple[str, ...] = (), scale: float = 1.0
) -> tuple[Checkpoint, Activations]:
    """Random weights, `scale` times torch's, and a random picture."""
    torch.manual_seed(0)
    _, height, width = network.input_shape
    weights = {name: tensor * scale for name, tensor in build(network).state_dict().items()}
    preprocessing = Preprocessing(
        Geometry(max(height, width), height, width), torch.full((3, 1, 1), 120.0), torch.full((3, 1, 1), 60.0)
    )
    checkpoint = Checkpoint(network, classes, preprocessing, weights, {}, {})
    picture = np.random.default_rng(0).integers(0, 256, (height, height, 3), np.uint8)
    return checkpoint, activations(Viewer(checkpoint, torch.device("cpu")), picture)


def evaluated(text: str) -> float:
    """A side of a line as Python understands it."""
    code = re.sub(r"e−(\d)", r"e-\1", text).replace("−", "-").replace("·", "*").replace("^", "**")
    assert re.fullmatch(r"[\d.e+\-*/() ,]*|.*(max|exp|ln|tanh)\(.*", code), code
    return float(eval(code, {"__builtins__": {}, "max": max, "exp": math.exp, "ln": math.log, "tanh": math.tanh}))  # noqa: S307 - our own text


def assert_true(one: Working) -> None:
    """Every line is true to the digits it is written with, and the last gives the value."""
    lines = one.lines()
    for line in lines:
        left, right = line.split(" = ")
        sizes = [abs(evaluated(term)) for term in re.findall(r"−?[\d.]+(?:e[+−]?\d+)?", left)]
        tolerance = 1e-4 * max([1e-6, abs(evaluated(right)), *(sizes if " + " in left or " − " in left else [])])
        assert evaluated(left) == pytest.approx(evaluated(right), rel=0, abs=tolerance), line
    if lines and not isinstance(one, PassedOn):
        assert evaluated(lines[-1].split(" = ")[1]) == pytest.approx(one.value, rel=1e-5, abs=1e-12)


LAYERS = {
    "conv": Conv(6, 3),
    "conv with padding and stride": Conv(4, 5, stride=2, padding=2),
    "conv in groups": Conv(6, 3, padding=1, groups=3),
    "conv rounded up": Conv(4, 4, stride=3, rounding="ceil"),
    "conv rounded up with padding": Conv(2, 5, stride=4, padding=1, rounding="ceil"),
    "max pool": MaxPool(3, 2),
    "max pool rounded up": MaxPool(3, 2, "ceil"),
    "max pool over more than is left": MaxPool(4, 3, "ceil"),
    "average pool": AdaptiveAvgPool(5),
    "average pool that enlarges": AdaptiveAvgPool(11),
    "lrn summed": LRN(3, alpha=0.3, k=2.0),
    "lrn averaged": LRN(5, alpha=0.3, k=1.0, average=True),
    "same-map norm": SameMapNorm(3, alpha=0.5, beta=0.75),
    "relu": ReLU(),
    "tanh": Tanh(),
    "dropout": Dropout(),
    "flatten": Flatten(),
}


@pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS)
def test_every_value_is_what_the_network_computes(layer: Layer, network_of: Callable[..., Network]) -> None:
    network = network_of(SHAPE, layer)
    checkpoint, found = looked_through(network)
    assert float(found.values["l1"].abs().max()) > 0
    for place in itertools.product(*map(range, network.stages()[0].out_shape)):
        one = working(checkpoint, found, "l1", place)
        assert one.network_value == float(found.values["l1"][place])
        assert one.value == pytest.approx(one.network_value, rel=1e-4, abs=2e-6)
        assert_true(one)


@pytest.mark.parametrize("average", [False, True])
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("size", [3, 5, 9])
def test_lrn_stops_at_the_border_of_its_group(
    size: int, groups: int, average: bool, network_of: Callable[..., Network]
) -> None:
    network = network_of((3, 5, 5), Conv(8, 3), LRN(size, alpha=0.9, beta=0.6, k=1.5, average=average, groups=groups))
    checkpoint, found = looked_through(network)
    block = 8 // groups
    for channel in range(8):
        one = working(checkpoint, found, "l2", (channel, 1, 2))
        assert isinstance(one, Normalised)
        near = [other for other in range(8) if abs(other - channel) <= size // 2 and other // block == channel // block]
        assert one.neighbours == tuple((other,) for other in near)
        entering = found.values["l1"][:, 1, 2].double().tolist()
        scale = 1.5 + 0.9 / (size if average else 1) * sum(entering[other] ** 2 for other in near)
        assert one.value == pytest.approx(entering[channel] / scale**0.6, rel=1e-9)
        assert one.value == pytest.approx(one.network_value, rel=1e-4)
        assert_true(one)
        assert len(one.table().rows) == len(near)
        assert one.table().totals[-1] == pytest.approx(sum(entering[other] ** 2 for other in near))


def test_a_convolution_shows_its_window_its_kernel_and_what_lies_in_the_padding(
    network_of: Callable[..., Network],
) -> None:
    checkpoint, found = looked_through(
        network_of(SHAPE, Conv(6, 5, stride=2, padding=2), Conv(4, 3, padding=1, groups=2))
    )
    one = working(checkpoint, found, "l1", (4, 0, 1))
    assert isinstance(one, ConvolutionSum)
    assert (one.top, one.left, one.first_channel) == (-2, 0, 0)
    padded = functional.pad(found.input, (2, 2, 2, 2)).double().numpy()
    np.testing.assert_array_equal(one.window, padded[:, 0:5, 2:7])
    np.testing.assert_array_equal(one.kernel, checkpoint.weights["l1.weight"][4].double().numpy())
    assert one.inside.tolist() == [[False] * 5] * 2 + [[True] * 5] * 3
    assert "10 of 25 places in the padding" in one.sentence
    assert "rows −2 to 2, columns 0 to 4" in one.sentence
    np.testing.assert_allclose(one.partial_sums, [(padded[c, 0:5, 2:7] * one.kernel[c]).sum() for c in range(3)])
    assert one.value == pytest.approx(one.partial_sums.sum() + one.bias)
    rows = one.table().records()
    assert (len(rows), rows[-1]["what"], rows[-1]["product"]) == (3 * 25 + 1, "bias", one.bias)
    assert sum(row["product"] for row in rows) == pytest.approx(one.value)
    assert [row["what"] for row in rows[:11]] == ["padding"] * 10 + ["input"]
    assert (rows[10]["channel"], rows[10]["row"], rows[10]["column"]) == (0, 0, 0)
    assert rows[10]["input"] == pytest.approx(float(found.input[0, 0, 0]))
    grouped = working(checkpoint, found, "l2", (2, 3, 3))  # the second of two groups: inputs 3 to 5
    assert isinstance(grouped, ConvolutionSum)
    assert (grouped.first_channel, grouped.window.shape) == (3, (3, 3, 3))
    np.testing.assert_array_equal(grouped.window, found.values["l1"][3:6, 2:5, 2:5].double().numpy())


def test_the_winner_of_a_pooling_and_ties(network_of: Callable[..., Network]) -> None:
    checkpoint, found = looked_through(network_of(SHAPE, ReLU(), MaxPool(3, 2, "ceil")))
    maps = found.values["l1"].numpy()
    one = working(checkpoint, found, "l2", (1, 5, 4))  # of 12 and 10: both ends reach one past the map
    assert isinstance(one, LargestOf)
    assert (one.top, one.left, one.window.shape, one.cut_off) == (10, 8, (2, 2), (1, 1))
    assert "1 of its rows and 1 of its columns lie beyond the map" in one.sentence
    assert maps[1, *one.winner] == maps[1, 10:, 8:].max()
    for place in itertools.product(range(3), range(6), range(5)):
        one = working(checkpoint, found, "l2", place)
        channel, row, column = place
        values, indices = functional.max_pool2d(found.values["l1"][None], 3, 2, ceil_mode=True, return_indices=True)
        assert one.value == float(values[0][place])
        assert one.winner == divmod(int(indices[0][place]), 10)  # torch too takes the first of equals
        window = maps[channel, 2 * row : 2 * row + 3, 2 * column : 2 * column + 3]
        assert one.equals == int((window == window.max()).sum())
        assert [line["wins"] for line in one.table().records()].count("largest") == 1


def test_windows_of_average_pooling_are_torchs(network_of: Callable[..., Network]) -> None:
    checkpoint, found = looked_through(network_of((3, 13, 11), AdaptiveAvgPool(4)))
    one = working(checkpoint, found, "l1", (2, 1, 3))
    assert isinstance(one, MeanOf)
    assert (one.top, one.left, one.window.shape) == (3, 8, (4, 3))  # ⌊13/4⌋ to ⌈26/4⌉, ⌊33/4⌋ to 11
    assert one.value == pytest.approx(float(functional.adaptive_avg_pool2d(found.input[None], 4)[0, 2, 1, 3]), rel=1e-5)


@pytest.fixture(scope="module")
def classified(request: pytest.FixtureRequest) -> tuple[Checkpoint, Activations]:
    network = request.getfixturevalue("network_of")(
        SHAPE, Conv(5, 3, stride=2), ReLU(), Flatten(), Linear(16), ReLU(), Dropout(), Linear(12), Softmax()
    )
    return looked_through(network, tuple(f"kind {letter}" for letter in "abcdefghijkl"), scale=3.0)


@pytest.mark.parametrize("index", range(12))
def test_fully_connected_softmax_and_cross_entropy(index: int, classified: tuple[Checkpoint, Activations]) -> None:
    checkpoint, found = classified
    connected = working(checkpoint, found, "l7", (index,))
    assert isinstance(connected, ConnectedSum)
    weights, bias = (checkpoint.weights[f"l7.{kind}"].double() for kind in ("weight", "bias"))
    products = found.values["l6"].double() * weights[index]
    assert connected.value == pytest.approx(float(products.sum() + bias[index]), rel=1e-9)
    assert connected.value == pytest.approx(connected.network_value, rel=1e-4, abs=1e-5)
    largest = connected.largest(3).tolist()
    assert largest == products.abs().sort(descending=True, stable=True).indices[:3].tolist()
    assert [row[1] for row in connected.table().rows[:3]] == largest
    assert_true(connected)
    scores = found.values["l7"].double()
    share = working(checkpoint, found, "l8", (index,))
    assert isinstance(share, SoftmaxShare)
    assert share.value == pytest.approx(float(scores.softmax(0)[index]), rel=1e-9)
    assert share.value == pytest.approx(share.network_value, rel=1e-4)
    assert_true(share)
    records = share.table().records()
    assert sum(row["probability"] for row in records) == pytest.approx(1)
    assert [row["number"] for row in records] == scores.sort(descending=True).indices.tolist()
    loss = cross_entropy(found, index)
    assert isinstance(loss, CrossEntropy)
    assert loss.value == pytest.approx(float(functional.cross_entropy(scores[None], torch.tensor([index]))), rel=1e-9)
    assert loss.value == pytest.approx(loss.network_value, rel=1e-4)
    assert_true(loss)
    assert f"ln 12 = {math.log(12):.6g}" in loss.sentence
    assert found.classes[index] in loss.sentence


def test_the_loss_of_a_class_too_improbable_for_a_number_is_still_one(network_of: Callable[..., Network]) -> None:
    _, found = looked_through(network_of(SHAPE, Flatten(), Linear(3), Softmax()), scale=3000.0)
    scores = found.values["l2"].double()
    worst = int(scores.argmin())
    loss = cross_entropy(found, worst)
    assert loss.probability == 0
    assert loss.value == pytest.approx(float(scores.max() - scores.min()), rel=1e-6)
    assert_true(loss)


def test_flatten_says_where_a_value_came_from(network_of: Callable[..., Network]) -> None:
    checkpoint, found = looked_through(network_of(SHAPE, Flatten()))
    one = working(checkpoint, found, "l1", (2 * 120 + 7 * 10 + 4,))
    assert one.lines() == ["2·12·10 + 7·10 + 4 = 314"]
    assert one.sentence.startswith("The value of channel 2, row 7, column 4, unchanged")
    assert one.value == float(found.input[2, 7, 4])


def test_what_does_not_exist_is_refused(classified: tuple[Checkpoint, Activations]) -> None:
    checkpoint, found = classified
    with pytest.raises(UserError, match=r"l1 gives 5×5×4, counted from 0; there is no place \(5, 0, 0\)"):
        working(checkpoint, found, "l1", (5, 0, 0))
    with pytest.raises(UserError, match="no place"):
        working(checkpoint, found, "l1", (0, 0))
    with pytest.raises(UserError, match="no place"):
        working(checkpoint, found, "l7", (-1,))
    with pytest.raises(UserError, match="no stage 'fc9'"):
        working(checkpoint, found, "fc9", (0,))
    with pytest.raises(UserError, match="the classes are numbered 0 to 11, got 12"):
        cross_entropy(found, 12)


def test_no_classes_no_loss(network_of: Callable[..., Network]) -> None:
    _, found = looked_through(network_of(SHAPE, Conv(2, 3)))
    with pytest.raises(UserError, match="it has no classifier"):
        cross_entropy(found, 0)


def test_numbers_as_people_read_them() -> None:
    assert [number(value) for value in (0.0, -1.5, 1e-7, 123456.789, 2)] == ["0", "−1.5", "1e−07", "123457", "2"]


@pytest.mark.parametrize("fmt", formats.FORMATS)
def test_every_table_can_be_written(fmt: formats.Format, classified: tuple[Checkpoint, Activations]) -> None:
    checkpoint, found = classified
    for stage in found.stages:
        one = working(checkpoint, found, stage.name, [0] * len(stage.out_shape))
        text = formats.write(one.table(), fmt)
        assert text.endswith("\n")
        assert len(text.splitlines()) > len(one.table().rows)
    assert formats.write(cross_entropy(found, 3).table(), fmt)


def test_values_of_the_bvlc_stack_on_a_photograph() -> None:
    checkpoint = bvlc_checkpoint()
    found = activations(Viewer(checkpoint, torch.device("cpu")), photographs("val", 1)["n02102040"][0])
    random = np.random.default_rng(0)
    for stage in found.stages:
        places = [tuple(int(random.integers(size)) for size in stage.out_shape) for _ in range(10)]
        places.append(tuple(size - 1 for size in stage.out_shape))
        for place in places:
            one = working(checkpoint, found, stage.name, place)
            scale = float(found.values[stage.name].abs().max())
            assert one.value == pytest.approx(one.network_value, rel=1e-4, abs=1e-6 * scale), (stage.name, place)
            assert_true(one)
