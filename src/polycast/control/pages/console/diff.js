// What differs between two texts, line by line.

import { h } from "./dom.js";

const CONTEXT = 3;
// Cells of the table of common lines; texts that differ more are shown as replaced.
const MAXIMUM_CELLS = 4_000_000;

/** `[{ kind: " " | "-" | "+", text }]`. */
export function diffLines(before, after) {
  const [old, made] = [before.split("\n"), after.split("\n")];
  let start = 0;
  while (start < old.length && start < made.length && old[start] === made[start]) start += 1;
  let end = 0;
  while (end < old.length - start && end < made.length - start && old.at(-1 - end) === made.at(-1 - end)) end += 1;
  const same = (lines) => lines.map((text) => ({ kind: " ", text }));
  return [...same(old.slice(0, start)), ...between(old.slice(start, old.length - end), made.slice(start, made.length - end)), ...same(end ? old.slice(-end) : [])];
}

function between(old, made) {
  const removed = (lines) => lines.map((text) => ({ kind: "-", text }));
  const added = (lines) => lines.map((text) => ({ kind: "+", text }));
  if (old.length * made.length > MAXIMUM_CELLS) return [...removed(old), ...added(made)];
  // The length of the longest common part of what follows both places.
  const width = made.length + 1;
  const common = new Uint32Array((old.length + 1) * width);
  for (let y = old.length - 1; y >= 0; y -= 1) {
    for (let x = made.length - 1; x >= 0; x -= 1) {
      common[y * width + x] = old[y] === made[x] ? common[(y + 1) * width + x + 1] + 1 : Math.max(common[(y + 1) * width + x], common[y * width + x + 1]);
    }
  }
  const found = [];
  let [y, x] = [0, 0];
  while (y < old.length && x < made.length) {
    if (old[y] === made[x]) {
      found.push({ kind: " ", text: old[y] });
      y += 1;
      x += 1;
    } else if (common[(y + 1) * width + x] >= common[y * width + x + 1]) found.push({ kind: "-", text: old[y++] });
    else found.push({ kind: "+", text: made[x++] });
  }
  return [...found, ...removed(old.slice(y)), ...added(made.slice(x))];
}

/** A list of changes that scrolls. */
export const changesView = (items) => h("div", { class: "diff", tabindex: "0", role: "region", "aria-label": "Changes" }, h("ul", {}, items));

/** The changed lines with those around them. */
export function diffView(before, after) {
  const lines = diffLines(before, after);
  const isNear = (index) => lines.slice(Math.max(0, index - CONTEXT), index + CONTEXT + 1).some((line) => line.kind !== " ");
  const shown = [];
  lines.forEach((line, index) => {
    if (isNear(index)) shown.push(h("li", { class: { "-": "removed", "+": "added", " ": "same" }[line.kind] }, h("span", { class: "sign", "aria-label": { "-": "removed", "+": "added", " ": "" }[line.kind] || undefined, role: line.kind === " " ? undefined : "img" }, line.kind), line.text));
    else if (shown.at(-1)?.className !== "gap") shown.push(h("li", { class: "gap" }, "…"));
  });
  if (lines.every((line) => line.kind === " ")) return h("p", { class: "faint" }, "Nothing differs.");
  return changesView(shown);
}
