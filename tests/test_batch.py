from __future__ import annotations

import itertools
import json
import typing as t
from collections import defaultdict
from decimal import Decimal

import pytest
from hypothesis import event, example, given, settings
from hypothesis import strategies as st
from wire import Clock

from target_altcraft.batch import MAX_AGE_SECONDS, OpenBatches, envelope, identity_space
from target_altcraft.client import Body
from target_altcraft.delivery.limit import SizeLimit
from target_altcraft.errors import Rejection
from target_altcraft.memory.judgement import Arrival, Arrivals
from target_altcraft.origin import NO_KIND, Kind, Origin
from target_altcraft.profile import Entry
from target_altcraft.settings import StreamSettings

if t.TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from target_altcraft.batch import Batch, Envelope

TOKEN = "tok-secret"
BIG = 10_000_000


def stream(name: str, **values: t.Any) -> StreamSettings:
    return StreamSettings(name, values.pop("workflow_id", 12), **values)


CUSTOMERS = stream("customers")
ORDERS = stream("orders", matching="email_profile")
VISITS = stream("visits")
STREAMS = [
    CUSTOMERS,
    ORDERS,
    VISITS,
    stream("calls", matching="phone"),
    stream("crm", matching="custom", field_name="CRM_ID"),
    stream("shop", matching="custom", field_name="CRM_ID", content={"all": "x" * 300}),
    stream("loyalty", matching="custom", field_name="CARD"),
    stream("segments", matching="custom_request", custom_request_column="query"),
]


class Road:
    """Open batches, and everything they hand over."""

    def __init__(
        self,
        *,
        max_rows: int = 10_000,
        max_bytes: int = BIG,
        hand_over: Callable[[Batch], None] | None = None,
    ) -> None:
        self.handed: list[Batch] = []
        self.opened = 0
        self.limit = SizeLimit(max_bytes)
        self._numbers = itertools.count()
        self._also = hand_over
        self.open = OpenBatches(
            max_rows=lambda _stream: max_rows,
            limit=self.limit,
            token=TOKEN,
            next_number=self._next_number,
            opened=lambda _batch: None,
            hand_over=self._hand_over,
        )

    def _next_number(self) -> int:
        self.opened += 1
        return self.opened

    def _hand_over(self, batch: Batch) -> None:
        self.handed.append(batch)
        if self._also is not None:
            self._also(batch)

    def add(self, to: StreamSettings, customer: str = "ada", size: int = 0) -> int:
        """Add an entry of at least `size` bytes; return its number in the input."""
        number = next(self._numbers)
        body = json.dumps({"n": number, "pad": ""}, separators=(",", ":")).encode()
        body = body[:-2] + b"x" * max(0, size - len(body)) + body[-2:]
        identity = "" if to.matching == "custom_request" else customer
        self.open.add(to, Entry(body, identity))
        return number

    def contents(self) -> list[list[int]]:
        return [numbers_in(batch) for batch in self.handed]


def body_around(around: Envelope, entries: Sequence[bytes]) -> Body:
    return Body(around.start, around.end, entries, lambda: None)


def numbers_in(batch: Batch) -> list[int]:
    return [json.loads(entry)["n"] for entry in batch.entries]


# The envelope


def body_of(settings_: StreamSettings, *entries: bytes) -> t.Any:
    around = envelope(settings_, TOKEN)
    assert around.size == len(around.start) + len(around.end)
    joined = b"".join(body_around(around, entries))
    return json.loads(joined, parse_float=Decimal)


def test_envelope_of_a_plain_stream_holds_what_the_api_requires() -> None:
    assert body_of(CUSTOMERS, b'{"data":{"email":"a@b.example"}}') == {
        "token": TOKEN,
        "workflow_id": 12,
        "matching": "email",
        "data": [{"data": {"email": "a@b.example"}}],
    }


def test_envelope_without_entries_is_json_too() -> None:
    assert body_of(CUSTOMERS)["data"] == []


