// AI SDK: `node ai.mjs MAJOR CALL`; prints JSON with what the call gave.
import fs from "node:fs";

const [major, call] = process.argv.slice(2);
const {BASE_URL: baseURL, API_KEY: apiKey, PHOTO, SECOND, PROMPT: text} = process.env;
const {generateImage} = await import(`ai${major}`);
const {createOpenAI} = await import(`ai${major}-openai`);
const {createOpenAICompatible} = await import(`ai${major}-openai-compatible`);
const openai = createOpenAI({baseURL, apiKey}).image("gpt-image-1");
const compatible = createOpenAICompatible({name: "editthinker", baseURL, apiKey}).imageModel("classical");
const photo = fs.readFileSync(PHOTO);
const second = fs.readFileSync(SECOND);

const edit = async (model, images, options = {}) => {
  const {image, warnings} = await generateImage({model, prompt: {images, text}, ...options});
  console.log(JSON.stringify({b64_json: image.base64, warnings}));
};
const calls = {
  openai: () => edit(openai, [photo]),
  openai_quality: () => edit(openai, [photo], {providerOptions: {openai: {quality: "low"}}}),
  openai_two: () => edit(openai, [photo, second]),
  compatible: () => edit(compatible, [photo]),
  compatible_options: () => edit(compatible, [photo], {providerOptions: {editthinker: {max_turns: 2, strategy: "think"}}}),
  async abort() {
    const endless = {max_turns: 20, candidates: 4, patience: 20, semantic_threshold: 10, quality_threshold: 10};
    const leave = new AbortController();
    const sessions = async () => {
      const reply = await fetch(`${baseURL}/sessions?limit=100`, {headers: {authorization: `Bearer ${apiKey}`}});
      return (await reply.json()).data.map((session) => session.id);
    };
    const before = new Set(await sessions());
    (async () => {
      while ((await sessions()).every((id) => before.has(id)));
      leave.abort();
    })();
    const options = {providerOptions: {editthinker: endless}, abortSignal: leave.signal, maxRetries: 0};
    await edit(compatible, [photo], options).catch((error) => console.log(JSON.stringify({left: error.name})));
  },
};
await calls[call]();
