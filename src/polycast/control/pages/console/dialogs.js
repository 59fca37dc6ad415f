// Questions, and short notices.

import { h } from "./dom.js";

let numbers = 0;

/** Open a dialog with these contents; `build(close)` makes them. Returns what `close` was called with. */
export function dialog(title, build, { isWide = false } = {}) {
  const id = `dialog-${(numbers += 1)}`;
  return new Promise((resolve) => {
    const made = h("dialog", { "aria-labelledby": id, class: isWide ? "wide" : undefined });
    const close = (value) => {
      made.close();
      made.remove();
      resolve(value);
    };
    made.append(h("h2", { id }, title), ...[build(close)].flat());
    made.addEventListener("cancel", (event) => {
      event.preventDefault();
      close(undefined);
    });
    document.body.append(made);
    made.showModal();
  });
}

/** Ask before something is done that cannot be undone. */
export function confirm(title, text, doIt) {
  return dialog(title, (close) => [
    h("p", { class: "question" }, text),
    h(
      "p",
      { class: "buttons" },
      h("button", { type: "button", class: "plain", autofocus: true, "data-answer": "no", onclick: () => close(false) }, "Cancel"),
      h("button", { type: "button", class: "danger", "data-answer": "yes", onclick: () => close(true) }, doIt),
    ),
  ]);
}

/** Tell something that happened; it disappears by itself. */
export function notify(text, isBad = false) {
  const made = h("p", { class: isBad ? "bad" : undefined }, text);
  document.getElementById("notices").append(made);
  setTimeout(() => made.remove(), isBad ? 12000 : 5000);
}

export async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // Pages that came over plain HTTP have no clipboard.
    const focused = document.activeElement;
    const field = h("textarea", { readonly: true, class: "unseen", value: text });
    document.body.append(field);
    field.select();
    document.execCommand("copy");
    field.remove();
    focused?.focus();
  }
  notify("Copied.");
}

/** What a page shows while it has nothing else. */
export const empty = (title, ...advice) => h("div", { class: "empty" }, h("p", { class: "title" }, title), ...advice.map((text) => h("p", {}, text)));