def test_envelope_holds_what_is_the_same_for_every_profile() -> None:
    values: dict[str, t.Any] = {
        "skip_triggers": True,
        "skip_invalid_subscriptions": False,
        "detect_geo": True,
        "content": {"discount": Decimal("12.10"), "имя": "Ада"},
        "custom_data": {},
        "attach": [{"name": "a.pdf", "flie_key": "k"}],
    }
    body = body_of(stream("s", **values), b"1", b"2")
    assert body == {
        "token": TOKEN,
        "workflow_id": 12,
        "matching": "email",
        **values,
        "data": [1, 2],
    }
    assert str(body["content"]["discount"]) == "12.10"


def test_envelope_of_custom_names_the_field() -> None:
    body = body_of(stream("s", matching="custom", field_name="CRM_ID"))
    assert body["matching"] == "custom"
    assert body["field_name"] == "CRM_ID"


def test_envelope_of_custom_request_has_no_matching() -> None:
    body = body_of(stream("s", matching="custom_request", custom_request_column="query"))
    assert body == {"token": TOKEN, "workflow_id": 12, "data": []}


def test_envelope_holds_no_setting_that_shapes_entries() -> None:
    body = body_of(
        stream(
            "s",
            match_column="login",
            content_columns=("a",),
            custom_data_columns=("b",),
            attach_column="c",
            custom_request_column="d",
            nulls="send",
        )
    )
    assert body.keys() == {"token", "workflow_id", "matching", "data"}


def test_envelope_names_a_field_with_custom_only() -> None:
    assert "field_name" not in body_of(stream("s", matching="email", field_name="CRM_ID"))


# Who is the same customer


def test_email_and_email_profile_find_the_same_profiles() -> None:
    assert identity_space(CUSTOMERS) == identity_space(ORDERS)


def test_custom_fields_are_spaces_of_their_own() -> None:
    crm, shop, loyalty = STREAMS[4:7]
    assert identity_space(crm) == identity_space(shop)
    assert identity_space(crm) != identity_space(loyalty)


def test_matchings_do_not_share_a_space() -> None:
    spaces = [
        identity_space(stream("s", matching=matching, field_name="email"))
        for matching in ("email", "phone", "profile_id", "custom", "custom_request")
    ]
    assert len(set(spaces)) == len(spaces)


def test_batches_share_a_customer_only_within_a_space() -> None:
    road = Road()
    for to in (CUSTOMERS, ORDERS, STREAMS[3]):
        road.add(to, "same")
    road.add(VISITS, "other")
    road.open.close_all()
    by_stream = {batch.stream.name: batch for batch in road.handed}
    customers = by_stream["customers"]
    assert customers.shares_customer_with(by_stream["orders"])
    assert not customers.shares_customer_with(by_stream["calls"])
    assert not customers.shares_customer_with(by_stream["visits"])


def test_batches_of_a_custom_request_are_all_held_to_be_of_one_customer() -> None:
    road = Road(max_rows=1)
    road.add(STREAMS[-1])
    road.add(STREAMS[-1])
    one, other = road.handed
    assert one.shares_customer_with(other)


def test_batch_is_named_by_stream_and_number_and_shows_no_entry() -> None:
    road = Road(max_rows=1)
    road.add(CUSTOMERS)
    assert str(road.handed[0]) == "stream 'customers', batch 1"


def test_batch_represents_itself_without_token_and_entries() -> None:
    road = Road(max_rows=1)
    road.add(CUSTOMERS, "ada@b.example")
    assert TOKEN not in repr(road.handed[0])
    assert "ada@b.example" not in repr(road.handed[0])


# Budgets


def test_batch_is_handed_over_the_moment_it_holds_its_last_row() -> None:
    road = Road(max_rows=3)
    for number in range(7):
        road.add(CUSTOMERS, f"c{number}")
        assert len(road.handed) == (number + 1) // 3
    road.open.close_all()
    assert road.contents() == [[0, 1, 2], [3, 4, 5], [6]]


