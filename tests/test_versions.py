from __future__ import annotations

import datetime as dt
import random

import pytest

from target_altcraft.memory.versions import NO_BOOKMARK, VersionMaker, bookmark_bytes

EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.timezone.utc)
MICROSECOND = dt.timedelta(microseconds=1)
MIDDLE = 1 << 63


@pytest.mark.parametrize(
    "spelling",
    [
        "2024-05-06T12:00:00Z",
        "2024-05-06T12:00:00+00:00",
        "2024-05-06 12:00:00-00:00",
        "2024-05-06T15:00:00+03:00",
        "2024-05-06T06:30:00-05:30",
        "2024-05-06T12:00:00.000Z",
        "2024-05-06T15:00:00.000000+03:00",
        "2024-05-06T12:00:00",
    ],
)
def test_each_spelling_of_a_moment_is_one_bookmark(spelling: str) -> None:
    assert bookmark_bytes(spelling) == bookmark_bytes("2024-05-06T12:00:00+00:00")


def test_moments_of_any_zone_are_their_microseconds() -> None:
    dice = random.Random(20)
    for _ in range(2_000):
        zone = dt.timezone(dt.timedelta(minutes=dice.randrange(-1_439, 1_440)))
        moment = dt.datetime(
            dice.randrange(1, 10_000),
            dice.randrange(1, 13),
            dice.randrange(1, 29),
            dice.randrange(24),
            dice.randrange(60),
            dice.randrange(60),
            tzinfo=zone,
        )

        expected = (moment - EPOCH) // MICROSECOND + MIDDLE
        assert bookmark_bytes(moment.isoformat()) == expected.to_bytes(8, "big")


@pytest.mark.parametrize(
    "text", ["2024-02-30T12:00:00Z", "2024-05-06T12:00:00+99:00", "2024-05-06T12:00:00-", "x-y"]
)
def test_what_looks_like_a_moment_and_is_none_is_a_bookmark_too(text: str) -> None:
    found = bookmark_bytes(text)

    assert found not in {NO_BOOKMARK, bookmark_bytes(f"{text} ")}
    assert len(found) == len(NO_BOOKMARK)


def test_a_version_is_bookmark_key_and_entry() -> None:
    maker = VersionMaker(["id"], "at")
    record = {"id": 1, "at": "2024-05-06T12:00:00Z"}
    version = maker.version(record, b"{}")

    assert len(version) == 28
    assert version[:20] == maker.id(record)
    assert version[:8] == bookmark_bytes(record["at"])
    assert maker.version({**record, "id": 2}, b"{}")[:8] == version[:8]
    assert maker.version({**record, "id": 2}, b"{}")[8:20] != version[8:20]
    assert maker.version(record, b"{ }")[:20] == version[:20]
    assert maker.version(record, b"{ }") != version
