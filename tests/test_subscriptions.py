from __future__ import annotations

import copy
import json
import typing as t
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from target_altcraft.errors import Rejection
from target_altcraft.profile import EntryPlan
from target_altcraft.settings import StreamSettings
from target_altcraft.subscriptions import compiled, faults

if t.TYPE_CHECKING:
    from target_altcraft.profile import Entry

Json = dict[str, t.Any]

EMAIL: Json = {"channel": "email", "resource_id": 7}
SMS: Json = {"channel": "sms", "resource_id": 7}
TELEGRAM: Json = {"channel": "telegram_bot", "resource_id": 8, "column": "chat_id"}
PUSH: Json = {
    "channel": "push",
    "resource_id": 9,
    "column": "token",
    "provider": "android-firebase",
    "priority": 3,
}
MAX: Json = {"channel": "max_bot", "resource_id": 3, "column": "max_id", "field": "cc_data.id"}


def entry_of(record: Json, *elements: Json, **stream: t.Any) -> Entry:
    assert list(faults(elements)) == []
    given = StreamSettings("orders", 12, subscriptions=compiled(elements), **stream)
    plan = EntryPlan(given, {"properties": {name: {} for name in record}})
    return plan.entry(record)


def profile_of(record: Json, *elements: Json, **stream: t.Any) -> Json:
    entry = json.loads(entry_of(record, *elements, **stream).body, parse_float=Decimal)
    return t.cast("Json", entry["data"])


def subscriptions_of(record: Json, *elements: Json, **stream: t.Any) -> list[Json]:
    """The profile's subscriptions; none if the profile has no such key."""
    profile = profile_of(record, *elements, **stream)
    found = profile.get("subscriptions", [])
    assert found or "subscriptions" not in profile
    return t.cast("list[Json]", found)


def sms(*phones: str, resource_id: int = 7) -> list[Json]:
    return [{"channel": "sms", "resource_id": resource_id, "phone": phone} for phone in phones]


# Where the address comes from, and where it goes


def test_the_example_of_all_kinds() -> None:
    record = {
        "email": "a@b.example",
        "phones": ["+7900", "+7901"],
        "chat_id": 15,
        "token": "t0k",
        "max_id": "m-1",
        "_city": "Tver",
    }
    elements = (EMAIL, {**SMS, "column": "phones"}, TELEGRAM, PUSH, MAX)
    assert profile_of(record, *elements) == {
        "email": "a@b.example",
        "phones": ["+7900", "+7901"],
        "_city": "Tver",
        "subscriptions": [
            {"channel": "email", "resource_id": 7, "email": "a@b.example"},
            {"channel": "sms", "resource_id": 7, "phone": "+7900"},
            {"channel": "sms", "resource_id": 7, "phone": "+7901"},
            {"channel": "telegram_bot", "resource_id": 8, "cc_data": {"id": "15"}},
            {
                "channel": "push",
                "resource_id": 9,
                "provider": "android-firebase",
                "priority": 3,
                "subscription_id": "t0k",
            },
            {"channel": "max_bot", "resource_id": 3, "cc_data": {"id": "m-1"}},
        ],
    }


@pytest.mark.parametrize(
    ("channel", "address"),
    [
        ("email", {"email": "a@b.example"}),
        ("sms", {"phone": "+7900"}),
        ("whatsapp", {"cc_data": {"phone": "+7900"}}),
        ("viber", {"cc_data": {"phone": "+7900"}}),
        ("notify", {"cc_data": {"phone": "+7900"}}),
    ],
)
def test_channel_has_its_default_column_and_field(channel: str, address: Json) -> None:
    record = {"email": "a@b.example", "phone": "+7900", "phones": ["+7999"]}
    expected = [{"channel": channel, "resource_id": 1, **address}]
    assert subscriptions_of(record, {"channel": channel, "resource_id": 1}) == expected


