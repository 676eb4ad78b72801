/** A request as code: the words of a shell and of Python, quoted. */

/** @param {string} text for a POSIX shell */
const quoted = (text) => (/^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`);

/** @param {string} origin @param {string[]} files @param {[string, string][]} fields @param {boolean} masked */
export function curl(origin, files, fields, masked) {
  const parts = [
    ...(files.length ? files : ["photo.jpg"]).map((name) => `-F ${quoted(`image=@${name}`)}`),
    ...(masked ? ["-F mask=@mask.png"] : []),
    // --form-string takes a value as it is, also one that begins with @ or <.
    ...fields.map(([name, value]) => `--form-string ${quoted(`${name}=${value}`)}`),
  ];
  return [`curl -s ${origin}/v1/sessions -H "Authorization: Bearer $EDITTHINKER_API_KEY"`, ...parts].join(" \\\n  ");
}

/** @param {string} origin @param {string[]} files @param {[string, string][]} fields @param {boolean} masked */
export function python(origin, files, fields, masked) {
  const names = (files.length ? files : ["photo.jpg"]).map((name) => JSON.stringify(name));
  const instruction = JSON.stringify(fields.find(([name]) => name === "prompt")?.[1] ?? "make it feel like golden hour");
  const mask = masked ? ', mask="mask.png"' : "";
  const options = fields
    .filter(([name]) => name !== "prompt")
    .map(([name, value]) => `, ${name}=${/^\d+$/.test(value) ? value : JSON.stringify(value)}`);
  return [
    "from editthinker import EditThinker",
    "",
    `with EditThinker(${JSON.stringify(origin)}) as client:`,
    `    image = ${names.length > 1 ? `[${names.join(", ")}]` : names[0]}`,
    `    client.edit(image, ${instruction}${mask}${options.join("")}).save("edited.png")`,
    "",
  ].join("\n");
}
