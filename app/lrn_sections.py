"""The sections of the LRN laboratory: each computes, says in a sentence what to see, and shows it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import streamlit as st

from alexnet.spec import times
from analysis import lrn, lrn_cost, lrn_limits, lrn_tables, sheets
from analysis.formats import number_text as _n
from analysis.formats import percent, write
from analysis.kernels import tower_names
from app import choices, components, exports
from app.figures import lrn as figures
from app.figures.maps import Panel, maps_svg
from app.lrn_settings import number, split

if TYPE_CHECKING:
    import plotly.graph_objects as go
    from numpy.typing import NDArray
    from torch import Tensor

    from alexnet.spec import LRN
    from analysis.activations import Activations
    from analysis.lrn import Normalised, Place, Suppression
    from app.looking import Chosen

_SHEET_SIDE = 56  # pixels of a map in a sheet; larger maps are thinned out
_MANY = 128  # maps beyond which a sheet has 32 in a row and not 24


@dataclass(frozen=True, eq=False)
class Bench:
    """What a section works on: where, with which settings, and the values before and after."""

    chosen: Chosen
    place: Place
    layer: LRN
    seen: Activations
    before: Tensor
    result: Normalised

    def name(self, what: str) -> str:
        """Of a file that is saved."""
        return f"{self.chosen.label}-{self.place.name}-{what}"

    def channel(self) -> int:
        """The channel looked at; the one with most activity if none was chosen."""
        strongest = int(np.abs(self.result.before).mean((1, 2)).argmax())
        return number("Channel", "lrn_map", self.place.shape[0], strongest)

    def pixel(self, channel: int) -> tuple[int, int]:
        """Row and column looked at; where the channel is strongest if none was chosen."""
        _, height, width = self.place.shape
        row, column = divmod(int(np.abs(self.result.before[channel]).argmax()), width)
        return number("Row", "lrn_row", height, row), number("Column", "lrn_column", width, column)


def _chart(bench: Bench, figure: go.Figure, key: str, title: str) -> None:
    components.chart(figure, key=key, alt=title)
    components.save_figure(key, title, bench.name(key.removeprefix("lrn_")))


# --- one channel and one pixel ----------------------------------------------------------------------------------------


def one_map(bench: Bench) -> None:
    """A channel before and after, and every channel at the pixel clicked."""
    with st.container(horizontal=True):
        channel = bench.channel()
        pixel = bench.pixel(channel)
    result = bench.result
    st.markdown(_map_sentence(result, channel))
    maps = {"before": result.before[channel], "after": result.after[channel], "ratio": result.ratio[channel]}
    both = np.stack([maps["before"], maps["after"]])
    ends, signed = (float(both.min()), float(both.max())), bool(both.min() < 0)
    rest = result.rest_gain if np.isfinite(result.rest_gain) else float(np.nanmax(maps["ratio"], initial=1.0))
    black = _black(maps["ratio"], rest)
    panels = [
        Panel(
            name,
            name,
            values,
            (black, rest) if name == "ratio" else ends,
            _colours(name, signed=signed),
            exact=name == "ratio",
        )
        for name, values in maps.items()
    ]
    title = f"channel {channel} before and after LRN"
    with st.container(key="lrn_maps"):
        components.clickable_cells(
            maps_svg(panels, title=title), pixel, maps, key="lrn_cells", on_pick=_picked_pixel, least=480
        )
    components.save_figure("lrn_maps", title, bench.name("maps"))
    st.caption(
        "Before and after have the same colours; ratio is after / before, white where nothing is inhibited"
        + (
            f" and black at {_n(black)}, not at 0: with these settings neighbours take away so little that nothing "
            "would be seen of it otherwise; **turn α up** to see more"
            if black
            else ""
        )
        + ". Click a pixel, or move it with the arrow keys, to see every channel there, below."
    )
    _profile(bench, channel, pixel)


_HARDLY = 0.8  # of what is left at rest; a ratio that nowhere falls below it would be drawn all white


def _black(ratio: NDArray[np.floating], rest: float) -> float:
    """Where the ratio's grey begins: at 0, or at the least ratio where all of them are near `rest`."""
    least = float(np.nanmin(ratio, initial=rest))
    return least if _HARDLY * rest < least < rest else 0.0


