from __future__ import annotations

from itertools import product

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from alexnet import layers, spec
from alexnet.layers import CeilConv2d, LocalResponseNorm, SameMapResponseNorm

# α is large, so that every convention changes the result far beyond rounding.
NORMS = [
    spec.LRN(size=5, alpha=0.1),
    spec.LRN(size=5, alpha=0.5, average=True, k=1.0),
    spec.LRN(size=3, alpha=0.3, beta=0.5, k=1.0),
    spec.LRN(size=5, alpha=0.1, groups=2),
    spec.LRN(size=3, alpha=0.2, beta=1.0, average=True, groups=4),
    spec.LRN(size=1, alpha=0.7, beta=0.6),
    spec.LRN(size=31, alpha=0.1),  # wider than all channels
    spec.LRN(size=11, alpha=0.1, groups=2),  # wider than a tower
]


def maps(channels: int = 8, *, height: int = 3, width: int = 4) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(2, channels, height, width, dtype=torch.double, generator=generator)


def normalised_by_loops(a: Tensor, layer: spec.LRN) -> Tensor:
    """The paper's formula, one value at a time; the sum runs over the channel's own block."""
    result, block = torch.empty_like(a), a.shape[1] // layer.groups
    alpha = layer.alpha / layer.size if layer.average else layer.alpha
    for image, channel, row, column in product(*map(range, a.shape)):
        lowest, highest = channel // block * block, channel // block * block + block - 1
        window = range(max(lowest, channel - layer.size // 2), min(highest, channel + layer.size // 2) + 1)
        squares = sum(float(a[image, other, row, column]) ** 2 for other in window)
        result[image, channel, row, column] = a[image, channel, row, column] / (layer.k + alpha * squares) ** layer.beta
    return result


# --- LRN --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layer", NORMS, ids=str)
def test_lrn_is_the_papers_formula(layer: spec.LRN) -> None:
    a = maps()
    torch.testing.assert_close(LocalResponseNorm(layer)(a), normalised_by_loops(a, layer))


@pytest.mark.parametrize("layer", [layer for layer in NORMS if layer.groups == 1], ids=str)
def test_lrn_is_torchs_with_alpha_times_n_where_the_source_sums(layer: spec.LRN) -> None:
    a = maps(channels=16)
    alpha = layer.alpha if layer.average else layer.alpha * layer.size
    theirs = functional.local_response_norm(a, layer.size, alpha, layer.beta, layer.k)
    torch.testing.assert_close(LocalResponseNorm(layer)(a), theirs)


def test_the_two_conventions_differ_by_n() -> None:
    a = maps()
    summed = LocalResponseNorm(spec.LRN(size=5, alpha=0.1))(a)
    averaged = LocalResponseNorm(spec.LRN(size=5, alpha=0.5, average=True))(a)
    torch.testing.assert_close(summed, averaged)
    assert not torch.allclose(summed, LocalResponseNorm(spec.LRN(size=5, alpha=0.1, average=True))(a), rtol=1e-3)


def test_lrn_per_tower_is_the_lrn_of_each_half() -> None:
    a = maps(channels=96)
    halves = [functional.local_response_norm(half, 5, alpha=0.5, beta=0.75, k=2.0) for half in a.chunk(2, dim=1)]
    result = LocalResponseNorm(spec.LRN(alpha=0.1, groups=2))(a)
    torch.testing.assert_close(result, torch.cat(halves, dim=1))
    whole = functional.local_response_norm(a, 5, alpha=0.5, beta=0.75, k=2.0)
    # Only the two channels on either side of the border have neighbours to lose.
    changed = (result - whole).abs().amax(dim=(0, 2, 3)) > 1e-9
    assert changed.nonzero().flatten().tolist() == [46, 47, 48, 49]


def test_channel_47_has_no_neighbour_48() -> None:
    a = torch.ones(1, 96, 1, 1, dtype=torch.double, requires_grad=True)
    result = LocalResponseNorm(spec.LRN(alpha=0.1, groups=2))(a)
    (gradient,) = torch.autograd.grad(result[0, 47, 0, 0], a)
    assert gradient.flatten().nonzero().flatten().tolist() == [45, 46, 47]


def test_silence_around_gives_k_to_the_minus_beta() -> None:
    a = torch.zeros(1, 5, 1, 1, dtype=torch.double)
    a[0, 2] = 1e-6
    result = LocalResponseNorm(spec.LRN())(a)
    assert float(result[0, 2, 0, 0]) == pytest.approx(1e-6 * 0.5946, rel=1e-4)  # 2^−0.75
    assert result.count_nonzero() == 1


@pytest.mark.parametrize("channels", [4, 7])
def test_without_k_and_with_a_window_over_everything_lrn_is_l2_normalisation(channels: int) -> None:
    layer = spec.LRN(size=2 * channels - 1, alpha=1.0, beta=0.5, k=0.0)
    a = maps(channels)
    result = LocalResponseNorm(layer)(a)
    torch.testing.assert_close(result, functional.normalize(a, p=2, dim=1))
    torch.testing.assert_close(result.square().sum(dim=1), torch.ones(2, 3, 4, dtype=torch.double))


def test_with_as_many_neighbours_as_channels_only_the_middle_channel_is_l2_normalised() -> None:
    # "k = 0, n = N, α = 1, β = ½ is L2 normalisation" holds where the window of every channel reaches every other,
    # which takes n ≥ 2N − 1; with n = N the first channel's window ends in the middle.
    channels = 7
    a = maps(channels)
    result = LocalResponseNorm(spec.LRN(size=channels, alpha=1.0, beta=0.5, k=0.0))(a)
    off = (result - functional.normalize(a, p=2, dim=1)).abs().amax(dim=(0, 2, 3))
    assert off[channels // 2] < 1e-12
    assert (off[[0, 1, 2, 4, 5, 6]] > 1e-3).all()


@pytest.mark.parametrize("size", [11, 13, 15])
def test_l2_normalisation_takes_a_window_of_2n_minus_1(size: int) -> None:
    a = maps(7)
    result = LocalResponseNorm(spec.LRN(size=size, alpha=1.0, beta=0.5, k=0.0))(a)
    is_l2 = torch.allclose(result, functional.normalize(a, p=2, dim=1), atol=1e-12)
    assert is_l2 == (size >= 2 * 7 - 1)


@pytest.mark.parametrize("layer", NORMS, ids=str)
def test_the_gradient_of_lrn(layer: spec.LRN) -> None:
    a = maps(height=2, width=2).requires_grad_()
    assert torch.autograd.gradcheck(LocalResponseNorm(layer), a)


@pytest.mark.parametrize("layer", [NORMS[0], NORMS[3]], ids=str)
def test_the_gradient_of_lrn_is_what_autograd_finds_for_the_formula(layer: spec.LRN) -> None:
    a = maps().requires_grad_()
    weights = maps(height=4, width=3).reshape_as(a)
    block = a.shape[1] // layer.groups
    near = torch.tensor(
        [[abs(i - j) <= layer.size // 2 and i // block == j // block for i in range(8)] for j in range(8)]
    ).double()
    plain = a / (layer.k + layer.alpha * torch.einsum("ij,njhw->nihw", near, a**2)) ** layer.beta
    (expected,) = torch.autograd.grad((plain * weights).sum(), a)
    (actual,) = torch.autograd.grad((LocalResponseNorm(layer)(a) * weights).sum(), a)
    torch.testing.assert_close(actual, expected)


def test_a_second_derivative_is_right_or_refused() -> None:
    a = maps(channels=4, height=1, width=1).requires_grad_()
    norm = LocalResponseNorm(NORMS[0])
    try:
        (first,) = torch.autograd.grad(norm(a).square().sum(), a, create_graph=True)
        (second,) = torch.autograd.grad(first.square().sum(), a)
    except RuntimeError:
        return  # refused
    plain = functional.local_response_norm(a, 5, alpha=0.5, beta=0.75, k=2.0)
    (first,) = torch.autograd.grad(plain.square().sum(), a, create_graph=True)
    (expected,) = torch.autograd.grad(first.square().sum(), a)
    torch.testing.assert_close(second, expected)


def test_lrn_in_single_precision_and_any_memory_format() -> None:
    a = maps(channels=96, height=5, width=5).float()
    layer = spec.LRN(alpha=0.1, groups=2)
    expected = normalised_by_loops(a[:1, :, :2, :2].double(), layer).float()
    for layout in (torch.contiguous_format, torch.channels_last):
        result = LocalResponseNorm(layer)(a.contiguous(memory_format=layout))
        assert result.dtype == torch.float32
        torch.testing.assert_close(result[:1, :, :2, :2], expected)


def test_lrn_does_not_change_its_input() -> None:
    a = maps()
    before = a.clone()
    LocalResponseNorm(NORMS[3])(a)
    assert torch.equal(a, before)


@pytest.mark.parametrize(
    ("size", "groups", "expected"),
    [
        (1, 1, [1, 2, 4, 8, 16, 32]),
        (3, 1, [3, 7, 14, 28, 56, 48]),
        (3, 2, [3, 7, 6, 24, 56, 48]),
        (9, 1, [31, 63, 63, 63, 63, 62]),
        (99, 3, [3, 3, 12, 12, 48, 48]),
    ],
)
def test_sums_over_neighbouring_channels(size: int, groups: int, expected: list[int]) -> None:
    values = torch.tensor([1, 2, 4, 8, 16, 32]).reshape(1, 6, 1, 1)
    for window_sum in (layers._window_sum, layers._padded_window_sum):
        assert window_sum(values.unflatten(1, (groups, -1)), size, (2,)).flatten().tolist() == expected


# --- the norm within a map --------------------------------------------------------------------------------------------

SAME_MAP = [
    spec.SameMapNorm(size=5, alpha=0.5, beta=0.75),
    spec.SameMapNorm(size=3, alpha=0.9, beta=0.5, k=2.0),
    spec.SameMapNorm(size=1, alpha=0.5, beta=1.0),
    spec.SameMapNorm(size=9, alpha=0.5, beta=0.75),  # wider than the map
]


@pytest.mark.parametrize("layer", SAME_MAP, ids=str)
def test_the_same_map_norm_is_its_formula(layer: spec.SameMapNorm) -> None:
    a = maps(channels=2, height=6, width=7)
    expected, half = torch.empty_like(a), layer.size // 2
    for image, channel, row, column in product(*map(range, a.shape)):
        squares = sum(
            float(a[image, channel, y, x]) ** 2
            for y, x in product(range(6), range(7))
            if abs(y - row) <= half and abs(x - column) <= half
        )
        scale = layer.k + layer.alpha / layer.size**2 * squares
        expected[image, channel, row, column] = a[image, channel, row, column] / scale**layer.beta
    torch.testing.assert_close(SameMapResponseNorm(layer)(a), expected)


@pytest.mark.parametrize("layer", SAME_MAP[:3], ids=str)
def test_the_gradient_of_the_same_map_norm(layer: spec.SameMapNorm) -> None:
    a = maps(channels=2, height=4, width=5).requires_grad_()
    assert torch.autograd.gradcheck(SameMapResponseNorm(layer), a)


def test_sums_over_a_neighbourhood() -> None:
    values = torch.arange(1.0, 10.0).reshape(1, 1, 3, 3)
    for window_sum in (layers._window_sum, layers._padded_window_sum):
        assert window_sum(values, 3, (2, 3)).flatten().tolist() == [12, 21, 16, 27, 45, 33, 24, 39, 28]


# --- convolution rounded up -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("height", "width", "kernel", "stride", "padding", "groups", "positions"),
    [
        (12, 13, 5, 4, 0, 1, (3, 3)),
        (13, 15, 5, 4, 0, 2, (3, 4)),
        (6, 9, 3, 2, 1, 1, (4, 5)),
        (3, 5, 5, 3, 0, 1, (1, 1)),  # the window is larger than the input
        (4, 7, 1, 3, 0, 1, (2, 3)),
        (5, 6, 3, 1, 1, 2, (5, 6)),
        (7, 8, 3, 3, 1, 1, (3, 4)),
    ],
)
def test_rounding_up_is_convolving_an_input_padded_at_the_bottom_and_right(
    height: int, width: int, kernel: int, stride: int, padding: int, groups: int, positions: tuple[int, int]
) -> None:
    conv = CeilConv2d(4, 6, kernel, stride, padding, groups=groups).double()
    image = maps(4, height=height, width=width)
    # By hand: zeros until the last of so many windows is full.
    needed = [(count - 1) * stride + kernel - 2 * padding for count in positions]
    bottom, right = max(needed[0] - height, 0), max(needed[1] - width, 0)
    padded = functional.pad(image, (0, right, 0, bottom))
    expected = functional.conv2d(padded, conv.weight, conv.bias, stride, padding, groups=groups)
    result = conv(image)
    assert result.shape[2:] == positions
    torch.testing.assert_close(result, expected)


def test_rounding_up_reads_zeros_past_the_edge() -> None:
    conv = CeilConv2d(1, 1, 3, 2, bias=False)
    nn.init.ones_(conv.weight)
    image = torch.ones(1, 1, 4, 3)
    assert conv(image).tolist() == [[[[9.0], [6.0]]]]  # the second window has two rows of its three


def test_where_windows_tile_the_input_rounding_up_changes_nothing() -> None:
    conv = CeilConv2d(3, 4, 11, 4)
    image = torch.randn(1, 3, 27, 31)
    assert conv.missing((27, 31)) == (0, 0)
    torch.testing.assert_close(conv(image), functional.conv2d(image, conv.weight, conv.bias, 4))
