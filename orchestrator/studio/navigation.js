/** Links within the studio change the screen without loading the page again. */

/** Show another screen. @param {string} path */
export function go(path) {
  history.pushState(null, "", path);
  dispatchEvent(new PopStateEvent("popstate"));
}

/** The click handler of a link; one that opens another tab is left to the browser. @param {MouseEvent} event */
export function navigate(event) {
  if (event.button !== 0 || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
  event.preventDefault();
  go(/** @type {HTMLAnchorElement} */ (event.currentTarget).getAttribute("href") ?? "/studio");
}
