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
const LETTERS = { axial: "APRL", coronal: "SIRL", sagittal: "SIAP" }; // top, bottom, left, right
const KEPT_SLICES = 48, KEPT_PARTS = 12;
const LINE = 1.75, CASING = 1.25, FILL = 0.45; // widths in CSS pixels, on either side of an edge
const state = { scan: -1, slice: 0, shown: -1, mode: "outline", peek: false, zoom: 1, u: 0.5, v: 0.5 };
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
  const [bitmap, ids] = await Promise.all([createImageBitmap(picture), unpacked(part.ids[place])]);
  return { bitmap, ids, paths: ids ? outlines(ids, ...of.grid) : new Map() };
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

// ---- Drawing -----------------------------------------------------------------------------------
const stage = at("stage"), grey = at("grey"), lines = at("lines");

// Where the picture lies on the stage, in CSS pixels; its sides are in mm, so it is never squeezed.
const frame = () => {
  const [rows, columns] = scan.grid, [tall, wide] = scan.pixel_mm ?? [1, 1];
  const width = columns * wide, height = rows * tall;
  const scale = Math.min(stage.clientWidth / width, stage.clientHeight / height) * state.zoom;
  const [w, h] = [width * scale, height * scale];
  const put = (room, length, centre) =>
    length <= room ? (room - length) / 2 : clamp(room / 2 - centre * length, room - length, 0);
  return { x: put(stage.clientWidth, w, state.u), y: put(stage.clientHeight, h, state.v), w, h, scale };
};

const visible = () => scan.classes.filter((one) => !scan.hidden.has(one.id));

const draw = () => {
  if (!current) return;
  const box = frame(), ratio = window.devicePixelRatio || 1;
  for (const canvas of [grey, lines]) {
    const [w, h] = [Math.round(stage.clientWidth * ratio), Math.round(stage.clientHeight * ratio)];
    if (canvas.width !== w || canvas.height !== h) Object.assign(canvas, { width: w, height: h });
  }
  const pen = grey.getContext("2d");
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.clearRect(0, 0, stage.clientWidth, stage.clientHeight);
  pen.imageSmoothingQuality = "high";
  pen.drawImage(current.bitmap, box.x, box.y, box.w, box.h);
  drawMasks(lines.getContext("2d"), box, ratio);
  letters(box);
};

const drawMasks = (pen, box, ratio) => {
  pen.setTransform(1, 0, 0, 1, 0, 0);
  pen.clearRect(0, 0, lines.width, lines.height);
  const mode = state.peek ? "none" : state.mode;
  if (mode === "none") return;
  const [rows, columns] = scan.grid;
  const onto = new DOMMatrix([box.w / columns * ratio, 0, 0, box.h / rows * ratio, box.x * ratio, box.y * ratio]);
  const drawn = [];
  for (const one of visible()) {
    if (!current.paths.has(one.id)) continue;
    const path = new Path2D();
    path.addPath(current.paths.get(one.id), onto);
    drawn.push([one, path]);
  }
  if (mode !== "outline") {
    for (const [one, path] of drawn) {
      pen.fillStyle = colour(one, FILL);
      pen.fill(path, "evenodd");
    }
  }
  if (mode === "fill") return;
  pen.lineJoin = "round";
  for (const [one, path] of drawn) { // around it, whatever the tissue: dark, or light if the class is dark
    const [red, green, blue] = one.colour;
    const dark = 0.3 * red + 0.59 * green + 0.11 * blue < 70;
    pen.strokeStyle = dark ? "rgb(255 255 255 / .8)" : "rgb(0 0 0 / .75)";
    pen.lineWidth = 2 * CASING * ratio;
    pen.stroke(path);
  }
  for (const [one, path] of drawn) { // inside it, so that neighbours stand side by side
    pen.save();
    pen.clip(path, "evenodd");
    pen.strokeStyle = colour(one);
    pen.lineWidth = 2 * LINE * ratio;
    pen.stroke(path);
    pen.restore();
  }
};

const letters = (box) => {
  const text = LETTERS[scan.facts.plane] ?? "    ";
  ["top", "bottom", "left", "right"].forEach((side, number) => {
    stage.querySelector(`.at-${side}`).textContent = text[number];
  });
  const bar = stage.querySelector(".scale");
  const mm = [100, 50, 20, 10, 5, 2, 1].find((one) => one * box.scale <= stage.clientWidth / 4);
  bar.hidden = !scan.pixel_mm || !mm;
  bar.style.width = `${mm * box.scale}px`;
  bar.textContent = mm >= 10 ? `${mm / 10} cm` : `${mm} mm`;
};

