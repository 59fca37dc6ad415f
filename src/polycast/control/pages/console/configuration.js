// The configuration: as forms, as text, and the way back.

import { get } from "./api.js";
import { h, render } from "./dom.js";
import { pathsTab, settingsTab } from "./forms.js";
import { textTab } from "./text.js";
import { versionsTab } from "./versions.js";

const TABS = [
  { id: "", name: "Settings", tab: settingsTab },
  { id: "paths", name: "Paths", tab: pathsTab },
  { id: "file", name: "File", tab: textTab },
  { id: "versions", name: "Earlier versions", tab: versionsTab },
];

export function configurationPage({ root, argument }) {
  const [id, ...rest] = argument.split("/");
  const found = TABS.find((each) => each.id === id) ?? TABS[0];
  const body = h("div", { class: "tab", opaque: true });
  const tab = found.tab({ root: body, argument: rest.join("/") });
  let status = null;
  const draw = () =>
    render(
      root,
      h("div", { class: "head" }, h("h1", {}, "Configuration"), h("p", { class: "faint" }, where(status))),
      h("nav", { class: "tabs", "aria-label": "Parts of the configuration" }, TABS.map((each) => h("a", { href: `#/configuration${each.id && `/${each.id}`}`, "aria-current": each === found ? "page" : undefined }, each.name))),
      !status.ok && h("p", { class: "problem" }, `The last change was refused: ${status.error}`),
      body,
    );
  return {
    title: "Configuration",
    async refresh() {
      status = await get("v1/config/status");
      if (!root.isConnected) return;
      draw();
      await tab.refresh?.(status);
    },
  };
}

function where({ file, persist }) {
  if (!file) return "There is no configuration file: changes last until the server stops.";
  return persist ? `Changes are written into ${file}.` : `Changes last until the server stops, or ${file} changes (apiPersist is off).`;
}
