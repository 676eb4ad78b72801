/** Pictures and words that one screen hands to the start screen: "edit this result again". */

/** @type {{files: File[], prompt: string}} */
let given = { files: [], prompt: "" };

/** @param {File[]} files @param {string} prompt */
export function handOver(files, prompt) {
  given = { files, prompt };
}

/** What was handed over, once. */
export function taken() {
  const found = given;
  given = { files: [], prompt: "" };
  return found;
}
