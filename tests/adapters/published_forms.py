"""Checkpoints of random weights in the forms in which Med3D, Models Genesis, CT-FM and fine-tuned models are published.

Names and shapes come from independent definitions of the networks (MONAI's, or written out here after the publisher's
code), not from ours. `scale` 1 is the published size; small ones make quick tests.
"""

from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn


def med3d_tensors(scale: float = 1.0) -> dict[str, Tensor]:
    """MedicalNet's ResNet50 as MONAI names it, 318 tensors."""
    from monai.networks.nets import resnet

    torch.manual_seed(1)
    network = resnet.resnet50(
        spatial_dims=3, n_input_channels=1, widen_factor=scale, bias_downsample=False, feed_forward=False
    )
    return dict(network.state_dict())


def write_med3d(path: Path, scale: float = 1.0) -> Path:
    """{"state_dict": {"module.conv1.weight": ...}}, as MedicalNet's data-parallel training left it."""
    torch.save({"state_dict": {f"module.{name}": tensor for name, tensor in med3d_tensors(scale).items()}}, path)
    return path


def genesis_shapes(first: int = 32) -> dict[str, tuple[int, ...]]:
    """The U-Net's tensors: an encoder of four levels, a decoder of three, an output."""
    shapes: dict[str, tuple[int, ...]] = {}

    def conv(name: str, into: int, out: int) -> None:
        shapes[f"{name}.conv1.weight"] = (out, into, 3, 3, 3)
        for tensor in ("conv1.bias", "bn1.weight", "bn1.bias", "bn1.running_mean", "bn1.running_var"):
            shapes[f"{name}.{tensor}"] = (out,)
        shapes[f"{name}.bn1.num_batches_tracked"] = ()

    into = 1
    for depth, level in enumerate((64, 128, 256, 512)):
        inner = first << depth
        conv(f"down_tr{level}.ops.0", into, inner)
        conv(f"down_tr{level}.ops.1", inner, 2 * inner)
        into = 2 * inner
    for depth, level in ((2, 256), (1, 128), (0, 64)):
        outer = first << (depth + 1)
        shapes[f"up_tr{level}.up_conv.weight"] = (2 * outer, 2 * outer, 2, 2, 2)
        shapes[f"up_tr{level}.up_conv.bias"] = (2 * outer,)
        conv(f"up_tr{level}.ops.0", 3 * outer, outer)
        conv(f"up_tr{level}.ops.1", outer, outer)
    shapes["out_tr.final_conv.weight"], shapes["out_tr.final_conv.bias"] = (1, 2 * first, 1, 1, 1), (1,)
    return shapes


def random_tensors(shapes: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """Small random numbers; variances positive, counters whole."""
    generator = torch.Generator().manual_seed(2)
    tensors = {}
    for name, shape in shapes.items():
        if name.endswith("num_batches_tracked"):
            tensors[name] = torch.tensor(7)
        elif name.endswith("running_var"):
            tensors[name] = torch.rand(shape, generator=generator) + 0.5
        else:
            tensors[name] = torch.randn(shape, generator=generator) * 0.1
    return tensors


def write_genesis(path: Path, first: int = 32) -> Path:
    """{"epoch", "state_dict": {"module.down_tr64...": ...}, "optimizer_state_dict"}, as its training left it."""
    state = {f"module.{name}": tensor for name, tensor in random_tensors(genesis_shapes(first)).items()}
    weight = nn.Parameter(torch.ones(2))
    optimiser = torch.optim.SGD([weight], lr=0.1, momentum=0.9)
    weight.sum().backward()
    optimiser.step()
    torch.save({"epoch": 680, "state_dict": state, "optimizer_state_dict": optimiser.state_dict()}, path)
    return path


def ct_fm_tensors(first: int = 32) -> dict[str, Tensor]:
    """CT-FM's encoder as MONAI names it, 161 tensors."""
    from monai.networks.nets.segresnet_ds import SegResEncoder

    shapes = SegResEncoder(init_filters=first, blocks_down=(1, 2, 2, 4, 4)).state_dict()
    return random_tensors({name: tuple(tensor.shape) for name, tensor in shapes.items()})


def write_ct_fm(path: Path, first: int = 32) -> Path:
    """A plain state dict: safetensors as the feature extractor is published, or torch's form by the path's suffix."""
    tensors = ct_fm_tensors(first)
    if path.suffix == ".safetensors":
        save_file(tensors, path)
    else:
        torch.save(tensors, path)
    return path
