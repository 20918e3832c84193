"""``teacher`` of params.yaml."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from petct_uad.core.params.base import Section

CnnName = Literal[
    "efficientnet_lite0",
    "efficientnet_lite1",
    "efficientnet_lite2",
    "resnet18",
    "resnet34",
    "resnet50",
    "resnext50_32x4d",
    "wide_resnet50_2",
    "wide_resnet101_2",
]
# Which nine blocks are levels: the first (of a CNN from stride 8 on), or the network's last.
NineBlocks = Literal["first", "last"]


class TeacherParams(Section):
    """The frozen network."""

    name: Literal[
        CnnName,
        "vit_base_patch8_224.dino",
        "vit_base_patch14_reg4_dinov2.lvd142m",
        "vit_large_patch14_reg4_dinov2.lvd142m",
    ]
    weights: str = Field(min_length=1, description="bundled, timm, random, or a safetensors file")