@pytest.mark.parametrize("phone", [None, "", " ", []])
@pytest.mark.parametrize("channel", ["sms", "whatsapp", "viber", "notify"])
def test_phones_are_taken_where_phone_holds_no_address(channel: str, phone: t.Any) -> None:
    element = {"channel": channel, "resource_id": 1, "field": "number"}
    record = {"email": "a@b.example", "phone": phone, "phones": ["+7900", "+7901"]}
    assert [s["number"] for s in subscriptions_of(record, element)] == ["+7900", "+7901"]
    del record["phone"]
    assert [s["number"] for s in subscriptions_of(record, element)] == ["+7900", "+7901"]


def test_phones_may_be_one_text() -> None:
    assert subscriptions_of({"email": "a@b.example", "phones": "+7900"}, SMS) == sms("+7900")


@pytest.mark.parametrize(
    ("channel", "column", "field"),
    [
        ("telegram_bot", "chat_id", {"cc_data": {"id": "x"}}),
        ("push", "t", {"subscription_id": "x"}),
    ],
)
def test_channel_without_a_default_column_has_a_default_field(
    channel: str, column: str, field: Json
) -> None:
    element = {"channel": channel, "resource_id": 1, "column": column}
    expected = [{"channel": channel, "resource_id": 1, **field}]
    assert subscriptions_of({"email": "a@b.example", column: "x"}, element) == expected


def test_column_and_field_of_the_setting_replace_the_defaults() -> None:
    element = {**EMAIL, "column": "work", "field": "address"}
    record = {"email": "a@b.example", "work": "w@b.example"}
    assert subscriptions_of(record, element) == [
        {"channel": "email", "resource_id": 7, "address": "w@b.example"}
    ]


def test_dots_nest_the_field_beside_what_passes_through() -> None:
    element = {**TELEGRAM, "field": "cc_data.chat.id", "cc_data": {"lang": "ru", "chat": {"x": 1}}}
    before = copy.deepcopy(element)
    for number in (1, 2):
        (made,) = subscriptions_of({"email": "a@b.example", "chat_id": number}, element)
        assert made["cc_data"] == {"lang": "ru", "chat": {"x": 1, "id": str(number)}}
    assert element == before


def test_every_other_key_passes_through_as_it_is() -> None:
    rest = {
        "status": "unsubscribed",
        "priority": Decimal("1.50"),
        "custom_fields": {"column": "x", "field": [1, None]},
        "cats": ["news"],
        "nothing": None,
    }
    (made,) = subscriptions_of({"email": "a@b.example"}, {**EMAIL, **rest})
    assert made == {"channel": "email", "resource_id": 7, "email": "a@b.example", **rest}
    assert str(made["priority"]) == "1.50"


def test_status_is_never_sent_unless_given() -> None:
    record = {"email": "a@b.example", "phone": "+7900", "chat_id": 1, "token": "t", "max_id": 2}
    for made in subscriptions_of(record, EMAIL, SMS, TELEGRAM, PUSH, MAX):
        assert "status" not in made


# Addresses


@pytest.mark.parametrize("address", [None, "", " ", "\t\n", [], [None], ["", " "]])
@pytest.mark.parametrize("nulls", ["omit", "send"])
def test_null_or_blank_address_makes_no_subscription(address: t.Any, nulls: str) -> None:
    record = {"email": "a@b.example", "chat_id": address}
    assert profile_of(record, TELEGRAM, nulls=nulls) == {"email": "a@b.example"}
    assert not entry_of(record, TELEGRAM, nulls=nulls).subscribed


def test_missing_column_makes_no_subscription() -> None:
    assert profile_of({"email": "a@b.example"}, TELEGRAM, SMS) == {"email": "a@b.example"}


def test_array_makes_a_subscription_of_each_address_that_is_not_blank() -> None:
    record = {"email": "a@b.example", "phones": ["+7900", None, " ", 7901, "+7900"]}
    assert subscriptions_of(record, SMS) == sms("+7900", "7901")


