// What a user of the official Node.js client does with streams and images.
//
// Reads a line of JSON for each thing to do, `{"do", "base_url", "api_key"}`, and prints a line that
// says what came of it, in the same words as tests/sdks/chat.py. tests/sdks/test_sdks.py starts it
// and keeps it alive: what closes a connection is then what the client did, not the program's end.

import { createInterface } from "node:readline";
import OpenAI from "openai";
import { VERSION } from "openai/version";

const messages = [
  { role: "system", content: "You are a helpful assistant." },
  { role: "user", content: "What is the capital of France?" },
];

const chat = { model: "gpt-4", messages, max_tokens: 100 };
const withUsage = { stream_options: { include_usage: true } };

const prompt = "A sunset over the mountains.";

/** What `break` comes after. */
const ENOUGH = 4;

async function plain(client) {
  return { version: VERSION, completion: await client.chat.completions.create(chat) };
}

/** The documentation's example. */
async function stream(client, options = {}) {
  const said = { text: "", chunks: [] };
  await failure(said, async () => {
    const { data: stream, response } = await client.chat.completions
      .create({ ...chat, ...options, stream: true })
      .withResponse();
    said.provider = response.headers.get("x-provider");
    for await (const chunk of stream) {
      said.chunks.push(chunk);
      said.text += chunk.choices[0]?.delta?.content || "";
    }
  });
  return said;
}

const usage = (client) => stream(client, withUsage);

async function break_off(client) {
  let read = 0;
  const stream = await client.chat.completions.create({ ...chat, stream: true });
  for await (const chunk of stream) {
    read += 1;
    if (read === ENOUGH) break;
  }
  return { read };
}

/** Leave the stream the other way there is; the loop then ends by itself. */
async function close(client) {
  let read = 0;
  const stream = await client.chat.completions.create({ ...chat, stream: true });
  for await (const chunk of stream) {
    read += 1;
    if (read === ENOUGH) stream.controller.abort();
  }
  return { read };
}

async function helper(client) {
  let text = "";
  const completion = await client.chat.completions
    .stream({ ...chat, ...withUsage })
    .on("content", (delta) => (text += delta))
    .finalChatCompletion();
  return { text, completion };
}

/** The documentation's examples, and one that fails. */
async function images(client) {
  const said = {};
  said.url = await client.images.generate({
    model: "dall-e-3",
    prompt,
    n: 1,
    size: "1024x1024",
    quality: "hd",
    style: "vivid",
  });
  said.b64_json = await client.images.generate({
    model: "flux-schnell",
    prompt,
    n: 2,
    size: "256x256",
    response_format: "b64_json",
  });
  await failure(said, () =>
    client.images.generate({ model: "flux-schnell", prompt, size: "1000x1000" }),
  );
  return said;
}

/** Note in `said` how `deed` fails, as a program that catches it sees it. */
async function failure(said, deed) {
  try {
    await deed();
  } catch (error) {
    if (!(error instanceof OpenAI.APIError)) throw error;
    said.error = {
      class: error.constructor.name,
      status: error.status ?? null,
      code: error.code,
      type: error.type,
      message: error.message,
    };
  }
}

const deeds = { plain, stream, usage, break_off, close, helper, images };

for await (const line of createInterface({ input: process.stdin })) {
  const { do: deed, base_url: baseURL, api_key: apiKey } = JSON.parse(line);
  console.log(JSON.stringify(await deeds[deed](new OpenAI({ baseURL, apiKey }))));
}
