"""The Merkle root follows RFC 6962 and changes with every leaf."""

from __future__ import annotations

import hashlib

import pytest

from petct_uad.lineage.seal import merkle_root


def sha(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()


def test_root_of_three_leaves_is_as_rfc_6962_says() -> None:
    a, b, c = (sha(b"\0" + leaf) for leaf in (b"a", b"b", b"c"))
    assert merkle_root([b"a", b"b", b"c"]) == sha(b"\1" + sha(b"\1" + a + b) + c).hex()


def test_root_of_nothing_is_the_hash_of_nothing() -> None:
    assert merkle_root([]) == sha(b"").hex()


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 8, 9])
def test_every_leaf_counts(count: int) -> None:
    leaves = [bytes([i]) for i in range(count)]
    roots = {merkle_root([*leaves[:i], b"x", *leaves[i + 1 :]]) for i in range(count)}
    assert len(roots | {merkle_root(leaves), merkle_root(leaves[1:])}) == count + 2