@pytest.mark.parametrize(
    ("number", "text"),
    [(15, "15"), (-100123, "-100123"), (Decimal("7.9E+10"), "79000000000"), (0, "0")],
)
def test_number_becomes_text(number: t.Any, text: str) -> None:
    for value in (number, [number]):
        (made,) = subscriptions_of({"email": "a@b.example", "chat_id": value}, TELEGRAM)
        assert made["cc_data"] == {"id": text}


@pytest.mark.parametrize(
    "value",
    [
        True,
        {"id": "v4lue"},
        [["v4lue"]],
        ["+7900", {"x": "v4lue"}],
        [False],
        Decimal("1e999"),
        float("nan"),
        float("inf"),
    ],
)
def test_address_of_another_type_is_rejected_by_column_without_its_value(value: t.Any) -> None:
    with pytest.raises(Rejection) as caught:
        entry_of({"email": "a@b.example", "chat_id": value}, TELEGRAM)
    assert caught.value.code == "bad_subscriptions"
    reason = "column 'chat_id' holds an address that is neither text nor a number"
    assert str(caught.value) == reason
    assert caught.value.__suppress_context__


# What the record has of its own

OWN = [
    {"channel": "email", "resource_id": 1, "email": "x@b.example", "status": "unsubscribed"},
    {"channel": "push", "resource_id": 2, "provider": "ios", "subscription_id": "p"},
]


def test_subscriptions_of_the_record_come_first_and_stay() -> None:
    record = {"email": "a@b.example", "subscriptions": OWN}
    before = copy.deepcopy(record)
    assert subscriptions_of(record, EMAIL) == [
        *OWN,
        {"channel": "email", "resource_id": 7, "email": "a@b.example"},
    ]
    assert record == before


@pytest.mark.parametrize(
    ("own", "element"),
    [
        ({"channel": "email", "resource_id": 7, "email": "a@b.example", "status": "no"}, EMAIL),
        ({"channel": "email", "resource_id": 7, "email": "A@B.example"}, EMAIL),
        ({"channel": "email", "resource_id": "7", "email": "a@b.example"}, EMAIL),
        ({"channel": "sms", "resource_id": 7, "phone": 7900}, SMS),
        ({"channel": "telegram_bot", "resource_id": 8, "cc_data": {"id": "15"}}, TELEGRAM),
    ],
)
def test_same_channel_resource_and_address_is_not_added_again(own: Json, element: Json) -> None:
    record = {
        "email": "a@b.example",
        "phone": "7900",
        "chat_id": 15,
        "subscriptions": [{"x": 1}, own],
    }
    assert subscriptions_of(record, element) == [{"x": 1}, own]


@pytest.mark.parametrize(
    "own",
    [
        {"channel": "sms", "resource_id": 7, "email": "a@b.example"},
        {"channel": "email", "resource_id": 8, "email": "a@b.example"},
        {"channel": "email", "resource_id": 7, "email": "other@b.example"},
        {"channel": "email", "resource_id": 7, "email": None},
        {"channel": "email", "resource_id": 7, "email": ["a@b.example"]},
        {"channel": "email", "resource_id": 7},
        {},
    ],
)
def test_other_subscription_of_the_record_keeps_none_from_being_added(own: Json) -> None:
    added = {"channel": "email", "resource_id": 7, "email": "a@b.example"}
    record = {"email": "a@b.example", "subscriptions": [own]}
    assert subscriptions_of(record, EMAIL) == [own, added]


def test_own_subscription_whose_address_is_not_where_the_field_says_is_another() -> None:
    own = {"channel": "telegram_bot", "resource_id": 8, "cc_data": "15"}
    record = {"email": "a@b.example", "chat_id": 15, "subscriptions": [own]}
    assert len(subscriptions_of(record, TELEGRAM)) == 2


def test_duplicates_of_the_record_itself_stay() -> None:
    own = [{"channel": "sms", "resource_id": 7, "phone": "1"}] * 2
    record = {"email": "a@b.example", "phone": "1", "subscriptions": own}
    assert subscriptions_of(record, SMS) == own


