// Forms for settings, made of their schema.

import { encoded, get, patch, post, remove } from "./api.js";
import { changesView } from "./diff.js";
import { confirm, dialog, empty, notify } from "./dialogs.js";
import { h, render } from "./dom.js";
import { control, isSame, shown } from "./fields.js";

const LONGEST_DEFAULT = 80;

let schema = null;
const loadSchema = async () => (schema ??= await get("v1/config/schema"));

/** The form of some settings: `root` is drawn anew when something is typed. */
function form({ root, head, settings, load, save, what }) {
  const state = { values: null, edits: new Map(), search: "", isChangedOnly: false };
  const valueOf = (setting) => (state.edits.has(setting.key) ? state.edits.get(setting.key) : state.values[setting.key]);
  const change = (setting, value) => {
    if (isSame(value, state.values[setting.key])) state.edits.delete(setting.key);
    else state.edits.set(setting.key, value);
    draw();
  };
  const isFound = (setting) => {
    const text = `${setting.key} ${setting.section} ${setting.description}`.toLowerCase();
    const isChanged = state.edits.has(setting.key) || !isSame(valueOf(setting), setting.default);
    return state.search.toLowerCase().split(/\s+/).every((word) => text.includes(word)) && (!state.isChangedOnly || isChanged);
  };
  const draw = () => {
    const found = settings().filter(isFound);
    const sections = [...new Set(found.map((setting) => setting.section))];
    render(
      root,
      head,
      h(
        "div",
        { class: "toolbar" },
        h("input", { type: "search", "aria-label": "Search settings", placeholder: "Search settings", value: state.search, oninput: (event) => ((state.search = event.target.value), draw()) }),
        h("label", { class: "check" }, h("input", { type: "checkbox", checked: state.isChangedOnly, onchange: (event) => ((state.isChangedOnly = event.target.checked), draw()) }), " Only those that differ from the default"),
      ),
      !found.length && empty("No setting matches."),
      sections.map((section) =>
        h(
          "section",
          { class: "panel settings", key: section },
          section && h("h2", {}, section),
          found.filter((setting) => setting.section === section).map((setting) => row(setting, valueOf(setting), state.edits.has(setting.key), change)),
        ),
      ),
      state.edits.size > 0 &&
        h(
          "div",
          { class: "savebar", role: "region", "aria-label": "Changes" },
          h("span", { role: "status" }, `${state.edits.size} ${state.edits.size === 1 ? "change" : "changes"}`),
          h("button", { type: "button", onclick: () => (state.edits.clear(), draw()) }, "Discard"),
          h("button", { type: "button", class: "primary", id: "review", onclick: review }, "Review and save"),
        ),
    );
  };
  const review = async () => {
    const changes = settings().filter((setting) => state.edits.has(setting.key));
    const isSaved = await reviewed(what, changes, state, () => save(Object.fromEntries(state.edits)));
    if (!isSaved) return;
    state.edits.clear();
    await refresh();
  };
  const refresh = async () => {
    state.values = await load();
    draw();
  };
  return { refresh: async () => (state.values === null ? refresh() : undefined) };
}

function defaultOf(setting) {
  const text = shown(setting.default);
  return text.length > LONGEST_DEFAULT ? "" : `Default: ${text}. `;
}

function row(setting, value, isEdited, change) {
  const restarts = setting.restarts.length ? `A change restarts: ${setting.restarts.join(", ")}.` : "";
  return h(
    "div",
    { class: isEdited ? "setting edited" : "setting", key: setting.key },
    h("label", { for: `setting-${setting.key}` }, h("code", {}, setting.key)),
    control(setting, value, change),
    h("p", { class: "faint", id: `about-${setting.key}` }, setting.description.replaceAll("`", ""), ` ${defaultOf(setting)}${restarts}`),
  );
}

/** Show what is about to change, and do it; errors are shown beside it. */
function reviewed(title, changes, state, save) {
  return dialog(title, (close) => {
    const problem = h("p", { class: "problem", role: "alert", hidden: true });
    const interrupted = [...new Set(changes.flatMap((setting) => setting.restarts))];
    const apply = async (event) => {
      event.currentTarget.disabled = true;
      try {
        await save();
        notify("The configuration was changed.");
        close(true);
      } catch (error) {
        problem.textContent = error.message;
        problem.hidden = false;
        root.querySelector("#save").disabled = false;
      }
    };
    const root = h(
      "div",
      {},
      changesView(changes.flatMap((setting) => [h("li", { class: "removed" }, `− ${setting.key}: ${shown(state.values[setting.key])}`), h("li", { class: "added" }, `+ ${setting.key}: ${shown(state.edits.get(setting.key))}`)])),
      interrupted.length > 0 && h("p", { class: "note" }, `This interrupts: ${interrupted.join(", ")}.`),
      problem,
      h("p", { class: "buttons" }, h("button", { type: "button", class: "plain", onclick: () => close(false) }, "Cancel"), h("button", { type: "button", class: "primary", id: "save", onclick: apply }, "Save")),
    );
    return root;
  }, { isWide: true });
}

