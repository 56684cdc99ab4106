"use strict";

const scans = JSON.parse(document.getElementById("data").textContent);
const at = (id) => document.getElementById(id);
const clamp = (value, least, most) => Math.min(most, Math.max(least, value));
const words = (name) => name.replaceAll("_", " ");
const made = (tag, content = "", properties = {}) => {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...[content].flat());
  return element;
};
const colour = (one, alpha = 1) => `rgb(${one.colour.join(" ")} / ${alpha})`;
const size = (row) => {
  if (row.ml === null) return `${row.voxels.toLocaleString("en")} px`;
  const digits = row.ml >= 100 ? 0 : row.ml >= 10 ? 1 : row.ml >= 0.1 ? 2 : 3;
  return `${row.ml.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits })} ml`;
};

const MODES = ["outline", "fill", "both", "none"];
const LAYERS = ["both", "truth", "prediction", "errors"]; // of scans whose truth is known
const NOT_ANNOTATED = 255;
const ERRORS = [
  { id: 1, name: "missed", colour: [255, 210, 40] },
  { id: 2, name: "too much", colour: [255, 90, 80] },
  { id: 3, name: "another class", colour: [90, 170, 255] },
];
const LETTERS = { axial: "APRL", coronal: "SIRL", sagittal: "SIAP" }; // top, bottom, left, right
const KEPT_SLICES = 48, KEPT_PARTS = 12, MOST_ROWS = 6, MOST_LISTED = 24, MOST_SPOKEN = 5;
const LINE = 1.75, CASING = 1.25, FILL = 0.45; // widths in CSS pixels, on either side of an edge
const state = { scan: -1, slice: -1, mode: "outline", layer: "both", peek: false, zoom: 1, u: 0.5, v: 0.5 };
let scan = null, current = null, towards = 1;

// ---- Slices: scripts of several slices, loaded when they are looked at -------------------------
const parts = new Map(), slices = new Map();

window.viewerPart = (content) => document.currentScript.arrived(content);

const keep = (store, key, value, most) => {
  store.delete(key);
  store.set(key, value);
  while (store.size > most) store.delete(store.keys().next().value);
  return value;
};

const load = (name, file) => {
  const path = `view/${encodeURIComponent(name)}/${file}.js`;
  if (parts.has(path)) return keep(parts, path, parts.get(path), KEPT_PARTS);
  const promise = new Promise((resolve, reject) => {
    const script = made("script", "", { src: path, arrived: resolve });
    script.onload = () => { script.remove(); reject(new Error(path)); }; // late, or not ours
    script.onerror = () => { script.remove(); parts.delete(path); reject(new Error(path)); };
    document.head.append(script);
  });
  return keep(parts, path, promise, KEPT_PARTS);
};

const bytesOf = (text) => Uint8Array.from(atob(text), (one) => one.charCodeAt(0));

const unpacked = async (text) => {
  if (!text) return null;
  const stream = new Blob([bytesOf(text)]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
};

const decoded = async (of, number) => {
  const part = await load(of.name, String(Math.floor(number / of.part)).padStart(4, "0"));
  const place = number % of.part;
  const picture = new Blob([bytesOf(part.grey[place])], { type: "image/webp" });
  const [bitmap, ids, truth] = await Promise.all(
    [createImageBitmap(picture), unpacked(part.ids[place]), unpacked(part.truth?.[place])]);
  const traced = (drawn) => (drawn ? outlines(drawn, ...of.grid) : new Map());
  return { bitmap, ids, truth, paths: traced(ids), truths: traced(truth), errors: null };
};

// How a pixel is wrong, by the ids of ERRORS; 0 where it is right, and where nobody annotated it.
const wrongness = (drawn, predicted) =>
  drawn === predicted || drawn === NOT_ANNOTATED ? 0 : !predicted ? 1 : !drawn ? 2 : 3;
const errors = ({ ids, truth }, rows, columns) => {
  const wrong = new Uint8Array(rows * columns);
  for (let place = 0; place < wrong.length; place++) {
    wrong[place] = wrongness(truth?.[place] ?? 0, ids?.[place] ?? 0);
  }
  return outlines(wrong, rows, columns);
};

const slice = (of, number) => {
  const key = `${of.index}/${number}`;
  const promise = slices.get(key) ?? decoded(of, number);
  promise.catch(() => slices.delete(key));
  return keep(slices, key, promise, KEPT_SLICES);
};

// ---- Outlines: along the borders of the pixels, so they show the mask as it is -----------------
// Each class becomes closed loops, clockwise, that touch only at corners where two pixels meet.
const outlines = (ids, rows, columns) => {
  const wide = columns + 1, paths = new Map(), edges = new Map();
  const is = (row, column, id) =>
    row >= 0 && row < rows && column >= 0 && column < columns && ids[row * columns + column] === id;
  for (let row = 0, place = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++, place++) {
      const id = ids[place];
      if (!id) continue;
      if (!edges.has(id)) edges.set(id, new Uint8Array(wide * (rows + 1)));
      const of = edges.get(id), corner = row * wide + column;
      if (!is(row - 1, column, id)) of[corner] |= 1; // along the top, to the right
      if (!is(row, column + 1, id)) of[corner + 1] |= 2; // down the right side
      if (!is(row + 1, column, id)) of[corner + wide + 1] |= 4; // along the bottom, to the left
      if (!is(row, column - 1, id)) of[corner + wide] |= 8; // up the left side
    }
  }
  const steps = [1, wide, -1, -wide];
  for (const [id, of] of edges) {
    const path = new Path2D();
    for (let start = 0; start < of.length; start++) {
      while (of[start]) {
        let place = start, way = 31 - Math.clz32(of[start] & -of[start]), before = -1;
        do {
          if (way !== before) path[before < 0 ? "moveTo" : "lineTo"](place % wide, Math.floor(place / wide));
          of[place] &= ~(1 << way);
          place += steps[way];
          before = way;
          way = [1, 0, 3].map((turn) => (before + turn) & 3).find((one) => of[place] & (1 << one));
        } while (way !== undefined && place !== start);
        path.closePath();
      }
    }
    paths.set(id, path);
  }
  return paths;
};
