from __future__ import annotations

from dataclasses import replace
from itertools import pairwise, permutations

import pytest

from alexnet.spec import LRN, Conv, DoesNotFitError, IllegalNetworkError, Linear, MaxPool, ReLU, SameMapNorm, Tanh
from alexnet.zoo import ALIASES, NETWORKS, UnknownNetworkError, kernel_stack, network_from, network_named
from analysis.costs import cost_table

# Section 3 of the design: input, parameters, multiply–accumulates.
TOTALS = {
    "alexnet-2012": ((3, 227, 227), 60_965_224, 724_406_816),
    "alexnet-one-tower": ((3, 227, 227), 62_378_344, 1_135_256_096),
    "alexnet-2012-source": ((3, 224, 224), 60_965_224, 724_406_816),
    "bvlc-alexnet": ((3, 227, 227), 60_965_224, 724_406_816),
    "caffenet": ((3, 227, 227), 60_965_224, 724_406_816),
    "alexnet-owt": ((3, 224, 224), 61_100_840, 714_188_480),
    "alexnet-half": ((3, 224, 224), 16_630_440, 311_191_824),
    "alexnet-slim": ((3, 227, 227), 27_410_792, 408_228_384),
    "vgg-a": ((3, 224, 224), 132_863_336, 7_609_090_048),
    "vgg-a-lrn": ((3, 224, 224), 132_863_336, 7_609_090_048),
    "vgg-b": ((3, 224, 224), 133_047_848, 11_308_466_176),
    "vgg-c": ((3, 224, 224), 133_638_952, 11_770_888_192),
    "vgg-d": ((3, 224, 224), 138_357_544, 15_470_264_320),
    "vgg-e": ((3, 224, 224), 143_667_240, 19_632_062_464),
}


def sides(name: str) -> dict[str, int]:
    """Height of every stage that gives square maps."""
    stages = network_named(name).stages()
    assert all(stage.out_shape[1] == stage.out_shape[2] for stage in stages if len(stage.out_shape) == 3)
    return {stage.name: stage.out_shape[1] for stage in stages if len(stage.out_shape) == 3}


def test_every_network_has_typed_totals() -> None:
    assert set(NETWORKS) == set(TOTALS)


@pytest.mark.parametrize("name", TOTALS)
def test_input_parameters_and_macs(name: str) -> None:
    table = cost_table(network_named(name))
    assert (table.network.input_shape, table.total("params"), table.total("macs")) == TOTALS[name]


@pytest.mark.parametrize("name", TOTALS)
def test_a_thousand_classes_and_three_fully_connected_layers(name: str) -> None:
    stages = network_named(name).stages()
    assert stages[-1].out_shape == (1000,)
    assert [s.name for s in stages if isinstance(s.layer, Linear)] == ["fc6", "fc7", "fc8"]


@pytest.mark.parametrize(
    ("name", "depth"),
    [
        *((name, 8) for name in TOTALS if not name.startswith("vgg")),
        ("vgg-a", 11),
        ("vgg-a-lrn", 11),
        ("vgg-b", 13),
        ("vgg-c", 16),
        ("vgg-d", 16),
        ("vgg-e", 19),
    ],
)
def test_weight_layers(name: str, depth: int) -> None:
    network = network_named(name)
    assert sum(isinstance(layer, Conv | Linear) for _, layer in network.layers) == depth
    assert f"{depth} weight layers" in network.title or not name.startswith("vgg")


@pytest.mark.parametrize("name", TOTALS)
def test_stage_names_are_distinct_and_can_be_attributes_of_a_module(name: str) -> None:
    names = [stage for stage, _ in network_named(name).layers]
    assert len(set(names)) == len(names)
    assert all(stage.isidentifier() for stage in names)


# --- shapes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["alexnet-2012", "alexnet-one-tower", "bvlc-alexnet", "caffenet", "alexnet-2012-source"]
)
def test_alexnet_maps_are_55_27_13_and_6_wide(name: str) -> None:
    expected = {"conv1": 55, "pool1": 27, "conv2": 27, "pool2": 13, "conv3": 13, "conv4": 13, "conv5": 13, "pool5": 6}
    actual = sides(name)
    assert {stage: actual[stage] for stage in expected} == expected


@pytest.mark.parametrize("name", ["alexnet-owt", "alexnet-half"])
def test_padded_by_two_224_also_gives_55_27_13_and_6(name: str) -> None:
    actual = sides(name)
    assert [actual[stage] for stage in ("conv1", "pool1", "conv2", "pool2", "conv3", "conv4", "conv5", "pool5")] == [
        *(55, 27, 27, 13),
        *(13, 13, 13, 6),
    ]


