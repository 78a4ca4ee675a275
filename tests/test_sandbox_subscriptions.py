"""The sandbox messages subscriptions, not profiles, and tells who entered from who was messaged."""

from __future__ import annotations

import subprocess
import sys
import typing as t

import pytest
from harness import DEADLINE_SECONDS
from test_sandbox import LIST, Api, until

from target_altcraft.sandbox import Message, Resource, Sandbox, Workflow
from target_altcraft.sandbox.scenarios import SetupError, parse_resource, parse_workflow

if t.TYPE_CHECKING:
    from collections.abc import Iterator

Json = dict[str, t.Any]

RESOURCES = (
    Resource(7, "News", ("email", "sms", "viber", "whatsapp", "notify")),
    Resource(8, "Bot", ("telegram_bot", "push", "max_bot")),
)


@pytest.fixture
def api(sandbox: Sandbox) -> Iterator[Api]:
    client = Api(sandbox)
    with client.session:
        yield client


def by_email(email: str = "ada@example.com", resource_id: int = 7, **more: object) -> Json:
    return {"channel": "email", "resource_id": resource_id, "email": email, **more}


def ada(*subscriptions: object, **data: object) -> Json:
    return {"data": {"email": "ada@example.com", "subscriptions": list(subscriptions), **data}}


def items(api: Api, *entries: Json, **root: object) -> list[Json]:
    answer = api.status(api.task(*entries, **root))
    return t.cast("list[Json]", answer["data"]["result"]["result"])


def statuses(sandbox: Sandbox) -> list[tuple[str, str]]:
    (profile,) = sandbox.profiles
    return [(each["address"], each["status"]) for each in profile["subscriptions"]]


# Who is messaged


def test_profile_with_a_subscription_enters_and_is_messaged(sandbox: Sandbox, api: Api) -> None:
    task_id = api.task(ada(by_email()))
    (profile,) = sandbox.profiles
    (message,) = sandbox.messages
    assert message == Message(
        profile=profile["id"],
        workflow_id=1,
        resource_id=7,
        channel="email",
        address="ada@example.com",
        task_id=task_id,
        at=message.at,
    )
    assert (profile["runs"], profile["messages"]) == ({1: 1}, {1: 1})
    assert profile["subscriptions"] == [
        {
            "channel": "email",
            "resource_id": 7,
            "address": "ada@example.com",
            "status": "subscribed",
            "priority": 0,
        }
    ]
    assert "subscriptions" not in profile["fields"]
    (task,) = sandbox.tasks
    assert (task.delivered, task.entered, task.messaged) == (1, 1, 1)


def test_profile_without_a_subscription_enters_and_is_not_messaged(
    sandbox: Sandbox, api: Api
) -> None:
    api.task({"data": {"email": "ada@example.com", "phones": ["+79990000001"]}})
    (profile,) = sandbox.profiles
    assert (profile["runs"], profile["messages"], sandbox.messages) == ({1: 1}, {}, [])
    assert profile["history"][0]["entered"]
    assert profile["history"][0]["reason"] == "no subscription to email of resource 7"
    assert (sandbox.tasks[0].entered, sandbox.tasks[0].messaged) == (1, 0)


def test_subscription_counts_for_later_imports_that_have_none(sandbox: Sandbox, api: Api) -> None:
    api.task(ada(by_email()))
    api.task({"data": {"email": "ada@example.com", "subscriptions": None}}, workflow_id=2)
    assert [(each.workflow_id, each.channel) for each in sandbox.messages] == [
        (1, "email"),
        (2, "email"),
    ]


def test_scenario_messages_by_its_channel_and_resource_only(api: Api) -> None:
    phone = "+79990000001"
    workflows = (
        Workflow(1, "E-mail of the second", resource_id=9),
        Workflow(2, "Texts", channel="sms"),
        Workflow(3, "Bots", resource_id=8),
    )
    resources = (*RESOURCES, Resource(9, "Other news"))
    with Sandbox(workflows=workflows, resources=resources) as sandbox:
        api = Api(sandbox)
        entry = ada(by_email(), {"channel": "sms", "resource_id": 7, "phone": phone})
        for workflow_id in (1, 2, 3):
            api.task(entry, workflow_id=workflow_id)
        assert [(each.workflow_id, each.address) for each in sandbox.messages] == [(2, phone)]
        shown = {each["id"]: each for each in sandbox.view()["workflows"]}
    assert [(shown[n]["resource_id"], shown[n]["channel"]) for n in (1, 2, 3)] == [
        (9, "email"),
        (7, "sms"),
        (8, "telegram_bot"),
    ]
    assert [(shown[n]["runs"], shown[n]["messaged"]) for n in (1, 2, 3)] == [(1, 0), (1, 1), (1, 0)]


