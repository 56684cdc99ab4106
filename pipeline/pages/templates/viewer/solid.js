// ---- Three planes and 3-D, drawn by NiiVue from the slices that are here ------------------------
const SOLID_PX = 256, FEWEST_SLICES = 5, SOLID_OPACITY = 0.7; // larger slices are shrunk; fewer slices are no volume
const solid = { on: false, viewer: null, of: null, placed: false, made: 0 };

const canBeSolid = () => Boolean(scan?.facts.world) && scan.slices >= FEWEST_SLICES;

const library = () => new Promise((resolve, reject) => {
  if (window.niivue) return void resolve(window.niivue);
  const path = "view/niivue.umd.js", script = made("script", "", { src: path });
  script.onload = () => resolve(window.niivue);
  script.onerror = () => { script.remove(); reject(new Error(path)); };
  document.head.append(script);
});

// The grid of the volume: columns, rows and slices, and where its voxels lie (4 x 4, row by row).
const solidGrid = (of) => {
  const [rows, columns] = of.grid, share = Math.min(1, SOLID_PX / Math.max(rows, columns));
  const size = [columns, rows].map((one) => Math.max(1, Math.round(one * share)));
  const steps = [of.shape[1] / size[0], of.shape[0] / size[1], 1];
  const [slice, row, column, origin] = [0, 1, 2, 3].map((at) => of.facts.world.slice(0, 3).map((one) => one[at]));
  const axes = [column, row, slice];
  const place = [0, 1, 2].map((mm) => origin[mm] + axes.reduce((sum, axis, at) => sum + axis[mm] * (steps[at] - 1) / 2, 0));
  const affine = [0, 1, 2].flatMap((mm) => [...axes.map((axis, at) => axis[mm] * steps[at]), place[mm]]);
  const sides = axes.map((axis, at) => Math.hypot(...axis) * steps[at]);
  return { size: [...size, of.slices], sides, affine: [...affine, 0, 0, 0, 1] };
};

// Greys and class ids of all slices, slice after slice; `ids` picks the layer that is shown.
const solidVoxels = async (of, { size: [columns, rows, count] }, told) => {
  const grey = new Uint8Array(columns * rows * count), prediction = new Uint8Array(grey.length), truth = new Uint8Array(grey.length);
  const pen = new OffscreenCanvas(columns, rows).getContext("2d", { willReadFrequently: true });
  pen.imageSmoothingQuality = "high";
  const [high, wide] = of.grid;
  for (let number = 0; number < count; number++) {
    const content = await slice(of, number), start = number * columns * rows;
    pen.drawImage(content.bitmap, 0, 0, columns, rows);
    const { data } = pen.getImageData(0, 0, columns, rows);
    for (let at = 0; at < columns * rows; at++) {
      grey[start + at] = data[4 * at];
      const from = Math.floor((Math.floor(at / columns) + 0.5) * high / rows) * wide + Math.floor((at % columns + 0.5) * wide / columns);
      prediction[start + at] = content.ids?.[from] ?? 0;
      truth[start + at] = content.truth?.[from] ?? 0;
    }
    told(number + 1);
  }
  return { grey, prediction, truth };
};

const solidLayer = ({ prediction, truth }) => {
  if (!scan.truth || state.layer === "prediction" || state.layer === "both") return [prediction, visible()];
  if (state.layer === "truth") return [truth, visible()];
  return [prediction.map((one, at) => wrongness(truth[at], one)), ERRORS];
};

const lut = (classes) => {
  const every = [0, ...classes.map((one) => one.id)];
  const of = (channel) => [0, ...classes.map((one) => one.colour[channel])];
  return { R: of(0), G: of(1), B: of(2), A: [0, ...classes.map(() => 255)], I: every, labels: ["", ...classes.map((one) => words(one.name))] };
};

const solidOpacity = () => SOLID_OPACITY * at("opacity").value / 100;

