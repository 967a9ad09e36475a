"""Crop, resize, flip and smoothing as one small matrix per axis and sample: exact, batched, on any device.

All of them treat the three axes one after the other and linearly, so a view is `A_z A_y A_x patch`. That is the
trilinear resize of MONAI and torch (`align_corners=False`) and MONAI's Gaussian filter, without a loop over samples.
"""

import torch
from torch import Tensor


def crop_matrices(starts: Tensor, edges: Tensor, flips: Tensor, *, size: int, depth: int) -> Tensor:
    """Cut [start, start + edge) and resize it linearly to `size`; samples between voxels stay inside the cut.

    Args:
        starts: (n, 3) first voxel of the crop, float32.
        edges: (n, 1) or (n, 3) edge of the crop in voxels, float32.
        flips: (n, 3) bool, reverse the axis.
        size: Voxels of the view's edge.
        depth: Voxels of the patch's edge.

    Returns:
        (n, 3, size, depth) float32, rows sum to 1.
    """
    steps = torch.arange(size, dtype=torch.float32, device=starts.device)
    steps = torch.where(flips[..., None], size - 1 - steps, steps)  # (n, 3, size)
    inside = (steps + 0.5) * (edges / size)[..., None] - 0.5
    along = starts[..., None] + torch.minimum(inside.clamp(min=0), edges[..., None] - 1)
    voxels = torch.arange(depth, dtype=torch.float32, device=starts.device)
    return (1 - (along[..., None] - voxels).abs()).clamp(min=0)


def smoothing_matrices(sigmas: Tensor, *, size: int, largest_sigma: float, extend: bool) -> Tensor:
    """Gaussian smoothing with each voxel's weight the integral over it, cut at 4 sigma.

    Args:
        sigmas: (n, 3) standard deviations, voxels.
        size: Voxels of the edge.
        largest_sigma: None of `sigmas` is larger.
        extend: The border's voxels go on outside; else there is 0.

    Returns:
        (n, 3, size, size) float32.

    References:
        MONAI 1.4.0 `networks/layers/convutils.py` (gaussian_1d, approx "erf").
    """
    reach = int(max(4 * largest_sigma, 0.5) + 0.5)
    voxels = torch.arange(-reach, size + reach, dtype=torch.float32, device=sigmas.device)
    distance = voxels[None, :] - torch.arange(size, dtype=torch.float32, device=sigmas.device)[:, None]
    scale = (0.5**0.5 / sigmas)[..., None, None]
    weights = 0.5 * (torch.erf(scale * (distance + 0.5)) - torch.erf(scale * (distance - 0.5)))
    tails = torch.floor((4 * sigmas).clamp(min=0.5) + 0.5)[..., None, None]
    weights = torch.where(distance.abs() <= tails, weights, 0.0)
    inner = weights[..., reach : reach + size].contiguous()
    if extend:
        inner[..., 0] += weights[..., :reach].sum(dim=-1)
        inner[..., -1] += weights[..., reach + size :].sum(dim=-1)
    return inner


def apply_along_axes(matrices: Tensor, patches: Tensor) -> Tensor:
    """(n, 3, S, D) matrices for (z, y, x) on (n, D, D, D) patches -> (n, S, S, S)."""
    n, size, depth = matrices.shape[0], matrices.shape[2], matrices.shape[3]
    along_x = torch.bmm(patches.reshape(n, depth * depth, depth), matrices[:, 2].transpose(1, 2))
    along_y = matrices[:, 1, None] @ along_x.reshape(n, depth, depth, size)
    along_z = torch.bmm(matrices[:, 0], along_y.reshape(n, depth, size * size))
    return along_z.reshape(n, size, size, size)
