"use strict";

// The slider of a sheet: image, then truth, then both, then the prediction alone.
const STOPS = ["the image alone", "image with truth, faint", "image with truth",
  "truth (solid) and prediction (dashed)", "image with prediction"];
for (const slider of document.querySelectorAll("input[data-blend]")) {
  const sheet = document.getElementById(slider.dataset.blend);
  const output = slider.closest(".blend").querySelector("output");
  const show = () => {
    const at = Number(slider.value);
    sheet.style.setProperty("--truth", [0, 0.5, 1, 1, 0][at]);
    sheet.style.setProperty("--predicted", [0, 0, 0, 1, 1][at]);
    slider.setAttribute("aria-valuetext", STOPS[at]);
    output.textContent = STOPS[at];
  };
  slider.addEventListener("input", show);
  slider.closest(".blend").hidden = false;
  show();
}

// Every figure can be saved as an SVG of its own: what the page's style decides is written into it.
const drawing = document.createElement("template");
drawing.innerHTML = "<svg></svg>";
const SVG = drawing.content.firstChild.namespaceURI; // so the page names no address
const STYLED = ["fill", "fill-opacity", "fill-rule", "stroke", "stroke-width", "stroke-opacity",
  "stroke-dasharray", "stroke-linejoin", "opacity", "font-size", "font-family", "text-anchor"];
const styled = (svg) => {
  const copy = svg.cloneNode(true);
  const [from, to] = [svg, copy].map((one) => [one, ...one.querySelectorAll("*")]);
  from.forEach((one, at) => {
    const style = getComputedStyle(one);
    for (const name of STYLED) to[at].style.setProperty(name, style.getPropertyValue(name));
    to[at].removeAttribute("class");
  });
  return copy;
};
const picture = (stack) => {
  const image = stack.querySelector("img"), [width, height] = [image.width, image.height];
  const whole = document.createElementNS(SVG, "svg"), shown = document.createElementNS(SVG, "image");
  whole.setAttribute("viewBox", stack.querySelector("svg")?.getAttribute("viewBox") ?? `0 0 ${width} ${height}`);
  for (const [name, value] of [["href", image.src], ["width", "100%"], ["height", "100%"]]) {
    shown.setAttribute(name, value);
  }
  whole.append(shown, ...[...stack.querySelectorAll("svg")].map(styled));
  return whole;
};
const save = (svg, name) => {
  svg.setAttribute("xmlns", SVG);
  const blob = new Blob([new XMLSerializer().serializeToString(svg)], { type: "image/svg+xml" });
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = `${name.trim().toLowerCase().replace(/[^a-z0-9_.-]+/g, "-").slice(0, 60)}.svg`;
  link.click();
  URL.revokeObjectURL(link.href);
};
for (const svg of document.querySelectorAll("figure > svg.plot")) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "save";
  button.textContent = "Save as SVG";
  const name = `${svg.closest("section").id} ${svg.querySelector("title").textContent}`;
  button.setAttribute("aria-label", `Save as SVG: ${name}`);
  button.addEventListener("click", () => save(styled(svg), name));
  svg.closest("figure").append(button);
}

// A picture opens large by a click or a key; arrows, and buttons, turn to its neighbours.
const large = document.createElement("dialog");
large.className = "large";
large.setAttribute("aria-label", "A picture, enlarged");
const turn = document.createElement("div");
turn.className = "turn";
const room = document.createElement("div");
large.append(turn, room);
document.body.append(large);
let shown = null;
const enlarge = (figure) => {
  shown = figure;
  const style = getComputedStyle(figure.closest(".sheet"));
  for (const name of ["--truth", "--predicted"]) {
    large.style.setProperty(name, style.getPropertyValue(name));
  }
  const copy = figure.cloneNode(true);
  const stack = copy.querySelector(".stack");
  for (const name of ["role", "tabindex", "aria-label"]) stack.removeAttribute(name);
  room.replaceChildren(copy);
  if (!large.open) large.showModal();
};
const step = (by) => {
  const all = [...shown.closest(".sheet").querySelectorAll("figure")];
  enlarge(all[(all.indexOf(shown) + by + all.length) % all.length]);
};
const keep = () => save(picture(room.querySelector(".stack")), shown.querySelector("img").alt);
for (const [words, act] of [["‹ Previous", () => step(-1)], ["Save as SVG", keep],
  ["Close", () => large.close()], ["Next ›", () => step(1)]]) {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = words;
  button.addEventListener("click", act);
  turn.append(button);
}
large.addEventListener("keydown", (event) => {
  const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (by) step(by);
});
large.addEventListener("click", (event) => { if (event.target === large) large.close(); });
large.addEventListener("close", () => shown.querySelector(".stack").focus());
for (const stack of document.querySelectorAll(".sheet .stack")) {
  stack.setAttribute("role", "button");
  stack.tabIndex = 0;
  stack.setAttribute("aria-label", `Enlarge: ${stack.querySelector("img").alt}`);
  const figure = stack.closest("figure");
  stack.addEventListener("click", () => enlarge(figure));
  stack.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" && event.key !== " ") return;
    event.preventDefault();
    enlarge(figure);
  });
}

// Tables sort by a click or a key on the head of a column: numbers as numbers, gaps last.
const value = (row, column) => {
  const cell = row.cells[column];
  const text = cell.dataset.v ?? cell.textContent.trim();
  return text !== "" && Number.isFinite(Number(text)) ? Number(text) : text;
};
for (const table of document.querySelectorAll("table.sort")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const gap = (v) => v === "" || v === "–";
      const rows = [...table.tBodies[0].rows].sort((one, two) => {
        const [a, b] = [value(one, column), value(two, column)];
        if (gap(a) || gap(b)) return gap(a) - gap(b);
        const order = typeof a === "number" && typeof b === "number"
          ? a - b : String(a).localeCompare(String(b), "en", { numeric: true });
        return down ? -order : order;
      });
      table.tBodies[0].append(...rows);
    });
  });
}