def _colours(name: str, *, signed: bool) -> sheets.Colours:
    if name == "ratio":
        return "grey"
    return "diverging" if signed else "viridis"


def _picked_pixel() -> None:
    if (picked := components.picked_cell(st.session_state.lrn_cells.picked)) is not None:
        choices.choose("lrn_row", picked[0])
        choices.choose("lrn_column", picked[1])


def _map_sentence(result: Normalised, channel: int) -> str:
    before, after = (float(np.abs(values[channel]).mean()) for values in (result.before, result.after))
    if not before:
        return f"Channel {channel} is silent on this picture: nothing comes in and nothing goes out."
    text = f"In channel {channel} the mean |value| goes from {_n(before)} to **{_n(after)}**. "
    suppressed = float(lrn.suppressed_shares(result)[channel])
    if np.isnan(suppressed):
        return text + "With k = 0 there is no gain at rest to compare with."
    if not suppressed:
        return text + "Nothing is inhibited: no square weighs anything, or the power is 0."
    ratio = result.ratio[channel]
    row, column = np.unravel_index(int(ratio.argmin()), ratio.shape)
    return text + (
        f"The constant $k^{{-\\beta}}$ = {result.rest_gain:.3g} would leave {_n(before * result.rest_gain)}; what is "
        f"missing beyond that, **{percent(suppressed)}**, is inhibition. It is strongest in row {row}, column "
        f"{column}, where the ratio is {ratio.min():.3g}."
    )


def _profile(bench: Bench, channel: int, pixel: tuple[int, int]) -> None:
    profile = lrn.profile(bench.before, bench.layer, *pixel)
    terms = profile.neighbours(channel)
    st.subheader(f"Every channel at row {pixel[0]}, column {pixel[1]}")
    st.markdown(_profile_sentence(profile, channel, terms))
    figure = figures.profile_figure(profile, channel, bench.place.towers, components.palette())
    _chart(bench, figure, "lrn_profile", f"every channel at row {pixel[0]}, column {pixel[1]}")
    exports.show_table(lrn_tables.neighbours_table(profile, channel), "lrn_neighbours", bench.name("neighbours"))


def _profile_sentence(profile: lrn.Profile, channel: int, terms: tuple[lrn.Neighbour, ...]) -> str:
    value, scale, layer = profile.before[channel], profile.scale[channel], profile.layer
    if not scale and layer.beta:
        return (
            f"Nothing counts in channel {channel}'s window and k = 0: the denominator is 0, and the output shown as 0."
        )
    text = (
        f"Channel {channel} comes in at {_n(value)} and leaves at **{_n(profile.after[channel])}**: its window, "
        f"channels {terms[0].channel} to {terms[-1].channel}, holds Σa² = {_n(profile.energy[channel])}, so it is "
        f"divided by ({layer.k:g} + {lrn.alpha_text(layer.alpha_per_square)}·{_n(profile.energy[channel])})"
        f"^{layer.beta:g} = {scale**layer.beta:.4g}. "
    )
    others = [term for term in terms if term.channel != channel]
    strongest = max(others, key=lambda term: term.share, default=None)
    own = next(term.share for term in terms if term.channel == channel)
    if strongest is None or not strongest.share:
        return text + f"No neighbour takes part: its own square is {percent(own)} of the sum, k the rest."
    return text + (
        f"Of {lrn_tables.denominator(layer)}, **channel {strongest.channel}** (a = {_n(strongest.value)}) gives "
        f"**{percent(strongest.share)}**, all neighbours {percent(sum(term.share for term in others))}, its own square "
        f"{percent(own)} and k {percent(layer.k / scale)}."
    )


# --- all channels -----------------------------------------------------------------------------------------------------


