"""Clients that need many packages: the basic use of each. Run by `make check-deep`."""

import json
import os
import re
import signal
import subprocess
from pathlib import Path
from typing import Literal

import pytest
from pydantic import BaseModel

from conftest import KEY, MODEL, PROGRAM

HERE = Path(__file__).parent
# The folder in which npm has installed the packages of package.json.
NODE = Path(os.environ["NODE_CLIENTS"])
TURN = [{"role": "user", "content": "Say hello."}]
SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string", "enum": ["Rome"]}},
    "required": ["city"],
    "additionalProperties": False,
}
FUNCTION = {"name": "weather", "description": "of a city", "parameters": SCHEMA}


class Weather(BaseModel):
    """The weather of a city."""

    city: Literal["Rome"]


@pytest.fixture(scope="module")
def roomy():
    """A server with room for the instructions of agents."""
    command = [PROGRAM, "serve", str(MODEL), "--memory", "2GiB", "--ctx", "16384"]
    process = subprocess.Popen(
        [*command, "--port", "0", "--api-key", KEY], stdout=subprocess.PIPE, text=True
    )
    yield next(at[0] for line in process.stdout if (at := re.search(r"http://\S+", line)))
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=120) == 0


def test_litellm(url):
    import litellm

    at = dict(api_base=f"{url}/v1", api_key=KEY)
    ask = dict(messages=TURN, max_tokens=8)
    for model in ("openai/any", "hosted_vllm/any"):
        assert litellm.completion(model=model, **ask, **at).choices[0].message.content
    chunks = litellm.completion(model="openai/any", stream=True, **ask, **at)
    assert "".join(c.choices[0].delta.content or "" for c in chunks)
    tools = [{"type": "function", "function": FUNCTION}]
    forced = dict(messages=TURN, max_tokens=60, tools=tools, tool_choice="required")
    calls = litellm.completion(model="openai/any", **forced, **at).choices[0].message.tool_calls
    assert json.loads(calls[0].function.arguments) == {"city": "Rome"}
    said = litellm.completion(model="anthropic/any", api_base=url, api_key=KEY, **ask)
    assert said.choices[0].message.content
    assert litellm.responses(model="openai/any", input="hi", max_output_tokens=8, **at).output
    text = dict(model="text-completion-openai/any", prompt="One, two,", max_tokens=8)
    assert litellm.text_completion(**text, **at).choices[0].text


def test_langchain(url):
    from langchain_anthropic import ChatAnthropic
    from langchain_openai import ChatOpenAI

    chat = ChatOpenAI(base_url=f"{url}/v1", api_key=KEY, model="any", max_tokens=60)
    assert chat.invoke("Say hello.").content
    assert "".join(piece.content for piece in chat.stream("Say hello."))
    assert all(said.content for said in chat.batch(["a", "b"]))
    [call] = chat.bind_tools([Weather], tool_choice="any", parallel_tool_calls=False).invoke("x").tool_calls
    assert call["args"] == {"city": "Rome"}
    for method in ("json_schema", "function_calling"):
        assert chat.with_structured_output(Weather, method=method).invoke("x") == Weather(city="Rome")
    other = ChatAnthropic(base_url=url, api_key=KEY, model="any", max_tokens=60)
    assert other.invoke("Say hello.").content
    assert other.bind_tools([Weather], tool_choice="any").invoke("x").tool_calls[0]["args"] == {"city": "Rome"}


def test_pydantic_ai(url):
    from pydantic_ai import Agent
    from pydantic_ai.models.anthropic import AnthropicModel
    from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
    from pydantic_ai.providers.anthropic import AnthropicProvider
    from pydantic_ai.providers.openai import OpenAIProvider

    openai = OpenAIProvider(base_url=f"{url}/v1", api_key=KEY)
    anthropic = AnthropicProvider(base_url=url, api_key=KEY)
    for model in (
        OpenAIChatModel("any", provider=openai),
        OpenAIResponsesModel("any", provider=openai),
        AnthropicModel("any", provider=anthropic),
    ):
        settings = {"max_tokens": 80}
        assert Agent(model, model_settings=settings).run_sync("Say hello.").output
        agent = Agent(model, output_type=Weather, model_settings=settings)
        assert agent.run_sync("Say hello.").output == Weather(city="Rome")