const strip = () => {
  const canvas = at("strip"), ratio = window.devicePixelRatio || 1;
  const shown = visible().filter((one) => scan.counts[one.id]), rows = Math.max(1, Math.min(shown.length, 6));
  canvas.style.height = `${4 * rows}px`;
  const w = canvas.width = Math.max(1, Math.round(canvas.clientWidth * ratio));
  const h = canvas.height = Math.round(4 * rows * ratio);
  const pen = canvas.getContext("2d"), step = w / scan.slices;
  shown.forEach((one, number) => {
    const counts = scan.counts[one.id], most = Math.max(...counts), row = number % rows;
    counts.forEach((count, place) => {
      if (!count) return;
      pen.fillStyle = colour(one, 0.35 + 0.65 * Math.sqrt(count / most));
      pen.fillRect(place * step, row * h / rows, Math.max(step, ratio), h / rows - ratio / 2);
    });
  });
};

// ---- Moving through a scan ---------------------------------------------------------------------
const sums = () => {
  const total = new Array(scan.slices).fill(0);
  for (const one of visible()) scan.counts[one.id]?.forEach((count, number) => { total[number] += count; });
  return total;
};
const largest = () => {
  const total = sums(), most = Math.max(...total);
  return most ? total.indexOf(most) : Math.floor((scan.slices - 1) / 2);
};
// Where a scan opens: a lesion at its largest, and the middle of what has classes nearly everywhere.
const first = () => {
  const total = sums();
  return total.filter(Boolean).length > 0.7 * total.length ? Math.floor((total.length - 1) / 2) : largest();
};
const withMask = (way) => {
  const total = sums();
  for (let number = state.slice + way; number >= 0 && number < scan.slices; number += way) {
    if (total[number]) return number;
  }
  return state.slice;
};

const present = (number) =>
  scan.classes.filter((one) => scan.counts[one.id]?.[number]).map((one) => words(one.name));

let spoken = 0;
const speak = (text) => {
  clearTimeout(spoken);
  spoken = setTimeout(() => {
    at("live").textContent = text;
    history.replaceState(null, "", `#${encodeURIComponent(scan.name)}:${state.slice + 1}`);
  }, 400);
};

const fault = (text) => Object.assign(stage.querySelector(".fault"), { textContent: text, hidden: !text });

const go = async (number) => {
  const of = scan, target = clamp(number, 0, of.slices - 1);
  towards = target < state.slice ? -1 : 1;
  state.slice = target;
  const slider = at("slice"), classes = present(target);
  const text = `Slice ${target + 1} of ${of.slices}`;
  const heard = `${text}: ${classes.length ? classes.join(", ") : "no mask"}`;
  slider.value = target;
  slider.setAttribute("aria-valuetext", heard);
  at("place").textContent = text;
  grey.setAttribute("aria-label", `${of.name}, ${heard}`);
  for (const [id, way] of [["before", -1], ["after", 1]]) at(id).disabled = withMask(way) === target;
  if (document.activeElement !== slider) speak(heard); else speak("");
  try {
    const content = await slice(of, target);
    if (of !== scan || target !== state.slice) return;
    current = content;
    state.shown = target;
    stage.dataset.shown = target + 1;
    fault("");
    draw();
    for (let ahead = 1; ahead <= 4; ahead++) {
      const near = target + ahead * towards;
      if (near >= 0 && near < of.slices) slice(of, near).catch(() => {});
    }
  } catch (error) {
    if (of === scan && target === state.slice) fault(`This slice cannot be read (${error.message}). Is the folder view/ still beside this page?`);
  }
};

// ---- Scans -------------------------------------------------------------------------------------
const entries = [...document.querySelectorAll("#scans a")];

