// `node client.mjs PACKAGE [TIMEOUT_MS]`: one edit with the defaults of the client; prints its bytes in base64.
const [name, timeout] = process.argv.slice(2);
const {BASE_URL: baseURL, PROMPT: text, PHOTO} = process.env;
const photo = Buffer.from(PHOTO, "base64");

async function openai() {
  const {default: OpenAI, toFile} = await import(name);
  const client = new OpenAI({baseURL, apiKey: "none", ...(timeout ? {timeout: Number(timeout)} : {})});
  const image = await toFile(photo, "photo.png", {type: "image/png"});
  return (await client.images.edit({image, prompt: text})).data[0].b64_json;
}

async function ai() {
  const {generateImage} = await import(name);
  const {createOpenAI} = await import(`${name}-openai`);
  const model = createOpenAI({baseURL, apiKey: "none"}).image("gpt-image-1");
  return (await generateImage({model, prompt: {images: [photo], text}})).image.base64;
}

async function plain() {
  const form = new FormData();
  form.append("image", new Blob([photo]), "photo.png");
  form.append("prompt", text);
  const once = async () => {
    const signal = timeout ? AbortSignal.timeout(Number(timeout)) : undefined;
    const reply = await fetch(`${baseURL}/images/edits`, {method: "POST", body: form, signal});
    return (await reply.json()).data[0].b64_json;
  };
  return timeout ? once().catch(once).catch(once) : once();
}

console.log(await (name === "fetch" ? plain : name.startsWith("openai") ? openai : ai)());
