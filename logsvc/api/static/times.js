/** Times as people read and write them. Pure but for the clock that is passed in. */

/** @typedef {"relative" | "local" | "utc"} TimeForm */

/**
 * For the lines, where the day is said only of another day than today.
 * @param {string} time RFC 3339, UTC @param {TimeForm} form @param {number} now Unix ms
 */
export function shown(time, form, now) {
  if (form === "utc") return `${unlike(time.slice(0, 10), rfc3339(now))}${time.slice(11, 23)}Z`;
  const at = Date.parse(time);
  if (form === "relative") return ago(now - at);
  const date = new Date(at);
  return `${unlike(day(date), day(new Date(now)))}${clock(date)}`;
}

/** @param {string} time @param {TimeForm} form @returns {string} with the day, for where there is room */
export function full(time, form) {
  if (form === "utc") return `${time.slice(0, 10)} ${time.slice(11, 23)} UTC`;
  const date = new Date(time);
  return `${day(date)} ${clock(date)} ${zone(date)}`;
}

/** @param {Date} date @returns {string} of the day, local */
function clock(date) {
  return `${pad(date.getHours())}:${pad(date.getMinutes())}:${pad(date.getSeconds())}.${pad(date.getMilliseconds(), 3)}`;
}

/** @param {Date} date @returns {string} `2026-11-23`, local */
function day(date) {
  return `${date.getFullYear()}-${pad(date.getMonth() + 1)}-${pad(date.getDate())}`;
}

/** What to say of a day: nothing of today, no year of this one. @param {string} that @param {string} today */
function unlike(that, today) {
  if (today.startsWith(that)) return "";
  return `${today.startsWith(that.slice(0, 5)) ? that.slice(5) : that} `;
}

/** @param {Date} date @returns {string} `+01:00` */
function zone(date) {
  const minutes = -date.getTimezoneOffset();
  const size = Math.abs(minutes);
  return `${minutes < 0 ? "-" : "+"}${pad(Math.floor(size / 60))}:${pad(size % 60)}`;
}

/** @param {number} ms */
export function ago(ms) {
  const seconds = Math.max(0, ms / 1000);
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 120) return `${Math.floor(seconds)} s`;
  if (seconds < 7200) return `${Math.floor(seconds / 60)} min`;
  return seconds < 172_800 ? `${Math.floor(seconds / 3600)} h` : `${Math.floor(seconds / 86_400)} d`;
}

/** @param {number} number @param {number} digits */
function pad(number, digits = 2) {
  return String(number).padStart(digits, "0");
}

const UNITS = { s: 1, m: 60, h: 3600, d: 86_400, w: 604_800 };

/** ms of `15m` or `1h30m`; NaN where it is no length of time. @param {string} text */
export function duration(text) {
  if (!/^(?:\d{1,7}[smhdw]){1,5}$/.test(text)) return NaN;
  let seconds = 0;
  for (const [, count, unit] of text.matchAll(/(\d+)([smhdw])/g)) {
    seconds += Number(count) * UNITS[/** @type {keyof typeof UNITS} */ (unit)];
  }
  return seconds * 1000;
}

/** Unix ms of an RFC 3339 time or of a length of time ago. @param {string} text @param {number} now */
export function instant(text, now) {
  const ms = duration(text);
  return Number.isNaN(ms) ? Date.parse(text) : now - ms;
}

/** @param {number} ms Unix @returns {string} RFC 3339 */
export function rfc3339(ms) {
  return new Date(ms).toISOString();
}

/** Unix ms as a field for a time has it. @param {number} ms @param {TimeForm} form */
export function asField(ms, form) {
  if (form === "utc") return rfc3339(ms).slice(0, 19);
  const date = new Date(ms);
  return `${day(date)}T${clock(date).slice(0, 8)}`;
}

/** Unix ms of what such a field has. @param {string} text @param {TimeForm} form */
export function ofField(text, form) {
  return Date.parse(form === "utc" ? `${text}Z` : text);
}