def test_body_may_fill_the_byte_budget_to_its_last_byte() -> None:
    room = 2000 - envelope(CUSTOMERS, TOKEN).size
    road = Road(max_bytes=2000)
    road.add(CUSTOMERS, size=room)
    road.open.close_all()
    assert len(body_around(road.handed[0].envelope, road.handed[0].entries)) == 2000


def test_record_that_no_body_could_hold_is_rejected_and_leaves_no_trace() -> None:
    room = 2000 - envelope(CUSTOMERS, TOKEN).size
    road = Road(max_bytes=2000)
    road.add(CUSTOMERS, size=50)
    with pytest.raises(Rejection) as caught:
        road.add(CUSTOMERS, size=room + 1)
    assert caught.value.code == "too_large"
    assert "2001 bytes" in str(caught.value)
    assert "batch_size_bytes (2000)" in str(caught.value)
    assert "xxx" not in str(caught.value)
    road.add(CUSTOMERS, size=50)
    road.open.close_all()
    assert road.contents() == [[0, 2]]
    assert road.opened == 1


def test_rejected_first_record_opens_no_batch() -> None:
    road = Road(max_bytes=2000)
    with pytest.raises(Rejection):
        road.add(CUSTOMERS, size=2000)
    road.open.close_all()
    assert road.opened == 0


def test_narrowed_limit_holds_for_the_batch_that_is_open() -> None:
    road = Road(max_bytes=8000)
    for _ in range(3):
        road.add(CUSTOMERS, size=900)
    road.limit.refused(8000)
    assert road.limit.bytes == 2000
    for _ in range(4):
        road.add(CUSTOMERS, size=900)
    road.open.close_all()
    first, *others = road.handed
    assert len(first.entries) == 3
    assert [batch.size <= 2000 for batch in others] == [True] * len(others)


def test_many_at_once_go_one_by_one_where_the_open_batch_is_above_the_narrowed_limit() -> None:
    road = Road(max_bytes=10_000)
    road.add(CUSTOMERS, size=3000)
    road.limit.refused(4000)
    entry = Entry(b"e" * 100, "ada")
    arrivals = Arrivals([b"v" * 28], [entry.body], [None], [entry], [b""], [b""], [1], [1], [None])
    assert road.open.add_all(CUSTOMERS, NO_KIND, arrivals, 0, 1) == 0


def test_entry_above_the_narrowed_limit_goes_alone() -> None:
    road = Road(max_bytes=8000)
    road.limit.refused(8000)
    road.add(CUSTOMERS, size=3000)
    road.add(CUSTOMERS, size=100)
    road.open.close_all()
    assert road.contents() == [[0], [1]]


def test_open_batches_of_all_streams_share_one_budget_and_the_largest_goes_first() -> None:
    road = Road(max_bytes=3500)
    road.add(CUSTOMERS, "a", size=1000)
    road.add(STREAMS[3], "b", size=1500)
    assert not road.handed
    road.add(STREAMS[6], "c", size=1200)
    assert [batch.stream.name for batch in road.handed] == ["calls"]


@pytest.mark.parametrize("share", [0.05, 0.3, 0.45, 0.6])
def test_single_stream_fills_its_bodies_whatever_its_envelope_takes(share: float) -> None:
    budget = 20_000
    to = stream("s", attach=[{"name": "a.pdf", "data": "Q" * int(budget * share)}])
    road = Road(max_bytes=budget)
    for number in range(400):
        road.add(to, f"c{number}", size=200)
    road.open.close_all()
    for batch, following in itertools.pairwise(road.handed):
        assert batch.size + 1 + len(following.entries[0]) > budget


def test_rows_stay_beside_their_entries() -> None:
    road = Road(max_rows=2)
    rows = [Origin(key=b'{"id":%d}' % number) for number in range(3)]
    for row in rows:
        road.open.add(CUSTOMERS, Entry(b"{}", "ada"), row)
    road.open.close_all()
    (first, second) = (batch.origins for batch in road.handed)
    assert [first[0], first[1], second[0]] == rows


