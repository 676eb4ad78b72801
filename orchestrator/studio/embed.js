/**
 * The elements for pages of other origins: `<edit-session>`, `<edit-timeline>` and `<edit-compare>`. Pages import `/studio/embed.js`.
 *
 * The colours and measures come from tokens.css, in a layer: what a page sets itself goes before.
 */
export { EditCompare } from "./compare.js";
export { EditTimeline } from "./timeline.js";
export { EditSession } from "./session.js";

const link = document.createElement("link");
Object.assign(link, { rel: "stylesheet", crossOrigin: "anonymous", href: new URL("tokens.css", import.meta.url).href });
document.head.append(link);