def test_alexnet_has_96_256_384_384_256_maps() -> None:
    shapes = {stage.name: stage.out_shape for stage in network_named("alexnet-2012").stages()}
    assert [shapes[f"conv{i}"][0] for i in range(1, 6)] == [96, 256, 384, 384, 256]
    assert shapes["flatten"] == (9216,)


def test_the_released_definition_rounds_224_up_to_55_maps() -> None:
    network = network_named("alexnet-2012-source")
    conv1 = network.stages()[0]
    assert conv1.in_shape == (3, 224, 224)
    assert (224 - 11) % 4 != 0  # 54.25: rounding decides
    assert conv1.out_shape == (96, 55, 55)


def test_the_slim_listing_shrinks_to_23_9_7_5_and_2() -> None:
    actual = sides("alexnet-slim")
    assert [actual[f"conv{i}"] for i in range(1, 6)] == [55, 23, 9, 7, 5]
    assert actual["pool5"] == 2
    assert network_named("alexnet-slim").stages()[-6].in_shape == (1024,)


@pytest.mark.parametrize("letter", "abcde")
def test_vgg_halves_five_times_from_224_to_7(letter: str) -> None:
    actual = sides(f"vgg-{letter}")
    assert [actual[f"pool{i}"] for i in range(1, 6)] == [112, 56, 28, 14, 7]


def test_vgg_c_has_a_1x1_convolution_at_the_end_of_its_last_three_blocks() -> None:
    kernels = {name: layer.kernel for name, layer in network_named("vgg-c").layers if isinstance(layer, Conv)}
    assert [name for name, kernel in kernels.items() if kernel == 1] == ["conv3_3", "conv4_3", "conv5_3"]
    assert {kernel for name, kernel in kernels.items() if not name.endswith("_3")} == {3}


@pytest.mark.parametrize("letter", "abde")
def test_the_other_columns_of_vgg_have_3x3_convolutions_only(letter: str) -> None:
    layers = [layer for _, layer in network_named(f"vgg-{letter}").layers]
    assert {layer.kernel for layer in layers if isinstance(layer, Conv)} == {3}
    assert {(layer.kernel, layer.stride) for layer in layers if isinstance(layer, MaxPool)} == {(2, 2)}


@pytest.mark.parametrize("name", [name for name in TOTALS if not name.startswith("vgg")])
def test_alexnet_pooling_overlaps(name: str) -> None:
    pools = [layer for _, layer in network_named(name).layers if isinstance(layer, MaxPool)]
    assert [(pool.kernel, pool.stride) for pool in pools] == [(3, 2)] * 3


# --- towers and normalisation ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "groups"),
    [
        ("alexnet-2012", [1, 2, 1, 2, 2]),
        ("alexnet-2012-source", [1, 2, 1, 2, 2]),
        ("caffenet", [1, 2, 1, 2, 2]),
        ("alexnet-slim", [1, 2, 1, 2, 2]),
        ("alexnet-one-tower", [1, 1, 1, 1, 1]),
        ("alexnet-owt", [1, 1, 1, 1, 1]),
        ("alexnet-half", [1, 1, 1, 1, 1]),
    ],
)
def test_groups_of_the_convolutions(name: str, groups: list[int]) -> None:
    network = network_named(name)
    assert [layer.groups for _, layer in network.layers if isinstance(layer, Conv)] == groups
    assert network.towers == max(groups)


@pytest.mark.parametrize("name", ["alexnet-2012", "alexnet-2012-source", "bvlc-alexnet", "caffenet"])
def test_one_gpu_holds_the_classifier_and_two_everything_before(name: str) -> None:
    towers = {stage.name: stage.towers for stage in network_named(name).stages()}
    assert [towers.pop("fc8"), towers.pop("prob")] == [1, 1]
    assert set(towers.values()) == {2}


def test_the_slim_towers_end_before_the_fully_connected_layers() -> None:
    towers = {stage.name: stage.towers for stage in network_named("alexnet-slim").stages()}
    assert [towers[name] for name in ("conv5", "pool5", "fc6", "fc7", "fc8")] == [2, 2, 1, 1, 1]