const drawSolid = async () => {
  const { viewer, content, grid } = solid;
  const image = (bytes, name, more) => {
    const whole = window.niivue.NVImage.createNiftiArray(grid.size, grid.sides, grid.affine, 2, bytes);
    return window.niivue.NVImage.loadFromFile({ file: new File([whole], `${name}.nii`), name: `${name}.nii`, ...more });
  };
  const [ids, classes] = solidLayer(content);
  const kept = new Set(classes.map((one) => one.id));
  const shown = state.mode === "none" ? new Uint8Array(ids.length) : ids.map((one) => (kept.has(one) ? one : 0));
  if (!viewer.volumes.length) viewer.addVolume(await image(content.grey, "scan", { cal_min: 0, cal_max: 255 }));
  while (viewer.volumes.length > 1) viewer.removeVolumeByIndex(1);
  const overlay = await image(shown, "masks", { opacity: solidOpacity() });
  overlay.setColormapLabel(lut(classes));
  viewer.addVolume(overlay);
  viewer.updateGLVolume();
  solidAt(state.slice);
  stage.dataset.solid = ++solid.made;
};

// The cross goes to a slice, and stays where it is within it.
const solidAt = (number) => {
  if (!solid.on || solid.of !== scan || !solid.viewer?.volumes.length) return;
  const { viewer } = solid, [x, y, z] = viewer.frac2mm(viewer.scene.crosshairPos);
  const world = scan.facts.world, [rows, columns] = scan.shape;
  const [row, column] = solid.placed ? within([x, y, z]) : middle(number) ?? [(rows - 1) / 2, (columns - 1) / 2];
  const mm = [0, 1, 2].map((at) => world[at].reduce((sum, one, axis) => sum + one * [number, row, column, 1][axis], 0));
  viewer.scene.crosshairPos = viewer.mm2frac(mm);
  solid.placed = true;
  viewer.drawScene();
};

// Row and column in the middle of what is drawn on a slice; null of none.
const middle = (number) => {
  const [columns, rows] = solid.grid.size, [ids] = solidLayer(solid.content);
  let found = 0, down = 0, across = 0;
  for (let at = 0; at < rows * columns; at++) {
    if (!ids[number * rows * columns + at]) continue;
    found++;
    down += Math.floor(at / columns);
    across += at % columns;
  }
  const scaled = (sum, own, all) => ((sum / found + 0.5) * all) / own - 0.5;
  return found ? [scaled(down, rows, scan.shape[0]), scaled(across, columns, scan.shape[1])] : null;
};

// Row and column of a place in mm: its steps from the origin along both, which are at right angles.
const within = (mm) => [1, 2].map((axis) => {
  const step = [0, 1, 2].map((at) => scan.facts.world[at][axis]);
  const length = step.reduce((sum, one) => sum + one * one, 0);
  return step.reduce((sum, one, at) => sum + one * (mm[at] - scan.facts.world[at][3]), 0) / length;
});

const closeSolid = () => {
  if (!solid.on) return;
  solid.on = false;
  at("solid").hidden = true;
  stage.classList.remove("in-solid");
  delete stage.dataset.solid;
  at("planes").setAttribute("aria-pressed", "false");
};

const openSolid = async () => {
  const of = scan;
  Object.assign(solid, { on: true });
  at("planes").setAttribute("aria-pressed", "true");
  stage.classList.add("in-solid");
  at("solid").hidden = false;
  const told = (text) => { at("solid-told").textContent = text; };
  try {
    told("Loading the viewer of volumes");
    const { Niivue, SHOW_RENDER } = await library();
    if (solid.of !== of) {
      const grid = solidGrid(of);
      const content = await solidVoxels(of, grid, (done) => told(`Slice ${done} of ${of.slices}`));
      if (of !== scan || !solid.on) return;
      if (!solid.viewer) {
        solid.viewer = new Niivue({ backColor: [0, 0, 0, 1], isRadiologicalConvention: true, multiplanarShowRender: SHOW_RENDER.ALWAYS, loadingText: "", logLevel: "warn" });
        await solid.viewer.attachToCanvas(at("solid-canvas"));
        solid.viewer.setSliceType(solid.viewer.sliceTypeMultiplanar);
      }
      while (solid.viewer.volumes.length) solid.viewer.removeVolumeByIndex(0);
      Object.assign(solid, { of, grid, content, placed: false });
    }
    await drawSolid();
    told("");
  } catch (error) {
    told(`Three planes and 3-D cannot be drawn here (${error.message}). They take WebGL 2, and the folder view/ beside this page.`);
  }
};

at("planes").addEventListener("click", () => (solid.on ? closeSolid() : openSolid()));
at("opacity").addEventListener("input", () => { if (solid.on && solid.viewer?.volumes[1]) solid.viewer.setOpacity(1, solidOpacity()); });
