// Values in people's words.

/** A bit rate; null is one that is not known yet. */
export function bitRate(value) {
  if (value === null) return "–";
  if (value >= 1e9) return `${(value / 1e9).toFixed(2)} Gbit/s`;
  if (value >= 1e6) return `${(value / 1e6).toFixed(1)} Mbit/s`;
  if (value >= 1e3) return `${Math.round(value / 1e3)} kbit/s`;
  return `${Math.round(value)} bit/s`;
}

export function size(bytes) {
  const units = ["B", "KB", "MB", "GB", "TB"];
  let unit = 0;
  while (bytes >= 1000 && unit < units.length - 1) {
    bytes /= 1000;
    unit += 1;
  }
  return `${bytes >= 100 || unit === 0 ? Math.round(bytes) : bytes.toFixed(1)} ${units[unit]}`;
}

/** "3 d 4 h", "2 h 10 min", "12 s". */
export function duration(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  const parts = [
    [Math.floor(whole / 86400), "d"],
    [Math.floor(whole / 3600) % 24, "h"],
    [Math.floor(whole / 60) % 60, "min"],
    [whole % 60, "s"],
  ];
  const first = parts.findIndex(([count]) => count > 0);
  if (first < 0) return "0 s";
  return parts.slice(first, first + 2).filter(([count]) => count > 0).map(([count, unit]) => `${count} ${unit}`).join(" ");
}

export const since = (moment) => (Date.now() - Date.parse(moment)) / 1000;

export function milliseconds(seconds) {
  if (seconds >= 1) return `${seconds.toFixed(1)} s`;
  return seconds < 0.01 ? `${(seconds * 1000).toFixed(1)} ms` : `${Math.round(seconds * 1000)} ms`;
}

export const count = (number, one, many = `${one}s`) => `${number} ${number === 1 ? one : many}`;

/** A number of the server as a reader expects it: 1 234 567. */
export const number = (value) => value.toLocaleString("en").replaceAll(",", "\u202f");

/** "rtspSession" as "RTSP session", with the names of the servers. */
export function words(type, names) {
  const begins = (name) => type.toLowerCase().startsWith(name.toLowerCase());
  // The next word begins with a capital letter: "rtspSession" is not one of RTSPS.
  const name = names.find((each) => begins(each) && /^([A-Z]|$)/.test(type.slice(each.length))) ?? "";
  const rest = type.slice(name.length).replace(/([A-Z])/g, " $1").toLowerCase().trim();
  return [name, rest].filter(Boolean).join(" ");
}
