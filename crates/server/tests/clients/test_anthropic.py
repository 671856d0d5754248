"""The anthropic package."""

import anthropic
import pytest

from conftest import COUNT, KEY

TURN = [{"role": "user", "content": "Say hello."}]
TOOL = {
    "name": "switch",
    "description": "Switches a light",
    "input_schema": {
        "type": "object",
        "properties": {"on": {"type": "boolean", "enum": [True]}},
        "required": ["on"],
        "additionalProperties": False,
    },
}


@pytest.fixture(scope="session")
def client(url):
    return anthropic.Anthropic(base_url=url, api_key=KEY, timeout=600, max_retries=0)


def test_whole_and_streamed_are_the_same(client):
    ask = dict(model="claude", messages=COUNT, max_tokens=8, extra_body={"temperature": 0}, system="Be brief.")
    whole = client.messages.create(**ask)
    assert whole.stop_reason == "max_tokens"
    assert whole.usage.output_tokens == 8
    with client.messages.stream(**ask) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert text == whole.content[0].text == final.content[0].text
    assert final.usage.output_tokens == 8
    counted = client.messages.count_tokens(model="claude", messages=COUNT, system="Be brief.")
    assert counted.input_tokens == whole.usage.input_tokens + whole.usage.cache_read_input_tokens


def test_tools_are_called_and_answered(client):
    ask = dict(model="claude", max_tokens=60, extra_body={"temperature": 0}, tools=[TOOL])
    choice = {"type": "tool", "name": "switch", "disable_parallel_tool_use": True}
    whole = client.messages.create(messages=TURN, tool_choice=choice, **ask)
    call = whole.content[0]
    assert whole.stop_reason == "tool_use" and call.name == "switch"
    assert isinstance(call.input["on"], bool)
    with client.messages.stream(messages=TURN, tool_choice=choice, **ask) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_message()
    assert final.content[0].input == call.input
    assert kinds[0] == "message_start" and kinds[-1] == "message_stop"
    result = {"type": "tool_result", "tool_use_id": call.id, "content": "done"}
    turns = TURN + [
        {"role": "assistant", "content": whole.content},
        {"role": "user", "content": [result]},
    ]
    assert client.messages.create(messages=turns, **ask).role == "assistant"


def test_errors_are_the_packages_own(client, url):
    with pytest.raises(anthropic.BadRequestError) as refused:
        client.messages.create(model="claude", messages=[], max_tokens=5)
    assert refused.value.body["error"]["type"] == "invalid_request_error"
    with pytest.raises(anthropic.AuthenticationError):
        other = anthropic.Anthropic(base_url=url, api_key="wrong", max_retries=0)
        other.messages.create(model="claude", messages=TURN, max_tokens=5)