def test_every_entry_has_a_row_though_nothing_is_to_be_kept() -> None:
    road = Road()
    road.add(CUSTOMERS)
    road.add(CUSTOMERS)
    road.open.close_all()
    assert [road.handed[0].origins[number] for number in range(2)] == [Origin(), Origin()]


KINDS = [Kind(number, "new_version", has_key=True, bookmark=None) for number in (1, 2)]
RUNS = st.lists(
    st.tuples(
        st.sampled_from([CUSTOMERS, CUSTOMERS, CUSTOMERS, ORDERS, VISITS]),
        st.sampled_from([*[KINDS[0]] * 5, KINDS[1]]),
        st.lists(
            st.builds(
                lambda size, name, message: Arrival(
                    b"v" * 28, None, Entry(b"e" * size, name), b"m" * message, b"k", size, 1, None
                ),
                st.integers(1, 60),
                st.integers(0, 40).map(str),
                st.integers(0, 40),
            ),
            min_size=1,
            max_size=20,
        ),
    ),
    max_size=6,
)


def handed(road: Road) -> list[tuple[t.Any, ...]]:
    road.open.close_all()
    return [
        (
            b.entries,
            [b.origins[position] for position in range(len(b.entries))],
            b.identities,
            b.size,
            b.held,
            b.after,
        )
        for b in road.handed
    ]


@settings(max_examples=300)
@given(
    runs=RUNS,
    max_rows=st.integers(1, 25),
    max_bytes=st.integers(300, 2500),
    refused=st.none() | st.integers(300, 2500),
)
def test_many_at_once_make_the_batches_that_one_after_the_other_make(
    runs: list[tuple[StreamSettings, Kind, list[Arrival]]],
    max_rows: int,
    max_bytes: int,
    refused: int | None,
) -> None:
    single, many = (Road(max_rows=max_rows, max_bytes=max_bytes) for _ in range(2))
    at_once = 0
    for to, kind, arrivals in runs:
        for arrival in arrivals:
            single.open.add(to, arrival.entry, arrival.origin(kind))
        columns: t.Any = zip(*arrivals, strict=True)
        versions, *others = columns
        bodies = [arrival.entry.body for arrival in arrivals]
        together = Arrivals(versions, bodies, *others)
        assert together.each() == arrivals
        position = 0
        while position < len(arrivals):
            if number := many.open.add_all(to, kind, together, position, len(arrivals)):
                position += number
                at_once += number
                continue
            many.open.add(to, arrivals[position].entry, arrivals[position].origin(kind))
            position += 1
        if refused is not None:
            single.limit.refused(refused)
            many.limit.refused(refused)
    event("many at once" if at_once > 10 else "few at once")
    assert handed(many) == handed(single)


# Order


def test_batch_waits_for_the_batch_with_an_earlier_record_of_its_customer() -> None:
    road = Road(max_rows=2)
    road.add(CUSTOMERS, "ada")
    road.add(ORDERS, "ada")
    road.add(ORDERS, "bob")
    assert [batch.stream.name for batch in road.handed] == ["customers", "orders"]


def test_batch_without_a_common_customer_overtakes() -> None:
    road = Road(max_rows=2)
    road.add(CUSTOMERS, "ada")
    road.add(ORDERS, "bob")
    road.add(ORDERS, "eve")
    assert [batch.stream.name for batch in road.handed] == ["orders"]


def test_customer_who_returns_to_the_first_stream_opens_a_new_batch() -> None:
    road = Road()
    road.add(CUSTOMERS, "ada")
    road.add(ORDERS, "ada")
    road.add(CUSTOMERS, "ada")
    assert road.contents() == [[0], [1]]
    road.open.close_all()
    assert road.contents() == [[0], [1], [2]]


def test_order_of_two_customers_that_cross_is_kept() -> None:
    road = Road()
    road.add(CUSTOMERS, "ada")
    road.add(ORDERS, "ada")
    road.add(ORDERS, "bob")
    road.add(CUSTOMERS, "bob")
    road.open.close_all()
    order = [number for batch in road.contents() for number in batch]
    assert order.index(0) < order.index(1)
    assert order.index(2) < order.index(3)


