from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from alexnet import spec, zoo
from alexnet.build import build
from alexnet.towers import OUTPUT, TwoTowers, join, split
from analysis.costs import cost_table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from alexnet.spec import Layer, Network

NAMES = [name for name, network in zoo.NETWORKS.items() if network.towers == 2]
CPU, META = torch.device("cpu"), torch.device("meta")
CLASSES = 7


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Networks this small gain nothing from threads, and threads that wait for each other on a busy machine lose."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def small(name: str) -> Network:
    """A network of the zoo, small, and with an α that makes LRN matter far beyond rounding."""
    network = zoo.network_named(name)
    side = max(67, network.smallest_side())
    network = network.adapted(input_shape=(3, side, side), classes=CLASSES, hidden=64)
    return replace(
        network,
        layers=tuple(
            (stage, replace(layer, alpha=1.0) if isinstance(layer, spec.LRN) else layer)
            for stage, layer in network.layers
        ),
    )


def both(network: Network, *devices: torch.device) -> tuple[nn.Sequential, TwoTowers]:
    """The network on one device, the first, and on two, with the same weights."""
    first, second = devices or (CPU, CPU)
    torch.manual_seed(1)
    whole = build(network)
    towers = TwoTowers(network, (first, second))
    towers.load_state_dict(split(network, whole.state_dict()))
    return whole.to(first), towers


def images(network: Network, count: int = 3) -> Tensor:
    return torch.randn(count, *network.input_shape, generator=torch.Generator().manual_seed(2))


def gradients(module: nn.Module) -> dict[str, Tensor]:
    return {name: weight.grad for name, weight in module.named_parameters() if weight.grad is not None}


def weights(module: nn.Module) -> dict[str, Tensor]:
    return dict(module.named_parameters())


def assert_same(actual: Tensor, expected: Tensor, tolerance: float = 1e-5) -> None:
    """Equal to `tolerance` of the largest value."""
    assert actual.shape == expected.shape
    largest = float(expected.detach().abs().max())
    assert largest > 0
    torch.testing.assert_close(actual, expected, rtol=0, atol=tolerance * largest)


