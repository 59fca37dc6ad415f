// QR codes (ISO/IEC 18004): bytes, error correction level M, versions 1 to 13, which hold 331 bytes.

// By version: codewords of error correction per block, and the codewords of data of each block (table 9).
const BLOCKS = [
  [10, [16]], [16, [28]], [26, [44]], [18, [32, 32]], [24, [43, 43]], [16, [27, 27, 27, 27]], [18, [31, 31, 31, 31]],
  [22, [38, 38, 39, 39]], [22, [36, 36, 36, 37, 37]], [26, [43, 43, 43, 43, 44]], [30, [50, 51, 51, 51, 51]],
  [22, [36, 36, 36, 36, 36, 36, 37, 37]], [22, [37, 37, 37, 37, 37, 37, 37, 37, 38]],
];
// Centres of the alignment patterns (annex E).
const ALIGNMENT = [[], [6, 18], [6, 22], [6, 26], [6, 30], [6, 34], [6, 22, 38], [6, 24, 42], [6, 26, 46], [6, 28, 50], [6, 30, 54], [6, 32, 58], [6, 34, 62]];
const MASKS = [
  (y, x) => (y + x) % 2 === 0,
  (y) => y % 2 === 0,
  (y, x) => x % 3 === 0,
  (y, x) => (y + x) % 3 === 0,
  (y, x) => (Math.floor(y / 2) + Math.floor(x / 3)) % 2 === 0,
  (y, x) => ((y * x) % 2) + ((y * x) % 3) === 0,
  (y, x) => (((y * x) % 2) + ((y * x) % 3)) % 2 === 0,
  (y, x) => (((y + x) % 2) + ((y * x) % 3)) % 2 === 0,
];

// The field of 256 elements with the polynomial 0x11d.
const POWERS = new Uint8Array(510);
const LOGARITHMS = new Uint8Array(256);
for (let exponent = 0, value = 1; exponent < 255; exponent += 1) {
  POWERS[exponent] = POWERS[exponent + 255] = value;
  LOGARITHMS[value] = exponent;
  value = (value << 1) ^ (value & 0x80 ? 0x11d : 0);
}
const product = (a, b) => (a && b ? POWERS[LOGARITHMS[a] + LOGARITHMS[b]] : 0);

/** Return the modules as rows of booleans; null if the text is too long. */
export function qrCode(text) {
  const bytes = new TextEncoder().encode(text);
  const version = BLOCKS.findIndex(([, blocks], index) => total(blocks) * 8 >= 4 + lengthBits(index + 1) + bytes.length * 8) + 1;
  if (!version) return null;
  const bits = interleaved(data(bytes, version), version);
  const drawn = MASKS.map((_, mask) => draw(version, bits, mask));
  return drawn.reduce((best, each) => (penalty(each) < penalty(best) ? each : best));
}

const total = (blocks) => blocks.reduce((sum, each) => sum + each, 0);
const lengthBits = (version) => (version < 10 ? 8 : 16);

function data(bytes, version) {
  const size = total(BLOCKS[version - 1][1]);
  const bits = [0, 1, 0, 0];
  const push = (value, width) => {
    for (let bit = width - 1; bit >= 0; bit -= 1) bits.push((value >> bit) & 1);
  };
  push(bytes.length, lengthBits(version));
  for (const byte of bytes) push(byte, 8);
  push(0, Math.min(4, size * 8 - bits.length));
  while (bits.length % 8) bits.push(0);
  for (let pad = 0xec; bits.length < size * 8; pad ^= 0xfd) push(pad, 8);
  return Array.from({ length: size }, (_, index) => parseInt(bits.slice(index * 8, index * 8 + 8).join(""), 2));
}

function correction(block, count) {
  let generator = [1];
  for (let index = 0; index < count; index += 1) {
    const next = [...generator, 0];
    generator.forEach((factor, place) => (next[place + 1] ^= product(factor, POWERS[index])));
    generator = next;
  }
  const rest = [...block, ...new Array(count).fill(0)];
  for (let place = 0; place < block.length; place += 1) {
    const factor = rest[place];
    if (factor) generator.forEach((value, index) => (rest[place + index] ^= product(value, factor)));
  }
  return rest.slice(block.length);
}