def test_order_is_kept_when_a_customer_is_in_two_other_open_batches() -> None:
    road = Road(max_rows=3)
    road.add(CUSTOMERS, "bob")  # 0
    road.add(ORDERS, "bob")  # 1: the orders' batch comes after the customers'
    road.add(ORDERS, "ada")  # 2
    road.add(VISITS, "ada")  # 3: the visits' batch comes after the orders'
    road.add(CUSTOMERS, "ada")  # 4: closes customers and orders; must come after the visits' batch
    road.add(CUSTOMERS, "eve")
    road.add(CUSTOMERS, "eva")  # the customers' batch is full
    road.open.close_all()
    order = [number for batch in road.contents() for number in batch]
    assert order.index(3) < order.index(4)


def test_a_long_chain_of_streams_closes_in_order() -> None:
    road = Road()
    streams = [stream(f"s{number}") for number in range(300)]
    for number, to in enumerate(streams):
        road.add(to, f"c{number}")
        road.add(to, f"c{number + 1}")  # whom the next stream brings again
    road.add(streams[0], "c300")  # comes after the last: all of them close
    assert [batch.stream.name for batch in road.handed] == [to.name for to in streams]


def test_one_customer_in_a_hundred_streams_is_no_endless_work() -> None:
    road = Road()
    streams = [stream(f"s{number}") for number in range(100)]
    for to in streams:
        road.add(to, "ada")  # comes after each stream before, by as many ways as there are subsets
    road.open.close_all()
    assert [batch.stream.name for batch in road.handed] == [to.name for to in streams]


# Age and end