export function settingsTab({ root }) {
  const made = form({ root, head: null, what: "Change settings", settings: () => schema.settings, load: () => get("v3/config/global/get"), save: (edits) => patch("v3/config/global/patch", edits) });
  return {
    async refresh() {
      await loadSchema();
      await made.refresh();
    },
  };
}

const addressOf = (name) => `#/configuration/paths/${encoded(name)}`;

export function pathsTab({ root, argument }) {
  return argument ? onePath({ root, name: argument }) : allPaths({ root });
}

function onePath({ root, name }) {
  const head = h("p", { class: "crumbs" }, h("a", { href: "#/configuration/paths" }, "Paths"), " / ", h("b", {}, name));
  const made = form({
    root, head, what: `Change the path “${name}”`,
    settings: () => schema.pathSettings,
    load: () => get(`v3/config/paths/get/${encoded(name)}`),
    save: (edits) => patch(`v3/config/paths/patch/${encoded(name)}`, edits),
  });
  return {
    async refresh() {
      await loadSchema();
      await made.refresh();
    },
  };
}

function allPaths({ root }) {
  const refresh = async () => {
    await loadSchema();
    const { items } = await get("v3/config/paths/list?itemsPerPage=1000");
    render(
      root,
      h("p", { class: "toolbar" }, h("button", { type: "button", class: "primary", id: "add-path", onclick: async () => (await addPath()) && refresh() }, "Add a path")),
      !items.length && empty("No path is configured.", "Add one for a camera, or all_others, so that anybody may publish under any name."),
      items.length > 0 && h("ul", { class: "panel list" }, items.map((item) => pathRow(item, refresh))),
    );
  };
  return { refresh };
}

function pathRow(item, refresh) {
  const different = schema.pathSettings.filter((setting) => !isSame(item[setting.key], setting.default)).map((setting) => setting.key);
  const take = async () => {
    if (!(await confirm(`Remove the path “${item.name}”?`, "Its publisher and readers are disconnected. Earlier versions of the configuration can be restored.", "Remove"))) return;
    try {
      await remove(`v3/config/paths/delete/${encoded(item.name)}`);
      notify(`The path “${item.name}” was removed.`);
    } catch (error) {
      notify(error.message, true);
    }
    await refresh();
  };
  return h(
    "li",
    { key: item.name },
    h("div", {}, h("a", { href: addressOf(item.name) }, h("b", {}, item.name)), h("span", { class: "faint wrap" }, different.length ? ` ${different.join(", ")}` : " defaults only")),
    h("button", { type: "button", class: "small", "aria-label": `Remove the path ${item.name}`, onclick: take }, "Remove"),
  );
}

/** Ask for a new path; returns whether one was added. */
function addPath() {
  return dialog("Add a path", (close) => {
    const problem = h("p", { class: "problem", role: "alert", hidden: true });
    const submit = async (event) => {
      event.preventDefault();
      const { name, source, onDemand } = event.currentTarget.elements;
      const values = source.value.trim() ? { source: source.value.trim(), ...(onDemand.checked ? { sourceOnDemand: true } : {}) } : {};
      try {
        await post(`v3/config/paths/add/${encoded(name.value.trim())}`, values);
        notify(`The path “${name.value.trim()}” was added.`);
        close(true);
      } catch (error) {
        problem.textContent = error.message;
        problem.hidden = false;
      }
    };
    return h(
      "form",
      { class: "fields", onsubmit: submit },
      h("label", {}, "Name", h("input", { name: "name", required: true, autofocus: true, autocomplete: "off", autocapitalize: "none", spellcheck: "false", placeholder: "entrance" })),
      h("label", {}, "Source", h("input", { name: "source", autocomplete: "off", autocapitalize: "none", spellcheck: "false", placeholder: "rtsp://user:password@192.168.1.20/stream" })),
      h("p", { class: "faint" }, "Leave the source empty for a stream that somebody publishes to this server."),
      h("label", { class: "check" }, h("input", { type: "checkbox", name: "onDemand" }), " Only pull it while somebody reads it"),
      problem,
      h("p", { class: "buttons" }, h("button", { type: "button", class: "plain", onclick: () => close(false) }, "Cancel"), h("button", { type: "submit", class: "primary" }, "Add")),
    );
  });
}
