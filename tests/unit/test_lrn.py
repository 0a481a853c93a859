from __future__ import annotations

from dataclasses import replace
from math import inf, isnan, sqrt

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from alexnet.layers import LocalResponseNorm
from alexnet.spec import LRN, Conv, MaxPool, ReLU, Tanh
from alexnet.zoo import NETWORKS, network_from
from analysis import lrn, lrn_cost, lrn_limits, lrn_tables
from analysis.costs import cost_table
from analysis.formats import write
from analysis.lrn import PAPER

# α is large, so that every setting changes the result far beyond rounding.
NORMS = [
    LRN(size=5, alpha=0.1),
    LRN(size=5, alpha=0.5, average=True, k=1.0),
    LRN(size=3, alpha=0.3, beta=0.5, k=1.0, groups=2),
    LRN(size=1, alpha=0.7, beta=0.6),
    LRN(size=31, alpha=0.1, beta=1.0, groups=4),
]
ROW, COLUMN = 1, 2


def maps(channels: int = 8, *, height: int = 3, width: int = 4, signed: bool = False) -> Tensor:
    values = 3 * torch.randn(channels, height, width, generator=torch.Generator().manual_seed(1))
    return values if signed else values.relu()


def window(channel: int, channels: int, layer: LRN) -> range:
    """The channels that inhibit this one, from the paper's formula applied inside its group."""
    block = channels // layer.groups
    first = channel // block * block
    half = layer.size // 2
    return range(max(first, channel - half), min(first + block - 1, channel + half) + 1)


def scale(a: Tensor, channel: int, row: int, column: int, layer: LRN) -> float:
    alpha = layer.alpha / layer.size if layer.average else layer.alpha
    squares = sum(float(a[j, row, column]) ** 2 for j in window(channel, len(a), layer))
    return layer.k + alpha * squares


def looped(a: Tensor, layer: LRN) -> np.ndarray:
    """(k + α·Σa²)^−β one value at a time, in double precision."""
    result = np.empty(a.shape)
    for channel, row, column in np.ndindex(*a.shape):
        result[channel, row, column] = scale(a, channel, row, column, layer) ** -layer.beta
    return result


# --- the formula ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layer", NORMS, ids=str)
@pytest.mark.parametrize("signed", [False, True])
def test_before_after_and_ratio_are_the_papers_formula(layer: LRN, signed: bool) -> None:
    a = maps(signed=signed)
    kept = a.clone()
    result, ratio = lrn.normalise(a, layer), looped(a, layer)
    np.testing.assert_array_equal(result.before, kept.numpy())
    np.testing.assert_allclose(result.ratio, ratio, rtol=2e-6)
    np.testing.assert_allclose(result.after, a.double().numpy() * ratio, rtol=2e-6)
    assert result.undefined == 0
    assert torch.equal(a, kept)


@pytest.mark.parametrize("layer", NORMS, ids=str)
def test_the_networks_own_layer_gives_the_same(layer: LRN) -> None:
    a = maps()
    own = LocalResponseNorm(layer)(a[None])[0]
    torch.testing.assert_close(torch.from_numpy(lrn.normalise(a, layer).after), own)


def test_torch_gives_the_same_with_alpha_times_n() -> None:
    a, layer = maps(16), LRN(size=5, alpha=0.1)
    theirs = functional.local_response_norm(a[None], 5, 0.5, layer.beta, layer.k)[0]
    torch.testing.assert_close(torch.from_numpy(lrn.normalise(a, layer).after), theirs)


def test_the_result_does_not_share_memory_with_what_was_given() -> None:
    a = maps()
    lrn.normalise(a, NORMS[0]).before[:] = 7
    assert torch.equal(a, maps())