def assert_all_same(actual: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    assert list(actual) == list(expected)
    for name, value in expected.items():
        assert_same(actual[name], value)


def assert_steps_agree(network: Network, whole: nn.Module, towers: TwoTowers, batch: Tensor) -> None:
    """Scores and every gradient agree, dropout included where the modules are training."""
    labels = torch.arange(len(batch)) % CLASSES
    results = []
    for module in (whole, towers):
        torch.manual_seed(3)
        scores = module(batch.to(towers.devices[0]))
        functional.cross_entropy(scores, labels.to(scores.device)).backward()
        results.append(scores)
    assert results[1].device == results[0].device
    assert_same(results[1], results[0])
    assert_all_same(join(network, gradients(towers)), gradients(whole))


# --- the same numbers -------------------------------------------------------------------------------------------------


def test_the_networks_with_two_towers() -> None:
    assert {"alexnet-2012", "alexnet-2012-source", "caffenet", "alexnet-slim"} <= set(NAMES)


@pytest.mark.parametrize("training", [True, False], ids=["dropout", "no dropout"])
@pytest.mark.parametrize("name", NAMES)
def test_scores_and_gradients_are_those_of_one_device(name: str, training: bool) -> None:
    network = small(name)
    whole, towers = both(network)
    assert_steps_agree(network, whole.train(training), towers.train(training), images(network))


@pytest.mark.parametrize("name", NAMES)
def test_ten_steps_with_momentum_lead_to_the_same_weights(name: str) -> None:
    network = small(name)
    whole, towers = both(network)
    before = {name: weight.detach().clone() for name, weight in weights(whole).items()}
    buffers = []
    for module in (whole, towers):
        torch.manual_seed(3)
        generator = torch.Generator().manual_seed(4)
        optimiser = torch.optim.SGD(module.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
        for _ in range(10):
            batch = torch.randn(4, *network.input_shape, generator=generator)
            labels = torch.randint(CLASSES, (4,), generator=generator)
            optimiser.zero_grad()
            functional.cross_entropy(module(batch), labels).backward()
            optimiser.step()
        buffers.append({name: optimiser.state[weight]["momentum_buffer"] for name, weight in weights(module).items()})
    assert_all_same(join(network, weights(towers)), weights(whole))
    assert_all_same(join(network, buffers[1]), buffers[0])
    moved = [
        float((weight - before[name]).detach().norm() / before[name].norm()) for name, weight in weights(whole).items()
    ]
    assert min(moved) > 1e-3, "steps this small would agree whatever the gradients"


@pytest.mark.parametrize("name", NAMES)
def test_channels_last(name: str) -> None:
    network = small(name)
    whole, towers = both(network)
    for module in (whole, towers):
        module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    assert_steps_agree(network, whole, towers, images(network).contiguous(memory_format=torch.channels_last))


@pytest.mark.parametrize("name", NAMES)
def test_autocast(name: str) -> None:
    network = small(name)
    whole, towers = both(network)
    results = []
    for module in (whole, towers):
        torch.manual_seed(3)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            results.append(module(images(network)))
        results[-1].float().square().sum().backward()
    assert results[1].dtype == results[0].dtype == torch.bfloat16
    assert_same(results[1], results[0], tolerance=2e-2)  # bfloat16 has 8 bits
    for name_, gradient in join(network, gradients(towers)).items():
        expected = gradients(whole)[name_]
        assert functional.cosine_similarity(gradient.flatten(), expected.flatten(), dim=0) > 0.99


@pytest.mark.slow
def test_the_paper_at_full_size() -> None:
    network = zoo.ALEXNET_2012
    whole, towers = both(network)
    assert_steps_agree(network, whole, towers, images(network, count=2))


def test_dropout_draws_one_mask_for_both_towers(network_of: Callable[..., Network]) -> None:
    network = network_of((8,), spec.Linear(600), spec.Dropout(0.3), towers=2)
    whole, towers = both(network)
    batch = images(network)
    torch.manual_seed(5)
    expected = whole(batch)
    torch.manual_seed(5)
    actual = towers(batch)
    assert torch.equal(actual == 0, expected == 0)
    assert 0.25 < float((actual == 0).float().mean()) < 0.35
    assert towers.sent == {"l2": 3 * 300 * 4, OUTPUT: 3 * 300 * 4}


# --- every kind of layer ----------------------------------------------------------------------------------------------

CONV = spec.Conv(12, 1)
MADE_UP: dict[str, tuple[tuple[Layer, ...], str | None]] = {
    "LRN within towers": ((CONV, spec.LRN(alpha=1.0, groups=2)), None),
    "LRN within four groups": ((CONV, spec.LRN(alpha=1.0, groups=4)), None),
    "LRN across": ((CONV, spec.LRN(alpha=1.0)), None),
    "LRN across, narrow": ((CONV, spec.LRN(size=3, alpha=1.0, average=True)), None),
    "LRN across, without neighbours": ((CONV, spec.LRN(size=1, alpha=1.0)), None),
    "LRN across, as wide as a tower": ((CONV, spec.LRN(size=13, alpha=1.0)), None),
    "LRN across, wider than a tower": ((CONV, spec.LRN(size=15, alpha=1.0)), None),
    "LRN across, wider than all": ((CONV, spec.LRN(size=31, alpha=1.0)), None),
    "LRN on one device": ((CONV, spec.LRN(alpha=1.0)), "l2"),
    "groups": ((CONV, spec.Conv(8, 3, groups=2), spec.Conv(16, 2, groups=4), spec.Conv(4, 1)), None),
    "groups that see the image": ((spec.Conv(8, 3, groups=2), spec.Conv(8, 1, groups=2)), None),
    "before the first weights": ((spec.MaxPool(2, 1), spec.LRN(alpha=1.0), spec.Conv(6, 2)), None),
    "a vector": ((spec.Flatten(), spec.Linear(6), spec.ReLU(), spec.Linear(4)), None),
    "poolings": ((CONV, spec.MaxPool(2, 2, "ceil"), spec.AdaptiveAvgPool(2), spec.Flatten(), spec.Linear(2)), "l5"),
    "rounded up": ((spec.Conv(4, 3, 2, rounding="ceil"), spec.Conv(4, 2, 2, groups=2, rounding="ceil")), None),
    "a norm within maps": ((CONV, spec.SameMapNorm(3, 1.0, 0.75)), None),
    "dropout of maps": ((CONV, spec.Dropout(0.5), spec.Flatten(), spec.Linear(6)), None),
    "merged before it is flattened": ((CONV, spec.ReLU(), spec.Flatten(), spec.Linear(5)), "l2"),
    "merged while flat": ((CONV, spec.Flatten(), spec.ReLU(), spec.Linear(5)), "l3"),
    "all on one device": ((spec.MaxPool(2, 2), CONV), "l1"),
    "probabilities": ((CONV, spec.Flatten(), spec.Linear(6), spec.Softmax()), None),
}


@pytest.mark.parametrize("case", MADE_UP)
def test_every_kind_of_layer(case: str, network_of: Callable[..., Network]) -> None:
    layers, merged_at = MADE_UP[case]
    network = network_of((4, 5, 5), *layers, towers=2, merged_at=merged_at)
    whole, towers = both(network)
    whole.double(), towers.double()
    batch = images(network).double().requires_grad_()
    results = []
    for module in (whole, towers):
        torch.manual_seed(3)
        output = module(batch)
        (of_batch,) = torch.autograd.grad(output.square().sum(), batch, retain_graph=True)
        output.square().sum().backward(inputs=list(module.parameters()))
        results.append((output, of_batch))
    for expected, actual in zip(*results, strict=True):
        assert_same(actual, expected, tolerance=1e-12)
    for name, gradient in gradients(whole).items():
        assert_same(join(network, gradients(towers))[name], gradient, tolerance=1e-12)

    towers.float().eval()(batch.float())
    sent = towers.sent
    sent.pop(OUTPUT, None)  # who reads the scores is no stage
    assert sent == {row.name: row.crossing_bytes for row in cost_table(network, batch=3).rows if row.crossing_bytes}


def test_lrn_of_the_paper_ends_at_the_border_and_caffes_does_not(network_of: Callable[..., Network]) -> None:
    reach = []
    for groups in (2, 1):
        network = network_of((1, 1, 1), spec.Conv(96, 1), spec.LRN(alpha=1.0, groups=groups), towers=2)
        towers = TwoTowers(network, (CPU, CPU))
        conv = towers.get_submodule("l1")
        towers(torch.ones(1, 1, 1, 1))[0, 47].sum().backward()  # the last map of tower 1
        biases = [getattr(conv, tower).bias.grad for tower in "01"]
        reach.append([index for index, value in enumerate(torch.cat(biases).tolist()) if value])
    assert reach == [[45, 46, 47], [45, 46, 47, 48, 49]]


# --- what crosses -----------------------------------------------------------------------------------------------------


class Copies(TorchDispatchMode):
    """Bytes that torch copies from one device to another, as (from, to) -> bytes."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes: dict[tuple[str, str], int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func is torch.ops.aten._to_copy.default and result.device != args[0].device:
            way = (str(args[0].device), str(result.device))
            self.bytes[way] = self.bytes.get(way, 0) + result.nbytes
        return result


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("name", NAMES)
def test_what_is_sent_is_what_the_cost_table_says(name: str, batch: int) -> None:
    network = zoo.network_named(name)
    towers = TwoTowers(network, (META, META)).eval()
    towers(torch.empty(batch, *network.input_shape, device=META))
    expected = {row.name: row.crossing_bytes for row in cost_table(network, batch).rows if row.crossing_bytes}
    assert towers.sent == expected


def test_what_one_image_sends_in_the_paper() -> None:
    towers = TwoTowers(zoo.ALEXNET_2012, (META, META)).eval()
    for _ in range(2):  # a pass counts itself alone
        towers(torch.empty(1, 3, 227, 227, device=META))
    assert towers.sent == {"conv3": 173_056, "fc6": 36_864, "fc7": 16_384, "fc8": 8_192}
    assert sum(towers.sent.values()) == 234_496


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", NAMES)
def test_torch_copies_what_the_towers_say_and_nothing_else(name: str, training: bool) -> None:
    network = small(name)
    # Tensors without data, on two devices that torch takes care not to mix.
    first, second = torch.device("cpu:0"), torch.device("cpu:1")
    with FakeTensorMode():
        towers = TwoTowers(network, (first, second)).train(training)
        for path, weight in towers.named_parameters():
            assert weight.device == (second if ".1." in path else first), path
        image = torch.empty(3, *network.input_shape, device=first)
        with Copies() as forward:
            scores = towers(image)
        with Copies() as backward:
            scores.sum().backward()
    assert scores.device == first
    masks = sum(sent for stage, sent in towers.sent.items() if stage.startswith("drop"))
    dropouts = sum(isinstance(layer, spec.Dropout) for _, layer in network.layers)
    split_dropouts = dropouts if network.merged_at == "fc8" else 0
    assert masks == (split_dropouts * 3 * 32 * 4 if training else 0)
    assert sum(forward.bytes.values()) == sum(towers.sent.values()) + image.nbytes  # the second device's image
    assert sum(backward.bytes.values()) == sum(towers.sent.values()) - masks
    alone = towers.sent[network.merged_at or ""]  # goes one way only
    there, back = forward.bytes["cpu:0", "cpu:1"], forward.bytes["cpu:1", "cpu:0"]
    assert there - image.nbytes - masks == back - alone


# --- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_joining_what_was_split_gives_it_back(name: str) -> None:
    network = small(name)
    whole, towers = both(network)
    state = whole.state_dict()
    halves = split(network, state)
    assert halves.keys() == towers.state_dict().keys()
    joined = join(network, halves)
    assert list(joined) == list(state)
    for key, value in state.items():
        assert torch.equal(joined[key], value)
    # Nobody trains someone else's checkpoint: no two of them share memory.
    memories = [
        {tensor.untyped_storage().data_ptr() for tensor in tensors.values()} for tensors in (state, halves, joined)
    ]
    assert len(set.union(*memories)) == len(state) + len(halves) + len(joined)
    assert {key: value.shape for key, value in halves.items()} == {
        key: value.shape for key, value in towers.state_dict().items()
    }


def test_tower_1_has_the_first_rows() -> None:
    bias = torch.arange(96.0)
    halves = split(zoo.ALEXNET_2012, {"conv1.bias": bias, "fc8.bias": torch.arange(1000.0)})
    assert list(halves) == ["conv1.0.bias", "conv1.1.bias", "fc8.bias"]
    assert torch.equal(halves["conv1.0.bias"], bias[:48])
    assert torch.equal(halves["conv1.1.bias"], bias[48:])


@pytest.mark.parametrize(
    ("direction", "tensors", "message"),
    [
        (split, {"conv9.weight": 96}, "alexnet-2012 has no tensor named 'conv9.weight'"),
        (split, {"conv1.0.weight": 48}, "no tensor named 'conv1.0.weight'"),
        (split, {"weight": 96}, "no tensor named 'weight'"),
        (split, {"conv1.weight": 64}, r"conv1.weight of alexnet-2012 should have 96 rows.*its shape is 64×2"),
        (join, {"conv1.weight": 96}, "no tensor named 'conv1.weight'"),
        (join, {"conv1.2.weight": 96}, "no tensor named 'conv1.2.weight'"),
        (join, {"fc8.0.weight": 500}, "no tensor named 'fc8.0.weight'"),
        (join, {"weight": 96}, "no tensor named 'weight'"),
        (join, {"conv1.0.weight": 48}, "conv1.0.weight of alexnet-2012 lacks its other half"),
        (join, {"conv1.1.weight": 48}, "conv1.1.weight of alexnet-2012 lacks its other half"),
    ],
)
def test_names_that_do_not_fit(direction: Any, tensors: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        direction(zoo.ALEXNET_2012, {name: torch.zeros(rows, 2) for name, rows in tensors.items()})


def test_a_single_number_is_no_tensor_of_rows() -> None:
    with pytest.raises(ValueError, match="its shape is that of a single number"):
        split(zoo.ALEXNET_2012, {"conv1.weight": torch.tensor(1.0)})


# --- what cannot be split ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["alexnet-one-tower", "vgg-a"])
def test_a_network_of_one_tower_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=rf"{name} has 1 tower, .*run it on one device, or choose"):
        TwoTowers(zoo.network_named(name), (META, META))


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ((spec.Conv(5, 1),), "l1 of made-up does not split over two devices: its 5 outputs have no half"),
        ((spec.Conv(6, 1, groups=3),), "l1 .* its 3 groups have no half"),
        ((spec.Conv(6, 1), spec.LRN(groups=3)), "l2 .* its 3 groups have no half"),
        ((spec.Conv(6, 1), spec.Flatten(), spec.Linear(7)), "l3 .* its 7 outputs have no half.*Make the number even"),
    ],
)
def test_a_layer_without_two_halves_is_refused(
    layers: tuple[Layer, ...], message: str, network_of: Callable[..., Network]
) -> None:
    with pytest.raises(ValueError, match=message):
        TwoTowers(network_of((3, 2, 2), *layers, towers=2), (META, META))


def test_a_network_of_three_towers_is_refused(network_of: Callable[..., Network]) -> None:
    with pytest.raises(ValueError, match="made-up has 3 towers, and two devices take two"):
        TwoTowers(network_of((3, 2, 2), spec.Conv(6, 1), towers=3), (META, META))


# --- on GPUs ----------------------------------------------------------------------------------------------------------

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
needs_two = pytest.mark.skipif(torch.cuda.device_count() < 2, reason="fewer than two CUDA devices here")


@needs_cuda
@pytest.mark.parametrize(
    "pair", [("cuda:0", "cuda:0"), ("cuda:0", "cpu"), pytest.param(("cuda:0", "cuda:1"), marks=needs_two)]
)
@pytest.mark.parametrize("name", NAMES)
def test_gpus(name: str, pair: tuple[str, str]) -> None:
    network = small(name).without(spec.Dropout)
    whole, towers = both(network, *map(torch.device, pair))
    # In double precision, since each kind of device rounds in its own way.
    assert_steps_agree(network, whole.double(), towers.double(), images(network).double())


@needs_cuda
def test_the_mask_on_a_gpu(network_of: Callable[..., Network]) -> None:
    network = network_of((8,), spec.Linear(600), spec.Dropout(0.3), towers=2)
    whole, towers = both(network, torch.device("cuda:0"), torch.device("cuda:0"))
    batch = images(network).cuda()
    torch.manual_seed(5)
    expected = whole(batch)
    torch.manual_seed(5)
    assert torch.equal(towers(batch) == 0, expected == 0)
