"""Where in its image a network sees a class: Grad-CAM (Selvaraju et al., ICCV 2017, arXiv 1610.02391, section 3)."""

from __future__ import annotations

import torch
from torch.nn import functional

from torch_imagenet.networks.classifier import ImageClassifier


def grad_cam(network: ImageClassifier, images: torch.Tensor, outputs: torch.Tensor) -> torch.Tensor:
    """The class activation maps float32 [B, H, W], 0 to 1, of normalised images [B, 3, H, W].

    `outputs` int64 [B] names each image's class. The channels of the last feature map are weighted by the gradient of
    the class' logit, averaged over positions, and added up; what is negative becomes 0. The sum, about H / 32 x W / 32
    positions, is enlarged bilinearly and divided by its maximum. A map is 0 everywhere where nothing in the image
    speaks for the class. The gradient passes the head alone, so the cost is that of a forward pass; a network in
    training mode gives the map of its dropout.
    """
    with torch.inference_mode(False), torch.no_grad():
        maps = network.forward_features(images)
        with torch.enable_grad():
            logits = network.forward_head(maps.requires_grad_())
            (gradients,) = torch.autograd.grad(logits.gather(1, outputs[:, None]).sum(), maps)
        weights = gradients.float().mean(dim=(2, 3), keepdim=True)
        found = functional.relu((weights * maps.float()).sum(dim=1, keepdim=True))
        found = functional.interpolate(found, images.shape[2:], mode="bilinear").squeeze(1)
        return found / found.amax(dim=(1, 2), keepdim=True).clamp_min(torch.finfo(found.dtype).tiny)