const open = async (index, number = -1) => {
  if (!scans[index]) return;
  const chosen = scans[index];
  Object.assign(chosen, { index, hidden: chosen.hidden ?? new Set() });
  state.scan = index;
  try {
    const content = await load(chosen.name, "scan");
    chosen.counts = content.counts;
    chosen.components = content.components;
    fault("");
  } catch (error) {
    Object.assign(chosen, { counts: {}, components: [] });
  }
  if (state.scan !== index) return;
  scan = chosen;
  current = null;
  Object.assign(state, { zoom: 1, u: 0.5, v: 0.5 });
  delete stage.dataset.shown;
  entries.forEach((one) => {
    if (Number(one.dataset.scan) === index) one.setAttribute("aria-current", "true");
    else one.removeAttribute("aria-current");
  });
  describe();
  at("slice").max = scan.slices - 1;
  strip();
  await go(number < 0 ? first() : number);
};

const describe = () => {
  const facts = scan.facts, [rows, columns] = scan.grid;
  at("name").textContent = scan.name;
  const mm = (value) => Number(value.toPrecision(3));
  const line = [facts.modality, facts.plane, `${scan.slices} × ${rows} × ${columns}`];
  if (scan.pixel_mm) line.push(`${[...(facts.step_mm ? [facts.step_mm] : []), ...scan.pixel_mm].map(mm).join(" × ")} mm`);
  if (facts.seconds != null) line.push(`done in ${facts.seconds.toFixed(1)} s`);
  at("facts").textContent = line.filter(Boolean).join(" · ");
  at("facts").title = facts.source ?? "";
  const doubts = facts.warnings ?? [];
  at("warnings").replaceChildren(...(doubts.length
    ? [made("h3", `Look twice: ${doubts.length} warning${doubts.length > 1 ? "s" : ""}`), made("ul", doubts.map((one) => made("li", one)), { className: "warn" })]
    : []));
  at("classes").replaceChildren(...scan.classes.map(classRow));
  at("parts").replaceChildren(...componentList());
  const links = Object.entries(facts.files ?? {});
  at("files").replaceChildren(...links.map(([name, path]) =>
    made("li", made("a", name, { href: path.split("/").map(encodeURIComponent).join("/") }))));
  at("files").previousElementSibling.hidden = !links.length;
  const order = listed();
  at("previous").disabled = order[0] === scan.index;
  at("next").disabled = order.at(-1) === scan.index;
  windowing();
};

const swatch = (one) => {
  const mark = made("i", "", { className: "swatch" });
  mark.style.background = colour(one);
  return mark;
};

const classRow = (one, number) => {
  const row = scan.facts.measures.find((measure) => measure.class === one.name);
  const box = made("input", "", { type: "checkbox", checked: !scan.hidden.has(one.id) });
  box.addEventListener("change", () => toggle(one, box.checked));
  const much = row && row.voxels ? [size(row)] : ["none"];
  if (row && row.components > 1) much.push(made("small", `${row.components.toLocaleString("en")} parts`));
  const label = made("label", [box, swatch(one), made("span", words(one.name)), made("em", much)]);
  label.title = `${one.meaning}${number < 9 ? `  (key ${number + 1})` : ""}`;
  return made("li", label);
};

const toggle = (one, shown) => {
  scan.hidden[shown ? "delete" : "add"](one.id);
  at("classes").querySelectorAll("input")[scan.classes.indexOf(one)].checked = shown;
  strip();
  draw();
  for (const [id, way] of [["before", -1], ["after", 1]]) at(id).disabled = withMask(way) === state.slice;
};

const componentList = () => {
  const several = scan.classes.map((one) => [one, scan.components.filter((part) => part.class === one.name)])
    .filter(([, all]) => all.length);
  if (!several.length) return [];
  const list = made("ol", several.flatMap(([one, all]) => all.map((part) => {
    const [first, last] = [part.first_slice, part.last_slice];
    const button = made("button", [swatch(one), made("span", `${words(one.name)} ${part.component}`), made("em", size(part)),
      made("span", first === last ? `${first}` : `${first}–${last}`, { className: "soft" })], { type: "button", title: "To its middle slice" });
    button.addEventListener("click", () => go(Math.round((first + last) / 2) - 1));
    return made("li", button);
  })), { className: "components" });
  return [made("h3", "Largest parts, and their slices"), list];
};