def test_two_elements_that_say_the_same_make_one_subscription() -> None:
    record = {"email": "a@b.example", "login": "A@b.example"}
    made = subscriptions_of(record, EMAIL, {**EMAIL, "column": "login"}, {**EMAIL, "priority": 1})
    assert made == [{"channel": "email", "resource_id": 7, "email": "a@b.example"}]


@pytest.mark.parametrize("own", [None, [], ""])
def test_empty_subscriptions_of_the_record_are_none(own: t.Any) -> None:
    record = {"email": "a@b.example", "subscriptions": own}
    added = [{"channel": "email", "resource_id": 7, "email": "a@b.example"}]
    assert profile_of(record, EMAIL, nulls="send")["subscriptions"] == added


def test_empty_subscriptions_are_sent_as_they_are_where_nothing_is_added() -> None:
    record: Json = {"email": "a@b.example", "subscriptions": None}
    assert profile_of(record, TELEGRAM, nulls="send") == record
    record = {"email": "a@b.example", "subscriptions": []}
    assert profile_of(record, TELEGRAM) == record


@pytest.mark.parametrize("own", ["v4lue", {"action": "add", "value": OWN}, 5, ["v4lue"], [None]])
def test_subscriptions_that_cannot_be_added_to_are_rejected(own: t.Any) -> None:
    with pytest.raises(Rejection) as caught:
        entry_of({"email": "a@b.example", "subscriptions": own}, EMAIL)
    assert caught.value.code == "bad_subscriptions"
    assert str(caught.value) == "column 'subscriptions' is not an array of objects"


@pytest.mark.parametrize("own", ["text", {"action": "add", "value": OWN}, OWN])
def test_without_the_setting_the_records_subscriptions_pass_as_they_are(own: t.Any) -> None:
    record = {"email": "a@b.example", "subscriptions": own}
    assert profile_of(record) == record


# Whether the profile has any


@pytest.mark.parametrize("schema", [{}, {"email": {}}, {"email": {}, "subscriptions": {}}])
@pytest.mark.parametrize(
    ("own", "subscribed"), [(OWN, True), ([], False), (None, False), ({"action": "add"}, True)]
)
def test_entry_tells_whether_the_record_brought_subscriptions(
    schema: Json,
    own: t.Any,
    subscribed: bool,  # noqa: FBT001
) -> None:
    plan = EntryPlan(StreamSettings("orders", 12), {"properties": schema})
    assert plan.entry({"email": "a@b.example", "subscriptions": own}).subscribed is subscribed
    assert plan.entry({"email": "a@b.example"}).subscribed is False


def test_entry_tells_whether_the_setting_brought_subscriptions() -> None:
    assert entry_of({"email": "a@b.example", "phone": "1"}, SMS).subscribed is True
    assert entry_of({"email": "a@b.example"}, SMS).subscribed is False
    assert entry_of({"email": "a@b.example", "subscriptions": OWN}, SMS).subscribed is True


# What becomes of the columns


def test_column_that_only_a_subscription_uses_is_moved() -> None:
    record = {"email": "a@b.example", "chat_id": 1, "phone": "+7900", "work": "w@b.example"}
    profile = profile_of(record, TELEGRAM, SMS, {**EMAIL, "column": "work"})
    assert profile.keys() == {"email", "subscriptions"}


def test_column_is_moved_though_its_address_was_not_used() -> None:
    record = {"email": "a@b.example", "chat_id": None, "phone": " "}
    assert profile_of(record, TELEGRAM, SMS, nulls="send") == {"email": "a@b.example"}


def test_column_of_two_subscriptions_serves_both() -> None:
    record = {"email": "a@b.example", "phone": "1"}
    profile = profile_of(record, SMS, {**SMS, "resource_id": 8})
    assert profile["subscriptions"] == [*sms("1"), *sms("1", resource_id=8)]
    assert "phone" not in profile