def test_llm_command_line(url, tmp_path):
    models = f"- model_id: here\n  model_name: any\n  api_base: {url}/v1\n  api_key_name: here\n"
    (tmp_path / "extra-openai-models.yaml").write_text(models)
    (tmp_path / "keys.json").write_text(json.dumps({"here": KEY}))
    environment = {**os.environ, "LLM_USER_PATH": str(tmp_path)}
    for more in ([], ["--no-stream"]):
        command = ["llm", "-m", "here", "Say hello.", "-o", "max_tokens", "8", *more]
        said = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
        assert said.returncode == 0 and said.stdout.strip(), said.stderr


def test_javascript(url):
    ran = subprocess.run(
        ["node", str(NODE / "clients.mjs"), url, KEY], capture_output=True, text=True, timeout=300
    )
    said = [json.loads(line) for line in ran.stdout.splitlines()]
    assert len(said) == 10, ran.stderr
    assert not [one for one in said if not one.get("said")]


def test_codex_command_line(roomy, tmp_path):
    (tmp_path / "config.toml").write_text(
        f'model = "any"\nmodel_provider = "here"\n[model_providers.here]\nname = "here"\n'
        f'base_url = "{roomy}/v1"\nwire_api = "responses"\nenv_key = "HERE_KEY"\n'
    )
    environment = {**os.environ, "CODEX_HOME": str(tmp_path), "HERE_KEY": KEY}
    command = [str(NODE / "node_modules/.bin/codex"), "exec", "--skip-git-repo-check", "Say hello."]
    ran = subprocess.run(
        command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=600
    )
    assert ran.returncode == 0 and ran.stdout.strip(), ran.stderr
    assert "ERROR" not in ran.stderr


def test_opencode_command_line(roomy, tmp_path):
    here = {
        "npm": "@ai-sdk/openai-compatible",
        "options": {"baseURL": f"{roomy}/v1", "apiKey": KEY},
        "models": {"any": {"limit": {"context": 16384, "output": 64}}},
    }
    settings = {"model": "here/any", "small_model": "here/any", "autoupdate": False}
    (tmp_path / "opencode.json").write_text(json.dumps({**settings, "provider": {"here": here}}))
    command = [str(NODE / "node_modules/.bin/opencode"), "run", "Say hello."]
    ran = subprocess.run(
        command,
        env={**os.environ, "HOME": str(tmp_path), "PWD": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert ran.returncode == 0 and ran.stdout.strip(), ran.stderr
    assert "Error" not in ran.stderr, ran.stderr


def test_aider_command_line(roomy, tmp_path):
    (tmp_path / "a.py").write_text("def f(): return 1\n")
    # Otherwise the demo model would not end its answer.
    settings = {"name": "openai/any", "edit_format": "whole"}
    settings["extra_params"] = {"stop": ["\n"], "max_tokens": 256, "temperature": 0}
    (tmp_path / "settings.yml").write_text(json.dumps([settings]))
    command = [os.environ["AIDER"], "--model", "openai/any", "--message", "Say hello."]
    command += ["--model-settings-file", "settings.yml", "--map-tokens", "0", "--no-git"]
    command += ["--yes-always", "--no-check-update", "--no-show-model-warnings"]
    command += ["--analytics-disable", "--no-pretty", "a.py"]
    environment = {"OPENAI_API_BASE": f"{roomy}/v1", "OPENAI_API_KEY": KEY, "HOME": str(tmp_path)}
    ran = subprocess.run(
        command,
        env={**os.environ, **environment},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    # It prints the tokens only after a complete answer.
    assert re.search(r"Tokens: \d+ sent, \d+ received", ran.stdout), ran.stdout
    assert "litellm." not in ran.stdout, ran.stdout
