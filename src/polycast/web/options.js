// What the address of the page may ask for, for pages that embed the player:
// /<path>/?controls=0&muted=1&autoplay=1&info=0&lowlatency=1&fit=contain

const NO = new Set(["0", "false", "no", "off"]);
const FITS = new Set(["contain", "cover", "fill"]);

// Parameters of the playlist's own requests, which must not be repeated on others.
const RESERVED = /^_HLS_/;

/** Read the player's options out of a query string. Unknown ones are left alone. */
export function readOptions(search) {
  const query = new URLSearchParams(search);
  const flag = (name, preset) => (query.has(name) ? !NO.has(query.get(name).toLowerCase()) : preset);
  return {
    controls: flag("controls", true),
    muted: flag("muted", true),
    autoplay: flag("autoplay", true),
    info: flag("info", false),
    lowLatency: flag("lowlatency", true),
    fit: FITS.has(query.get("fit")) ? query.get("fit") : "contain",
  };
}

/** Return `address` with those parameters of the page's query (tokens, credentials) that it does not have yet. */
export function withPageQuery(address, page) {
  const from = new URL(page);
  const to = new URL(address, from);
  if (to.origin === from.origin) {
    const own = new Set(to.searchParams.keys());
    for (const [name, value] of from.searchParams) {
      if (!own.has(name) && !RESERVED.test(name)) {
        to.searchParams.append(name, value);
      }
    }
  }
  return to.href;
}

/** Return the name of the stream: the last `depth` folders of the page's address. */
export function streamName(pathname, depth) {
  const folders = pathname.split("/").filter(Boolean).slice(-Math.max(depth, 1));
  return folders
    .map((folder) => {
      try {
        return decodeURIComponent(folder);
      } catch {
        return folder;
      }
    })
    .join("/");
}
