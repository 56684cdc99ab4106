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
// The slice with most wrong pixels; -1 where nothing is wrong, or no truth is known.
const wrongest = () => {
  const most = Math.max(0, ...(scan.wrong ?? []));
  return most ? scan.wrong.indexOf(most) : -1;
};
// Where a scan opens: where the prediction is most wrong; else a lesion at its largest, and the
// middle of what has classes nearly everywhere.
const first = () => {
  if (wrongest() >= 0) return wrongest();
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

const present = (number) => {
  const all = scan.classes.filter((one) => scan.counts[one.id]?.[number]).map((one) => words(one.name));
  const more = all.length - MOST_SPOKEN;
  return [...all.slice(0, MOST_SPOKEN), ...(more > 0 ? [`${more} more`] : [])].join(", ") || "no mask";
};

let spoken = 0;
const speak = (text) => {
  clearTimeout(spoken);
  spoken = setTimeout(() => {
    at("live").textContent = text;
    history.replaceState(null, "", `#${encodeURIComponent(scan.name)}:${state.slice + 1}`);
  }, 400);
};

const fault = (what, error) => {
  clear();
  const text = `This ${what} cannot be read (${error.message}). Is the folder view/ still beside this page?`;
  Object.assign(stage.querySelector(".fault"), { textContent: text, hidden: false });
};

const go = async (number) => {
  const of = scan, target = clamp(number, 0, of.slices - 1);
  towards = target < state.slice ? -1 : 1;
  state.slice = target;
  const slider = at("slice");
  const text = `Slice ${target + 1} of ${of.slices}`;
  const heard = `${text}: ${present(target)}`;
  slider.value = target;
  slider.setAttribute("aria-valuetext", heard);
  at("place").textContent = text;
  grey.setAttribute("aria-label", `${of.name}, ${heard}`);
  jumps();
  solidAt(target);
  if (document.activeElement !== slider) speak(heard); else speak("");
  try {
    const content = await slice(of, target);
    if (of !== scan || target !== state.slice) return;
    current = content;
    stage.dataset.shown = target + 1;
    stage.querySelector(".fault").hidden = true;
    draw();
    under();
    for (let ahead = 1; ahead <= 4; ahead++) {
      const near = target + ahead * towards;
      if (near >= 0 && near < of.slices) slice(of, near).catch(() => {});
    }
  } catch (error) {
    if (of === scan && target === state.slice) fault("slice", error);
  }
};

// ---- Scans -------------------------------------------------------------------------------------
const entries = [...document.querySelectorAll("#scans a")];

const open = async (index, number = -1) => {
  if (!scans[index]) return;
  const chosen = scans[index];
  state.scan = index;
  let unread = null;
  try {
    Object.assign(chosen, { index }, await load(chosen.name, "scan"));
  } catch (error) {
    unread = error;
    Object.assign(chosen, { index, counts: {}, components: [] });
  }
  if (state.scan !== index) return;
  scan = chosen;
  clear();
  Object.assign(state, { slice: -1, zoom: 1, u: 0.5, v: 0.5 });
  entries.forEach((one) => {
    if (Number(one.dataset.scan) === index) one.setAttribute("aria-current", "true");
    else one.removeAttribute("aria-current");
  });
  describe();
  at("slice").max = scan.slices - 1;
  strip();
  if (unread) fault("scan", unread);
  else await go(number < 0 ? first() : number);
};

const describe = () => {
  const facts = scan.facts;
  at("name").textContent = scan.name;
  const mm = (value) => Number(value.toPrecision(3));
  const line = [facts.modality, facts.plane, [...(scan.slices > 1 ? [scan.slices] : []), ...scan.shape].join(" × ")];
  if (scan.pixel_mm) line.push(`${[...(facts.step_mm ? [facts.step_mm] : []), ...scan.pixel_mm].map(mm).join(" × ")} mm`);
  if (facts.seconds != null) line.push(`done in ${facts.seconds.toFixed(1)} s`);
  at("facts").textContent = line.filter(Boolean).join(" · ");
  at("facts").title = facts.source ?? "";
  const doubts = facts.warnings ?? [];
  at("warnings").replaceChildren(...(doubts.length
    ? [made("h3", `Look twice: ${doubts.length} warning${doubts.length > 1 ? "s" : ""}`), made("ul", doubts.map((one) => made("li", one)), { className: "warn" })]
    : []));
  at("classes").replaceChildren(...scan.classes.map(classRow));
  at("layers").hidden = !scan.truth;
  at("wrongest").hidden = wrongest() < 0;
  errorNames();
  closeSolid();
  at("planes").hidden = !canBeSolid();
  for (const id of ["track", "jumps"]) at(id).hidden = scan.slices === 1;
  every();
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

// What is shown has changed, in the slice and, where it is open, in 3-D.
const redraw = () => {
  draw();
  if (solid.on && solid.of === scan) drawSolid();
};

const swatch = (one) => {
  const mark = made("i", "", { className: "swatch" });
  mark.style.background = colour(one);
  return mark;
};

const classRow = (one, number) => {
  const row = scan.facts.measures.find((measure) => measure.class === one.name);
  const box = made("input", "", { type: "checkbox", checked: !hidden.has(one.name) });
  box.addEventListener("change", () => toggle(one, box.checked));
  const much = row ? [row.voxels ? size(row) : "none"] : [];
  if (row && row.truth_ml !== undefined) much.push(made("small", `truth ${size({ ml: row.truth_ml, voxels: row.truth_voxels })}`));
  if (row && row.dice != null) much.push(made("small", `Dice ${row.dice.toFixed(3)}`));
  if (row && row.expected_dice != null) much.push(made("small", `expected Dice ${row.expected_dice.toFixed(2)}`));
  if (row && row.components > 1) much.push(made("small", `${row.components.toLocaleString("en")} parts`));
  const label = made("label", [box, swatch(one), made("span", words(one.name)), made("em", much)]);
  label.title = `${one.meaning}${number < 9 ? `  (key ${number + 1})` : ""}`;
  return made("li", label);
};

const toggle = (one, shown) => {
  hidden[shown ? "delete" : "add"](one.name);
  at("classes").querySelectorAll("input")[scan.classes.indexOf(one)].checked = shown;
  every();
  strip();
  redraw();
  jumps();
};

const every = () => {
  at("every").hidden = scan.classes.length < 2;
  at("every").textContent = visible().length < scan.classes.length ? "Show all" : "Hide all";
};
at("every").addEventListener("click", () => {
  const show = visible().length < scan.classes.length;
  scan.classes.forEach((one) => toggle(one, show));
});

const jumps = () => {
  for (const [id, way] of [["before", -1], ["after", 1]]) at(id).disabled = withMask(way) === state.slice;
};

const componentList = () => {
  const several = scan.classes.map((one) => [one, scan.components.filter((part) => part.class === one.name)])
    .filter(([, all]) => all.length);
  if (!several.length) return [];
  const most = Math.max(1, Math.floor(MOST_LISTED / several.length));
  const list = made("ol", several.flatMap(([one, all]) => all.slice(0, most).map((part) => {
    const [first, last] = [part.first_slice, part.last_slice];
    const where = scan.slices === 1 ? "" : first === last ? `${first}` : `${first}–${last}`;
    const button = made("button", [swatch(one), made("span", `${words(one.name)} ${part.component}`), made("em", size(part)),
      made("span", where, { className: "soft" })], { type: "button", title: "To its middle slice" });
    button.addEventListener("click", () => go(Math.round((first + last) / 2) - 1));
    return made("li", button);
  })), { className: "components" });
  return [made("h3", scan.slices === 1 ? "Largest parts" : "Largest parts and their slices"), list];
};

// ---- The list of scans -------------------------------------------------------------------------
const listed = () => [...document.querySelectorAll("#scans li:not([hidden]) a")].map((one) => Number(one.dataset.scan));
const beside = (way) => {
  const order = listed(), place = order.indexOf(state.scan);
  if (order[place + way] !== undefined) open(order[place + way]);
};
// The Dice that a scan's probabilities lead one to expect, in the mean of its classes.
const expected = (facts) => {
  const all = facts.measures.map((one) => one.expected_dice).filter((one) => one != null);
  return all.length ? all.reduce((sum, one) => sum + one, 0) / all.length : 1;
};
const judged = (facts) => {
  const all = facts.measures.map((one) => one.dice).filter((one) => one != null);
  return all.length ? all.reduce((sum, one) => sum + one, 0) / all.length : 1;
};
// How far up a scan belongs: by its warnings ("!"), by doubt ("?"), by errors ("<"), or by how much
// of a class it has.
const worth = (index, key) => {
  const { warnings = [], measures } = scans[index].facts;
  if (key === "!") return warnings.length;
  if (key === "?") return 1 - expected(scans[index].facts);
  if (key === "<") return 1 - judged(scans[index].facts);
  const row = measures.find((one) => one.class === key);
  return row ? row.ml ?? row.voxels : 0;
};
const sorted = (key) => {
  const order = entries.map((one) => Number(one.dataset.scan));
  if (key) order.sort((a, b) => worth(b, key) - worth(a, key) || a - b);
  at("scans").append(...order.map((index) => entries[index].parentElement));
};
if (scans.some((one) => one.truth)) at("order").append(made("option", "Lowest Dice first", { value: "<" }));
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
  const { window: [low, high] = [0, 100], unit = "%" } = scan.facts;
  const value = (share) =>
    [Number((low + share * (high - low)).toPrecision(3)).toLocaleString("en"), unit].filter(Boolean).join(" ");
  at("window").textContent = `Black ${value(level - width / 2)}, white ${value(level + width / 2)}`;
};
for (const id of ["level", "width"]) at(id).addEventListener("input", windowing);
at("reset").addEventListener("click", () => { at("level").value = 50; at("width").value = 100; windowing(); });
at("opacity").addEventListener("input", () => { lines.style.opacity = at("opacity").value / 100; });

const choose = (mode) => {
  state.mode = mode;
  document.querySelector(`input[name=mode][value=${mode}]`).checked = true;
  redraw();
};
document.querySelectorAll("input[name=mode]").forEach((one) => one.addEventListener("change", () => choose(one.value)));

const chooseLayer = (layer) => {
  state.layer = layer;
  document.querySelector(`input[name=layer][value=${layer}]`).checked = true;
  errorNames();
  redraw();
};
document.querySelectorAll("input[name=layer]").forEach((one) => one.addEventListener("change", () => chooseLayer(one.value)));
// What the colours of errors, and the lines of both, stand for.
const errorNames = () => {
  const text = { both: ["truth solid, prediction dashed"], errors: ERRORS.map((one) => made("span", [swatch(one), one.name])) };
  at("layer-key").replaceChildren(...((scan?.truth && text[state.layer]) || []));
};

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
at("wrongest").addEventListener("click", () => go(wrongest()));

let turned = 0;
stage.addEventListener("wheel", (event) => {
  if (solid.on) return; // the wheel is NiiVue's there
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
let drag = null, pointer = null;
stage.addEventListener("pointerdown", (event) => {
  if (event.button || !scan || solid.on || event.target.closest("button")) return;
  drag = { id: event.pointerId, x: event.clientX, y: event.clientY, slice: state.slice, u: state.u, v: state.v };
  stage.setPointerCapture(event.pointerId);
});
stage.addEventListener("pointermove", (event) => {
  if (!scan) return;
  pointer = { x: event.clientX, y: event.clientY };
  if (!drag || drag.id !== event.pointerId) return void under();
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

// The class and the place below the pointer.
const chip = stage.querySelector(".under");
const under = () => {
  if (!pointer || !current) return void chip.replaceChildren();
  const rect = stage.getBoundingClientRect(), box = frame(), [rows, columns] = scan.grid;
  const across = (pointer.x - rect.left - box.x) / box.w, down = (pointer.y - rect.top - box.y) / box.h;
  if (Math.min(across, down) < 0 || Math.max(across, down) >= 1) return void chip.replaceChildren();
  const pixel = Math.floor(down * rows) * columns + Math.floor(across * columns);
  const named = (ids, who) => {
    const one = scan.classes.find((label) => label.id === ids?.[pixel]);
    return one ? [made("span", [swatch(one), `${who}${words(one.name)}`])] : [];
  };
  const drawn = scan.truth ? named(current.truth, "truth: ") : [];
  chip.replaceChildren(...drawn, ...named(current.ids, scan.truth ? "prediction: " : ""), place(across, down));
};
// In the scan's world, by the directions of the patient: a pixel's middle is its place.
const place = (across, down) => {
  const from = [state.slice, down * scan.shape[0] - 0.5, across * scan.shape[1] - 0.5, 1];
  const mm = scan.facts.world?.slice(0, 3).map((row) => row.reduce((sum, one, axis) => sum + one * from[axis], 0)) ?? [];
  return mm.map((one, axis) => `${"RASLPI"[one < 0 ? axis + 3 : axis]} ${Math.abs(one).toFixed(1)}`).join("  ") + (mm.length ? " mm" : "");
};
stage.addEventListener("pointerleave", () => { pointer = null; under(); });

const KEYS = {
  ArrowUp: () => go(state.slice + 1), ArrowRight: () => go(state.slice + 1),
  ArrowDown: () => go(state.slice - 1), ArrowLeft: () => go(state.slice - 1),
  PageUp: () => go(state.slice + 10), PageDown: () => go(state.slice - 10),
  Home: () => go(0), End: () => go(scan.slices - 1),
  n: () => go(withMask(1)), p: () => go(withMask(-1)), m: () => go(largest()),
  d: () => at("planes").click(),
  w: () => { if (wrongest() >= 0) go(wrongest()); },
  t: () => { if (scan.truth) chooseLayer(LAYERS[(LAYERS.indexOf(state.layer) + 1) % LAYERS.length]); },
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
  if (one) toggle(one, hidden.has(one.name));
  else KEYS[key]();
});
const unpeek = () => { if (state.peek) { state.peek = false; draw(); } };
document.addEventListener("keyup", (event) => { if (event.key.toLowerCase() === "h") unpeek(); });
window.addEventListener("blur", unpeek);

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
