// Options in the address of the page, for pages that embed the player:
// /<path>/?controls=0&muted=1&autoplay=1&info=0&lowlatency=1&fit=contain

const NO = new Set(["0", "false", "no", "off"]);
const FITS = new Set(["contain", "cover", "fill"]);

// Parameters of playlist requests, which must not be added to other requests.
const RESERVED = /^_HLS_/;

/** Parse the player's options from a query string. Unknown ones are ignored. */
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

/**
 * Return `address` with those parameters of the page's query (tokens, credentials) that it does not have yet, encoded
 * as in the page's query. A user name and password in the page's address are omitted: browsers refuse them in requests,
 * and send stored credentials by themselves.
 */
export function withPageQuery(address, page) {
  const from = new URL(page);
  const to = new URL(address, from);
  to.username = "";
  to.password = "";
  if (to.origin === from.origin) {
    const own = new Set(to.searchParams.keys());
    const added = from.search
      .slice(1)
      .split("&")
      .filter((piece) => {
        const [name] = new URLSearchParams(piece).keys();
        return name !== undefined && !own.has(name) && !RESERVED.test(name);
      });
    to.search = [to.search.slice(1), ...added].filter(Boolean).join("&");
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
