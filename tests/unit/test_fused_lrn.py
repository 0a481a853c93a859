"""The compiled kernels of response normalisation, held against the plain ones, which other tests hold against loops."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor, nn

from alexnet import layers, spec
from alexnet.build import build
from alexnet.layers import PLAIN, Kernels, LocalResponseNorm, NoCompilerError, SameMapResponseNorm, use_kernels
from alexnet.zoo import network_named

if TYPE_CHECKING:
    from collections.abc import Iterator

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


@pytest.fixture(params=DEVICES)
def fused(request: pytest.FixtureRequest) -> Iterator[Kernels]:
    layers.fused_kernels.cache_clear()
    try:
        kernels = layers.choose_kernels(request.param, "fused")
    except NoCompilerError as error:
        missing = f"torch.compile has no compiler here: {error}"
        if os.environ.get("ALEXNET_REQUIRE_COMPILER"):
            pytest.fail(missing)
        pytest.skip(missing)
    with torch._dynamo.config.patch(recompile_limit=64, fail_on_recompile_limit_hit=True):
        yield kernels
    torch._dynamo.reset()
    layers.fused_kernels.cache_clear()


def both(norm: nn.Module, kernels: Kernels, a: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Result and gradient, plain and fused."""
    weights = torch.randn(a.shape, generator=torch.Generator().manual_seed(2), dtype=torch.double).to(a)
    found = []
    for chosen in (PLAIN, kernels):
        use_kernels(norm, chosen)
        given = a.clone(memory_format=torch.preserve_format).requires_grad_()
        result = norm(given)
        (gradient,) = torch.autograd.grad((result * weights).sum(), given)
        found.append((result.detach(), gradient))
    return found


def maps(channels: int, dtype: torch.dtype, order: torch.memory_format) -> Tensor:
    values = torch.randn(2, channels, 5, 6, generator=torch.Generator().manual_seed(1), dtype=torch.double)
    return (values * 3).to(dtype).contiguous(memory_format=order)


@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last], ids=["NCHW", "NHWC"])
@pytest.mark.parametrize(
    "layer",
    [
        spec.LRN(size=5, alpha=0.1),
        spec.LRN(size=5, alpha=0.5, average=True, k=1.0, groups=2),
        spec.LRN(size=3, alpha=0.2, beta=0.6, groups=4),
        spec.LRN(size=31, alpha=0.1),  # wider than all channels
    ],
    ids=str,
)
def test_fused_equals_plain_in_every_convention(fused: Kernels, layer: spec.LRN, order: torch.memory_format) -> None:
    norm = LocalResponseNorm(layer)
    plain, compiled = both(norm, fused, maps(24, torch.double, order).to(norm_device(fused)))
    for expected, actual in zip(plain, compiled, strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-12)
        assert actual.stride() == expected.stride()


def test_fused_within_a_map_equals_plain(fused: Kernels) -> None:
    norm = SameMapResponseNorm(spec.SameMapNorm(size=5, alpha=0.5, beta=0.75))
    plain, compiled = both(norm, fused, maps(4, torch.double, torch.contiguous_format).to(norm_device(fused)))
    for expected, actual in zip(plain, compiled, strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_in_low_precision_squares_are_added_in_float32(fused: Kernels, dtype: torch.dtype) -> None:
    layer = spec.LRN(size=5, alpha=1e-4, groups=2)
    a = maps(96, dtype, torch.channels_last)
    exact = LocalResponseNorm(layer)(a.double())
    norm = LocalResponseNorm(layer)
    for result, _ in both(norm, fused, a.to(norm_device(fused))):
        assert result.dtype == dtype
        # No worse than rounding the exact result once.
        torch.testing.assert_close(
            result.cpu(), exact.to(dtype), rtol=1e-6 if dtype == torch.float32 else 2**-7, atol=0
        )


def test_the_fused_gradient_by_finite_differences(fused: Kernels) -> None:
    norm = LocalResponseNorm(spec.LRN(size=3, alpha=0.3, groups=2))
    use_kernels(norm, fused)
    a = maps(8, torch.double, torch.channels_last)[:, :, :2, :2].to(norm_device(fused))
    a = a.contiguous(memory_format=torch.channels_last).requires_grad_()
    assert torch.autograd.gradcheck(norm, a)


def test_any_number_of_pictures_takes_one_kernel(fused: Kernels) -> None:
    norm = LocalResponseNorm(spec.LRN())
    use_kernels(norm, fused)
    norm(torch.rand(2, 16, 5, 5, device=norm_device(fused)))
    before = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    for count in (3, 7, 64):
        norm(torch.rand(count, 16, 5, 5, device=norm_device(fused)))
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == before


def norm_device(kernels: Kernels) -> str:
    return "cuda" if "Triton" in kernels.report else "cpu"


# --- the choice -------------------------------------------------------------------------------------------------------


def test_the_choice_reaches_every_norm_of_a_network() -> None:
    with torch.device("meta"):
        model = build(network_named("alexnet-2012-source"))
    marked = Kernels(PLAIN.forward, PLAIN.backward, "marked")
    assert use_kernels(model, marked) == 3  # two across channels, one within a map
    assert [model.get_submodule(name).kernels.report for name in ("norm1", "norm2")] == ["marked", "marked"]


def test_without_a_compiler_plain_torch_is_chosen_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_device: str) -> Kernels:
        raise NoCompilerError("InvalidCxxCompiler: No working C++ compiler found")

    monkeypatch.setattr(layers, "fused_kernels", fails)
    kernels = layers.choose_kernels("cpu")
    assert kernels.forward is PLAIN.forward
    assert "No working C++ compiler found" in kernels.report
    assert layers.choose_kernels("cpu", "plain") is PLAIN
    with pytest.raises(NoCompilerError):
        layers.choose_kernels("cpu", "fused")


def test_a_compiler_that_is_missing_is_noticed_before_training(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_function: object) -> object:
        def call(*_arguments: object) -> object:
            raise RuntimeError("no compiler\nand a long trace")

        return call

    monkeypatch.setattr(torch, "compile", broken)
    layers.fused_kernels.cache_clear()
    with pytest.raises(NoCompilerError, match=r"^RuntimeError: no compiler$"):
        layers.fused_kernels("cpu")
    layers.fused_kernels.cache_clear()
