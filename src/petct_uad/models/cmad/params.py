"""``model`` of params.yaml."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from petct_uad.core.claims import Claim
from petct_uad.core.params.base import Modality, ScanBackend
from petct_uad.models.common.params import Enlarge, Fusion, PublishedSize, TokenParams
from petct_uad.teachers.params import NineBlocks

_PAPER, _PROPOSED = "CMAD", "cmad-petct"


def _table_4(modality: Modality, *, cmh: bool, gfr: bool, operations_g: float) -> PublishedSize:
    parts = " + ".join(name for name, on in (("CMH", cmh), ("GFR", gfr)) if on) or "baseline"
    seen = "PET/CT" if modality == "petct" else "PET or CT"
    return PublishedSize(
        title=f"CMAD, {seen}, {parts}",
        modality=modality,
        where="Table 4",
        operations_g=operations_g,
        changes={"cmh": cmh, "gfr": gfr},
    )


class CmadParams(TokenParams):
    """CMAD (Xu et al. 2026): the proposed PET/CT model."""

    sections = ("model",)
    sees_both_modalities = True
    claims = (
        Claim("both modalities are better than one", _PAPER, "Table 2", _PROPOSED,
              ("cmad-pet", "cmad-ct")),
        Claim("the cross-modality hybrid module helps", _PAPER, "Table 4", _PROPOSED,
              ("cmad_no_cmh-petct",)),
        Claim("global fusion refinement helps", _PAPER, "Table 4", _PROPOSED,
              ("cmad_no_gfr-petct",)),
        Claim("8 tokens are best", _PAPER, "Fig. 6", _PROPOSED,
              ("cmad_4_tokens-petct", "cmad_16_tokens-petct")),
    )  # fmt: skip

    cmpt: int = Field(ge=1, le=64, description="number of cross-modality prior tokens (Fig. 6)")
    cmh: bool = Field(description="cross-modality hybrid module (Eq. 3)")
    gfr: bool = Field(description="global fusion refinement (Eqs. 5-9)")
    levels: int = Field(ge=1, le=9, description="number of reconstructed levels")
    nine: NineBlocks = Field(description="blocks of the teacher whose outputs are its levels")
    enlarge: Enlarge
    ssm_state: int = Field(ge=1, le=64)
    ssm_expand: int = Field(ge=1, le=4)
    targets: Literal["below_input", "with_input"] = Field(
        description="is the deepest reconstructed level below the decoder's input (Eqs. 2 and 10)?"
    )
    fusion: Fusion = Field(description="of the two modalities' maps")
    score: Literal["top", "max", "mean"]
    score_top_fraction: float = Field(gt=0, le=1)
    scan: ScanBackend
    published = (
        _table_4("pet", cmh=False, gfr=False, operations_g=132.03),
        _table_4("pet", cmh=False, gfr=True, operations_g=157.17),
        _table_4("petct", cmh=False, gfr=False, operations_g=140.40),
        _table_4("petct", cmh=True, gfr=False, operations_g=142.28),
        _table_4("petct", cmh=False, gfr=True, operations_g=190.67),
        _table_4("petct", cmh=True, gfr=True, operations_g=192.55),
    )

    def is_as_published(self) -> bool:
        """With both modules, eight tokens, its levels and targets (Table 4, Fig. 6, section 4.2)?

        How the two maps become one it does not say.
        """
        as_in_section_4_2 = self.targets == "below_input" and self.nine == "first"
        return self.cmh and self.gfr and self.cmpt == 8 and as_in_section_4_2