def test_old_batches_are_closed_and_young_ones_left(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr("target_altcraft.batch.time", clock)
    road = Road()
    road.add(CUSTOMERS, "ada")
    clock.now += MAX_AGE_SECONDS / 2
    road.add(STREAMS[3], "+7900")
    road.open.close_aged()
    assert not road.handed
    clock.now += MAX_AGE_SECONDS / 2
    road.add(CUSTOMERS, "bob")  # does not make the batch any younger
    road.open.close_aged()
    assert [batch.stream.name for batch in road.handed] == ["customers"]
    clock.now += MAX_AGE_SECONDS / 2
    road.open.close_aged()
    assert [batch.stream.name for batch in road.handed] == ["customers", "calls"]


def test_old_batch_takes_what_must_come_before_it_along(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr("target_altcraft.batch.time", clock)
    road = Road()
    road.add(ORDERS, "bob")
    clock.now += MAX_AGE_SECONDS / 2
    road.add(CUSTOMERS, "ada")
    road.add(ORDERS, "ada")
    clock.now += MAX_AGE_SECONDS / 2
    road.open.close_aged()
    assert [batch.stream.name for batch in road.handed] == ["customers", "orders"]
    road.open.close_all()
    assert len(road.handed) == 2


def test_nothing_open_is_nothing_to_close() -> None:
    road = Road()
    road.open.close_aged()
    road.open.close_all()
    assert not road.handed


def test_batch_that_could_not_be_handed_over_is_not_handed_over_again() -> None:
    def refuse(_: Batch) -> None:
        raise RuntimeError

    road = Road(max_rows=1, hand_over=refuse)
    with pytest.raises(RuntimeError):
        road.add(CUSTOMERS)
    road.open.close_all()
    assert road.contents() == [[0]]


# Any input

ADDED = st.tuples(
    st.integers(min_value=0, max_value=len(STREAMS) - 1),
    st.integers(min_value=0, max_value=3),
    st.integers(min_value=0, max_value=900),
)
REFUSED = st.integers(min_value=300, max_value=3000)
STEPS = st.lists(st.one_of(ADDED, ADDED, ADDED, REFUSED), max_size=60)


class Observer:
    """Checks after every step what must hold of the batches, whatever the input."""

    def __init__(self, max_rows: int, max_bytes: int) -> None:
        self.max_rows = max_rows
        self.max_bytes = max_bytes
        self.road = Road(max_rows=max_rows, max_bytes=max_bytes)
        self.waiting: dict[str, dict[int, bytes]] = defaultdict(dict)
        self.seen = 0
        self.by_stream: dict[str, list[int]] = defaultdict(list)
        self.by_customer: dict[tuple[str, str], list[int]] = defaultdict(list)
        self.customer_of: dict[int, tuple[str, str]] = {}

    def add(self, to: StreamSettings, customer: str, size: int) -> None:
        number = self.road.add(to, customer, size)
        self.by_stream[to.name].append(number)
        key = identity_space(to), "" if to.matching == "custom_request" else customer
        self.by_customer[key].append(number)
        self.customer_of[number] = key
        self.waiting[to.name][number] = b"x" * max(size, len(f'{{"n":{number},"pad":""}}'))
        self.look(to)

    def look(self, latest: StreamSettings) -> None:
        for batch in self.road.handed[self.seen :]:
            for number in numbers_in(batch):
                del self.waiting[batch.stream.name][number]  # or it was handed over twice
        self.seen = len(self.road.handed)
        open_bytes = 0
        for to in STREAMS:
            entries = list(self.waiting[to.name].values())
            assert len(entries) < self.max_rows
            if entries:
                open_bytes += len(body_around(envelope(to, TOKEN), entries))
        assert open_bytes <= self.max_bytes
        assert self.waiting[latest.name] or self.road.handed[-1].stream == latest

    def finish(self) -> None:
        self.road.open.close_all()
        handed = self.road.handed
        assert sorted(batch.number for batch in handed) == list(range(1, self.road.opened + 1))
        for batch in handed:
            body = body_around(batch.envelope, batch.entries)
            joined = b"".join(body)
            assert len(joined) == len(body) == batch.size <= self.max_bytes
            assert 0 < len(json.loads(joined)["data"]) <= self.max_rows
        for name, numbers in self.by_stream.items():
            of_stream = [batch for batch in handed if batch.stream.name == name]
            assert [number for batch in of_stream for number in numbers_in(batch)] == numbers

    def look_at_customers(self) -> None:
        flat = [number for batch in self.road.handed for number in numbers_in(batch)]
        for customer, numbers in self.by_customer.items():
            assert [n for n in flat if self.customer_of[n] == customer] == numbers


def observe(steps: list[t.Any], max_rows: int, max_bytes: int) -> Observer:
    observer = Observer(max_rows, max_bytes)
    for step in steps:
        if isinstance(step, int):
            observer.road.limit.refused(step)
        else:
            place, customer, size = step
            observer.add(STREAMS[place], f"c{customer}", size)
    observer.finish()
    return observer


@settings(deadline=None, max_examples=300)
@given(
    STEPS,
    st.integers(min_value=1, max_value=6),
    st.integers(min_value=1500, max_value=4000),
)
@example([(0, 0, 0), (1, 0, 0), (0, 0, 0)], 6, 4000)
def test_any_input_keeps_every_budget_loses_nothing_and_keeps_each_streams_order(
    steps: list[t.Any], max_rows: int, max_bytes: int
) -> None:
    observe(steps, max_rows, max_bytes)


CROSSED = [(0, 1), (1, 1), (1, 0), (2, 0), (0, 0), (0, 2), (0, 3)]


@settings(deadline=None, max_examples=300)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=5, max_size=40),
    st.integers(min_value=2, max_value=5),
)
@example(CROSSED, 3)
def test_any_input_keeps_the_order_of_every_customer(
    steps: list[tuple[int, int]], max_rows: int
) -> None:
    observe([(*step, 0) for step in steps], max_rows, BIG).look_at_customers()


@settings(deadline=None, max_examples=300)
@given(STEPS, st.integers(min_value=1500, max_value=4000))
@example([(place, customer, 50 if customer < 2 else 600) for place, customer in CROSSED], 1500)
def test_any_sizes_keep_the_order_of_every_customer(steps: list[t.Any], max_bytes: int) -> None:
    observe(steps, 10_000, max_bytes).look_at_customers()
