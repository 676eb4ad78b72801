/**
 * Session = fold(events), as orchestrator/loop/session.py folds them and orchestrator/api/view.py shows them.
 *
 * Pure: `apply` makes a new state, and knows neither the network nor the clock. tests/studio/test_state.py compares it with the
 * server's own on recorded streams.
 *
 * @typedef {{turn: number, candidate: number}} Ref
 * @typedef {{semantic: number, quality: number, semantic_spread: number, quality_spread: number, overall: number}} Scores
 * @typedef {{sha256: string, media_type: string, bytes: number, width: number, height: number}} Image
 * @typedef {{code: string, message: string}} Failure
 * @typedef {{changed: number, difference: number}} Outside
 * @typedef {{left: number, top: number, right: number, bottom: number, word: string}} Place
 * @typedef {{type: string, at: number, [field: string]: any}} Event
 * @typedef {{turn: number, candidate: number, seed: number, draft: boolean, attempt: number, editing: boolean,
 *   started_at: number | null, image: Image | null, scaled: Image | null, preview: Image | null, preview_scores: Scores | null,
 *   preview_refinement: string | null, rejected: boolean, unchanged: boolean, not_understood: string[], alpha: string | null,
 *   outside_mask: Outside | null, outside_places: Outside | null, places: Place[], critiques: Scores[], scores: Scores | null,
 *   reasoning: string, answers: {number: number, answer: string, reason: string}[], refined: boolean, refined_instruction: string | null, refinement_reasoning: string,
 *   edit_error: Failure | null, critique_error: Failure | null, editor_seconds: number, thinker_seconds: number}} Candidate
 * @typedef {{turn: number, instruction: string, author: string, draft: boolean, renders: Ref | null,
 *   candidates: Candidate[]}} Turn
 * @typedef {{created: Event, turns: Turn[], totals: Record<string, number>, checklist: {text: string}[],
 *   preparation: {instruction: string | null, started: number, error: Failure | null, thinker_seconds: number}, comparisons: Event[],
 *   review: Event | null, accepted: Event | null, cancelled: boolean, finished: Event | null, last_event: number}} Session
 */

const SEEDS = 2 ** 31;
const NO_TOTALS = {
  ...{ turns: 0, edits: 0, editor_seconds: 0, thinker_seconds: 0 },
  ...{ prompt_tokens: 0, completion_tokens: 0, cached_tokens: 0 },
};

/** The state after all events of a stream, in order. @param {Event[]} events @returns {Session} */
export const fold = (events) => events.slice(1).reduce(apply, begin(events[0]));

/** The state after a session's first event. @param {Event} created @returns {Session} */
export function begin(created) {
  if (created.type !== "session_created") throw new Error("a session's first event is session_created");
  return {
    created,
    turns: [],
    totals: NO_TOTALS,
    checklist: [],
    preparation: { instruction: null, started: 0, error: null, thinker_seconds: 0 },
    comparisons: [],
    review: null,
    accepted: null,
    cancelled: false,
    finished: null,
    last_event: created.seq ?? 1,
  };
}

/** The state after one more event. @param {Session} session @param {Event} event @returns {Session} */
export function apply(session, event) {
  const after = { ...session, last_event: event.seq ?? session.last_event + 1, totals: counted(session.totals, event) };
  switch (event.type) {
    case "turn_started":
      return { ...after, turns: [...session.turns, turnOf(event)] };
    case "prepare_started":
    case "prepared":
    case "prepare_failed":
      return { ...after, preparation: prepared(session.preparation, event) };
    case "checklist_made":
      return { ...after, checklist: event.questions };
    case "compared":
      return { ...after, comparisons: [...session.comparisons, event] };
    case "review_requested":
      return { ...after, review: event };
    case "feedback_given":
      return { ...after, review: null, accepted: ["accept", "pick"].includes(event.action) ? event : session.accepted };
    case "cancel_requested":
      return { ...after, cancelled: true };
    case "finished":
      return { ...after, turns: withScaled(session.turns, event), finished: event, review: null };
    default:
      return event.candidate ? { ...after, turns: withCandidate(session.turns, event) } : after;
  }
}

/** @param {Record<string, number>} totals @param {Event} event */
function counted(totals, event) {
  if (event.type === "finished") return totals;
  const sums = { ...totals };
  for (const name of ["editor_seconds", "thinker_seconds", "prompt_tokens", "completion_tokens", "cached_tokens"]) {
    sums[name] += event[name] ?? 0;
  }
  if (event.type === "turn_started") sums.turns = event.turn;
  if (event.type === "edit_started") sums.edits += 1;
  return sums;
}