def test_email_and_phones_stay() -> None:
    record = {"email": "a@b.example", "phones": ["1"], "id": "x"}
    for matching in ({"matching": "email"}, {"matching": "profile_id", "match_column": "id"}):
        profile = profile_of(record, EMAIL, {**SMS, "column": "phones"}, **matching)
        assert profile["email"] == "a@b.example"
        assert profile["phones"] == ["1"]


@pytest.mark.parametrize("matching", ["email", "email_profile"])
def test_email_of_the_match_column_is_the_profiles_and_the_subscriptions(matching: str) -> None:
    profile = profile_of({"login": "a@b.example"}, EMAIL, matching=matching, match_column="login")
    assert profile == {
        "email": "a@b.example",
        "subscriptions": [{"channel": "email", "resource_id": 7, "email": "a@b.example"}],
    }


def test_changed_address_is_the_one_subscribed() -> None:
    record = {"login": "old@b.example", "email": "new@b.example"}
    entry = json.loads(entry_of(record, EMAIL, match_column="login").body)
    assert entry["email"] == "old@b.example"
    assert entry["data"]["subscriptions"][0]["email"] == "new@b.example"
    entry = json.loads(entry_of(record, {**EMAIL, "column": "login"}, match_column="login").body)
    assert entry["data"]["subscriptions"][0]["email"] == "old@b.example"


def test_phone_that_is_the_match_value_is_subscribed() -> None:
    entry = json.loads(entry_of({"phone": "+7900"}, SMS, matching="phone").body)
    assert entry == {
        "data": {"phones": ["+7900"], "subscriptions": sms("+7900")},
        "phone": "+7900",
    }
    record = {"phone": "+7900", "phones": ["+7901"]}
    assert subscriptions_of(record, SMS, matching="phone") == sms("+7900")
    record = {"mobile": "+7900"}
    made = subscriptions_of(record, SMS, matching="phone", match_column="mobile")
    assert made == sms("+7900")


def test_field_of_custom_matching_stays() -> None:
    element = {**TELEGRAM, "column": "CRM_ID"}
    record = {"CRM_ID": 15, "email": "a@b.example"}
    profile = profile_of(record, element, matching="custom", field_name="CRM_ID")
    assert profile["CRM_ID"] == 15
    assert profile["subscriptions"][0]["cc_data"] == {"id": "15"}
    # `field_name` means nothing with another matching, so its column is moved like any other.
    assert "CRM_ID" not in profile_of(record, element, field_name="CRM_ID")


def test_match_column_that_is_moved_still_holds_an_address() -> None:
    record = {"chat_id": "15"}
    for stream in (
        {"matching": "profile_id", "match_column": "chat_id"},
        {"matching": "custom", "field_name": "tg", "match_column": "chat_id"},
    ):
        profile = profile_of(record, TELEGRAM, **stream)
        assert profile["subscriptions"][0]["cc_data"] == {"id": "15"}
        assert "chat_id" not in profile


def test_content_column_can_hold_an_address() -> None:
    record = {"email": "a@b.example", "chat_id": "15"}
    entry = json.loads(entry_of(record, TELEGRAM, content_columns=("chat_id",)).body)
    assert entry["content"] == {"chat_id": "15"}
    assert entry["data"]["subscriptions"][0]["cc_data"] == {"id": "15"}


def test_record_is_left_as_it_is() -> None:
    record = {"email": "a@b.example", "chat_id": [1, 2], "phones": ["1"], "subscriptions": OWN}
    before = copy.deepcopy(record)
    entry_of(record, TELEGRAM, SMS, EMAIL)
    assert record == before


# Checks at the start