@pytest.mark.parametrize(
    ("channel", "resource_id", "more", "address"),
    [
        ("sms", 7, {"phone": " +79990000001 "}, "+79990000001"),
        ("viber", 7, {"cc_data": {"phone": "+71"}}, "+71"),
        ("whatsapp", 7, {"cc_data": {"phone": "+72"}}, "+72"),
        ("notify", 7, {"cc_data": {"phone": "+73"}}, "+73"),
        ("telegram_bot", 8, {"cc_data": {"id": 15}}, "15"),
        ("telegram_bot", 8, {"cc_data": {"id": "@ada"}}, "@ada"),
        ("push", 8, {"provider": "android-firebase", "subscription_id": "t0"}, "t0"),
        ("max_bot", 8, {"cc_data": {"id": "77"}}, "77"),
    ],
)
def test_every_channel_has_its_address(
    channel: str, resource_id: int, more: Json, address: str
) -> None:
    workflow = Workflow(1, "One", resource_id=resource_id, channel=channel)
    with Sandbox(workflows=[workflow], resources=RESOURCES) as sandbox:
        Api(sandbox).task(ada({"channel": channel, "resource_id": resource_id, **more}))
        assert [(each.channel, each.address) for each in sandbox.messages] == [(channel, address)]


def test_one_message_goes_to_the_lowest_priority_number_and_of_equals_to_the_newest(
    sandbox: Sandbox, api: Api
) -> None:
    api.task(ada(by_email("first@example.com", priority=5)))
    api.task(ada(by_email("newer@example.com")))
    api.task(ada(by_email("later@example.com", priority=6)))
    api.task(ada(by_email("first@example.com", priority=1)))
    assert [each.address for each in sandbox.messages] == [
        "first@example.com",
        "newer@example.com",
        "newer@example.com",
        "first@example.com",
    ]


def test_inactive_scenario_messages_nobody_and_keeps_the_subscription(
    sandbox: Sandbox, api: Api
) -> None:
    api.task(ada(by_email()), workflow_id=3)
    assert (sandbox.messages, statuses(sandbox)) == ([], [("ada@example.com", "subscribed")])
    assert sandbox.profiles[0]["history"][0]["reason"] == "the scenario is inactive"


def test_message_is_sent_when_the_task_ends(sandbox: Sandbox, api: Api) -> None:
    sandbox.task_seconds = 0.05
    api.task(ada(by_email()))
    assert sandbox.messages == []
    until(lambda: len(sandbox.messages) == 1)
    assert sandbox.messages[0].at == sandbox.tasks[0].ends_at


def test_failed_task_messages_nobody(sandbox: Sandbox, api: Api) -> None:
    sandbox.add_fault("task:failed")
    api.task(ada(by_email()))
    assert (sandbox.profiles, sandbox.messages) == ([], [])


# Status


def test_who_unsubscribed_is_not_subscribed_again_by_an_import(sandbox: Sandbox, api: Api) -> None:
    api.task(ada(by_email()))
    assert sandbox.unsubscribe("ADA@example.com") == 1
    assert sandbox.unsubscribe("ada@example.com") == 0
    api.task(ada(by_email("Ada@Example.com")))
    assert statuses(sandbox) == [("ada@example.com", "unsubscribed")]
    assert len(sandbox.messages) == 1
    assert sandbox.profiles[0]["runs"] == {1: 2}
    assert sandbox.profiles[0]["history"][1]["reason"] == "unsubscribed from email of resource 7"


def test_status_of_the_entry_subscribes_again_and_unsubscribes(sandbox: Sandbox, api: Api) -> None:
    api.task(ada(by_email(status="unsubscribed")))
    assert (statuses(sandbox), sandbox.messages) == ([("ada@example.com", "unsubscribed")], [])
    api.task(ada(by_email(status="subscribed")))
    assert (statuses(sandbox), len(sandbox.messages)) == ([("ada@example.com", "subscribed")], 1)


def test_unsubscribing_may_be_from_one_channel_or_resource_only(api: Api) -> None:
    with Sandbox(resources=(*RESOURCES, Resource(9, "Other"))) as sandbox:
        api = Api(sandbox)
        api.task(ada(by_email(), by_email(resource_id=9)))
        assert sandbox.unsubscribe("ada@example.com", channel="sms") == 0
        assert sandbox.unsubscribe("ada@example.com", resource_id=9) == 1
        api.task(ada())
        assert len(sandbox.messages) == 2


