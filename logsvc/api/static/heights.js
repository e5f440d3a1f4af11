/**
 * Heights of rows and where they begin: the arithmetic of a virtual list. Pure.
 *
 * Sums are remade only from the first row that changed, so that appending to a long list costs nothing much.
 */
export class Heights {
  #heights = new Float64Array(1024);
  #tops = new Float64Array(1025);
  #count = 0;
  /** Tops up to this one are right. */
  #known = 0;

  /** @param {number} estimate height in px of a row that wasn't measured */
  constructor(estimate) {
    this.estimate = estimate;
  }

  get count() {
    return this.#count;
  }

  /** px of all rows. */
  get total() {
    return this.top(this.#count);
  }

  /** @param {number} rows */
  append(rows) {
    this.#reserve(rows);
    this.#heights.fill(this.estimate, this.#count, this.#count + rows);
    this.#count += rows;
  }

  /** @param {number} rows */
  prepend(rows) {
    this.#reserve(rows);
    this.#heights.copyWithin(rows, 0, this.#count);
    this.#heights.fill(this.estimate, 0, rows);
    this.#count += rows;
    this.#known = 0;
  }

  /** @param {number} rows */
  dropFirst(rows) {
    this.#heights.copyWithin(0, rows, this.#count);
    this.#count -= rows;
    this.#known = 0;
  }

  /** @param {number} rows */
  dropLast(rows) {
    this.#count -= rows;
    this.#known = Math.min(this.#known, this.#count);
  }

  clear() {
    this.#count = this.#known = 0;
  }

  /** Forget what was measured. */
  reset() {
    this.#heights.fill(this.estimate, 0, this.#count);
    this.#known = 0;
  }

  /** @param {number} row @param {number} height @returns {boolean} whether that is news */
  set(row, height) {
    if (Math.abs(this.#heights[row] - height) < 0.01) return false;
    this.#heights[row] = height;
    this.#known = Math.min(this.#known, row);
    return true;
  }

  /** @param {number} row @returns {number} px from the top of the list */
  top(row) {
    for (let each = this.#known; each < row; each++) this.#tops[each + 1] = this.#tops[each] + this.#heights[each];
    this.#known = Math.max(this.#known, row);
    return this.#tops[row];
  }

  /** @param {number} y px from the top of the list @returns {number} the row there; the nearest where there is none */
  at(y) {
    let low = 0;
    let high = Math.max(0, this.#count - 1);
    this.top(this.#count);
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (this.#tops[middle] <= y) low = middle;
      else high = middle - 1;
    }
    return low;
  }

  /** @param {number} rows */
  #reserve(rows) {
    if (this.#count + rows <= this.#heights.length) return;
    const size = 2 * (this.#count + rows);
    const heights = new Float64Array(size);
    heights.set(this.#heights.subarray(0, this.#count));
    const tops = new Float64Array(size + 1);
    tops.set(this.#tops.subarray(0, this.#known + 1));
    this.#heights = heights;
    this.#tops = tops;
  }
}
