/** Whose log the service's page shows, and who is looking. */

/** Empty for the list of apps. */
export const app = decoded(/^\/apps\/([^/]+)$/.exec(location.pathname)?.[1] ?? "");

/** @param {string} text */
function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text; // The service says what is wrong with such a name.
  }
}

/** Where this tab keeps the token of whoever looks. */
const TOKEN = "logsvc-token";
export const token = () => sessionStorage.getItem(TOKEN) ?? "";

/** @param {string} text */
export function keepToken(text) {
  sessionStorage.setItem(TOKEN, text);
}