// ---- The list of scans -------------------------------------------------------------------------
const listed = () => [...document.querySelectorAll("#scans li:not([hidden]) a")].map((one) => Number(one.dataset.scan));
const beside = (way) => {
  const order = listed(), place = order.indexOf(state.scan);
  if (order[place + way] !== undefined) open(order[place + way]);
};
const sorted = (key) => {
  const worth = (index) => {
    const facts = scans[index].facts;
    if (key === "!") return -(facts.warnings ?? []).length;
    return key ? -(facts.measures.find((row) => row.class === key)?.voxels ? amount(facts, key) : 0) : 0;
  };
  const amount = (facts, name) => { const row = facts.measures.find((one) => one.class === name); return row.ml ?? row.voxels; };
  const order = entries.map((one) => Number(one.dataset.scan)).sort((a, b) => worth(a) - worth(b) || a - b);
  at("scans").append(...order.map((index) => entries[index].parentElement));
};
const names = [...new Set(scans.flatMap((one) => one.classes.map((label) => label.name)))];
at("order").append(...names.map((name) => made("option", `Most ${words(name)} first`, { value: name })));
at("order").addEventListener("change", () => sorted(at("order").value));
at("filter").addEventListener("input", () => {
  const wanted = at("filter").value.toLowerCase();
  entries.forEach((one) => { one.parentElement.hidden = !scans[one.dataset.scan].name.toLowerCase().includes(wanted); });
});
document.querySelector(".tools").hidden = scans.length < 6;
entries.forEach((one) => one.addEventListener("click", (event) => {
  event.preventDefault();
  open(Number(one.dataset.scan));
  if (matchMedia("(max-width: 62rem)").matches) document.querySelector(".viewer").scrollIntoView();
}));
at("previous").addEventListener("click", () => beside(-1));
at("next").addEventListener("click", () => beside(1));

// ---- Display -----------------------------------------------------------------------------------
// A level and width of the 8 bits that are here: brightness(b) then contrast(c) is one straight line.
const windowing = () => {
  const level = at("level").value / 100, width = at("width").value / 100;
  grey.style.filter = level === 0.5 && width === 1 ? "" : `brightness(${1 / (2 * level)}) contrast(${2 * level / width})`;
  const [low, high] = scan.facts.window ?? [0, 100], unit = scan.facts.window ? scan.facts.unit ?? "" : "%";
  const value = (share) => Number((low + share * (high - low)).toPrecision(3)).toLocaleString("en");
  at("window").textContent = `Black ${value(level - width / 2)} ${unit}, white ${value(level + width / 2)} ${unit}`;
};
for (const id of ["level", "width"]) at(id).addEventListener("input", windowing);
at("reset").addEventListener("click", () => { at("level").value = 50; at("width").value = 100; windowing(); });
at("opacity").addEventListener("input", () => { lines.style.opacity = at("opacity").value / 100; });

const choose = (mode) => {
  state.mode = mode;
  document.querySelector(`input[name=mode][value=${mode}]`).checked = true;
  draw();
};
document.querySelectorAll("input[name=mode]").forEach((one) => one.addEventListener("change", () => choose(one.value)));

const zoom = (factor, x = stage.clientWidth / 2, y = stage.clientHeight / 2) => {
  const before = frame(), u = (x - before.x) / before.w, v = (y - before.y) / before.h;
  state.zoom = clamp(state.zoom * factor, 1, 16);
  const { w, h } = frame();
  Object.assign(state, { u: u + (stage.clientWidth / 2 - x) / w, v: v + (stage.clientHeight / 2 - y) / h });
  draw();
};
const whole = () => { Object.assign(state, { zoom: 1, u: 0.5, v: 0.5 }); draw(); };
at("closer").addEventListener("click", () => zoom(1.5));
at("further").addEventListener("click", () => zoom(1 / 1.5));
at("whole").addEventListener("click", whole);

at("slice").addEventListener("input", () => go(Number(at("slice").value)));
at("before").addEventListener("click", () => go(withMask(-1)));
at("after").addEventListener("click", () => go(withMask(1)));
at("largest").addEventListener("click", () => go(largest()));

let turned = 0;
stage.addEventListener("wheel", (event) => {
  event.preventDefault();
  if (!scan) return;
  const box = stage.getBoundingClientRect();
  if (event.ctrlKey) return void zoom(event.deltaY < 0 ? 1.25 : 0.8, event.clientX - box.left, event.clientY - box.top);
  turned += event.deltaMode ? event.deltaY * 40 : event.deltaY;
  if (Math.abs(turned) < 30) return;
  go(state.slice - Math.sign(turned));
  turned = 0;
}, { passive: false });

