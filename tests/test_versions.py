from __future__ import annotations

import datetime as dt
import random
import typing as t

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from target_altcraft import route
from target_altcraft.memory import versions
from target_altcraft.memory.versions import NO_BOOKMARK, VersionMaker, bookmark_bytes
from target_altcraft.settings import coerce, resolve
from target_altcraft.settings_schema import SCHEMA

if t.TYPE_CHECKING:
    from target_altcraft.memory.memory import Memory

EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.timezone.utc)
MICROSECOND = dt.timedelta(microseconds=1)
MIDDLE = 1 << 63


@given(st.lists(st.sampled_from([None, 1, True, "1", "2024-05-06T12:00:00Z", "x", [1]])))
@example([1, None])
@example([None, 1, None, None])
def test_a_record_has_the_same_id_alone_and_in_a_lot(bookmarks: list[object]) -> None:
    maker = VersionMaker(["id"], "at")
    keys = range(len(bookmarks))
    alone = [maker.ids([key], [bookmark])[0] for key, bookmark in zip(keys, bookmarks, strict=True)]
    assert maker.ids(keys, bookmarks) == alone


class Asked(Exception):
    pass


class Asking:
    def enter(self, _: object, mapping: bytes, **__: object) -> None:
        raise Asked(mapping)


def test_another_digest_of_entries_is_another_mapping(monkeypatch: pytest.MonkeyPatch) -> None:
    output = route.Output("a", None, lambda _: None, {}, ["id"], ["id"], [], None)
    config = {"api_url": "https://altcraft.example", "token": "t", "workflow_id": 1}
    settings = resolve(coerce(config, SCHEMA))
    mappings = set()
    for digest in ("xxh3_64", "xxh3_64", "another"):
        monkeypatch.setattr(route, "ENTRY_DIGEST", digest)
        with pytest.raises(Asked) as asked:
            route.make_route(output, settings, t.cast("Memory", Asking()))
        mappings.add(asked.value.args)
    assert len(mappings) == 2


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


@given(
    st.from_regex(
        r"20\d\d-[01]\d-[0-3]\d[T ][0-2]\d:[0-6]\d:[0-6]\d"
        r"(\.(\d{1,8}|\d{3}|\d{6}))?(Z|z|[+-][0-2]\d:?[0-6]\d|[+-]\d\d|1Z| Z|)",
        fullmatch=True,
    )
)
@example("2024-05-06T12:00:00.5000001Z")
@example("2024-05-06T12:00:00.500001")
@example("2024-05-06T12:00:60Z")
@example("2024-05-06T12:00:00,1234567Z")
@example("2024-05-06T12:00+03:00")
@example("2024-05-06x12:00:00Z")
@example("2024-W19-1T12:00:00Z")
@example("2024-05-06T12:00:00+03:00:30")
@example("2024-05-06T12:00:00.1\u0663\u0663+03:00")
def test_the_fast_road_and_the_slow_one_agree_on_each_moment(text: str) -> None:
    fast = bookmark_bytes(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(versions, "_plain_moment", no_moment)
        assert fast == bookmark_bytes(text)
    (id_,) = VersionMaker(["id"], "at").ids([1], [text])
    assert id_[:8] == fast


def no_moment(_text: str) -> int:
    raise ValueError


@pytest.mark.parametrize(
    "text", ["2024-02-30T12:00:00Z", "2024-05-06T12:00:00+99:00", "2024-05-06T12:00:00-", "x-y"]
)
def test_what_looks_like_a_moment_and_is_none_is_a_bookmark_too(text: str) -> None:
    found = bookmark_bytes(text)

    assert found not in {NO_BOOKMARK, bookmark_bytes(f"{text} ")}
    assert len(found) == len(NO_BOOKMARK)


def test_a_version_is_bookmark_key_and_entry() -> None:
    maker = VersionMaker(["id"], "at")
    keys, at = [1, 2, 1], "2024-05-06T12:00:00Z"
    found = maker.versions(keys, [at] * 3, [b"{}", b"{}", b"{ }"])
    version, of_another, with_another = found

    assert len(version) == 28
    assert [each[:20] for each in found] == maker.ids(keys, [at] * 3)
    assert version[:8] == bookmark_bytes(at)
    assert of_another[:8] == version[:8]
    assert of_another[8:20] != version[8:20]
    assert with_another[:20] == version[:20]
    assert with_another != version
