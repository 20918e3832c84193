"""Twin: the PET that this anatomy would normally have, with its spread, and the CT likewise.

Two small networks answer a question each about a normal slice. What uptake has this CT? And what
lies in a hidden block of the CT, given the CT around it? Each answer is a mean and a spread, learnt
by the likelihood of a Gaussian; the map is the deviation in units of the spread. It is our own
model: this folder's README says what it takes from whom.

Shapes: B batch, S image side, h side of the networks' grid (S / 2, rounded up).
Units: the PET is the square root of SUVbw / suv_high, since the spread of uptake grows with it;
the CT is its window; both in [0, 1].
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise, product

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.transforms.v2.functional import gaussian_blur

from petct_uad.core.params.base import Modality
from petct_uad.models.common.fusion import FusedMaps, MapFusion
from petct_uad.models.common.interface import Batch, GradientModel, images_of
from petct_uad.models.common.maps import score_maps
from petct_uad.models.twin.params import TwinParams
from petct_uad.models.with_teacher import CnnModel
from petct_uad.teachers.cnn import CnnTeacher

_SHRINK = 2  # PET resolves less than two pixels of 128; the mean of four also has half their noise
_FOLD = 2  # places side by side in the network, as channels: no layer is of full size
_POOLINGS = 3
_MULTIPLE = _SHRINK * _FOLD * 2**_POOLINGS  # of the side, in pixels, that the network takes
_REFERENCE_SIDE_PX = 256
_FIRST_SPREAD = -2.5  # softplus gives 0.08 of it: near what is reached, so that training is stable


@dataclass(frozen=True)
class Prediction:
    """What a network expects, each (B, 1, h, w): a Gaussian at every place."""

    mean: Tensor
    spread: Tensor

    def deviation(self, found: Tensor) -> Tensor:
        """(B, 1, h, w): how many spreads what was found lies above the mean."""
        return (found - self.mean) / self.spread

    def surprise(self, found: Tensor) -> Tensor:
        """(B, 1, h, w): negative log likelihood, without its constant."""
        return self.deviation(found).square() / 2 + self.spread.log()


class Twin(FusedMaps, CnnModel[TwinParams], GradientModel):
    """PET from CT, and CT from its surroundings, each with its spread."""

    def __init__(
        self, params: TwinParams, teacher: CnnTeacher, modality: Modality, image_size_px: int
    ) -> None:
        super().__init__(params, teacher, modality, image_size_px)
        blurred = params.pet_shown == "blurred"
        self.uptake = Network(2 if blurred else 1, params.width)
        self.density = Network(2, params.width) if params.explain_ct else None
        self.fusion = MapFusion(params.fusion, 2 if params.explain_ct else 1)

    def prepare(self, batch: Batch) -> tuple[Tensor, ...]:
        """Root of the PET, and CT: (B, 1, h, w) each, at half size, padded with nothing."""
        short = -self.image_size_px % _MULTIPLE
        pet, ct = (
            F.avg_pool2d(F.pad(x, (0, short, 0, short)), _SHRINK)
            for x in images_of(batch, self.modality)
        )
        return pet.clamp_min(0).sqrt(), ct

    def loss(self, *prepared: Tensor) -> Tensor:
        """Negative log likelihood of the PET and of hidden CT, mean over pixels.

        Where blocks lie is drawn while training.
        """
        pet, ct = prepared
        loss = self.expected_pet(pet, ct).surprise(pet).mean()
        if self.density is None:
            return loss
        hidden = self.hidden(ct, *self._drawn_shift())
        surprise = self._inside(self.density, ct, hidden).surprise(ct) * hidden
        return loss + surprise.mean() / hidden.mean()

    def expected_pet(self, pet: Tensor, ct: Tensor) -> Prediction:
        """The uptake that this CT would normally have; of the PET a blurred one, or nothing."""
        shown = (ct, self._blurred(pet)) if self.params.pet_shown == "blurred" else (ct,)
        return self._answer(self.uptake, torch.cat(shown, 1))

    def expected_ct(self, density: Network, ct: Tensor) -> Prediction:
        """What would normally lie at each place, given the CT around the block that holds it."""
        mean, spread = torch.zeros_like(ct), torch.zeros_like(ct)
        for shift in product((0, self._block), repeat=2):
            hidden = self.hidden(ct, *shift)
            inside = self._inside(density, ct, hidden)
            mean, spread = mean + inside.mean * hidden, spread + inside.spread * hidden
        return Prediction(mean, spread)

    def hidden(self, images: Tensor, down: int, right: int) -> Tensor:
        """(1, 1, h, w): 1 in blocks on a lattice that begins at this shift, a quarter of all."""
        rows, columns = (
            (torch.arange(side, device=images.device) - shift) % (2 * self._block) < self._block
            for side, shift in zip(images.shape[-2:], (down, right), strict=True)
        )
        return (rows[:, None] & columns)[None, None].to(images.dtype)

    @torch.no_grad()
    def modality_maps(self, batch: Batch) -> Tensor:
        """(K, B, S, S), smoothed, in spreads: of the PET, and of the CT where it is explained."""
        pet, ct = self.prepare(batch)
        found = [self.expected_pet(pet, ct).deviation(pet)]
        if self.density is not None:
            found.append(self.expected_ct(self.density, ct).deviation(ct))
        inside = -(-self.image_size_px // _SHRINK)
        maps = self._smoothed(torch.stack(found)[:, :, 0, :inside, :inside])
        return maps.abs() if self.params.deviations == "both" else maps

    def score(self, maps: Tensor) -> Tensor:
        """(B,): the largest value, or the mean of the largest ones."""
        return score_maps(maps, self.params.score, self.params.score_top_fraction)

    @property
    def _block(self) -> int:
        """Side of a hidden block on the networks' grid; blocks are as far apart."""
        return max(round(self._on_grid(self.params.block_px)), 1)

    def _on_grid(self, length_px: float) -> float:
        """A length at 256 px, on the networks' grid."""
        return length_px * self.image_size_px / _REFERENCE_SIDE_PX / _SHRINK

    def _drawn_shift(self) -> tuple[int, int]:
        """Of the blocks, in rows and columns; none outside of training."""
        if not self.training:
            return 0, 0
        down, right = torch.randint(2 * self._block, (2,)).tolist()
        return down, right

    def _inside(self, density: Network, ct: Tensor, hidden: Tensor) -> Prediction:
        """Of worth where ``hidden`` is 1."""
        shown = (ct * (1 - hidden), hidden.expand_as(ct))
        return self._answer(density, torch.cat(shown, 1))

    def _answer(self, network: nn.Module, shown: Tensor) -> Prediction:
        mean, spread = network(shown).float().chunk(2, 1)
        return Prediction(mean, self.params.least_spread + F.softplus(spread + _FIRST_SPREAD))

    def _blurred(self, root: Tensor) -> Tensor:
        """(B, 1, h, w): the uptake is blurred, not its root, since so does a scanner."""
        sigma = self._on_grid(self.params.blur_px)
        radius = min(max(round(3 * sigma), 1), root.shape[-1] - 1)
        blurred: Tensor = gaussian_blur(root.square(), [2 * radius + 1] * 2, [sigma] * 2)
        return blurred.clamp_min(0).sqrt()