def test_silence_with_k_0_is_said_and_not_nan() -> None:
    a = maps()
    a[:, ROW, COLUMN] = 0
    a[:, 0, 0] = 1
    result = lrn.normalise(a, LRN(size=15, k=0.0, alpha=1.0))
    assert result.undefined == len(a)
    assert np.isnan(result.ratio[:, ROW, COLUMN]).all()
    assert (result.after[:, ROW, COLUMN] == 0).all()
    assert np.isfinite(result.after).all()
    assert result.rest_gain == inf
    assert all(row.suppressed is None for row in lrn.suppression(result))
    assert lrn.suppressed_overall(result) is None


def test_a_denominator_of_0_everywhere_gives_0_in_every_order() -> None:
    layer = LRN(k=0.0, alpha=0.0)
    assert lrn.normalise(maps(), layer).undefined == maps().numel()
    assert all((order.maps == 0).all() for order in lrn.orders(maps(signed=True, height=4), layer, MaxPool(2, 2)))
    assert all(np.isfinite(row.across) for row in lrn.border(maps(), layer))
    assert all(np.isfinite(case.deviation) for case in lrn_limits.limit_cases(maps(), layer))


@pytest.mark.parametrize(("layer", "expected"), [(PAPER, 2**-0.75), (LRN(k=1.0), 1.0), (LRN(k=0.0, beta=0.0), 1.0)])
def test_the_gain_at_rest_is_k_to_the_minus_beta(layer: LRN, expected: float) -> None:
    assert lrn.rest_gain(layer) == pytest.approx(expected)


def test_wrong_shapes_are_refused_with_reasons() -> None:
    with pytest.raises(ValueError, match="got a tensor of 4 axes"):
        lrn.normalise(maps()[None], PAPER)
    with pytest.raises(ValueError, match="8 channels do not split into 3 groups"):
        lrn.normalise(maps(), LRN(groups=3))
    with pytest.raises(ValueError, match=r"no pixel in row 3, column 0: the maps are 3×4"):
        lrn.profile(maps(), PAPER, 3, 0)


@pytest.mark.parametrize("layer", NORMS, ids=str)
def test_windows_are_those_of_the_formula(layer: LRN) -> None:
    inside = lrn.windows(8, layer)
    for channel in range(8):
        assert np.flatnonzero(inside[channel]).tolist() == list(window(channel, 8, layer))


# --- one value --------------------------------------------------------------------------------------------------------


def test_the_gain_of_a_value_and_its_neighbours() -> None:
    # (2 + 1e-4·(100² + 10,000))^−¾ = 4^−¾ = 2^−1.5
    assert lrn.gain(np.array([100.0]), 10_000.0, PAPER)[0] == pytest.approx(2**-1.5)


@pytest.mark.parametrize(("layer", "neighbours"), [(PAPER, 0.0), (PAPER, 5e4), (LRN(beta=1.0, average=True), 300.0)])
def test_beyond_the_peak_more_in_gives_less_out(layer: LRN, neighbours: float) -> None:
    top = lrn.peak(neighbours, layer)
    assert top is not None
    values = np.array([0.9, 0.999, 1.0, 1.001, 1.1]) * top
    out = values * lrn.gain(values, neighbours, layer)
    assert out.argmax() == 2


def test_the_papers_settings_peak_at_200() -> None:
    assert lrn.peak(0.0, PAPER) == pytest.approx(200)


@pytest.mark.parametrize("layer", [LRN(beta=0.5), LRN(beta=0.3), LRN(alpha=0.0)])
def test_where_output_only_grows_there_is_no_peak(layer: LRN) -> None:
    assert lrn.peak(0.0, layer) is None


@pytest.mark.parametrize(
    ("alpha", "text"),
    [
        (1e-4, "1e-4"),
        (2e-5, "2e-5"),
        (0.0, "0"),
        (1.0, "1"),
        (0.5, "0.5"),
        (1.25e-3, "1.25e-3"),
        (2.442e15, "2.442e15"),
    ],
)
def test_alpha_is_written_as_people_write_it(alpha: float, text: str) -> None:
    assert lrn.alpha_text(alpha) == text
    assert f"α {text} summed" in lrn.settings_text(LRN(alpha=alpha))