@pytest.mark.parametrize(
    ("element", "said"),
    [
        (EMAIL, []),
        ({**EMAIL, "column": "x", "field": "y"}, []),
        ({"channel": "push", "resource_id": 1}, ["'column' is required for channel 'push'"]),
        (
            {"channel": "telegram_bot", "resource_id": 1},
            ["'column' is required for channel 'telegram_bot'"],
        ),
        (
            {"channel": "max_bot", "resource_id": 1},
            [
                "'column' is required for channel 'max_bot'",
                "'field' is required for channel 'max_bot'",
            ],
        ),
        (
            {"channel": "max_bot", "resource_id": 1, "column": "x"},
            ["'field' is required for channel 'max_bot'"],
        ),
        ({**EMAIL, "column": "subscriptions"}, ["'column' must not be 'subscriptions'"]),
        ({**EMAIL, "field": "channel"}, ["'field' must not be 'channel'"]),
        ({**EMAIL, "field": "resource_id.x"}, ["'field' must not be 'resource_id'"]),
        *(
            ({**EMAIL, "field": field}, ["'field' must be names joined by dots"])
            for field in (".", "a..b", ".a", "a.")
        ),
        *(
            (
                element,
                ["another key stands where the address goes (see 'field'); leave that key out"],
            )
            for element in (
                {**EMAIL, "email": "a@b.example"},
                {**EMAIL, "email": None},
                {**TELEGRAM, "cc_data": {"id": 5}},
                {**TELEGRAM, "cc_data": "text"},
                {**EMAIL, "field": "x.y", "x": None},
            )
        ),
        ({**TELEGRAM, "cc_data": {"x": 5}}, []),
        ({**EMAIL, "field": "column"}, []),
    ],
)
def test_fault_of_an_element_is_named(element: Json, said: list[str]) -> None:
    assert list(faults([EMAIL, element])) == [f"[1]: {fault}" for fault in said]


def test_faults_of_all_elements_are_named() -> None:
    push = {"channel": "push", "resource_id": 1}
    assert list(faults([push, EMAIL, push])) == [
        "[0]: 'column' is required for channel 'push'",
        "[2]: 'column' is required for channel 'push'",
    ]


def test_elements_that_say_the_same_are_compiled_alike() -> None:
    explicit = {"field": "email", "resource_id": 7, "channel": "email", "column": "email"}
    assert compiled([EMAIL]) == compiled([explicit])
    assert compiled([EMAIL]) != compiled([{**EMAIL, "priority": 0}])
    (subscription,) = compiled([EMAIL])
    assert (subscription.channel, subscription.resource_id) == ("email", 7)


# Any record

ADDRESSES = st.one_of(
    st.none(),
    st.sampled_from(["", " ", "a@b.example", "A@B.example", "+7900", "7900"]),
    st.integers(min_value=0, max_value=3),
)
VALUES = ADDRESSES | st.lists(ADDRESSES, max_size=4)
FIELDS = {"email": ("email",), "sms": ("phone",), "telegram_bot": ("cc_data", "id")}


def _address(made: Json) -> t.Any:
    value: t.Any = made
    for name in FIELDS[made["channel"]]:
        value = value[name]
    return value


@settings(deadline=None)
@given(
    st.fixed_dictionaries({}, optional=dict.fromkeys(["phone", "phones", "chat_id"], VALUES)),
    st.lists(st.sampled_from([EMAIL, SMS, {**SMS, "column": "phones"}, TELEGRAM]), unique_by=str),
    st.sampled_from(["omit", "send"]),
)
def test_each_address_is_subscribed_once_and_no_blank_one_ever(
    columns: Json, elements: list[Json], nulls: str
) -> None:
    record = {"email": "a@b.example", **columns}
    entry = entry_of(record, *elements, nulls=nulls)
    made = json.loads(entry.body)["data"].get("subscriptions") or []
    assert entry.subscribed is bool(made)
    keys = [(each["channel"], each["resource_id"], _address(each)) for each in made]
    assert len(set(keys)) == len(keys)
    written = {
        str(item)
        for value in record.values()
        for item in (value if isinstance(value, list) else [value])
        if item is not None and str(item).strip()
    }
    assert {address for *_, address in keys} <= written
    if TELEGRAM in elements:
        value = columns.get("chat_id")
        items = value if isinstance(value, list) else [value]
        wanted = {str(item) for item in items if item is not None and str(item).strip()}
        assert {key[2] for key in keys if key[0] == "telegram_bot"} == wanted