# For each LRN: what comes before, its name, what comes after.
LRN_PLACES = {
    "alexnet-2012": [("relu1", "norm1", "pool1"), ("relu2", "norm2", "pool2")],
    "alexnet-one-tower": [("relu1", "norm1", "pool1"), ("relu2", "norm2", "pool2")],
    "alexnet-2012-source": [("conv1", "norm1", "pool1"), ("conv2", "norm2", "cnorm2")],
    "bvlc-alexnet": [("relu1", "norm1", "pool1"), ("relu2", "norm2", "pool2")],
    "caffenet": [("pool1", "norm1", "conv2"), ("pool2", "norm2", "conv3")],
    "vgg-a-lrn": [("relu1_1", "norm1", "pool1")],
}


@pytest.mark.parametrize("name", TOTALS)
def test_lrn_stands_where_the_source_has_it(name: str) -> None:
    layers = network_named(name).layers
    places = [
        (before, here, after)
        for (before, _), (here, layer), (after, _) in zip(layers, layers[1:], layers[2:], strict=False)
        if isinstance(layer, LRN)
    ]
    assert places == LRN_PLACES.get(name, [])


@pytest.mark.parametrize(
    ("name", "alpha_per_square", "k", "groups"),
    [
        ("alexnet-2012", 1e-4, 2, 2),  # section 3.3, inside each tower
        ("alexnet-one-tower", 1e-4 / 5, 2, 1),  # torch's layer with the paper's numbers
        ("alexnet-2012-source", 1e-4 / 5, 2, 2),
        ("bvlc-alexnet", 1e-4 / 5, 1, 1),  # Caffe's default k
        ("caffenet", 1e-4 / 5, 1, 1),
        ("vgg-a-lrn", 1e-4, 2, 1),
    ],
)
def test_lrn_constants(name: str, alpha_per_square: float, k: float, groups: int) -> None:
    norms = [layer for _, layer in network_named(name).layers if isinstance(layer, LRN)]
    assert norms
    for norm in norms:
        assert norm.alpha_per_square == pytest.approx(alpha_per_square)
        assert (norm.k, norm.groups, norm.size, norm.beta) == (k, groups, 5, 0.75)


def test_the_released_definition_has_a_same_map_norm_after_its_second_lrn() -> None:
    norms = {name: layer for name, layer in network_named("alexnet-2012-source").layers if "cnorm" in name}
    assert norms == {"cnorm2": SameMapNorm(size=5, alpha=0.001, beta=0.75)}


def test_the_released_definition_rectifies_after_pooling() -> None:
    names = [name for name, _ in network_named("alexnet-2012-source").layers]
    assert {("pool1", "relu1"), ("pool2", "relu2"), ("pool5", "relu5")} <= set(pairwise(names))


def deviations(name: str) -> dict[str, float | None]:
    return {stage: layer.init_std for stage, layer in network_named(name).layers if isinstance(layer, Conv | Linear)}


def test_the_paper_and_vgg_start_every_layer_with_one_deviation() -> None:
    assert set(deviations("alexnet-2012").values()) == {0.01}
    assert set(deviations("vgg-d").values()) == {0.1}  # section 3.1: a variance of 0.01


def test_caffenet_starts_its_hidden_layers_with_half_the_deviation() -> None:
    assert {name: std for name, std in deviations("caffenet").items() if std != 0.01} == {"fc6": 0.005, "fc7": 0.005}


@pytest.mark.parametrize("name", ["alexnet-owt", "alexnet-half", "alexnet-slim"])
def test_listings_that_state_no_initialisation_are_given_none(name: str) -> None:
    assert set(deviations(name).values()) == {None}


@pytest.mark.parametrize("name", ["vgg-d", "alexnet-owt", "alexnet-half", "alexnet-slim"])
def test_other_networks_start_with_biases_of_zero(name: str) -> None:
    assert {layer.init_bias for _, layer in network_named(name).layers if isinstance(layer, Conv | Linear)} == {0}


def test_the_released_definition_starts_conv3_to_conv5_with_a_deviation_of_003() -> None:
    changed = {name: std for name, std in deviations("alexnet-2012-source").items() if std != 0.01}
    assert changed == {"conv3": 0.03, "conv4": 0.03, "conv5": 0.03}


def test_the_papers_biases_of_one_are_in_conv2_conv4_conv5_and_the_hidden_layers() -> None:
    layers = network_named("alexnet-2012").layers
    biases = {name: layer.init_bias for name, layer in layers if isinstance(layer, Conv | Linear)}
    assert {name for name, bias in biases.items() if bias == 1} == {"conv2", "conv4", "conv5", "fc6", "fc7"}
    assert {name for name, bias in biases.items() if bias == 0} == {"conv1", "conv3", "fc8"}