# --- who is suppressed ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layer", NORMS, ids=str)
def test_suppression_by_loops(layer: LRN) -> None:
    a = maps(signed=True)
    gains = looped(a, layer)
    values = a.double().abs().numpy()
    total_in = total_out = 0.0
    for row in lrn.suppression(lrn.normalise(a, layer)):
        c = row.channel
        left, active = (values[c] * gains[c]).sum(), values[c].sum()
        total_in, total_out = total_in + active, total_out + left
        assert row.mean == pytest.approx(values[c].mean(), rel=1e-5)
        assert row.suppressed == pytest.approx(1 - left / (layer.k**-layer.beta * active), rel=1e-4, abs=1e-6)
        parts = {j: float((values[c] * values[j] ** 2).sum()) for j in window(c, 8, layer)}
        whole = sum(parts.values())
        assert row.own == pytest.approx(parts.pop(c) / whole)
        if parts:
            strongest = max(parts, key=lambda j: parts[j])
            assert row.strongest == strongest
            assert row.strongest_share == pytest.approx(parts[strongest] / whole)
        else:
            assert row.strongest is None
            assert row.strongest_share is None
    shares = lrn.suppressed_shares(lrn.normalise(a, layer))
    assert shares.tolist() == [row.suppressed for row in lrn.suppression(lrn.normalise(a, layer))]
    overall = lrn.suppressed_overall(lrn.normalise(a, layer))
    assert overall == pytest.approx(1 - total_out / (layer.k**-layer.beta * total_in), rel=1e-4)


def test_without_inhibition_nothing_is_suppressed_whatever_k_is() -> None:
    result = lrn.normalise(maps(), LRN(alpha=0.0, k=2.0))
    assert lrn.suppressed_overall(result) == pytest.approx(0, abs=1e-6)


def test_a_silent_channel_has_no_share() -> None:
    a = maps()
    a[3] = 0
    row = lrn.suppression(lrn.normalise(a, NORMS[0]))[3]
    assert row == (3, 0.0, None, None, None, None)


# --- one pixel --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layer", NORMS, ids=str)
def test_the_profile_of_a_pixel_by_loops(layer: LRN) -> None:
    a = maps(signed=True)
    found = lrn.profile(a, layer, ROW, COLUMN)
    for channel in range(8):
        s = scale(a, channel, ROW, COLUMN, layer)
        value = float(a[channel, ROW, COLUMN])
        assert found.before[channel] == pytest.approx(value)
        assert found.scale[channel] == pytest.approx(s)
        assert found.energy[channel] == pytest.approx(
            sum(float(a[j, ROW, COLUMN]) ** 2 for j in window(channel, 8, layer))
        )
        assert found.ratio[channel] == pytest.approx(s**-layer.beta)
        assert found.after[channel] == pytest.approx(value * s**-layer.beta)
        neighbours = found.neighbours(channel)
        assert [n.channel for n in neighbours] == list(window(channel, 8, layer))
        # What k and the neighbours add to the denominator is all of it.
        assert sum(n.share for n in neighbours) + layer.k / s == pytest.approx(1)
        assert sum(n.weighted for n in neighbours) + layer.k == pytest.approx(s)
        assert all(n.square == pytest.approx(n.value**2) for n in neighbours)


def test_a_silent_pixel_with_k_0_has_a_profile() -> None:
    a = maps()
    a[:, ROW, COLUMN] = 0
    found = lrn.profile(a, LRN(k=0.0), ROW, COLUMN)
    assert (found.after == 0).all()
    assert not any(isnan(n.share) for n in found.neighbours(2))


