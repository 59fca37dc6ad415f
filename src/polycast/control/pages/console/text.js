// The configuration as text: checked while it is typed, compared before it is saved.

import { get, post } from "./api.js";
import { diffView } from "./diff.js";
import { dialog, notify } from "./dialogs.js";
import { h, render } from "./dom.js";
import { count } from "./format.js";

const CHECK_MILLISECONDS = 400;

export function textTab({ root }) {
  const state = { loaded: null, text: "", problems: [], warnings: [], isChecking: false };
  const field = h("textarea", { id: "text", "aria-label": "Text of the configuration", "aria-describedby": "problems", spellcheck: "false", autocapitalize: "off", autocomplete: "off", wrap: "off", rows: 26, opaque: true });
  const numbers = h("div", { class: "numbers", "aria-hidden": "true", opaque: true });
  let timer = null;

  const draw = () => {
    const isChanged = state.loaded !== null && state.text !== state.loaded.text;
    const lines = new Set(state.problems.map((problem) => problem.line));
    render(numbers, state.text.split("\n").map((_, index) => h("span", { class: lines.has(index + 1) ? "bad" : undefined }, index + 1)));
    const isMade = state.loaded?.isGenerated && state.hasFile;
    render(
      root,
      isMade && h("p", { class: "note" }, "Settings were changed without being written into the file. This text is made from those in effect, and lacks the comments of the file: to save it replaces them."),
      h("div", { class: "editor panel" }, numbers, field),
      h(
        "div",
        { id: "problems", role: "status" },
        state.problems.length
          ? [h("p", { class: "reason" }, h("b", {}, count(state.problems.length, "error"))), h("ul", { class: "problems" }, state.problems.map((problem) => h("li", {}, problem.line > 0 && h("button", { type: "button", class: "small", onclick: () => select(problem.line) }, `Line ${problem.line}`), " ", problem.text)))]
          : h("p", { class: "faint" }, state.isChecking ? "Checking…" : "No errors."),
        state.warnings.length > 0 && h("ul", { class: "problems warn" }, state.warnings.map((warning) => h("li", {}, warning))),
      ),
      isChanged &&
        h(
          "div",
          { class: "savebar", role: "region", "aria-label": "Changes" },
          h("span", {}, "The text was changed."),
          h("button", { type: "button", onclick: () => set(state.loaded.text) }, "Discard"),
          h("button", { type: "button", class: "primary", id: "review", disabled: state.problems.length > 0 || state.isChecking, onclick: review }, "Review and save"),
        ),
    );
  };
  const select = (line) => {
    const start = state.text.split("\n").slice(0, line - 1).join("\n").length + (line > 1 ? 1 : 0);
    field.focus();
    field.setSelectionRange(start, start + (state.text.split("\n")[line - 1] ?? "").length);
    field.scrollTop = (field.scrollHeight / state.text.split("\n").length) * Math.max(0, line - 6);
  };
  const set = (text) => {
    field.value = text;
    onInput();
  };
  const onInput = () => {
    state.text = field.value;
    state.isChecking = true;
    clearTimeout(timer);
    timer = setTimeout(check, CHECK_MILLISECONDS);
    draw();
  };
  const check = async () => {
    const checked = state.text;
    try {
      const found = await (await post("v1/config/check", { text: checked })).json();
      if (checked !== state.text) return;
      Object.assign(state, found, { isChecking: false });
    } catch (error) {
      Object.assign(state, { problems: [{ line: 0, text: error.message }], isChecking: false });
    }
    if (root.isConnected) draw();
  };
  const review = () =>
    dialog("Save this configuration?", (close) => {
      const problem = h("p", { class: "problem", role: "alert", hidden: true });
      const save = async () => {
        try {
          await post("v1/config/replace", { text: state.text, digest: state.loaded.digest });
          notify("The configuration was changed.");
          close(true);
          await load();
        } catch (error) {
          problem.textContent = error.message;
          problem.hidden = false;
        }
      };
      return [
        diffView(state.loaded.text, state.text),
        problem,
        h("p", { class: "buttons" }, h("button", { type: "button", class: "plain", onclick: () => close(false) }, "Cancel"), h("button", { type: "button", class: "primary", id: "save", onclick: save }, "Save")),
      ];
    }, { isWide: true });
  const load = async () => {
    state.loaded = await get("v1/config/text");
    field.value = state.text = state.loaded.text;
    Object.assign(state, { problems: [], warnings: [] });
    draw();
  };
  field.addEventListener("input", onInput);
  field.addEventListener("scroll", () => (numbers.scrollTop = field.scrollTop));
  return {
    async refresh({ file }) {
      state.hasFile = Boolean(file);
      if (state.loaded === null) await load();
    },
  };
}
