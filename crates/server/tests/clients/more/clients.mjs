// Tries the JavaScript packages and prints a line of JSON with the result of each attempt.
import OpenAI from "openai";
import Anthropic from "@anthropic-ai/sdk";
import { generateText, streamText, tool } from "ai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { z } from "zod";

const [base, apiKey] = process.argv.slice(2);
const turn = [{ role: "user", content: "Say hello." }];
const schema = {
  type: "object",
  properties: { city: { type: "string", enum: ["Rome"] } },
  required: ["city"],
  additionalProperties: false,
};
const openai = new OpenAI({ baseURL: `${base}/v1`, apiKey });
const anthropic = new Anthropic({ baseURL: base, apiKey });
const compatible = createOpenAICompatible({ name: "here", baseURL: `${base}/v1`, apiKey });

async function joined(stream, pick) {
  let text = "";
  for await (const piece of stream) text += pick(piece) ?? "";
  return text;
}

const tried = {
  async "openai: a chat"() {
    const ask = { model: "any", messages: turn, max_tokens: 8 };
    const said = await openai.chat.completions.create(ask);
    return said.choices[0].message.content;
  },
  async "openai: a chat, streamed"() {
    const ask = { model: "any", messages: turn, max_tokens: 8, stream: true };
    return joined(await openai.chat.completions.create(ask), (c) => c.choices[0]?.delta?.content);
  },
  async "openai: a response"() {
    const ask = { model: "any", instructions: "Be brief.", input: "Hello.", max_output_tokens: 8 };
    return (await openai.responses.create(ask)).output_text;
  },
  async "openai: a parsed answer"() {
    const format = { type: "json_schema", json_schema: { name: "a", strict: true, schema } };
    const ask = { model: "any", messages: turn, max_tokens: 60, response_format: format };
    return (await openai.chat.completions.parse(ask)).choices[0].message.parsed.city;
  },
  async "anthropic: a message"() {
    const said = await anthropic.messages.create({ model: "any", messages: turn, max_tokens: 8 });
    return said.content[0].text;
  },
  async "anthropic: a message, streamed"() {
    const stream = anthropic.messages.stream({ model: "any", messages: turn, max_tokens: 8 });
    return (await stream.finalMessage()).content[0].text;
  },
  async "anthropic: a tool"() {
    const tools = [{ name: "weather", description: "of a city", input_schema: schema }];
    const ask = { model: "any", messages: turn, max_tokens: 60, tools, tool_choice: { type: "any" } };
    return (await anthropic.messages.create(ask)).content[0].input.city;
  },
  async "ai: a text"() {
    const ask = { model: compatible("any"), prompt: "Say hello.", maxOutputTokens: 8 };
    return (await generateText(ask)).text;
  },
  async "ai: a text, streamed"() {
    const ask = { model: compatible("any"), prompt: "Say hello.", maxOutputTokens: 8 };
    return joined(streamText(ask).textStream, (piece) => piece);
  },
  async "ai: a tool that is run"() {
    const weather = tool({
      description: "of a city",
      inputSchema: z.object({ city: z.enum(["Rome"]) }),
      execute: async ({ city }) => `grey in ${city}`,
    });
    const ask = { model: compatible("any"), prompt: "The weather?", toolChoice: "required" };
    const said = await generateText({ ...ask, maxOutputTokens: 120, tools: { weather } });
    return said.toolResults[0].output;
  },
};

for (const [name, attempt] of Object.entries(tried)) {
  const said = await attempt().catch((error) => ({ error: String(error) }));
  console.log(JSON.stringify(said.error ? { name, ...said } : { name, said }));
}