class Network(nn.Module):
    """A U-Net (Ronneberger et al. 2015) over folded pixels: (B, inputs, h, w) to (B, 2, h, w)."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        widths = [width, 2 * width, *[4 * width] * (_POOLINGS - 1)]
        first = inputs * _FOLD**2
        self.down = nn.ModuleList(_two(*pair) for pair in pairwise([first, *widths]))
        self.up = nn.ModuleList(
            _two(below + beside, beside) for beside, below in reversed(list(pairwise(widths)))
        )
        self.head = nn.Conv2d(width, 2 * _FOLD**2, 1)

    def forward(self, images: Tensor) -> Tensor:
        """A mean and, before it is made positive, a spread; h is divisible by 16."""
        x = self.down[0](F.pixel_unshuffle(images, _FOLD))
        passed = [x]
        for layers in self.down[1:]:
            x = layers(F.max_pool2d(x, 2))
            passed.append(x)
        for layers, beside in zip(self.up, reversed(passed[:-1]), strict=True):
            x = layers(torch.cat([F.interpolate(x, scale_factor=2.0), beside], 1))
        answer: Tensor = F.pixel_shuffle(self.head(x), _FOLD)
        return answer


def _two(inputs: int, outputs: int) -> nn.Sequential:
    """Two 3x3 convolutions."""
    pairs = pairwise([inputs, outputs, outputs])
    return nn.Sequential(*(layer for pair in pairs for layer in _convolution(*pair)))


def _convolution(inputs: int, outputs: int) -> tuple[nn.Module, ...]:
    convolution = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
    return convolution, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
