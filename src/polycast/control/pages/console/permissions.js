// What users and tokens may do, and from where, in words.

const SERVICES = { api: "use the API and this console", metrics: "read metrics", pprof: "read profiles" };
const DOING = { publish: "publish", read: "read", playback: "watch recordings of" };

/** What permissions allow: "publish and read every path", "use the API and this console". */
export function mayTexts(permissions) {
  const paths = new Map();
  for (const { action, path = "" } of permissions) if (action in DOING) paths.set(path, [...(paths.get(path) ?? []), DOING[action]]);
  const onPaths = [...paths].map(([path, doing]) => `${joined(doing)} ${!path ? "every path" : path.startsWith("~") ? `paths that match ${path.slice(1)}` : `“${path}”`}`);
  return [...onPaths, ...permissions.filter(({ action }) => !(action in DOING)).map(({ action }) => SERVICES[action] ?? action)];
}

const joined = (words) => (words.length > 1 ? `${words.slice(0, -1).join(", ")} and ${words.at(-1)}` : words[0]);

/** Addresses without the length of the prefix, where it is that of a single one. */
export const addressesOf = (user) => user.ips.map((ip) => ip.replace(ip.includes(":") ? /\/128$/ : /\/32$/, ""));
