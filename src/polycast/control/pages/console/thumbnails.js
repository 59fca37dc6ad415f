// Pictures of streams: one after the other, only of what is visible, and not too often.

import { encoded, getPicture } from "./api.js";

const REFRESH_MILLISECONDS = 10000;
const AT_ONCE = 3;

const wanted = new Map();
const pictures = new Map();
let running = 0;

const observer = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    if (isIntersecting) wanted.set(target, wanted.get(target) ?? 0);
    else wanted.delete(target);
  }
  work();
});

/** Let an image show the stream of a path, for as long as it is part of the page. */
export function showPicture(image, name) {
  image.dataset.path = name;
  const known = pictures.get(name);
  if (known) image.src = known;
  observer.observe(image);
}

function work() {
  if (document.hidden) return;
  for (const [image, time] of wanted) {
    if (!image.isConnected) {
      observer.unobserve(image);
      wanted.delete(image);
    } else if (running < AT_ONCE && Date.now() - time >= REFRESH_MILLISECONDS) {
      wanted.set(image, Date.now());
      refresh(image);
    }
  }
}

async function refresh(image) {
  const name = image.dataset.path;
  running += 1;
  try {
    const picture = await getPicture(`v1/paths/thumbnail/${encoded(name)}`);
    const old = pictures.get(name);
    const made = URL.createObjectURL(picture);
    pictures.set(name, made);
    image.src = made;
    image.dataset.state = "shown";
    if (old) setTimeout(() => URL.revokeObjectURL(old), 1000);
  } catch {
    // The stream has ended, has no pictures, or sends key frames too rarely: the placeholder stays.
  } finally {
    running -= 1;
    work();
  }
}

setInterval(work, 1000);
