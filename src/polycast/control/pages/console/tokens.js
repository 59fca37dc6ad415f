// Tokens: how they are verified, and what one of them says.

import { post } from "./api.js";
import { notify } from "./dialogs.js";
import { h } from "./dom.js";
import { mayTexts } from "./permissions.js";

export function tokensPanel(settings) {
  const rows = [
    ["Keys", settings.authJWTJWKS ? h("code", { class: "wrap" }, settings.authJWTJWKS) : "no server with keys is set (authJWTJWKS)"],
    ["Permissions in", h("code", {}, settings.authJWTClaimKey)],
    settings.authJWTIssuer && ["Issuer", h("code", {}, settings.authJWTIssuer)],
    settings.authJWTAudience && ["Audience", h("code", {}, settings.authJWTAudience)],
  ].filter(Boolean);
  const renew = async () => {
    try {
      await post("v3/auth/jwks/refresh");
      notify("The keys were fetched again.");
    } catch (error) {
      notify(error.message, true);
    }
  };
  const output = h("div", { class: "token", role: "status", opaque: true });
  const show = (event) => output.replaceChildren(...describe(event.target.value.trim(), settings.authJWTClaimKey));
  return h(
    "section",
    { class: "panel" },
    h("h2", {}, "Tokens"),
    settings.authMethod === "jwt" ? h("dl", {}, rows.map(([term, value]) => [h("dt", {}, term), h("dd", {}, value)])) : h("p", { class: "faint" }, "Tokens (JWT) are used with authMethod: jwt."),
    settings.authMethod === "jwt" && h("p", {}, h("button", { type: "button", class: "small", onclick: renew }, "Fetch the keys again")),
    h("label", { class: "block", for: "token" }, "Look into a token"),
    h("textarea", { id: "token", rows: 3, spellcheck: "false", autocomplete: "off", placeholder: "eyJ…", oninput: show, "aria-describedby": "token-note", opaque: true }),
    h("p", { class: "faint", id: "token-note" }, "It does not leave this page, and its signature is not verified here."),
    output,
  );
}

/** What a token says, in words. */
function describe(token, claim) {
  if (!token) return [];
  let claims;
  try {
    const bytes = Uint8Array.from(atob(token.split(".")[1].replaceAll("-", "+").replaceAll("_", "/")), (character) => character.charCodeAt(0));
    claims = JSON.parse(new TextDecoder().decode(bytes));
  } catch {
    return [h("p", { class: "reason" }, "This is not a token (JWT).")];
  }
  const parts = [];
  if (claims.sub) parts.push(h("p", {}, `For ${claims.sub}.`));
  if (claims.exp) {
    const isOver = claims.exp * 1000 < Date.now();
    parts.push(h("p", { class: isOver ? "reason" : undefined }, `${isOver ? "It expired on" : "It is valid until"} ${new Date(claims.exp * 1000).toLocaleString()}.`));
  }
  const permissions = typeof claims[claim] === "string" ? JSON.parse(claims[claim]) : claims[claim];
  if (!Array.isArray(permissions)) parts.push(h("p", { class: "reason" }, `The claim “${claim}” with the permissions is missing.`));
  else parts.push(h("ul", { class: "permissions" }, mayTexts(permissions).map((text) => h("li", {}, `may ${text}`))));
  return parts;
}