# --- orders -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("activation", [ReLU(), Tanh()], ids=str)
@pytest.mark.parametrize("pool", [MaxPool(3, 2), MaxPool(2, 2, "ceil")], ids=str)
def test_the_orders_by_loops(pool: MaxPool, activation: ReLU | Tanh) -> None:
    active = torch.tanh if isinstance(activation, Tanh) else torch.relu
    raw, layer = maps(height=5, width=7, signed=True), LRN(size=3, alpha=0.4, groups=2)
    raw_double = raw.double()

    def norm(a: Tensor) -> Tensor:
        return a * torch.from_numpy(looped(a, layer))

    def pooled(a: Tensor) -> Tensor:
        _, rows, columns = pool.out_shape(tuple(a.shape))
        out = torch.empty(len(a), rows, columns, dtype=a.dtype)
        for c, i, j in np.ndindex(*out.shape):
            top, left = i * pool.stride, j * pool.stride
            out[c, i, j] = a[c, top : top + pool.kernel, left : left + pool.kernel].max()
        return out

    found = lrn.orders(raw, layer, pool, activation)
    expected = [
        pooled(norm(active(raw_double))),
        norm(pooled(active(raw_double))),
        pooled(active(norm(raw_double))),
        active(pooled(norm(raw_double))),
    ]
    word = "tanh" if isinstance(activation, Tanh) else "ReLU"
    assert [order.name.count(word) for order in found] == [1] * 4
    for order, maps_expected in zip(found, expected, strict=True):
        np.testing.assert_allclose(order.maps, maps_expected.numpy(), rtol=2e-6)
        relative = float((maps_expected - expected[0]).norm() / expected[0].norm())
        assert order.relative == pytest.approx(relative, rel=1e-4, abs=1e-9)
        correlation = np.corrcoef(maps_expected.flatten().numpy(), expected[0].flatten().numpy())[0, 1]
        assert order.correlation == pytest.approx(correlation)
        assert order.largest == pytest.approx(float((maps_expected - expected[0]).abs().max()), rel=1e-4, abs=1e-9)
    assert found[1].relative > 0.01
    assert found[2].relative > 0.01
    # ReLU or tanh and maximum may change places.
    np.testing.assert_array_equal(found[2].maps, found[3].maps)
    assert [order.normalised for order in found] == [raw.numel(), expected[1].numel(), raw.numel(), raw.numel()]


def test_orders_of_silence_do_not_fail() -> None:
    found = lrn.orders(-torch.ones(4, 4, 4), PAPER, MaxPool(2, 2))
    assert all(order.relative == 0 and order.correlation is None for order in found)


# --- the border between towers ----------------------------------------------------------------------------------------


def test_only_channels_within_half_a_window_of_the_border_differ() -> None:
    layer = LRN(size=5, alpha=0.1)
    a = maps(96, height=4, width=5) + 0.1
    rows = lrn.border(a, layer)
    assert [row.channel for row in rows if row.difference > 0] == [46, 47, 48, 49]
    assert [row.foreign for row in rows if row.foreign] == [1, 2, 2, 1]
    assert {row.tower for row in rows[:48]} == {0}
    assert {row.tower for row in rows[48:]} == {1}
    inside = a.double().numpy() * looped(a, replace(layer, groups=2))
    across = a.double().numpy() * looped(a, replace(layer, groups=1))
    for c in (45, 46, 47, 48, 49, 50):
        expected = np.linalg.norm(across[c] - inside[c]) / np.linalg.norm(inside[c])
        assert rows[c].difference == pytest.approx(expected, rel=1e-4, abs=1e-7)
        assert rows[c].inside == pytest.approx(inside[c].mean(), rel=1e-5)
        assert rows[c].across == pytest.approx(across[c].mean(), rel=1e-5)


# --- limit cases ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layer", [PAPER, LRN(average=True, k=1.0), LRN(size=9, alpha=0.01, beta=1.2, k=0.5)], ids=str)
@pytest.mark.parametrize("strength", [1.0, 60.0])
def test_every_limit_case_ends_as_algebra_says(layer: LRN, strength: float) -> None:
    cases = lrn_limits.limit_cases(strength * maps(16), layer)
    assert [case.claim for case in cases if case.holds != case.expected] == []
    assert sum(case.expected for case in cases) == 6 + (layer.beta != 0.5)
    assert all(case.remark and case.settings for case in cases)


