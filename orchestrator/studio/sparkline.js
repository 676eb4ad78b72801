/** The scores of a session's candidates, in order, as a line; the band above the threshold is where a candidate satisfies. */
import { html, svg } from "./lit/lit.js";
import { meets, same } from "./state.js";

const [WIDTH, HEIGHT, EDGE] = [320, 56, 6];

/** @param {import("./state.js").Candidate} scored */
const overall = ({ scores }) => scores?.overall ?? 0;

/**
 * @param {import("./state.js").Session} session
 * @param {import("./state.js").Candidate[]} scored
 * @param {import("./state.js").Ref | null} selected
 * @param {(ref: import("./state.js").Ref) => void} choose
 */
export function sparkline(session, scored, selected, choose) {
  const x = (/** @type {number} */ index) => EDGE + (index * (WIDTH - 2 * EDGE)) / Math.max(1, scored.length - 1);
  const y = (/** @type {number} */ score) => EDGE + ((10 - score) * (HEIGHT - 2 * EDGE)) / 10;
  const points = scored.map((each, index) => `${x(index)},${y(overall(each))}`).join(" ");
  const { semantic_threshold = 8, quality_threshold = 8 } = session.created.limits;
  const wanted = y(Math.sqrt(semantic_threshold * quality_threshold));
  const name = `Scores: ${scored.map((each) => `turn ${each.turn} ${overall(each).toFixed(1)}`).join(", ")}`;
  return html`<svg class="spark" viewBox="0 0 ${WIDTH} ${HEIGHT}" role="img" aria-label=${name}>
    <rect x="0" y="0" width=${WIDTH} height=${wanted} fill="var(--good-wash)" rx="3" />
    <polyline points=${points} fill="none" stroke="var(--text-soft)" stroke-width="1.5" stroke-linejoin="round" />
    ${scored.map(
      (each, index) => svg`<circle
        cx=${x(index)} cy=${y(overall(each))} r=${same(each, selected) ? 5 : 3.5} cursor="pointer"
        fill=${meets(session, each) ? "var(--good)" : "var(--text)"} stroke="var(--surface)" stroke-width="1.5"
        @click=${() => choose(each)}
      ><title>Turn ${each.turn}: ${overall(each).toFixed(1)}</title></circle>`,
    )}
  </svg>`;
}
