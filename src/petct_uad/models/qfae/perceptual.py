"""The frozen network in whose features two images are compared, at several patch sizes."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Self, cast

from torch import Tensor, nn
from torch.nn import functional as F

from petct_uad.core.errors import ParamsError
from petct_uad.models.qfae.images import resize
from petct_uad.teachers.cnn import CnnTeacher
from petct_uad.teachers.weights import normalisation

_CNN_PATCH_PX = 16  # the patch size at which a CNN sees the image in its own size


class Perceptual(nn.Module, ABC):
    """Features of one frozen network at any patch size; gradients reach the images."""

    @abstractmethod
    def features(self, images: Tensor, patch_px: int, layers: Sequence[int]) -> list[Tensor]:
        """Unit vectors (B, C, h, w) of each layer, for (B, 1, S, S) in [0, 1]."""

    def train(self, mode: bool = True) -> Self:
        """Stay in evaluation mode."""
        return super().train(False)


class PerceptualVit(Perceptual):
    """A ViT with its patch embedding resampled to each patch size (FlexiViT's resize).

    The copies for the patch sizes differ in patch and position embedding and share their blocks.

    Args:
        network: timm's.
        patches_px: every patch size that will be asked for.
        layers: every 0-based block that will be asked for.
        image_size_px: side S of the images; they are resized to the nearest multiple of a patch.

    Raises:
        ParamsError: the network has fewer blocks.
    """

    def __init__(
        self,
        network: nn.Module,
        patches_px: Sequence[int],
        layers: Sequence[int],
        image_size_px: int,
    ) -> None:
        super().__init__()
        blocks = cast("nn.Sequential", network.blocks)
        if max(layers) >= len(blocks):
            raise ParamsError(
                f"models.qfae: layers {sorted(layers)} asked for, {len(blocks)} blocks found"
            )
        network.blocks, network.norm = nn.Sequential(), nn.Identity()
        self.sides = {patch: max(round(image_size_px / patch), 1) * patch for patch in patches_px}
        self.networks = nn.ModuleDict()
        for patch, side in self.sides.items():
            own = copy.deepcopy(network)
            own.set_input_size(img_size=side, patch_size=patch)  # type: ignore[operator]
            own.blocks = blocks[: max(layers) + 1]
            self.networks[str(patch)] = own
        self.normalise = normalisation(network)
        self.requires_grad_(False).eval()

    def features(self, images: Tensor, patch_px: int, layers: Sequence[int]) -> list[Tensor]:
        """Unit vectors (B, C, S/patch, S/patch)."""
        resized = resize(images, self.sides[patch_px])
        outputs: list[Tensor] = self.networks[str(patch_px)].forward_intermediates(  # type: ignore[operator]
            self.normalise(resized),
            indices=list(layers),
            norm=False,
            output_fmt="NCHW",
            intermediates_only=True,
        )
        return [F.normalize(output, dim=1) for output in outputs]


class PerceptualCnn(Perceptual):
    """A CNN; its layers are the deepest blocks of strides, its patch size is the image's scale.

    Resampling a ViT's patch embedding from 16 to p pixels shows it the image at 16 / p of its size
    (that is how FlexiViT's resize is derived), so a CNN at patch size p is given just that image.

    Raises:
        ParamsError: the network has no block of an asked-for stride.
    """

    def __init__(self, teacher: CnnTeacher, layers: Sequence[int]) -> None:
        super().__init__()
        if missing := sorted(set(layers) - set(teacher.strides)):
            raise ParamsError(f"models.qfae: the CNN teacher has no stride {missing[0]}")
        deepest = {stride: index for index, stride in enumerate(teacher.strides)}
        self.index = {stride: deepest[stride] for stride in layers}
        self.teacher = teacher

    def features(self, images: Tensor, patch_px: int, layers: Sequence[int]) -> list[Tensor]:
        """Unit vectors (B, C, h, w) of strides, shallow to deep."""
        side = max(round(images.shape[-1] * _CNN_PATCH_PX / patch_px), 1)
        wanted = sorted(self.index[stride] for stride in layers)
        outputs = self.teacher(resize(images, side), wanted[-1] + 1)
        return [F.normalize(outputs[index], dim=1) for index in wanted]
