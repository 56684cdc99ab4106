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
