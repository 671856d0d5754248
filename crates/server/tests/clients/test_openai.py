"""The openai package."""

import json
from concurrent.futures import ThreadPoolExecutor

import openai
import pytest

from conftest import COUNT, KEY

TURN = [{"role": "user", "content": "Say hello."}]


@pytest.fixture(scope="session")
def client(url):
    return openai.OpenAI(base_url=f"{url}/v1", api_key=KEY, timeout=600, max_retries=0)


@pytest.fixture(scope="session")
def model(client):
    return client.models.list().data[0].id


def test_whole_and_streamed_are_the_same(client, model):
    ask = dict(model=model, messages=TURN, max_tokens=8, temperature=0)
    client.chat.completions.create(**ask)
    whole = client.chat.completions.create(**ask)
    assert whole.choices[0].finish_reason == "length"
    assert whole.usage.completion_tokens == 8
    with client.chat.completions.create(
        **ask, stream=True, stream_options={"include_usage": True}
    ) as chunks:
        chunks = list(chunks)
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == whole.choices[0].message.content
    assert chunks[-1].usage == whole.usage or chunks[-1].usage.completion_tokens == 8


def test_many_at_once_and_one_that_goes(client, model):
    def ask(word):
        return client.chat.completions.create(
            model=model,
            messages=[{"role": "user", "content": f"Tell me of {word}."}],
            max_completion_tokens=12,
            extra_body={"top_k": 5, "min_p": 0.1, "repetition_penalty": 1.1},
        )

    gone = client.chat.completions.create(
        model=model, messages=TURN, max_tokens=500, stream=True
    )
    next(iter(gone))
    gone.close()
    with ThreadPoolExecutor(6) as pool:
        for answer in pool.map(ask, ["red", "green", "blue", "white", "grey", "black"]):
            assert answer.choices[0].message.content
            assert answer.usage.total_tokens > 12


def test_schema_logprobs_and_stop(client, model):
    schema = {
        "type": "object",
        "properties": {"ok": {"type": "boolean"}, "n": {"type": "integer"}},
        "required": ["ok", "n"],
        "additionalProperties": False,
    }
    answer = client.chat.completions.create(
        model=model,
        messages=TURN,
        max_tokens=60,
        seed=3,
        logprobs=True,
        top_logprobs=2,
        response_format={
            "type": "json_schema",
            "json_schema": {"name": "it", "strict": True, "schema": schema},
        },
    )
    value = json.loads(answer.choices[0].message.content)
    assert isinstance(value["ok"], bool) and isinstance(value["n"], int)
    first = answer.choices[0].logprobs.content[0]
    assert first.logprob <= 0 and len(first.top_logprobs) == 2


def test_tools(client, model):
    parameters = {
        "type": "object",
        "properties": {"days": {"type": "integer", "minimum": 1, "maximum": 9}},
        "required": ["days"],
    }
    tool = {"type": "function", "function": {"name": "weather", "parameters": parameters}}
    ask = dict(model=model, tools=[tool], tool_choice="required", parallel_tool_calls=False)
    answer = client.chat.completions.create(messages=TURN, max_tokens=60, **ask)
    message = answer.choices[0].message
    [call] = message.tool_calls
    assert answer.choices[0].finish_reason == "tool_calls"
    assert 1 <= json.loads(call.function.arguments)["days"] <= 9
    told = {"role": "tool", "tool_call_id": call.id, "content": "grey"}
    more = client.chat.completions.create(
        model=model, messages=[*TURN, message, told], tools=[tool], max_tokens=4
    )
    assert more.usage.completion_tokens > 0


def test_texts(client, model):
    answer = client.completions.create(
        model=model, prompt="One, two,", max_tokens=6, temperature=0, stop=["five"]
    )
    assert answer.choices[0].text and "five" not in answer.choices[0].text


def test_errors_are_the_packages_own(client, model, url):
    with pytest.raises(openai.BadRequestError, match="tools"):
        client.chat.completions.create(
            model=model, messages=TURN, tools=[{"type": "function", "function": {"name": "a b"}}]
        )
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("gpt-4")
    with pytest.raises(openai.AuthenticationError):
        openai.OpenAI(base_url=f"{url}/v1", api_key="wrong", max_retries=0).models.list()


def test_responses_whole_and_streamed(client, model):
    ask = dict(model=model, input=COUNT, max_output_tokens=8, temperature=0)
    whole = client.responses.create(**ask)
    assert whole.status == "incomplete" and whole.usage.output_tokens == 8
    events = list(client.responses.create(**ask, stream=True))
    text = "".join(e.delta for e in events if e.type == "response.output_text.delta")
    assert text == whole.output_text == events[-1].response.output_text
    assert [e.sequence_number for e in events] == list(range(len(events)))


def test_responses_call_tools(client, model):
    tool = {
        "type": "function",
        "name": "switch",
        "strict": True,
        "parameters": {
            "type": "object",
            "properties": {"on": {"type": "boolean", "enum": [True]}},
            "required": ["on"],
            "additionalProperties": False,
        },
    }
    ask = dict(model=model, temperature=0, tools=[tool], store=False)
    forced = dict(input="Do it.", tool_choice="required", parallel_tool_calls=False, **ask)
    first = client.responses.create(**forced)
    call = first.output[0]
    assert isinstance(json.loads(call.arguments)["on"], bool)
    with client.responses.stream(**forced) as stream:
        stream.until_done()
        assert stream.get_final_response().output[0].arguments == call.arguments
    answer = {"type": "function_call_output", "call_id": call.call_id, "output": "done"}
    turns = [{"role": "user", "content": "Do it."}, *first.output, answer]
    assert client.responses.create(input=turns, **ask).status == "completed"


def test_several_answers_and_biases(client, model):
    ask = dict(model=model, messages=TURN, max_tokens=4)
    several = client.chat.completions.create(**ask, n=3, logit_bias={"5000": -100})
    assert [choice.index for choice in several.choices] == [0, 1, 2]
    texts = client.completions.create(model=model, prompt=["a", "b"], max_tokens=2)
    assert len(texts.choices) == 2
    thinks = client.chat.completions.create(**ask, reasoning_effort="low")
    assert thinks.usage.completion_tokens_details.reasoning_tokens == 0


def test_embeddings(embedder_url):
    client = openai.OpenAI(base_url=f"{embedder_url}/v1", api_key=KEY, timeout=600, max_retries=0)
    texts = ["The cat sits on the mat.", "A cat sat upon a mat.", "Taxes rose by 4 % in 1995."]
    # By default the package requests Base64 and decodes it; once more as JSON numbers.
    read = client.embeddings.create(model="any", input=texts)
    told = client.embeddings.create(model="any", input=texts, encoding_format="float")
    vectors = [item.embedding for item in read.data]
    assert [len(vector) for vector in vectors] == [576] * 3
    for a, b in zip(vectors, told.data, strict=True):
        assert sum(x * y for x, y in zip(a, b.embedding, strict=True)) == pytest.approx(1, abs=1e-3)
    near, far = (sum(x * y for x, y in zip(vectors[0], other)) for other in vectors[1:])
    assert near > far
    assert len(client.embeddings.create(model="any", input="a", dimensions=64).data[0].embedding) == 64