/** @param {Event} event @returns {Turn} */
function turnOf({ turn, instruction, author, candidates, first_seed, draft = false, renders = null }) {
  const candidate = (/** @type {undefined} */ _, /** @type {number} */ index) => ({
    ...{ turn, candidate: index + 1, seed: (first_seed + index) % SEEDS, draft, attempt: 0, editing: false, started_at: null },
    ...{ image: null, scaled: null, preview: null, preview_scores: null, preview_refinement: null, rejected: false },
    ...{ unchanged: false, not_understood: [], alpha: null, outside_mask: null, outside_places: null, places: [] },
    ...{ critiques: [], scores: null, reasoning: "", answers: [], refined: false, refined_instruction: null },
    ...{ refinement_reasoning: "", edit_error: null, critique_error: null, editor_seconds: 0, thinker_seconds: 0 },
  });
  return { turn, instruction, author, draft, renders, candidates: Array.from({ length: candidates }, candidate) };
}

/** @param {Session["preparation"]} before @param {Event} event */
function prepared(before, event) {
  if (event.type === "prepare_started") return { ...before, started: event.attempt };
  const thinker_seconds = before.thinker_seconds + (event.thinker_seconds ?? 0);
  if (event.type === "prepared") return { ...before, instruction: event.instruction, error: null, thinker_seconds };
  return { ...before, error: failure(event), thinker_seconds };
}

/** @param {Event} event @returns {Failure} */
const failure = ({ code, message }) => ({ code, message });

/** @param {Turn[]} turns @param {Event} event */
function withCandidate(turns, event) {
  const change = (/** @type {Candidate} */ known) => (known.candidate === event.candidate ? advanced(known, event) : known);
  return turns.map((turn) => (turn.turn === event.turn ? { ...turn, candidates: turn.candidates.map(change) } : turn));
}

/** @param {Turn[]} turns @param {Event} event */
function withScaled(turns, { results = [], scaled = [] }) {
  const of = (/** @type {Candidate} */ each) => scaled[results.findIndex((/** @type {Ref} */ ref) => same(ref, each))] ?? null;
  return turns.map((turn) => ({ ...turn, candidates: turn.candidates.map((each) => ({ ...each, scaled: of(each) })) }));
}

/** @param {Candidate} before @param {Event} event @returns {Candidate} */
function advanced(before, event) {
  const spent = {
    editor_seconds: before.editor_seconds + (event.editor_seconds ?? 0),
    thinker_seconds: before.thinker_seconds + (event.thinker_seconds ?? 0),
  };
  const known = { ...before, ...spent };
  switch (event.type) {
    case "edit_started":
      return { ...known, attempt: event.attempt, editing: true, seed: event.seed, started_at: event.at };
    case "edited": {
      const { image, outside_mask = null, alpha = null, unchanged = false, not_understood = [] } = event;
      return { ...known, editing: false, edit_error: null, image, outside_mask, alpha, unchanged, not_understood };
    }
    case "edit_failed": {
      const again = event.retryable && !before.rejected;
      const unseen = again ? { preview: null, preview_scores: null } : {};
      return { ...known, ...unseen, editing: false, edit_error: failure(event) };
    }
    case "critiqued": {
      const first = { ...known, critiques: [], outside_places: event.outside_places ?? null, critique_error: null };
      return critiqued(first, event);
    }
    case "verified":
      return critiqued(known, event);
    case "critique_failed":
      return { ...known, critique_error: failure(event) };
    case "refined":
      return { ...known, refined: true, refined_instruction: event.instruction, refinement_reasoning: event.reasoning ?? "" };
    case "previewed":
      return { ...known, preview: event.image };
    case "preview_critiqued":
      return { ...known, preview_scores: scoresOf(event), preview_refinement: event.instruction ?? null };
    case "edit_rejected": {
      const refined_instruction = before.preview_refinement ?? before.refined_instruction;
      return { ...known, rejected: true, editing: false, refined_instruction };
    }
    default:
      return known;
  }
}

/** @param {Event | Scores} given @returns {Scores} */
function scoresOf({ semantic, quality, semantic_spread = 0, quality_spread = 0 }) {
  return { semantic, quality, semantic_spread, quality_spread, overall: Math.sqrt(semantic * quality) };
}