# --- names -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("alias", "name"),
    [
        ("alexnet", "alexnet-2012"),
        ("torchvision-alexnet", "alexnet-owt"),
        ("vgg11", "vgg-a"),
        ("vgg13", "vgg-b"),
        ("vgg16", "vgg-d"),
        ("vgg19", "vgg-e"),
        ("VGG16", "vgg-d"),
        (" AlexNet-2012\n", "alexnet-2012"),
    ],
)
def test_aliases_any_case_and_spaces_around(alias: str, name: str) -> None:
    assert network_named(alias).name == name


def test_no_alias_hides_a_network() -> None:
    assert not set(ALIASES) & set(NETWORKS)


@pytest.mark.parametrize(
    ("wrong", "nearest"),
    [
        ("alexnet2012", "alexnet-2012"),
        ("alexnet-2013", "alexnet-2012"),
        ("cafenet", "caffenet"),
        ("vgg-16", "vgg16"),
        ("vgg-f", "vgg-[a-e]"),
        ("alexnet-slm", "alexnet-slim"),
    ],
)
def test_an_unknown_name_suggests_the_nearest(wrong: str, nearest: str) -> None:
    with pytest.raises(
        UnknownNetworkError, match=rf"no network named '{wrong}'; did you mean {nearest}\?.*alexnet-one-tower"
    ):
        network_named(wrong)


def test_a_name_like_no_other_gets_the_list_in_a_proper_sentence() -> None:
    with pytest.raises(UnknownNetworkError) as caught:
        network_named("zzz")
    message = str(caught.value)
    assert message.startswith("there is no network named 'zzz'")
    assert all(name in message for name in TOTALS)
    assert "did you mean" not in message
    assert "are Known" not in message


# --- references ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reference", "name", "input_shape"),
    [
        ("vgg16", "vgg-d", (3, 224, 224)),
        ("alexnet-2012@224", "alexnet-2012@224", (3, 224, 224)),
        ("AlexNet@224", "alexnet-2012@224", (3, 224, 224)),
        ("vgg-a@64x96", "vgg-a@64x96", (3, 64, 96)),
        ("vgg-a@64X96", "vgg-a@64x96", (3, 64, 96)),
        (" vgg16@32 ", "vgg-d@32", (3, 32, 32)),
        ("vgg-a-lrn:no-lrn", "vgg-a-lrn:no-lrn", (3, 224, 224)),
        ("alexnet@99:no-lrn", "alexnet-2012@99:no-lrn", (3, 99, 99)),
    ],
)
def test_a_reference_gives_name_and_input(reference: str, name: str, input_shape: tuple[int, int, int]) -> None:
    network = network_from(reference)
    assert (network.name, network.input_shape) == (name, input_shape)


def test_no_lrn_leaves_out_the_lrn_and_nothing_else() -> None:
    before = network_named("alexnet-2012").layers
    after = network_from("alexnet-2012:no-lrn").layers
    assert [pair for pair in before if pair not in after] == [("norm1", LRN(groups=2)), ("norm2", LRN(groups=2))]
    assert [pair for pair in after if pair not in before] == []


def test_vgg_a_lrn_without_lrn_is_vgg_a() -> None:
    assert network_from("vgg-a-lrn:no-lrn").layers == network_named("vgg-a").layers


@pytest.mark.parametrize("size", ["", "abc", "-5", "1.5", "1x2x3", "x", "64x", "²", "٣٢", "64x 64"])
def test_what_follows_the_at_sign_must_be_a_size(size: str) -> None:
    with pytest.raises(IllegalNetworkError, match=r"after @ comes a side in pixels, like alexnet-2012@224; got"):
        network_from(f"alexnet@{size}")


@pytest.mark.parametrize("suffix", ["", "lrn", "no-relu", "no-lrn:", "no-lrn:x", "NO-LRN@224", "tanh no-lrn"])
def test_what_follows_the_colon_must_be_a_known_change(suffix: str) -> None:
    with pytest.raises(IllegalNetworkError, match=r"after : comes no-lrn, no-overlap or tanh; got 'alexnet:"):
        network_from(f"alexnet:{suffix}")


