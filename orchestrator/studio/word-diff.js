/** The difference of two texts by words, for instructions from turn to turn. */

/**
 * The shortest edit of words that makes `after` of `before` (longest common subsequence, by dynamic programming).
 * @param {string} before @param {string} after
 * @returns {{kind: "same" | "added" | "removed", text: string}[]}
 */
export function wordDiff(before, after) {
  const [one, other] = [words(before), words(after)];
  // A table of a million cells takes milliseconds; longer texts are shown whole.
  if (one.length * other.length > 1_000_000) return [part("removed", one), part("added", other)];
  const length = table(one, other);
  const found = [];
  let [i, j] = [0, 0];
  while (i < one.length || j < other.length) {
    if (i < one.length && j < other.length && one[i] === other[j]) {
      found.push(part("same", [other[j]]));
      [i, j] = [i + 1, j + 1];
    }
    else if (j >= other.length || (i < one.length && length[i + 1][j] >= length[i][j + 1])) found.push(part("removed", [one[i++]]));
    else found.push(part("added", [other[j++]]));
  }
  return joined(found);
}

/** @param {string} text */
const words = (text) => text.split(/\s+/u).filter(Boolean);

/** @param {"same" | "added" | "removed"} kind @param {string[]} texts */
const part = (kind, texts) => ({ kind, text: texts.join(" ") });

/** Lengths of the longest common subsequences of all ends. @param {string[]} one @param {string[]} other */
function table(one, other) {
  const length = Array.from({ length: one.length + 1 }, () => new Uint16Array(other.length + 1));
  for (let i = one.length - 1; i >= 0; i--) {
    for (let j = other.length - 1; j >= 0; j--) {
      length[i][j] = one[i] === other[j] ? length[i + 1][j + 1] + 1 : Math.max(length[i + 1][j], length[i][j + 1]);
    }
  }
  return length;
}

/** Neighbours of one kind as one part. @param {ReturnType<typeof part>[]} parts */
function joined(parts) {
  const out = [];
  for (const each of parts) {
    const last = out.at(-1);
    if (last?.kind === each.kind) last.text += ` ${each.text}`;
    else out.push({ ...each });
  }
  return out;
}
