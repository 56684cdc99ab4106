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

const hidden = new Set(); // names of classes, of whatever scan
const visible = () => scan.classes.filter((one) => !hidden.has(one.name));

// Nothing on the stage: an earlier picture below another name or number would mislead.
const clear = () => {
  current = null;
  delete stage.dataset.shown;
  for (const canvas of [grey, lines]) canvas.width = 0;
};

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
  stage.classList.toggle("near", state.zoom > 1);
  letters(box);
};

const drawMasks = (pen, box, ratio) => {
  pen.setTransform(1, 0, 0, 1, 0, 0);
  pen.clearRect(0, 0, lines.width, lines.height);
  const mode = state.peek ? "none" : state.mode;
  if (mode === "none") return;
  const [rows, columns] = scan.grid;
  const onto = new DOMMatrix([box.w / columns * ratio, 0, 0, box.h / rows * ratio, box.x * ratio, box.y * ratio]);
  const every = layers();
  for (const { classes, paths, dashed } of every) {
    const drawn = [];
    for (const one of classes) {
      if (!paths.has(one.id)) continue;
      const path = new Path2D();
      path.addPath(paths.get(one.id), onto);
      drawn.push([one, path]);
    }
    if (mode !== "outline" || state.layer === "errors" && scan.truth) {
      for (const [one, path] of drawn) {
        pen.fillStyle = colour(one, FILL / every.length);
        pen.fill(path, "evenodd");
      }
    }
    if (mode !== "fill") drawLines(pen, drawn, ratio, dashed);
  }
};

// What is drawn over a slice, one over the other: whose paths of which classes, and how.
const layers = () => {
  const prediction = { classes: visible(), paths: current.paths, dashed: false };
  if (!scan.truth || state.layer === "prediction") return [prediction];
  const truth = { classes: visible(), paths: current.truths, dashed: false };
  if (state.layer === "truth") return [truth];
  if (state.layer === "both") return [truth, { ...prediction, dashed: true }];
  current.errors ??= errors(current, ...scan.grid);
  return [{ classes: ERRORS, paths: current.errors, dashed: false }];
};

const drawLines = (pen, drawn, ratio, dashed) => {
  pen.lineJoin = "round";
  pen.setLineDash(dashed ? [5 * ratio, 4 * ratio] : []);
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
  pen.setLineDash([]);
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
  const each = visible().filter((one) => scan.counts[one.id]).map((one) => [one, scan.counts[one.id]]);
  const ink = getComputedStyle(stage).getPropertyValue("--all").split(" ");
  const shown = each.length > MOST_ROWS ? [[{ colour: ink }, sums()]] : each, rows = Math.max(1, shown.length);
  canvas.style.height = `${4 * rows}px`;
  const w = canvas.width = Math.max(1, Math.round(canvas.clientWidth * ratio));
  const h = canvas.height = Math.round(4 * rows * ratio);
  const pen = canvas.getContext("2d"), step = w / scan.slices;
  shown.forEach(([one, counts], row) => {
    const most = Math.max(...counts);
    counts.forEach((count, place) => {
      if (!count) return;
      pen.fillStyle = colour(one, 0.35 + 0.65 * Math.sqrt(count / most));
      const [from, to] = [place, place + 1].map((edge) => Math.round(edge * step)); // whole pixels: no seams
      pen.fillRect(from, row * h / rows, Math.max(to - from, ratio), h / rows - ratio / 2);
    });
  });
};
