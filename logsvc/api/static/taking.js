/** Taking lines away: to the clipboard, or as a file with all that pass the filter. */
import { download, offer } from "./save.js";
import { failure } from "./status.js";
import { saved } from "./toolbar.js";

/**
 * @param {string} page address of a page that shows the view of its own address
 * @param {import("./line.js").Line} line @param {import("./view.js").View} view what is looked at
 */
export function link(page, line, view) {
  const url = new URL(page);
  url.search = view.to(line.cursor).write(url.searchParams).toString();
  return url.href;
}

/** @param {string} text @param {import("./said.js").Said} said */
export async function copy(text, said) {
  if (!isSecureContext) {
    said.tell("The browser copies from a page of HTTPS only.");
    return;
  }
  try {
    await navigator.clipboard.writeText(text);
    said.speak("Copied");
    said.toolbar.found.textContent = "copied";
  } catch {
    said.toolbar.found.textContent = "the browser refused to copy";
  }
}

/**
 * @param {import("./log.js").Log} log @param {URLSearchParams} filter @param {"text" | "json"} form
 * @param {import("./toolbar.js").Toolbar} toolbar where it says how far it is
 */
export async function save({ service, app }, filter, form, toolbar) {
  const stop = new AbortController();
  let total = 0;
  const told = (/** @type {number} */ lines) => toolbar.progress(saved(lines, total), () => stop.abort());
  told(0);
  // How many there are is worth knowing, and nothing to wait for.
  all(service, app, filter, stop.signal).then((lines) => (total = lines), () => {});
  try {
    const blob = await download(service, app, filter, form, stop.signal, told);
    offer(blob, `${app}.${form === "json" ? "ndjson" : "log"}`);
    toolbar.progress("", null);
  } catch (error) {
    toolbar.progress(stop.signal.aborted ? "" : `The download failed. ${failure(error)}`, null);
  }
  stop.abort();
}

/**
 * How many lines pass a filter, from the first one kept.
 * @param {import("./source.js").Service} service @param {string} app @param {URLSearchParams} filter
 * @param {AbortSignal} signal @returns {Promise<number>}
 */
async function all(service, app, filter, signal) {
  const query = new URLSearchParams([...filter, ["step", "7000w"], ["by", "stream"]]);
  const { buckets } = await service.volume(app, query, signal);
  return buckets.reduce((/** @type {number} */ sum, /** @type {{lines: number}} */ { lines }) => sum + lines, 0);
}
