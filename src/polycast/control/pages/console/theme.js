// Light or dark: as the system is, or as the user chose.

const STORED = "polycast-theme";
const CHOICES = ["auto", "light", "dark"];

export function applyTheme() {
  const chosen = localStorage.getItem(STORED);
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
  else delete document.documentElement.dataset.theme;
}

export const theme = () => document.documentElement.dataset.theme ?? "auto";

export function nextTheme() {
  localStorage.setItem(STORED, CHOICES[(CHOICES.indexOf(theme()) + 1) % CHOICES.length]);
  applyTheme();
}
