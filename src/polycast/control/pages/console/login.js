// The form that asks for credentials.

import { credentials } from "./api.js";
import { h, render } from "./dom.js";

export function showLogin(root, problem, onSignedIn) {
  const submit = (event) => {
    event.preventDefault();
    const { user, password, token } = event.currentTarget.elements;
    credentials.set(user.value, password.value, token.value.trim());
    onSignedIn();
  };
  render(root);
  root.append(
    h(
      "form",
      { class: "login", onsubmit: submit },
      h("h1", {}, "Sign in"),
      problem && h("p", { class: "problem", role: "alert" }, sentence(problem)),
      h("label", {}, "User", h("input", { name: "user", autocomplete: "username", autocapitalize: "none", spellcheck: "false" })),
      h("label", {}, "Password", h("input", { name: "password", type: "password", autocomplete: "current-password" })),
      h("details", {}, h("summary", {}, "With a token instead"), h("label", {}, "Token (JWT)", h("input", { name: "token", type: "password", autocomplete: "off", spellcheck: "false" }))),
      h("button", { type: "submit", class: "primary" }, "Sign in"),
      h("p", { class: "faint" }, "Users of the API: apiUser and apiPass, or a user with the permission “api”. Credentials are kept until this tab is closed."),
    ),
  );
  root.querySelector("input").focus();
}

const sentence = (text) => `${text.charAt(0).toUpperCase()}${text.slice(1)}${text.endsWith(".") ? "" : "."}`;