function interleaved(codewords, version) {
  const [count, sizes] = BLOCKS[version - 1];
  let start = 0;
  const blocks = sizes.map((length) => codewords.slice(start, (start += length)));
  const corrections = blocks.map((block) => correction(block, count));
  const all = [];
  for (const group of [blocks, corrections]) {
    for (let index = 0; index < Math.max(...group.map((block) => block.length)); index += 1) {
      for (const block of group) if (index < block.length) all.push(block[index]);
    }
  }
  return all.flatMap((byte) => Array.from({ length: 8 }, (_, bit) => (byte >> (7 - bit)) & 1));
}

/** The remainder of a division of polynomials over bits, for the format and version (annex C and D). */
function remainder(value, polynomial, width) {
  let rest = value << width;
  for (let bit = 31 - Math.clz32(rest); bit >= width; bit = 31 - Math.clz32(rest)) rest ^= polynomial << (bit - width);
  return (value << width) | rest;
}

function draw(version, bits, mask) {
  const size = 17 + 4 * version;
  const modules = Array.from({ length: size }, () => new Array(size).fill(null));
  const set = (y, x, value) => (modules[y][x] = Boolean(value));
  drawPatterns(modules, version, size, set);
  const format = remainder(mask, 0x537, 10) ^ 0x5412; // level M is 00
  for (let index = 0; index < 15; index += 1) {
    const bit = (format >> index) & 1;
    if (index < 6) set(index, 8, bit);
    else if (index < 8) set(index + 1, 8, bit);
    else if (index === 8) set(8, 7, bit);
    else set(8, 14 - index, bit);
    if (index < 8) set(8, size - 1 - index, bit);
    else set(size - 15 + index, 8, bit);
  }
  set(size - 8, 8, true);
  if (version >= 7) {
    const numbers = remainder(version, 0x1f25, 12);
    for (let index = 0; index < 18; index += 1) {
      const bit = (numbers >> index) & 1;
      set(Math.floor(index / 3), size - 11 + (index % 3), bit);
      set(size - 11 + (index % 3), Math.floor(index / 3), bit);
    }
  }
  drawBits(modules, size, bits, MASKS[mask]);
  return modules;
}

function drawPatterns(modules, version, size, set) {
  for (const [top, left] of [[0, 0], [0, size - 7], [size - 7, 0]]) {
    for (let y = -1; y <= 7; y += 1) {
      for (let x = -1; x <= 7; x += 1) {
        if (!modules[top + y] || modules[top + y][left + x] === undefined) continue;
        const ring = Math.max(Math.abs(y - 3), Math.abs(x - 3));
        set(top + y, left + x, ring !== 2 && ring < 4);
      }
    }
  }
  const centres = ALIGNMENT[version - 1];
  for (const y of centres) {
    for (const x of centres) {
      if (modules[y][x] !== null) continue;
      for (let dy = -2; dy <= 2; dy += 1) for (let dx = -2; dx <= 2; dx += 1) set(y + dy, x + dx, Math.max(Math.abs(dy), Math.abs(dx)) !== 1);
    }
  }
  for (let place = 8; place < size - 8; place += 1) {
    set(6, place, place % 2 === 0);
    set(place, 6, place % 2 === 0);
  }
}

function drawBits(modules, size, bits, isInverted) {
  let next = 0;
  for (let right = size - 1, up = true; right > 0; right -= 2, up = !up) {
    if (right === 6) right = 5;
    for (let step = 0; step < size; step += 1) {
      const y = up ? size - 1 - step : step;
      for (const x of [right, right - 1]) {
        if (modules[y][x] !== null) continue;
        modules[y][x] = Boolean(bits[next] ?? 0) !== isInverted(y, x);
        next += 1;
      }
    }
  }
}

/** How hard a code is to read (section 7.8.3). */
function penalty(modules) {
  const size = modules.length;
  let points = 0;
  const lines = [...modules, ...modules.map((_, x) => modules.map((row) => row[x]))];
  for (const line of lines) {
    const text = line.map(Number).join("");
    for (const run of text.match(/0{5,}|1{5,}/g) ?? []) points += run.length - 2;
    for (const finder of ["10111010000", "00001011101"]) {
      for (let place = text.indexOf(finder); place >= 0; place = text.indexOf(finder, place + 1)) points += 40;
    }
  }
  for (let y = 1; y < size; y += 1) {
    for (let x = 1; x < size; x += 1) {
      const one = modules[y][x];
      if (modules[y - 1][x] === one && modules[y][x - 1] === one && modules[y - 1][x - 1] === one) points += 3;
    }
  }
  const dark = modules.flat().filter(Boolean).length / (size * size);
  return points + Math.floor(Math.abs(dark * 100 - 50) / 5) * 10;
}