def test_n_equal_to_the_number_of_channels_is_l2_for_the_middle_only() -> None:
    a = maps(9) + 0.1
    unit = (a / a.norm(dim=0)).numpy()
    whole = lrn.normalise(a, LRN(17, 1.0, 0.5, 0.0)).after
    np.testing.assert_allclose(whole, unit, rtol=1e-5)
    told = lrn.normalise(a, LRN(9, 1.0, 0.5, 0.0)).after
    agrees = [bool(np.allclose(told[c], unit[c], rtol=1e-5)) for c in range(9)]
    assert agrees == [c == 4 for c in range(9)]
    case = next(case for case in lrn_limits.limit_cases(a, LRN()) if "n = N" in case.claim)
    assert not case.holds
    assert case.remark.startswith("true of 1 channels only (4)")


def test_saturated_output_follows_contrast_to_the_power_1_minus_2_beta() -> None:
    # One active channel, nothing around it: b = a / (α·a²)^β exactly where k is lost.
    a = torch.zeros(5, 1, 1)
    a[2] = 3.0
    cases = lrn_limits.limit_cases(a, LRN(beta=0.75))
    case = next(case for case in cases if "β = 0.75" in case.claim)
    assert "times 0.707" in case.claim
    assert case.holds
    assert pytest.approx(1 / sqrt(2)) == 2 ** (1 - 2 * 0.75)


def test_the_notes_alpha_suppresses_more_and_the_ports_less() -> None:
    a = 60 * maps(16)
    shares = {
        alpha: lrn.suppressed_overall(lrn.normalise(a, LRN(alpha=alpha, groups=2))) or 0 for alpha in (2e-5, 1e-4, 1e-3)
    }
    assert 0 < shares[2e-5] < shares[1e-4] < shares[1e-3] < 1
    cases = {case.claim: case for case in lrn_limits.limit_cases(a, PAPER)}
    notes = next(case for claim, case in cases.items() if "10e-4" in claim)
    assert f"{100 * shares[1e-3]:.2g} % suppressed here instead of {100 * shares[1e-4]:.2g} %" in notes.remark
    port = next(case for claim, case in cases.items() if "port" in claim)
    assert f"{100 * shares[2e-5]:.2g} % suppressed" in port.remark


def test_silence_passes_every_limit_case() -> None:
    cases = lrn_limits.limit_cases(torch.zeros(8, 3, 3), PAPER)
    assert [case.claim for case in cases if not case.holds] == []


# --- where it stands --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_has_places_and_real_ones_are_its_own(name: str) -> None:
    network = NETWORKS[name]
    stages = {stage.name: stage for stage in network.stages()}
    found = lrn.places(network)
    assert found
    assert any(place.imagined for place in found) != any(isinstance(s.layer, LRN) for s in stages.values())
    names = list(stages)
    for place in found:
        assert isinstance(stages[place.convolution].layer, Conv)
        assert isinstance(stages[place.name].layer, ReLU if place.imagined else LRN)
        assert stages[place.before].out_shape == place.shape
        if not place.imagined:
            assert place.layer == stages[place.name].layer
            assert names.index(place.before) == names.index(place.name) - 1


def test_places_of_known_networks() -> None:
    def shown(name: str) -> list[tuple[str, str, str, tuple[int, int, int]]]:
        return [(p.name, p.before, p.convolution, p.shape) for p in lrn.places(network_from(name))]

    assert shown("alexnet-2012") == [
        ("norm1", "relu1", "conv1", (96, 55, 55)),
        ("norm2", "relu2", "conv2", (256, 27, 27)),
    ]
    assert shown("caffenet")[0] == ("norm1", "pool1", "conv1", (96, 27, 27))
    assert shown("alexnet-2012-source")[0] == ("norm1", "conv1", "conv1", (96, 55, 55))
    assert [p.name for p in lrn.places(network_from("alexnet-owt"))] == [f"relu{i}" for i in range(1, 6)]
    assert [p.pool for p in lrn.places(network_from("vgg-a-lrn"))] == [MaxPool(2, 2)]
    assert [p.activation for p in lrn.places(network_from("alexnet-2012:tanh"))] == [Tanh(), Tanh()]
    assert [p.name for p in lrn.places(network_from("alexnet-2012:no-lrn:tanh"))] == [f"tanh{i}" for i in range(1, 6)]
    no_lrn = lrn.places(network_from("alexnet-2012:no-lrn"))
    assert {p.activation for p in no_lrn} == {ReLU()}
    # conv3 has no pooling of its own: the paper's stands in; the towers make the groups.
    assert [(p.pool.kernel, p.layer.groups) for p in no_lrn] == [(3, 2)] * 5
    assert [p.pooled for p in no_lrn] == [True, True, False, False, True]