def test_a_change_is_given_once() -> None:
    with pytest.raises(IllegalNetworkError, match=r"tanh is given 2 times in 'alexnet:tanh:no-lrn:Tanh': give it once"):
        network_from("alexnet:tanh:no-lrn:Tanh")


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("vgg-d:no-lrn", "vgg-d has no LRN to leave out"),
        ("vgg-d:no-overlap", "vgg-d has no pooling whose windows overlap"),
        # 109 pixels: conv1 gives 25, 3×3 windows 12, conv2 12, then 5 of 3×3 and 6 of 2×2.
        ("alexnet-2012@109:no-overlap", "pool2 would give 256×6×6 instead of 256×5×5; try another input, NAME@SIDE"),
        # Rounded up, 55 has room for 27 windows of 3 and 28 of 2.
        ("caffenet:no-overlap", "pool1 would give 96×28×28 instead of 96×27×27"),
    ],
)
def test_a_network_in_which_there_is_nothing_to_change_is_refused(reference: str, message: str) -> None:
    with pytest.raises(IllegalNetworkError, match=message):
        network_from(reference)


@pytest.mark.parametrize("order", list(permutations(["no-lrn", "no-overlap", "tanh"])), ids=":".join)
def test_changes_have_one_name_in_any_order(order: tuple[str, ...]) -> None:
    network = network_from(f"alexnet@131: {':'.join(order).upper()} ")
    assert network.name == "alexnet-2012@131:no-lrn:no-overlap:tanh"
    kinds = {type(layer) for _, layer in network.layers}
    assert Tanh in kinds
    assert not {LRN, ReLU} & kinds
    assert {(layer.kernel, layer.stride) for _, layer in network.layers if isinstance(layer, MaxPool)} == {(2, 2)}
    assert network_from(network.name) == network


@pytest.mark.parametrize("name", ["alexnet-2012", "alexnet-2012@131", "alexnet-owt", "alexnet-2012-source@131"])
def test_pooling_without_overlap_keeps_every_shape(name: str) -> None:
    if "source" in name:  # it rounds up
        with pytest.raises(IllegalNetworkError, match="cannot pool without overlap at 3×131×131"):
            network_from(f"{name}:no-overlap")
        return
    before, after = network_from(name), network_from(f"{name}:no-overlap")
    changed = [(old, new) for (_, old), (_, new) in zip(before.layers, after.layers, strict=True) if old != new]
    assert changed == [(MaxPool(3, 2), MaxPool(2, 2))] * 3
    assert [stage.out_shape for stage in after.stages()] == [stage.out_shape for stage in before.stages()]


def test_tanh_takes_the_place_of_every_relu_and_starts_without_biases() -> None:
    before, after = network_named("alexnet-2012").layers, network_from("alexnet-2012:tanh").layers
    for (name, layer), (new_name, new) in zip(before, after, strict=True):
        if isinstance(layer, ReLU):
            assert (new_name, new) == (name.replace("relu", "tanh"), Tanh())
        elif isinstance(layer, Conv | Linear):
            assert (new_name, new) == (name, replace(layer, init_bias=0.0))
        else:
            assert (new_name, new) == (name, layer)
    assert [layer.init_bias for _, layer in before if isinstance(layer, Conv | Linear)] == [0, 1, 0, 1, 1, 1, 1, 0]


@pytest.mark.parametrize("size", [0, 1_000_000])
def test_a_reference_to_an_impossible_size_is_refused(size: int) -> None:
    with pytest.raises(
        IllegalNetworkError, match=rf"must be from 1 to 1,024 pixels, got {size}×{size}; the smallest .* 67×67"
    ):
        network_from(f"alexnet@{size}")


def test_a_reference_to_an_absurdly_long_size_is_refused_like_any_other() -> None:
    with pytest.raises(IllegalNetworkError):
        network_from("alexnet@" + "9" * 5000)


def test_a_reference_to_a_size_that_runs_out_names_the_stage() -> None:
    with pytest.raises(DoesNotFitError, match=r"conv1 received 3×10×10"):
        network_from("alexnet@10")


def test_a_reference_to_an_unknown_network_with_a_size_suggests_the_nearest() -> None:
    with pytest.raises(UnknownNetworkError, match=r"'vgg-dd'; did you mean vgg-d\?"):
        network_from("vgg-dd@64:no-lrn")


# --- stacks of convolutions ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kernel", "count", "name", "weights"),
    [(3, 1, "one 3×3", 9), (3, 2, "two 3×3", 18), (3, 3, "three 3×3", 27), (5, 1, "one 5×5", 25), (3, 4, "4 3×3", 36)],
)
def test_a_stack_has_as_many_weights_as_section_2_3_says(kernel: int, count: int, name: str, weights: int) -> None:
    network = kernel_stack(kernel, count)
    table = cost_table(network)
    assert network.name == name
    assert table.total("weights") == weights * 256**2
    assert {row.stage.out_shape for row in table.rows} == {(256, 28, 28)}  # padded: the maps keep their size
    assert [type(layer) for _, layer in network.layers] == [Conv, ReLU] * count
