import pytest
import torch

from petct_uad.models.cmad.params import CmadParams
from petct_uad.models.common.batch import Batch
from petct_uad.teachers.cnn import CnnTeacher
from petct_uad.teachers.params import TeacherParams
from tests.samples import cmad_section, schedule
from tests.unit.models.batches import SQUARE

SIDE = 64


def body_slices(count: int, seed: int) -> Batch:
    """Bright ellipses of varying size, a little noise: what is normal here."""
    generator = torch.Generator().manual_seed(seed)
    y, x = torch.meshgrid(*[torch.linspace(-1, 1, SIDE)] * 2, indexing="ij")
    axes = 0.7 + 0.1 * torch.rand(count, 2, 1, 1, 1, generator=generator)
    body = ((x / axes[:, 0]) ** 2 + (y / axes[:, 1]) ** 2 < 1).float()
    noise = 0.03 * torch.rand(2, count, 1, SIDE, SIDE, generator=generator)
    ids = tuple(f"s{i}" for i in range(count))
    return Batch(pet=body * (0.3 + noise[0]), ct=body * (0.6 + noise[1]), slice_ids=ids)


def with_blob(batch: Batch) -> Batch:
    """The same slices with a hot square where normal ones have none."""
    pet = batch.pet.clone()
    pet[..., *SQUARE] = 1.0
    return Batch(pet=pet, ct=batch.ct, slice_ids=batch.slice_ids)


@pytest.fixture(scope="session")
def normals() -> Batch:
    return body_slices(16, seed=0)


@pytest.fixture(scope="session")
def unseen() -> Batch:
    return body_slices(4, seed=1)


@pytest.fixture(scope="session")
def abnormal(unseen: Batch) -> Batch:
    return with_blob(unseen)


@pytest.fixture(scope="session")
def teacher() -> CnnTeacher:
    return CnnTeacher.load(TeacherParams(name="efficientnet_lite0", weights="bundled"))


@pytest.fixture(scope="session")
def cmad_params() -> CmadParams:
    return cmad_section(
        schedule=schedule(
            iterations=40,
            optimiser="stable_adamw",
            weight_decay=1e-4,
            learning_rate=3e-3,
            decay="cosine",
            warmup_iterations=2,
            gradient_clip=0.1,
        ),
    )