def test_unsubscribing_over_http(sandbox: Sandbox, api: Api) -> None:
    api.task(ada(by_email()))
    url = f"{sandbox.url}/_sandbox/unsubscribe"
    bad: list[Json] = [{}, {"address": " "}, {"address": "a@b.c", "resource_id": "7"}]
    for body in bad:
        wrong = api.session.post(url, json=body, timeout=DEADLINE_SECONDS)
        assert wrong.status_code == 400
        assert "error" in wrong.json()
    assert api.session.post(url, data=b"[]", timeout=DEADLINE_SECONDS).status_code == 400
    for where, changed in (
        ({"channel": "sms"}, 0),
        ({"channel": "email", "resource_id": 7}, 1),
    ):
        body = {"address": "ada@example.com", **where}
        answer = api.session.post(url, json=body, timeout=DEADLINE_SECONDS)
        assert (answer.status_code, answer.json()) == (200, {"unsubscribed": changed})
    assert statuses(sandbox) == [("ada@example.com", "unsubscribed")]


# What is checked

WRONG: list[tuple[object, str]] = [
    (1, "not an object"),
    ({"resource_id": 7, "email": "a@b.c"}, "no channel"),
    ({"channel": "email", "email": "a@b.c"}, "no resource_id"),
    (by_email(resource_id=70), "there is no resource 70"),
    (by_email(resource_id=8), "resource 8 has no channel 'email'"),
    (by_email(" "), "no address for the channel 'email'"),
    ({"channel": "sms", "resource_id": 7, "email": "a@b.c"}, "no address for the channel 'sms'"),
    (
        {"channel": "push", "resource_id": 8, "subscription_id": "t0"},
        "no address for the channel 'push'",
    ),
    (
        {"channel": "telegram_bot", "resource_id": 8, "cc_data": {"id": None}},
        "no address for the channel 'telegram_bot'",
    ),
    (by_email(status=1), "status is not a string"),
    (by_email(priority="high"), "priority is not an integer"),
    (by_email(custom_fields=[]), "custom_fields is not an object"),
]


@pytest.mark.parametrize(("wrong", "reason"), WRONG)
def test_wrong_subscription_is_an_error_of_its_profile_only(
    sandbox: Sandbox, api: Api, wrong: object, reason: str
) -> None:
    bob = {"data": {"email": "bob@example.com", "subscriptions": [by_email("bob@example.com")]}}
    failed, good = items(api, ada(by_email(), wrong), bob)
    assert (failed["error"], failed["error_text"]) == (422, "Invalid subscription")
    assert failed["error_debug"].endswith(f"was not imported: subscription 1: {reason}")
    assert good == {"profile_id": sandbox.profiles[0]["id"]}
    assert [each.address for each in sandbox.messages] == ["bob@example.com"]
    assert sandbox.tasks[0].delivered == 1


@pytest.mark.parametrize(("wrong", "reason"), WRONG)
def test_wrong_subscription_is_dropped_if_the_submit_says_so(
    sandbox: Sandbox, api: Api, wrong: object, reason: str
) -> None:
    (item,) = items(api, ada(by_email(), wrong), skip_invalid_subscriptions=True)
    assert "profile_id" in item, reason
    assert statuses(sandbox) == [("ada@example.com", "subscribed")]
    assert len(sandbox.messages) == 1


def test_subscriptions_are_an_array(sandbox: Sandbox, api: Api) -> None:
    entry = {"data": {"email": "ada@example.com", "subscriptions": {}}}
    (failed,) = items(api, entry)
    assert failed["error_debug"].endswith("subscriptions is not an array")
    assert items(api, entry, skip_invalid_subscriptions=True) == [
        {"profile_id": sandbox.profiles[0]["id"]}
    ]


def test_sandbox_that_only_counts_checks_subscriptions_too() -> None:
    with Sandbox(remember=False) as sandbox:
        failed, good = items(Api(sandbox), ada(by_email(resource_id=70)), ada(by_email()))
        assert (failed["error"], "profile_id" in good) == (422, True)
        assert (sandbox.tasks[0].entered, sandbox.messages) == (1, [])


# Mode


@pytest.mark.parametrize("mode", ["skip", "skip_in_any_case"])
def test_scenario_that_skips_ignores_who_is_in_it(mode: str) -> None:
    with Sandbox(workflows=[Workflow(1, "Once", mode=mode), Workflow(2, "Other")]) as sandbox:
        api = Api(sandbox)
        assert api.call(LIST)["data"][0]["mode"] == mode
        api.task(ada(by_email()))
        (item,) = items(api, ada(by_email(), city="Perm"))
        api.task(ada(), workflow_id=2)
        (profile,) = sandbox.profiles
        assert item == {"profile_id": profile["id"]}
        assert (profile["runs"], profile["messages"]) == ({1: 1, 2: 1}, {1: 1, 2: 1})
        assert profile["fields"]["city"] == "Perm"
        assert not profile["history"][1]["entered"]
        assert profile["history"][1]["reason"] == f"already in the scenario (mode {mode})"
        task = sandbox.tasks[1]
        assert (task.delivered, task.entered, task.messaged) == (1, 0, 0)
        shown = sandbox.view()["workflows"][0]
        assert (shown["runs"], shown["messaged"], shown["ignored"]) == (1, 1, 1)