// A drag scrolls: with a mouse up and down or sideways, with a finger sideways (up and down moves the page).
let drag = null;
stage.addEventListener("pointerdown", (event) => {
  if (event.button || !scan || event.target.closest("button")) return;
  drag = { id: event.pointerId, x: event.clientX, y: event.clientY, slice: state.slice, u: state.u, v: state.v };
  stage.setPointerCapture(event.pointerId);
});
stage.addEventListener("pointermove", (event) => {
  if (!scan) return;
  if (!drag || drag.id !== event.pointerId) return void under(event);
  const [right, down] = [event.clientX - drag.x, event.clientY - drag.y];
  if (state.zoom > 1) {
    const { w, h } = frame();
    Object.assign(state, { u: drag.u - right / w, v: drag.v - down / h });
    return void draw();
  }
  const way = Math.abs(right) > Math.abs(down) || event.pointerType === "touch" ? right : -down;
  const pixels = clamp(stage.clientWidth / scan.slices, 3, 16);
  const target = clamp(drag.slice + Math.round(way / pixels), 0, scan.slices - 1);
  if (target !== state.slice) go(target);
});
for (const end of ["pointerup", "pointercancel"]) stage.addEventListener(end, () => { drag = null; });

const chip = stage.querySelector(".under");
const under = (event) => {
  const rect = stage.getBoundingClientRect(), box = frame(), [rows, columns] = scan.grid;
  const column = Math.floor((event.clientX - rect.left - box.x) / box.w * columns);
  const row = Math.floor((event.clientY - rect.top - box.y) / box.h * rows);
  const inside = row >= 0 && row < rows && column >= 0 && column < columns;
  const id = inside && current?.ids ? current.ids[row * columns + column] : 0;
  const one = id ? scan.classes.find((label) => label.id === id) : null;
  chip.replaceChildren(...(one ? [swatch(one), words(one.name)] : []));
};
stage.addEventListener("pointerleave", () => chip.replaceChildren());

const KEYS = {
  ArrowUp: () => go(state.slice + 1), ArrowRight: () => go(state.slice + 1),
  ArrowDown: () => go(state.slice - 1), ArrowLeft: () => go(state.slice - 1),
  PageUp: () => go(state.slice + 10), PageDown: () => go(state.slice - 10),
  Home: () => go(0), End: () => go(scan.slices - 1),
  n: () => go(withMask(1)), p: () => go(withMask(-1)), m: () => go(largest()),
  h: () => { if (!state.peek) { state.peek = true; draw(); } },
  o: () => choose(MODES[(MODES.indexOf(state.mode) + 1) % MODES.length]),
  "+": () => zoom(1.5), "=": () => zoom(1.5), "-": () => zoom(1 / 1.5), "0": whole,
  "[": () => beside(-1), "]": () => beside(1),
};
document.addEventListener("keydown", (event) => {
  const held = event.target, key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (!scan || event.ctrlKey || event.metaKey || event.altKey) return;
  if (held.matches("input[type=search], select")) return;
  const own = held.matches("input[type=radio], input[type=range]:not(#slice)");
  if (own && key.length > 1) return; // the arrows are theirs
  const one = /^[1-9]$/.test(key) ? scan.classes[key - 1] : null;
  if (!one && !KEYS[key]) return;
  event.preventDefault();
  if (one) toggle(one, scan.hidden.has(one.id));
  else KEYS[key]();
});
document.addEventListener("keyup", (event) => {
  if (event.key.toLowerCase() === "h" && state.peek) { state.peek = false; draw(); }
});

new ResizeObserver(() => { if (scan) { draw(); strip(); } }).observe(stage);

const asked = () => {
  const [, name, number] = /^#(.*?)(?::(\d+))?$/.exec(location.hash) ?? [];
  let index = -1;
  try { index = scans.findIndex((one) => one.name === decodeURIComponent(name ?? "")); } catch { /* no name of ours */ }
  return index < 0 ? [listed()[0] ?? -1, -1] : [index, number ? number - 1 : -1];
};
if (scans.length) {
  document.querySelectorAll(".viewer, .panel").forEach((one) => { one.hidden = false; });
  open(...asked());
}
window.addEventListener("hashchange", () => open(...asked()));
