"""Names in the cache: a contract with web servers, scripts and the caches of all sites."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thumbnails.storage.names import SHARDS, name_for, parse, shard_for

LARGEST_ID = 2**63 - 1
"""Of a BigAutoField."""


@pytest.mark.parametrize(
    ("asset_id", "name"),
    [
        (12345, "82/12345.jpg"),
        (1, "c4/1.jpg"),
        (256, "f7/256.jpg"),
        (LARGEST_ID, "15/9223372036854775807.jpg"),
    ],
)
def test_name__has_the_shard_of_the_id_s_md5(asset_id: int, name: str) -> None:
    assert name_for(asset_id) == name
    assert parse(name) == (asset_id, ".jpg")


@given(st.integers(1, LARGEST_ID))
def test_name__leads_back_to_its_id(asset_id: int) -> None:
    name = name_for(asset_id)
    assert name == f"{shard_for(asset_id)}/{asset_id}.jpg"
    assert shard_for(asset_id) in SHARDS
    assert parse(name) == (asset_id, ".jpg")


@pytest.mark.parametrize("suffix", ["@2x.jpg", ".webp", "@3x.avif", "-large.jpg", "-a1@9x.webp"])
def test_name__of_a_variant_has_its_suffix(suffix: str) -> None:
    assert name_for(12345, suffix) == f"82/12345{suffix}"
    assert parse(f"82/12345{suffix}") == (12345, suffix)


def test_shards__share_ids_evenly() -> None:
    counted = Counter(shard_for(asset_id) for asset_id in range(1, 25_601))
    assert counted.keys() == set(SHARDS)
    assert len(SHARDS) == 256
    assert min(counted.values()) > 50
    assert max(counted.values()) < 150


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("", id="nothing"),
        pytest.param("83/12345.jpg", id="other-shard"),
        pytest.param("82/012345.jpg", id="leading-zero"),
        pytest.param("cf/0.jpg", id="zero"),
        pytest.param("82/+12345.jpg", id="plus"),
        pytest.param("82/1١٢٣٤٥.jpg", id="digits-of-another-script"),
        pytest.param("82/12345", id="no-ending"),
        pytest.param("82/12345xjpg", id="no-dot"),
        pytest.param("82/12345@2X.jpg", id="uppercase"),
        pytest.param("82/12345@1x.jpg", id="single-density"),
        pytest.param("82/12345-a-b.jpg", id="two-names"),
        pytest.param("82/12345@2x.gif", id="other-format"),
        pytest.param("82/12345.jpg\n", id="line-end-behind"),
        pytest.param("82/.12345.jpg.0123456789abcdef.tmp", id="temporary"),
        pytest.param("/82/12345.jpg", id="absolute"),
        pytest.param("82/../82/12345.jpg", id="dots"),
        pytest.param("x/82/12345.jpg", id="deeper"),
        pytest.param("82/" + "9" * 5000 + ".jpg", id="endless-number"),
    ],
)
def test_name__of_something_else_has_no_id(name: str) -> None:
    assert parse(name) is None


@given(st.from_regex(r"[0-9a-f]{2}/[0-9]{1,25}[-@a-z0-9]{0,9}\.jpg", fullmatch=True) | st.text())
def test_name__that_is_taken_is_the_one_that_would_be_given(name: str) -> None:
    parsed = parse(name)
    assert parsed is None or name_for(*parsed) == name
