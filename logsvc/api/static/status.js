/** The state of the pane in words, and what to do about it. */
import { counted } from "./dom.js";
import { Refused, Unshared } from "./source.js";

/**
 * @typedef {object} Status
 * @property {"live" | "paused" | "busy" | "bad"} kind
 * @property {string} word for the pill
 * @property {string} [text] a sentence or two, where there is more to say
 * @property {number} [seconds] until it is tried again
 * @property {boolean} [retry] whether trying again now makes sense
 * @property {boolean} [anew] whether only beginning anew does
 * @property {Trouble} [expired] why, where it is the session
 *
 * @typedef {import("./pauses.js").Trouble} Trouble
 */

/** @param {import("./log.js").Log} log @param {number} now performance.now() @returns {Status} */
export function status(log, now) {
  const { connection, above } = log;
  if (connection.state === "away") {
    const word = connection.trouble.until < Infinity ? "Reconnecting" : "Stopped";
    return { kind: "bad", word, ...reason(connection.trouble, now) };
  }
  if (!above) return state(log);
  const why = reason(above, now);
  return { ...state(log), ...why, text: `Older lines can't be loaded. ${why.text}` };
}

/** @param {import("./log.js").Log} log @returns {Status} */
function state({ connection, following, bottom }) {
  if (bottom === "done") return { kind: "paused", word: "Range" };
  if (!following) return { kind: "paused", word: "Paused" };
  if (connection.state === "live") return { kind: "live", word: "Live" };
  return { kind: "busy", word: "Connecting" };
}

/**
 * @param {Trouble} trouble @param {number} now
 * @returns {{text: string, seconds?: number, retry?: boolean, anew?: boolean, expired?: Trouble}}
 */
function reason(trouble, now) {
  const { error, until } = trouble;
  if (until === Infinity) {
    const expired = error instanceof Refused && error.status === 401;
    return expired ? { ...refusal(error), expired: trouble } : refusal(error);
  }
  return { text: passing(error), seconds: Math.max(0, Math.ceil((until - now) / 1000)), retry: true };
}

/** @param {unknown} error why the pane tries again */
function passing(error) {
  if (error instanceof Refused) {
    if (error.status === 404) return "This app has no lines yet, or there is no such app.";
    if (error.status === 429) return "The service asks to slow down (429).";
    return `The service can't answer now (${error.status}): ${sentence(error.message)}`;
  }
  if (error instanceof Unshared) return error.message;
  return "The connection is lost. No line is: the pane goes on with the next one.";
}

/** @param {unknown} error why it does not */
function refusal(error) {
  if (!(error instanceof Refused)) return { text: "The service can't be reached.", retry: true };
  if (error.status === 401) return { text: "Your session has expired. Sign in again, then continue here.", retry: true };
  if (error.status === 403) return { text: `You may not read this log: ${sentence(error.message)}`, retry: true };
  const { parameter = "" } = error;
  const why = sentence(error.message.replace(`${parameter}: `, "") || String(error.status));
  if (parameter === "app") return { text: `No app has such a name: one ${why}` };
  if (error.unplaced) return { text: `The service does not know this place in the log: ${why}`, anew: true };
  return parameter ? { text: `${parameter}: ${why} Change the filter.` } : { text: why, retry: true };
}

/** Why something failed that isn't tried again. @param {unknown} error */
export function failure(error) {
  if (error instanceof Refused && (error.status === 429 || error.status >= 500)) return passing(error);
  return error instanceof Unshared ? error.message : refusal(error).text;
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
