// openai-node: `node openai.mjs PACKAGE CALL`; prints JSON with what the call gave.
import fs from "node:fs";

const [name, call] = process.argv.slice(2);
const {BASE_URL: baseURL, API_KEY: apiKey, PHOTO, SECOND, PROMPT: prompt} = process.env;
const {default: OpenAI, toFile} = await import(name);
const client = new OpenAI({baseURL, apiKey});
const photo = () => fs.createReadStream(PHOTO);
const print = (value) => console.log(JSON.stringify(value));

const calls = {
  async stream_of_a_file() {
    const reply = await client.images.edit({image: photo(), prompt});
    print({b64_json: reply.data[0].b64_json, session: reply.session_id});
  },
  async bytes() {
    const image = await toFile(fs.readFileSync(PHOTO), null, {type: "image/png"});
    const reply = await client.images.edit({image, prompt, model: "gpt-image-1", quality: "low"});
    print({b64_json: reply.data[0].b64_json, usage: reply.usage ?? null});
  },
  async two() {
    const reply = await client.images.edit({image: [photo(), fs.createReadStream(SECOND)], prompt, model: "gpt-image-1"});
    print({b64_json: reply.data[0].b64_json});
  },
  async events() {
    const types = [];
    let last;
    for await (const event of await client.images.edit({image: photo(), prompt, stream: true, partial_images: 1})) {
      types.push(event.type);
      last = event;
    }
    print({types, b64_json: last.b64_json});
  },
  async abort() {
    const endless = {max_turns: 20, candidates: 4, patience: 20, semantic_threshold: 10, quality_threshold: 10};
    const stream = await client.images.edit({image: photo(), prompt, stream: true, ...endless});
    for await (const event of stream) {
      print({first: event.type});
      stream.controller.abort();
    }
  },
  async error() {
    try {
      await client.images.edit({image: photo(), prompt, model: "dall-e-2"});
    } catch (error) {
      print({kind: error.constructor.name, status: error.status, code: error.code, message: error.message});
    }
  },
  async models() {
    const listed = [];
    for await (const model of client.models.list()) listed.push(model.id);
    print({listed, one: (await client.models.retrieve("classical")).id});
  },
};
await calls[call]();