# The view


def test_view_tells_entered_from_messaged(sandbox: Sandbox, api: Api) -> None:
    sms = {"channel": "sms", "resource_id": 7, "phone": "+79990000001"}
    api.task(ada(by_email(), sms), {"data": {"email": "bob@example.com"}})
    view = sandbox.view()
    assert (view["totals"]["runs"], view["totals"]["messages"]) == (2, 1)
    assert view["totals"]["messages_by_channel"] == {"email": 1}
    assert (view["tasks"][0]["entered"], view["tasks"][0]["messaged"]) == (2, 1)
    (message,) = view["messages"]
    assert message["profile"] == view["profiles"][0]["id"]
    assert (message["channel"], message["address"]) == ("email", "ada@example.com")
    assert message["task_id"] == view["tasks"][0]["id"]
    first, second = view["profiles"]
    assert [each["channel"] for each in first["subscriptions"]] == ["email", "sms"]
    assert (first["messages"], second["messages"]) == ({"1": 1}, {})
    assert (first["history"][0]["channel"], first["history"][0]["reason"]) == ("email", "")


# Setup


def test_resource_is_read_from_text() -> None:
    assert parse_resource("7:email+sms:News: all") == Resource(7, "News: all", ("email", "sms"))
    for text in ("", "7", "7:email", "x:email:News", "7::News", "7:email+:News"):
        with pytest.raises(SetupError, match="is not ID:CHANNEL"):
            parse_resource(text)


@pytest.mark.parametrize(
    ("text", "workflow"),
    [
        ("7:Welcome", Workflow(7, "Welcome")),
        ("7:Welcome:inactive", Workflow(7, "Welcome", is_active=False)),
        ("7:Seven: the film", Workflow(7, "Seven: the film")),
        (
            "7:Why: a=b:resource=7:channel=sms:mode=skip:inactive",
            Workflow(7, "Why: a=b", is_active=False, resource_id=7, channel="sms", mode="skip"),
        ),
        ("7:inactive:mode=skip", Workflow(7, "inactive", mode="skip")),
    ],
)
def test_scenario_is_read_from_text(text: str, workflow: Workflow) -> None:
    assert parse_workflow(text) == workflow


@pytest.mark.parametrize("text", ["", "7", "7:", "x:Welcome", "7:Welcome:resource=news"])
def test_wrong_scenario_is_told(text: str) -> None:
    with pytest.raises(SetupError, match="is not ID:NAME"):
        parse_workflow(text)


@pytest.mark.parametrize(
    ("workflow", "message"),
    [
        (Workflow(1, "One", resource_id=70), "workflow 1: there is no resource 70"),
        (Workflow(1, "One", channel="fax"), "workflow 1: no resource has the channel 'fax'"),
        (
            Workflow(1, "One", resource_id=8, channel="sms"),
            "workflow 1: resource 8 has no channel 'sms'",
        ),
    ],
)
def test_scenario_needs_its_resource(workflow: Workflow, message: str) -> None:
    with pytest.raises(SetupError, match=message):
        Sandbox(workflows=[workflow], resources=RESOURCES)


def test_sandbox_without_resources_messages_nobody() -> None:
    with Sandbox(resources=()) as sandbox:
        Api(sandbox).task(ada())
        assert (sandbox.profiles[0]["runs"], sandbox.messages) == ({1: 1}, [])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--resource=7:News"], "'7:News' is not ID:CHANNEL[+CHANNEL]...:NAME"),
        (["--workflow=1:One:resource=70"], "argument --workflow: workflow 1: there is no resource"),
        (["--resource=5:sms:Texts", "--workflow=1:One:channel=email"], "has the channel 'email'"),
    ],
)
def test_wrong_setup_is_one_message_and_exit_2(arguments: list[str], message: str) -> None:
    command = [sys.executable, "-m", "target_altcraft.sandbox", *arguments]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=DEADLINE_SECONDS
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr.splitlines()[-1]


def test_help_names_the_options_of_the_setup() -> None:
    command = [sys.executable, "-m", "target_altcraft.sandbox", "--help"]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, timeout=DEADLINE_SECONDS
    )
    assert "--resource ID:CHANNEL[+CHANNEL]...:NAME" in done.stdout
    assert "[:mode=MODE]" in done.stdout
