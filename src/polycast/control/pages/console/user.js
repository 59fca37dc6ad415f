// The form for one user.

import { post } from "./api.js";
import { dialog } from "./dialogs.js";
import { h, render } from "./dom.js";
import { addressesOf } from "./permissions.js";

const ACTIONS = { publish: "Publish", read: "Read", playback: "Watch recordings", api: "API and console", metrics: "Metrics", pprof: "Profiles" };
const ON_PATHS = ["publish", "read", "playback"];
const HIDDEN = "<redacted>";

/** Ask for the settings of a user; null for a new one. Returns the user, or undefined if nothing is to be changed. */
export function editUser(user) {
  const permissions = user ? user.permissions.map((each) => ({ ...each })) : [{ action: "read", path: "" }];
  return dialog(user ? `Edit “${user.user}”` : "Add a user", (close) => {
    const problem = h("p", { class: "problem", role: "alert", hidden: true });
    const list = h("ul", { class: "permissions" });
    const draw = () => render(list, permissions.map((permission, index) => permissionRow(permission, index, permissions, draw)));
    const submit = async (event) => {
      event.preventDefault();
      try {
        close(await read(event.currentTarget.elements, user, permissions));
      } catch (error) {
        problem.textContent = error.message;
        problem.hidden = false;
      }
    };
    draw();
    return h(
      "form",
      { class: "fields", onsubmit: submit },
      h("label", {}, "Name", h("input", { name: "user", required: true, autofocus: true, value: user?.user ?? "", autocomplete: "off", autocapitalize: "none", spellcheck: "false" })),
      h("label", {}, "Password", h("input", { name: "password", type: "password", autocomplete: "new-password", placeholder: user?.pass ? "as it is" : "" })),
      h("label", { class: "check" }, h("input", { type: "checkbox", name: "isHashed", checked: true }), " Store only a hash of the password"),
      h("p", { class: "faint" }, "“any” stands for everybody, without a password. RTSP clients that only know Digest authentication need a password that is not hashed."),
      h("label", {}, "Only from these addresses", h("input", { name: "ips", value: user ? addressesOf(user).join(", ") : "", placeholder: "everywhere", autocomplete: "off", spellcheck: "false" })),
      h("fieldset", {}, h("legend", {}, "May"), list, h("button", { type: "button", class: "small", onclick: () => (permissions.push({ action: "read", path: "" }), draw()) }, "Add a permission")),
      problem,
      h("p", { class: "buttons" }, h("button", { type: "button", class: "plain", onclick: () => close(undefined) }, "Cancel"), h("button", { type: "submit", class: "primary" }, "Save")),
    );
  });
}

function permissionRow(permission, index, permissions, draw) {
  const isOnPath = ON_PATHS.includes(permission.action);
  return h(
    "li",
    { key: index },
    h("select", { "aria-label": `Permission ${index + 1}`, value: permission.action, onchange: (event) => ((permission.action = event.target.value), draw()) }, Object.entries(ACTIONS).map(([action, text]) => h("option", { value: action }, text))),
    isOnPath && h("input", { "aria-label": `Path of permission ${index + 1}`, value: permission.path, placeholder: "every path", spellcheck: "false", autocapitalize: "none", oninput: (event) => (permission.path = event.target.value) }),
    h("button", { type: "button", class: "small", "aria-label": `Remove permission ${index + 1}`, onclick: () => (permissions.splice(index, 1), draw()) }, "×"),
  );
}

async function read(elements, user, permissions) {
  const name = elements.user.value.trim();
  const password = elements.password.value;
  if (name === "any" && password) throw new Error("“any” is everybody: it has no password.");
  if (user?.pass && !password && name !== user.user && name !== "any") throw new Error("The name was changed: type the password again.");
  if (name !== "any" && !password && !user) throw new Error("A password is needed.");
  let pass = name === "any" ? "" : password || (user?.pass ? HIDDEN : "");
  if (password && elements.isHashed.checked) pass = (await (await post("v1/auth/hash", { password })).json()).hash;
  const ips = elements.ips.value.split(",").map((each) => each.trim()).filter(Boolean);
  return { user: name, pass, ips, permissions: permissions.map(({ action, path }) => ({ action, path: ON_PATHS.includes(action) ? path.trim() : "" })) };
}
