// What a user of the official Node.js client does, against BASE_URL with API_KEY.
// Prints one JSON document of what came of it; tests/node/test_node.py reads it.

import OpenAI from "openai";

const client = new OpenAI({
  baseURL: process.env.BASE_URL,
  apiKey: process.env.API_KEY,
});

const messages = [
  { role: "system", content: "You are a helpful assistant." },
  { role: "user", content: "What is the capital of France?" },
];

/** The documentation's example. */
async function plain() {
  return client.chat.completions.create({
    model: "gpt-4",
    messages,
    temperature: 0.7,
    max_tokens: 500,
  });
}

async function headers() {
  const { data, response } = await client.chat.completions
    .create({ model: "gpt-4", messages })
    .withResponse();
  return { status: response.status, id: data.id, headers: Object.fromEntries(response.headers) };
}

async function models() {
  const listed = [];
  for await (const model of client.models.list()) listed.push(model.id);
  return { listed, retrieved: await client.models.retrieve("gpt-4") };
}

/** Say how `call` fails, as a program that catches it sees it. */
async function failure(call) {
  try {
    return { answer: await call() };
  } catch (error) {
    return {
      class: error.constructor.name,
      isAPIError: error instanceof OpenAI.APIError,
      status: error.status,
      code: error.code,
      type: error.type,
      param: error.param,
      message: error.message,
    };
  }
}

const wrongKey = () =>
  client
    .withOptions({ apiKey: "sk-wrong" })
    .chat.completions.create({ model: "gpt-4", messages });

const badRequest = () =>
  client.chat.completions.create({ model: "gpt-4", messages, temperature: 3 });

const unknownModel = () => client.chat.completions.create({ model: "gpt-99", messages });

const results = {
  plain: await plain(),
  headers: await headers(),
  models: await models(),
  wrongKey: await failure(wrongKey),
  badRequest: await failure(badRequest),
  unknownModel: await failure(unknownModel),
};
console.log(JSON.stringify(results));
