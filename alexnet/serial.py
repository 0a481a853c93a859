"""Networks to and from plain JSON types, so that a checkpoint says what it is.  Standard library only."""

from __future__ import annotations

import dataclasses
from typing import Any, get_args

from alexnet.spec import Layer, Network

_KINDS: dict[str, type[Layer]] = {kind.kind: kind for kind in get_args(Layer)}


class DamagedNetworkError(ValueError):
    """A network as data is not one; the message says where."""


def network_as_data(network: Network) -> dict[str, Any]:
    """Plain types: strings, numbers, lists and dictionaries."""
    fields = {field.name: getattr(network, field.name) for field in dataclasses.fields(network)}
    layers = [[name, {"kind": layer.kind, **dataclasses.asdict(layer)}] for name, layer in network.layers]
    return fields | {
        "input_shape": list(network.input_shape),
        "layers": layers,
        "side_remarks": [list(remark) for remark in network.side_remarks],
    }


def network_from_data(data: Any) -> Network:
    """The network that `network_as_data` wrote.

    Raises:
        DamagedNetworkError: something is missing, unknown or impossible.
    """
    try:
        layers = tuple((str(name), _layer(fields)) for name, fields in data["layers"])
        network = Network(
            **{
                **data,
                "input_shape": tuple(int(size) for size in data["input_shape"]),
                "layers": layers,
                "side_remarks": tuple((int(side), str(text)) for side, text in data["side_remarks"]),
            }
        )
        network.stages()
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise DamagedNetworkError(f"the network in this file is damaged: {error}") from None
    return network


def _layer(fields: dict[str, Any]) -> Layer:
    kind = fields["kind"]
    if kind not in _KINDS:
        raise ValueError(f"no kind of layer is called {kind!r}")
    return _KINDS[kind](**{name: value for name, value in fields.items() if name != "kind"})
