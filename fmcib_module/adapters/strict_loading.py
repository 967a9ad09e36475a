"""Tensors -> a network, each in its place, none missing and none too many."""

from collections.abc import Mapping

from torch import Tensor, nn

from fmcib_module.core.resnet_layout import compare_shapes


def fill_network(network: nn.Module, tensors: Mapping[str, Tensor], *, name: str, where: str, fix: str) -> None:
    """Give a network its weights, and put it in evaluation mode.

    Args:
        network: Its own weights are never read; it may be on the device `meta`.
        tensors: State dict; floating-point tensors of any width become float32.
        name: What the network is called, for messages.
        where: Name of the weights, for messages.
        fix: What to do where they do not fit.

    Raises:
        WeightsError: A tensor is missing, unexpected or has another shape.
    """
    expected = {key: tuple(tensor.shape) for key, tensor in network.state_dict().items()}
    compare_shapes({str(key): tuple(tensor.shape) for key, tensor in tensors.items()}, expected, name, where, fix)
    float32 = {key: tensor.float() if tensor.is_floating_point() else tensor for key, tensor in tensors.items()}
    network.load_state_dict(float32, strict=True, assign=True)
    network.eval()
