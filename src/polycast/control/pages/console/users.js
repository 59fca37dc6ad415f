// Who may do what: the users of the configuration, and tokens.

import { get, patch } from "./api.js";
import { confirm, empty, notify } from "./dialogs.js";
import { h, render } from "./dom.js";
import { addressesOf, mayTexts } from "./permissions.js";
import { tokensPanel } from "./tokens.js";
import { editUser } from "./user.js";

const METHODS = {
  internal: "Users are listed here (authMethod: internal).",
  http: "Another server decides (authMethod: http). The users below have no effect.",
  jwt: "Signed tokens decide (authMethod: jwt). The users below have no effect.",
};

export function usersPage({ root }) {
  let settings = null;
  const refresh = async () => {
    settings = await get("v3/config/global/get");
    if (root.isConnected) draw();
  };
  const draw = () => {
    const users = settings.authInternalUsers;
    render(
      root,
      h("div", { class: "head" }, h("h1", {}, "Users"), h("p", { class: "faint" }, METHODS[settings.authMethod])),
      settings.authMethod === "internal" && !isProtected(settings) && h("p", { class: "note" }, "Anybody who reaches the API may use it and this console. Give a user a password and the permission “api”, and take it from “any”."),
      h("p", { class: "toolbar" }, h("button", { type: "button", class: "primary", id: "add-user", onclick: async () => save(users, users.length, await editUser(null)) }, "Add a user")),
      !users.length && empty("There are no users."),
      users.length > 0 && h("ul", { class: "panel list" }, users.map((user, index) => row(user, index, users))),
      own(settings),
      tokensPanel(settings),
    );
  };
  const save = async (users, index, changed) => {
    if (changed === undefined) return;
    const made = [...users];
    if (changed === null) made.splice(index, 1);
    else made[index] = changed;
    if (!(await isSure(settings, made))) return;
    try {
      await patch("v3/config/global/patch", { authInternalUsers: made });
      notify("The users were changed.");
    } catch (error) {
      notify(error.message, true);
    }
    await refresh();
  };
  const row = (user, index, users) =>
    h(
      "li",
      { key: `${index} ${user.user}` },
      h(
        "div",
        {},
        h("b", {}, user.user === "any" ? "Anybody" : user.user),
        h("span", { class: "faint" }, user.user === "any" ? " without credentials" : user.pass ? " with a password" : " with any password", user.ips.length ? `, from ${addressesOf(user).join(", ")}` : ""),
        h("ul", { class: "permissions" }, user.permissions.length ? mayTexts(user.permissions).map((text) => h("li", {}, `may ${text}`)) : h("li", { class: "faint" }, "may do nothing")),
      ),
      h("span", { class: "buttons" }, h("button", { type: "button", class: "small", "aria-label": `Edit ${user.user}`, onclick: async () => save(users, index, await editUser(user)) }, "Edit"), h("button", { type: "button", class: "small", "aria-label": `Remove ${user.user}`, onclick: async () => (await confirm(`Remove “${user.user}”?`, "Those who are connected stay connected.", "Remove")) && save(users, index, null) }, "Remove")),
    );
  return { title: "Users", refresh: async () => (settings === null ? refresh() : undefined) };
}

const mayUseApi = (user) => user.permissions.some((permission) => permission.action === "api");
const isProtected = (settings) => Boolean(settings.apiUser || settings.apiPass) || !settings.authInternalUsers.some((user) => user.user === "any" && !user.ips.length && mayUseApi(user));

/** Ask before the last user goes who may use the API. */
async function isSure(settings, users) {
  if (settings.authMethod !== "internal" || users.some(mayUseApi) || !settings.authInternalUsers.some(mayUseApi)) return true;
  return confirm("Nobody may use the API then.", "This console cannot be used any more after that. The configuration file is the only way back.", "Do it");
}

function own(settings) {
  const services = ["api", "metrics", "pprof"].filter((prefix) => settings[`${prefix}User`] || settings[`${prefix}Pass`]);
  if (!services.length) return null;
  return h("p", { class: "faint" }, `These services have a user of their own, which decides instead of the users here: ${services.map((prefix) => `${prefix} (${prefix}User)`).join(", ")}.`);
}

