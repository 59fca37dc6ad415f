// The frame of the console: which page is shown, what it is brought up to date with, and who is signed in.

import { ApiError, credentials, get } from "./api.js";
import { camerasPage } from "./cameras.js";
import { configurationPage } from "./configuration.js";
import { h, icon, render } from "./dom.js";
import { logPage } from "./log.js";
import { showLogin } from "./login.js";
import { nodesPage } from "./nodes.js";
import { overviewPage } from "./overview.js";
import { sessionsPage } from "./sessions.js";
import { streamPage } from "./stream.js";
import { streamsPage } from "./streams.js";
import { applyTheme, nextTheme, theme } from "./theme.js";
import { usersPage } from "./users.js";

const REFRESH_MILLISECONDS = 2000;
// A server with thousands of paths has more to say: it may spend this share of the time on it, at most.
const MAXIMUM_SHARE = 0.2;

// Each page is a function of `{ root, argument, status }` that returns `{ title, refresh, leave }`.
const PAGES = [
  { id: "", name: "Overview", page: overviewPage, outlines: ["M4 13h6V4H4zM14 20h6v-9h-6zM4 20h6v-4H4zM14 4v4h6V4z"] },
  { id: "streams", name: "Streams", page: (context) => (context.argument ? streamPage(context) : streamsPage(context)), outlines: ["M3 6h12v12H3zM15 10l6-3v10l-6-3z"] },
  { id: "cameras", name: "Cameras", page: camerasPage, outlines: ["M4 4h16M12 4v3M12 7a6 6 0 1 1 0 12 6 6 0 0 1 0-12M12 11a2 2 0 1 1 0 4 2 2 0 0 1 0-4"] },
  { id: "sessions", name: "Sessions", page: sessionsPage, outlines: ["M9 11a4 4 0 1 0 0-8 4 4 0 0 0 0 8M2 21c0-4 3-6 7-6s7 2 7 6M16 3.5a4 4 0 0 1 0 7M18 15c3 .5 4 3 4 6"] },
  { id: "nodes", name: "Nodes", page: nodesPage, isShown: () => Boolean(status?.workers.length || status?.nodes.length), outlines: ["M4 4h16v6H4zM4 14h16v6H4zM8 7h.01M8 17h.01"] },
  { id: "log", name: "Log", page: logPage, outlines: ["M5 4h14v16H5zM8 8h8M8 12h8M8 16h5"] },
  { id: "configuration", name: "Configuration", page: configurationPage, outlines: ["M4 7h10M18 7h2M4 17h2M10 17h10M16 4.5a2.5 2.5 0 1 1 0 5 2.5 2.5 0 0 1 0-5M8 14.5a2.5 2.5 0 1 1 0 5 2.5 2.5 0 0 1 0-5"] },
  { id: "users", name: "Users", page: usersPage, outlines: ["M15 7a4 4 0 1 1-8 0 4 4 0 0 1 8 0M3 21c0-4 3-7 8-7M18 13l3 1v3c0 2-1.500 3.500-3 4-1.500-.5-3-2-3-4v-3z"] },
];

let shown = null;
let timer = null;
let status = null;

function trouble(text) {
  const box = document.getElementById("trouble");
  if (box.textContent !== text) box.textContent = text;
  box.hidden = !text;
}

function showNavigation(id) {
  const links = PAGES.filter((each) => each.isShown?.() ?? true).map((each) => {
    const attributes = { href: `#/${each.id}`, "aria-current": each.id === id ? "page" : undefined, onclick: () => openMenu(false) };
    return h("li", { key: each.id }, h("a", attributes, icon(...each.outlines), h("span", {}, each.name)));
  });
  const named = { auto: "Theme: as the system", light: "Theme: light", dark: "Theme: dark" };
  const foot = [
    h("button", { type: "button", class: "plain", id: "theme", onclick: () => (nextTheme(), showNavigation(id)) }, named[theme()]),
    credentials.header && h("button", { type: "button", class: "plain", id: "sign-out", onclick: signOut }, `Sign out${credentials.user ? ` ${credentials.user}` : ""}`),
    h("a", { href: "docs", class: "quiet" }, "API reference"),
  ];
  render(document.getElementById("nav"), h("ul", {}, links), h("div", { class: "foot" }, foot));
}

function openMenu(isOpen) {
  document.getElementById("menu").setAttribute("aria-expanded", String(isOpen));
  document.getElementById("side").classList.toggle("open", isOpen);
}

function signOut() {
  credentials.clear();
  location.reload();
}

/** "#/streams/yard/north?view=table" as ["streams", "yard/north"]. */
function route() {
  const [id, ...rest] = location.hash.replace(/^#\/?/, "").split("/");
  return [id, rest.map(decodeURIComponent).join("/")];
}

async function show() {
  const [id, argument] = route();
  const found = PAGES.find((each) => each.id === id) ?? PAGES[0];
  shown?.leave?.();
  clearTimeout(timer);
  const root = h("div", { class: `page ${found.id || "overview"}` });
  render(document.getElementById("main"));
  document.getElementById("main").append(root);
  showNavigation(found.id);
  const page = found.page({ root, argument, status: () => status });
  shown = page;
  document.title = `${page.title} – Polycast`;
  await refresh(page);
}

async function refresh(page) {
  clearTimeout(timer);
  const start = performance.now();
  try {
    if (!document.hidden) {
      status = await get("v1/server/status");
      await page.refresh();
      if (page === shown) {
        trouble("");
        showNavigation(route()[0]);
      }
    }
  } catch (error) {
    if (page !== shown) return;
    if (!(error instanceof ApiError)) throw error;
    if (error.status === 401 || error.status === 403) return login(error);
    trouble(error.message);
  }
  const pause = Math.max(REFRESH_MILLISECONDS, (performance.now() - start) / MAXIMUM_SHARE);
  if (page === shown) timer = setTimeout(() => refresh(page), pause);
}

function login(error) {
  shown?.leave?.();
  shown = null;
  trouble("");
  document.title = "Sign in – Polycast";
  render(document.getElementById("nav"));
  showLogin(document.getElementById("main"), credentials.header || error.status === 403 ? error.message : "", show);
}

document.addEventListener("visibilitychange", () => !document.hidden && shown && refresh(shown));
document.getElementById("menu").addEventListener("click", (event) => openMenu(event.currentTarget.getAttribute("aria-expanded") !== "true"));
addEventListener("hashchange", () => {
  show();
  document.getElementById("main").focus({ preventScroll: true });
  scrollTo(0, 0);
});
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  document.getElementById("main").focus();
});
applyTheme();
show();
