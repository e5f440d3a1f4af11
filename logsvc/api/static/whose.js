/** Whose log the service's page shows, and who is looking. */

/** Empty for the list of apps. */
export const app = decodeURIComponent(/^\/apps\/([^/]+)$/.exec(location.pathname)?.[1] ?? "");

/** Where this tab keeps the token of whoever looks. */
const TOKEN = "logsvc-token";
export const token = () => sessionStorage.getItem(TOKEN) ?? "";

/** @param {string} text */
export function keepToken(text) {
  sessionStorage.setItem(TOKEN, text);
}
