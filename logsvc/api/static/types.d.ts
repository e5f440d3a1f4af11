/** Style sheets as modules (CSS module scripts, WHATWG HTML). */
declare module "*.css" {
  const sheet: CSSStyleSheet;
  export default sheet;
}
