/** The state of the pane in words, and what to do about it. */
import { counted } from "./dom.js";
import { Refused } from "./source.js";

/**
 * @typedef {object} Status
 * @property {"live" | "paused" | "busy" | "bad"} kind
 * @property {string} word for the pill
 * @property {string} [text] a sentence or two, where there is more to say
 * @property {boolean} [retry] whether trying again now makes sense
 */

/** @param {import("./log.js").Log} log @param {number} now performance.now() @returns {Status} */
export function status(log, now) {
  const { connection, following, bottom } = log;
  if (connection.state === "refused") return { kind: "bad", word: "Stopped", ...refusal(connection.error) };
  if (connection.state === "waiting") {
    const seconds = Math.max(0, Math.ceil(((connection.until ?? now) - now) / 1000));
    const again = seconds ? ` Trying again in ${seconds} s.` : " Trying again.";
    return { kind: "bad", word: "Reconnecting", text: trouble(connection.error) + again, retry: true };
  }
  if (bottom === "done") return { kind: "paused", word: "Range" };
  if (!following) return { kind: "paused", word: "Paused" };
  if (connection.state === "live") return { kind: "live", word: "Live" };
  return { kind: "busy", word: "Connecting" };
}

/** @param {Error | undefined} error why the pane tries again */
function trouble(error) {
  if (error instanceof Refused) {
    if (error.status === 404) return "This app has no lines yet, or there is no such app.";
    if (error.status === 429) return "The service asks to slow down (429).";
    return `The service can't answer now (${error.status}): ${sentence(error.message)}`;
  }
  return "The connection is lost. No line is: the pane goes on with the next one.";
}

/** @param {Error | undefined} error why it does not */
function refusal(error) {
  if (!(error instanceof Refused)) return { text: "The service can't be reached.", retry: true };
  if (error.status === 401) return { text: "Your session has expired. Sign in again, then continue here.", retry: true };
  if (error.status === 403) return { text: `You may not read this log: ${sentence(error.message)}`, retry: true };
  if (error.parameter) {
    const text = `${error.parameter}: ${sentence(error.message)} Change the filter.`;
    return { text: error.message.startsWith(error.parameter) ? `${sentence(error.message)} Change the filter.` : text };
  }
  if (error.status === 429) return { text: "The service asks to slow down (429).", retry: true };
  return { text: `${sentence(error.message || String(error.status))}`, retry: true };
}

/** @param {string} text */
function sentence(text) {
  return /[.!?]$/.test(text) ? text : `${text}.`;
}

/** What leads back to live. @param {import("./log.js").Log} log */
export function unseen(log) {
  if (!log.unseen) return "Back to live";
  const more = log.unseenMore ? "More than " : "";
  return `${more}${counted(log.unseen)} new ${log.unseen === 1 ? "line" : "lines"}`;
}
