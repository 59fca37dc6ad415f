// Earlier configurations, and the way back to them.

import { get, post } from "./api.js";
import { diffView } from "./diff.js";
import { dialog, empty, notify } from "./dialogs.js";
import { h, render } from "./dom.js";
import { duration, since } from "./format.js";

const BY = { start: "at the start", file: "by a change of the file", api: "through the API", signal: "by a signal", program: "by the program" };

export function versionsTab({ root }) {
  const refresh = async () => {
    const { items } = await get("v1/config/versions/list");
    render(
      root,
      h("p", { class: "faint" }, "The last ten configurations that were in effect since the server was started."),
      !items.length && empty("The configuration was not changed yet."),
      items.length > 0 && h("ul", { class: "panel list" }, items.map((item) => row(item, refresh))),
    );
  };
  return { refresh };
}

function row(item, refresh) {
  return h(
    "li",
    { key: item.number },
    h("div", {}, h("b", {}, `Version ${item.number}`), h("span", { class: "faint" }, ` in effect until ${new Date(item.replaced).toLocaleString()}, ${duration(since(item.replaced))} ago; replaced ${BY[item.replacedBy]}`)),
    h("button", { type: "button", class: "small", "data-version": item.number, onclick: async () => (await compare(item)) && refresh() }, "Compare and restore"),
  );
}

async function compare(item) {
  const [earlier, present] = await Promise.all([get(`v1/config/versions/get/${item.number}`), get("v1/config/text")]);
  return dialog(`Restore version ${item.number}?`, (close) => {
    const problem = h("p", { class: "problem", role: "alert", hidden: true });
    const restore = async () => {
      try {
        await post(`v1/config/versions/restore/${item.number}`);
        notify(`Version ${item.number} is in effect again.`);
        close(true);
      } catch (error) {
        problem.textContent = error.message;
        problem.hidden = false;
      }
    };
    return [
      h("p", {}, "What would change:"),
      diffView(present.text, earlier.text),
      problem,
      h("p", { class: "buttons" }, h("button", { type: "button", class: "plain", onclick: () => close(false) }, "Cancel"), h("button", { type: "button", class: "primary", id: "restore", onclick: restore }, "Restore")),
    ];
  }, { isWide: true });
}