# --- cost -------------------------------------------------------------------------------------------------------------


def test_the_counted_cost_is_the_cost_tables() -> None:
    network = network_from("alexnet-2012")
    place, table = lrn.places(network)[0], cost_table(network)
    found = lrn_cost.counted_cost(network, place, place.layer)
    # Two towers of 48 channels: 234 squares in the windows of each, as in cost_table's docstring.
    values, squares = 96 * 55 * 55, 2 * 234 * 55 * 55
    assert found.values == values
    assert found.flops == 2 * values + squares + 2 * values
    assert found.flops == table.row("norm1").flops
    assert found.share == pytest.approx(found.flops / table.total("flops"))
    assert found.convolution_flops == table.row("conv1").flops


def test_an_imagined_normalisation_is_counted_on_top() -> None:
    network = network_from("alexnet-owt")
    place = lrn.places(network)[0]
    found = lrn_cost.counted_cost(network, place, LRN(size=3))
    squares = (3 * 64 - 2) * 55 * 55
    assert found.flops == 4 * 64 * 55 * 55 + squares
    assert found.share == pytest.approx(found.flops / (cost_table(network).total("flops") + found.flops))


def test_other_settings_replace_the_networks_own() -> None:
    network = network_from("bvlc-alexnet")
    place = lrn.places(network)[1]
    changed = lrn.with_settings(network, place, PAPER)
    assert dict(changed.layers)["norm2"] == PAPER
    assert dict(changed.layers)["norm1"] == dict(network.layers)["norm1"]
    assert len(changed.layers) == len(network.layers)


def test_time_is_measured_for_all_three_in_a_moment() -> None:
    network = network_from("alexnet-2012@67")
    place = lrn.places(network)[0]
    timings = lrn_cost.measured_cost(network, place, place.layer, seconds=0.05)
    assert [timing.what.split(",")[0] for timing in timings] == ["conv1", "LRN", "LRN"]
    for timing in timings:
        assert 0 < timing.fastest_forward <= timing.forward < 5
        assert 0 < timing.fastest_both <= timing.both < 5
        assert timing.runs >= 5


def test_published_changes_are_the_differences_of_what_is_published() -> None:
    for verdict in lrn_cost.VERDICTS:
        if verdict.without is not None and verdict.with_lrn is not None:
            assert verdict.change == pytest.approx(verdict.with_lrn - verdict.without)


# --- tables -----------------------------------------------------------------------------------------------------------


def test_every_table_can_be_typeset() -> None:
    a, layer = maps(), LRN(groups=2)
    tables = [
        lrn_tables.suppression_table(lrn.suppression(lrn.normalise(a, layer)), 2),
        lrn_tables.neighbours_table(lrn.profile(a, layer, ROW, COLUMN), 3),
        lrn_tables.orders_table(lrn.orders(maps(signed=True, height=7, width=7), layer, MaxPool(3, 2))),
        lrn_tables.border_table(lrn.border(a, layer), layer.size),
        lrn_tables.limits_table(lrn_limits.limit_cases(a, layer)),
        lrn_tables.verdicts_table(),
    ]
    for table in tables:
        assert table.rows
        assert write(table, "latex").isascii(), table.title