/** With one more critique; the texts are those of the strictest. @param {Candidate} before @param {Event} event */
function critiqued(before, event) {
  const scores = scoresOf(event);
  const stricter = before.critiques.every((known) => scores.overall < known.overall);
  const critiques = [...before.critiques, scores];
  const after = { ...before, critiques, scores: meanScores(critiques) };
  if (!stricter) return after;
  const refined_instruction = before.refined ? before.refined_instruction : event.instruction;
  return { ...after, reasoning: event.reasoning, answers: event.answers ?? [], places: event.places ?? [], refined_instruction };
}

/** @param {number[]} values */
const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
/** @param {number[]} values */
const spread = (values) => Math.sqrt(mean(values.map((value) => (value - mean(values)) ** 2)));

/** @param {Scores[]} critiques @returns {Scores} */
function meanScores(critiques) {
  if (critiques.length === 1) return critiques[0];
  const of = (/** @type {keyof Scores} */ name) => critiques.map((scores) => scores[name]);
  return scoresOf({
    ...{ semantic: mean(of("semantic")), quality: mean(of("quality")), overall: 0 },
    semantic_spread: Math.hypot(spread(of("semantic")), mean(of("semantic_spread"))),
    quality_spread: Math.hypot(spread(of("quality")), mean(of("quality_spread"))),
  });
}

// --- what is shown ---------------------------------------------------------------------------------------------------

/** @param {Ref | null | undefined} one @param {Ref | null | undefined} other */
export const same = (one, other) => !!one && !!other && one.turn === other.turn && one.candidate === other.candidate;

/** Every candidate of every turn, in order. @param {Session} session @returns {Candidate[]} */
export const candidates = (session) => session.turns.flatMap((turn) => turn.candidates);

/** @param {Session} session @param {Ref | null} ref @returns {Candidate | undefined} */
export const find = (session, ref) => candidates(session).find((each) => same(each, ref));

/** The best candidate, or the best so far; as orchestrator/loop/choosing.py ranks them. @param {Session} session */
export function best(session) {
  if (session.finished) return session.finished.best;
  const made = candidates(session).filter((each) => each.image);
  const top = ranked(session, made.filter((each) => !each.draft))[0] ?? ranked(session, made.filter((each) => each.draft))[0];
  return top ? { turn: top.turn, candidate: top.candidate } : null;
}

/** @param {Session} session @param {Candidate} candidate */
export function meets({ created }, { scores, unchanged }) {
  const { semantic_threshold = 8, quality_threshold = 8 } = created.limits;
  return !!scores && !unchanged && scores.semantic >= semantic_threshold && scores.quality >= quality_threshold;
}

/** @param {Session} session @param {Candidate[]} made @returns {Candidate[]} */
function ranked(session, made) {
  const overall = (/** @type {Candidate} */ each) => (each.scores ? each.scores.overall : -1);
  const met = (/** @type {Candidate} */ each) => (meets(session, each) ? 1 : 0);
  const order = [...made].sort((one, other) => met(other) - met(one) || overall(other) - overall(one));
  const [first, second] = order;
  if (!second || met(first) !== met(second)) return order;
  const [earlier, later] = made.indexOf(first) < made.indexOf(second) ? [first, second] : [second, first];
  const verdict = session.comparisons.findLast((each) => same(each.first, earlier) && same(each.second, later));
  if (!verdict) return order;
  const leader = verdict.winner === "second" ? later : earlier;
  return [leader, leader === first ? second : first, ...order.slice(2)];
}

/** The status as the API names it. @param {Session} session */
export function status(session) {
  if (!session.finished) {
    if (session.cancelled) return "cancelling";
    return session.review ? "awaiting_review" : session.turns.length || session.preparation.started ? "running" : "queued";
  }
  if (session.finished.reason === "cancelled") return "cancelled";
  return session.finished.best ? "succeeded" : "failed";
}

/** A candidate's status as the API names it. @param {Candidate} candidate */
export function candidateStatus({ scores, image, critique_error, editing, rejected, edit_error }) {
  if (scores) return "critiqued";
  if (image) return critique_error ? "unscored" : "edited";
  if (editing) return "editing";
  if (rejected) return "rejected";
  if (edit_error?.code === "session_cancelled") return "stopped";
  return edit_error ? "failed" : "planned";
}