def all_maps(bench: Bench) -> None:
    """Every channel before and after, as two sheets in the same colours."""
    with st.container(horizontal=True):
        channel = bench.channel()
        alike = choices.pick("Colours", ["each map its own", "all alike"], "lrn_colours", widget=st.segmented_control)
    result, (count, height, width) = bench.result, bench.place.shape
    step = -(-max(height, width) // _SHEET_SIDE)
    before, after = (values[:, ::step, ::step] for values in (result.before, result.after))
    colours: sheets.Colours = "diverging" if before.min() < 0 else "viridis"
    both = np.concatenate([before, after], axis=2)  # one scale for a map before and after
    tiles = sheets.map_tiles(both, "global" if alike == "all alike" else "map", colours)
    network = bench.chosen.checkpoint.network
    towers = bench.place.towers
    names = tower_names(towers, network.gpus, "maps")
    groups = sheets.tower_groups(sheets.tower_blocks(count, towers), names)
    sheet = sheets.Sheet(groups, 32 if count > _MANY else 24, tuple(before.shape[1:]), gap=2)
    shares = lrn.suppressed_shares(result)
    if not np.isnan(shares).all():
        most = int(np.nanargmax(shares))
        st.markdown(
            f"{count} maps of {height}×{width}, before and after in the same colours: overall "
            f"**{percent(lrn.suppressed_overall(result) or 0)}** of the activity is suppressed, most in channel {most} "
            f"({percent(shares[most])}). Click a map to choose its channel."
        )
    middle = before.shape[2]
    for what, shown in (("before", tiles[:, :, :middle]), ("after", tiles[:, :, middle:])):
        st.subheader(what.capitalize())
        with st.container(key=f"lrn_sheet_{what}"):
            labels = [f"channel {index}, {what} LRN" for index in range(count)]
            components.clickable_sheet(
                shown,
                sheet,
                labels,
                title=f"All maps {what} LRN",
                key=f"lrn_drawing_{what}",
                selected=channel,
                on_pick=partial(_picked_map, f"lrn_drawing_{what}"),
                least=860,
            )
            components.save_figure(f"lrn_sheet_{what}", f"all maps {what} LRN", bench.name(f"maps-{what}"))
    if step > 1:
        st.caption(f"Every {step}th row and column is shown.")


def _picked_map(key: str) -> None:
    if (picked := st.session_state[key].picked) is not None:
        choices.choose("lrn_map", int(picked))


def suppressed(bench: Bench) -> None:
    """The share of activity that each channel loses, and to whom."""
    channel = bench.channel()
    rows, overall = lrn.suppression(bench.result), lrn.suppressed_overall(bench.result)
    st.markdown(_suppression_sentence(rows, overall))
    figure = figures.suppression_figure(rows, overall, channel, bench.place.towers, components.palette())
    _chart(bench, figure, "lrn_suppressed", "share of activity suppressed in each channel")
    st.caption(
        "Suppressed is 1 − Σ|b| / ($k^{-\\beta}$·Σ|a|): the constant scales all values alike and is no inhibition. The "
        "two shares at the right say where the energy in a channel's windows comes from, counted as often as the "
        "channel is active."
    )
    exports.show_table(
        lrn_tables.suppression_table(rows, bench.place.towers), "lrn_channels", bench.name("suppression")
    )


def _suppression_sentence(rows: tuple[Suppression, ...], overall: float | None) -> str:
    known = [row for row in rows if row.suppressed is not None]
    if overall is None or not known:
        return "With k = 0, or without any activity, there is no value at rest to compare with."
    if not overall:
        return "Nothing is suppressed: no square weighs anything, or the power is 0."
    most, least = (pick(known, key=lambda row: row.suppressed or 0) for pick in (max, min))
    text = (
        f"**{percent(overall)}** of the activity is suppressed, from {percent(least.suppressed or 0)} in channel "
        f"{least.channel} to {percent(most.suppressed or 0)} in channel {most.channel}. "
    )
    owned = [row.own for row in known if row.own is not None]
    victims = [row for row in known if row.strongest_share is not None]
    if victims:
        victim = max(victims, key=lambda row: (row.suppressed or 0) * (row.strongest_share or 0))
        text += (
            f"The clearest case of one channel holding another back: channel **{victim.channel}** loses "
            f"{percent(victim.suppressed or 0)}, and {percent(victim.strongest_share or 0)} of the energy in its "
            f"windows is channel **{victim.strongest}**'s. "
        )
    return text + f"In the median channel {percent(float(np.median(owned)))} of that energy is its own."


def gains(bench: Bench) -> None:
    """Ratio and output against a channel's own value, for the neighbours at the pixel."""
    with st.container(horizontal=True):
        channel = bench.channel()
        pixel = bench.pixel(channel)
    profile = lrn.profile(bench.before, bench.layer, *pixel)
    if not (bench.layer.k or (bench.layer.alpha and profile.energy[channel])):
        st.info("With k = 0 and nothing else in the denominator there is no gain here: choose another pixel, or k.")
        return
    value = float(abs(profile.before[channel]))
    neighbours = float(profile.energy[channel] - value**2)
    largest = float(np.abs(bench.result.before).max())
    tops = {name: lrn.peak(neighbours, layer) for name, layer in _curves(bench).items()}
    reach = max([largest, *(min(top, 3 * largest) for top in tops.values() if top)]) * 1.1 or 1.0
    own = np.linspace(0, reach, 400)
    curves = {name: lrn.gain(own, neighbours, layer) for name, layer in _curves(bench).items()}
    here, papers = (lrn.gain(np.array([value]), neighbours, layer)[0] for layer in (bench.layer, lrn.PAPER))
    text = (
        f"Channel {channel}'s neighbours at row {pixel[0]}, column {pixel[1]} have Σa² = {_n(neighbours)}. Beside "
        f"them its {_n(value)} is multiplied by **{here:.3g}** (by {papers:.3g} with the paper's settings). "
    )
    top = tops["these settings"]
    if top is None:
        text += "With these settings a stronger value always comes out at least as strong."
    else:
        beyond = float((np.abs(bench.result.before) > top).mean())
        text += (
            f"Output grows until {_n(top)} and **falls beyond**: a stronger value comes out weaker, since β > ½. "
            f"The largest value on this picture is {_n(largest)}: "
            + (f"{percent(beyond, 2)} of all values lie beyond." if beyond else "none lies beyond.")
        )
    st.markdown(text)
    _chart(bench, figures.gain_figure(own, curves, tops, value, components.palette()), "lrn_gain", "gain and output")
    st.caption("Dotted: the value at this pixel. Diamond: where the output is largest.")


def _curves(bench: Bench) -> dict[str, LRN]:
    return {"these settings": bench.layer, "the paper's settings": lrn.PAPER}


# --- orders, towers ---------------------------------------------------------------------------------------------------


def orders(bench: Bench) -> None:
    """Where LRN stands between ReLU, or tanh, and pooling."""
    channel, place = bench.channel(), bench.place
    found = lrn.orders(bench.seen.values[place.convolution], bench.layer, place.pool, place.activation)
    paper, caffe, first, source = found
    saved = paper.normalised / caffe.normalised
    pool = f"{place.pool.kernel}×{place.pool.kernel} pooling every {place.pool.stride}"
    if not place.pooled:
        pool += ", the paper's, since the network has none here"
    word = paper.name.partition(" ")[0]
    what = "negative responses inhibit, too" if word == "ReLU" else "tanh comes last"
    st.markdown(
        f"From the output of {place.convolution}, before its {word}, with {pool}: CaffeNet's order gives pooled maps "
        f"**{percent(caffe.relative)}** off the paper's{_correlated(caffe)}, for {saved:.1f} times fewer values to "
        f"normalise; the 2012 source's, where {what}, "
        f"**{percent(source.relative)}**{_correlated(source)}. {word} before or after pooling makes "
        f"{'no difference' if np.array_equal(first.maps, source.maps) else 'a difference'}: both keep the order of "
        "values."
    )
    _chart(
        bench,
        figures.orders_figure([paper, caffe, source], channel, components.palette()),
        "lrn_orders",
        "three orders",
    )
    st.caption(
        f"Channel {channel} after pooling; below, what each order gives more (red) or less (blue) than the first."
    )
    exports.show_table(lrn_tables.orders_table(found), "lrn_orders_table", bench.name("orders"))


def _correlated(order: lrn.Order) -> str:
    return "" if order.correlation is None else f" (correlation {order.correlation:.3f})"


def towers(bench: Bench) -> None:
    """Windows that end at the towers' border against windows that cross it."""
    count = split(bench.place)
    if count == 1:
        st.info(f"{bench.place.shape[0]} channels cannot be split into towers.")
        return
    rows = lrn.border(bench.before, bench.layer, count)
    changed = [row for row in rows if row.difference > 0]
    if bench.place.towers == 1:
        st.caption(f"This layer has one tower; its channels are split into {count} halves, as if it had more.")
    if not changed:
        st.markdown("No channel changes: with n = 1, or with nothing active at the border, no window crosses it.")
    else:
        most = max(changed, key=lambda row: row.difference)
        st.markdown(
            f"**{len(changed)} of {len(rows)} channels** differ ({_listed([row.channel for row in changed])}), those "
            f"within {bench.layer.size // 2} of a border, channel {most.channel} most: by "
            f"**{percent(most.difference)}**. In 2012 each GPU normalised its own maps; ports on one GPU normalise "
            "across the border."
        )
    _chart(
        bench, figures.border_figure(rows, count, components.palette()), "lrn_border", "per tower against across all"
    )
    exports.show_table(lrn_tables.border_table(rows, bench.layer.size), "lrn_border_table", bench.name("border"))


def _listed(channels: list[int]) -> str:
    return ", ".join(map(str, channels)) if len(channels) <= 8 else f"{channels[0]} to {channels[-1]}"


# --- limits, cost, verdicts -------------------------------------------------------------------------------------------


def limits(bench: Bench) -> None:
    """What the formula becomes at its ends, and what is told about it."""
    cases = lrn_limits.limit_cases(bench.before, bench.layer)
    kept = sum(case.holds for case in cases)
    odd = [case.claim for case in cases if case.holds != case.expected]
    st.markdown(
        f"**{kept} of {len(cases)}** claims hold on these activations, to {lrn_limits.TOLERANCE:g} of the whole in "
        f"float32{'' if odd else '; the others do not, as algebra says'}."
    )
    if odd:
        st.warning(f"Otherwise than algebra says: {'; '.join(odd)}. Look for values beyond float32's range.")
    table = lrn_tables.limits_table(cases)
    st.markdown(write(table, "markdown"))  # a data frame would cut the reasons off
    exports.save_table(table, bench.name("limits"), "save_lrn_limits")


def cost(bench: Bench) -> None:
    """Operations by the cost table, time by a clock."""
    network, place = bench.chosen.checkpoint.network, bench.place
    counted = lrn_cost.counted_cost(network, place, bench.layer)
    with st.container(horizontal=True, gap="medium"):
        st.metric("LRN, FLOPs", f"{counted.flops:,}", width="content")
        st.metric(f"{place.convolution}, FLOPs", f"{counted.convolution_flops:,}", width="content")
        st.metric("LRN's share of the network", percent(counted.share, 2), width="content")
        st.metric("FLOPs a value", f"{counted.flops / counted.values:.1f}", width="content")
    key = f"{bench.chosen.key}|{place.name}"
    known: dict[str, Any] = st.session_state.setdefault("lrn_timings", {})
    again = st.button("Measure again", icon=":material/timer:", help="With the settings as they are now")
    if again or key not in known:
        with st.spinner("Measuring …"):
            known[key] = (lrn.settings_text(bench.layer), lrn_cost.measured_cost(network, place, bench.layer))
    settings, timings = known[key]
    convolution, ours, torchs = timings
    st.markdown(
        f"For one image, {times(place.shape)} values: LRN does "
        f"**{percent(counted.flops / counted.convolution_flops, 2)}** of {place.convolution}'s operations and takes "
        f"**{percent(ours.fastest_forward / convolution.fastest_forward, 0)}** of its time forward, "
        f"{percent(ours.fastest_both / convolution.fastest_both, 0)} with backward: operations alone do not tell time. "
        f"torch's own LRN takes {torchs.fastest_forward / ours.fastest_forward:.1f} times as long as ours forward and "
        f"{torchs.fastest_both / ours.fastest_both:.1f} times with backward."
    )
    exports.show_table(lrn_tables.timings_table(timings), "lrn_times", bench.name("times"), widths={"what": 340})
    st.caption(
        f"On this machine's CPU, float32, measured with {settings}. The sentence compares the fastest runs, which "
        "other work on the machine disturbs least."
    )


def published(bench: Bench) -> None:
    """What papers report."""
    del bench
    better = [v for v in lrn_cost.VERDICTS if v.change < 0]
    worse = [v for v in lrn_cost.VERDICTS if v.change > 0]
    st.markdown(
        f"The paper found LRN to help in {len(better)} of its comparisons, by {-max(v.change for v in better):g} to "
        f"{-min(v.change for v in better):g} points; two years later VGG found errors "
        f"{max(v.change for v in worse):g} points higher with it and left it out of its deeper networks."
    )
    exports.show_table(lrn_tables.verdicts_table(), "lrn_verdicts", "lrn-verdicts", widths={"source": 400})
    st.page_link("screens/parts.py", label="With and without LRN, trained here", icon=":material/science:")
