"use strict";
const $ = id => document.getElementById(id);
const state = JSON.parse($("state").textContent);
const chosen = () => document.querySelector("[name=mode]:checked").value;
const row = () => state.rows[Number($("row")?.value ?? 0)];
const bytes = id => Uint8Array.from(atob($(`data-${id}`).textContent), c => c.charCodeAt(0));
const CT = 0, PET = 1;
let nv, mapAt = -1, labelAt = -1, projected = null, visited = {finding: -1, lesion: -1};

async function unpacked(id) {
  const stream = new Blob([bytes(id)]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).text();
}

async function volume(id, colormap) {
  const base64 = $(`data-${id}`).textContent;
  return niivue.NVImage.loadFromBase64({base64, name: `${id}.nii.gz`, colormap, opacity: 0});
}

async function start() {
  const code = document.createElement("script");
  code.textContent = await unpacked("niivue");
  document.head.append(code);
  nv = new niivue.Niivue({
    logLevel: "silent", backColor: [0, 0, 0, 1], crosshairColor: [1, 0.85, 0.2, 0.9], crosshairWidth: 1, crosshairWidthUnit: "mm", crosshairGap: 8,
    dragMode: 0, longTouchTimeout: 2 ** 31 - 1,  // windows are the sliders' alone
    isRadiologicalConvention: true, dragAndDropEnabled: false, loadingText: "", multiplanarLayout: 0,
    multiplanarShowRender: 0, sliceType: 3, isColorbar: false, isNearestInterpolation: false,
  });
  await nv.attachToCanvas($("planes"));
  nv.setSliceType(nv.sliceTypeMultiplanar);
  // Opaque from its first level on, unlike NiiVue's own grey.
  nv.addColormap("petgrey", {R: [255, 0], G: [255, 0], B: [255, 0], A: [255, 255], I: [0, 255]});
  nv.addVolume(await volume("ct", "gray"));
  nv.addVolume(await volume("pet", "gray"));
  if (state.rows.length) { mapAt = nv.volumes.length; nv.addVolume(await volume("map-0", "jet")); }
  if (state.label) { labelAt = nv.volumes.length; nv.addVolume(await volume("label", "red")); }
  nv.onLocationChange = read;
  listen();
  show();
  drawScores();
  jump("finding", state.rows.length ? row().findings : []) || jump("lesion", state.lesions) || nv.createOnLocationChange();
  const asked = state.slices.indexOf(location.hash.slice(1));
  if (asked >= 0) goToLevel(asked);
  document.documentElement.dataset.ready = "yes";
}

function show() {
  const mode = chosen(), value = id => Number($(id).value);
  const [ct, pet] = [nv.volumes[CT], nv.volumes[PET]];
  const alone = mode === "pet" || mode === "mappet";
  pet.colormap = alone ? "petgrey" : "hot";  // which resets its range
  ct.cal_min = value("centre") - value("width") / 2;
  ct.cal_max = value("centre") + value("width") / 2;
  pet.cal_min = value("suv-low");
  pet.cal_max = Math.max(value("suv-high"), pet.cal_min + 0.1);
  ct.opacity = 1;
  pet.opacity = alone ? 1 : mode === "fused" ? 0.6 : 0;
  if (mapAt >= 0) {
    const map = nv.volumes[mapAt], {low, high} = row();
    map.cal_min = low + (high - low) * value("map-low") / 100;
    map.cal_max = high;
    map.opacity = mode.startsWith("map") ? value("opacity") / 100 : 0;
    $("map-low-says").value = short(map.cal_min);
    $("opacity-says").value = `${value("opacity")} %`;
  }
  if (labelAt >= 0) {
    Object.assign(nv.volumes[labelAt], {cal_min: 0.5, cal_max: 1, opacity: $("label").checked ? 0.5 : 0});
  }
  $("centre-says").value = `${value("centre")} HU`;
  $("width-says").value = `${value("width")} HU`;
  $("suv-low-says").value = value("suv-low").toFixed(1);
  $("suv-high-says").value = value("suv-high").toFixed(1);
  nv.updateGLVolume();
  project();
}

const short = x => x === undefined || x === null ? "–" : Number(x).toPrecision(3);
const levelOf = mm => Math.round(state.toSlice[0] * mm[0] + state.toSlice[1] * mm[1] + state.toSlice[2] * mm[2] + state.toSlice[3]);
let here = [0, 0, 0];

function read({mm, values}) {
  here = [mm[0], mm[1], mm[2]];
  const level = levelOf(here), score = state.rows.length ? row().scores[level] : undefined;
  const limit = state.rows.length ? row().threshold : null;
  $("hu").textContent = `${Math.round(values[CT].value)} HU`;
  $("suv").textContent = `SUV ${values[PET].value.toFixed(2)}`;
  $("map-value").textContent = score === undefined ? "not scored" : short(values[mapAt].value);
  $("score").textContent = score === undefined ? "not scored"
    : short(score) + (limit === null ? "" : score > limit ? ` > ${short(limit)}, abnormal` : ` ≤ ${short(limit)}, normal`);
  $("slice").textContent = state.slices[level] ? `${level + 1} of ${state.slices.length}` : "–";
  $("place").textContent = `${side(here[0], "R", "L")} ${side(here[1], "A", "P")} ${side(here[2], "S", "I")} mm`;
  mark(level);
  drawMip();
}
const side = (x, up, down) => `${x >= 0 ? up : down}${Math.abs(x).toFixed(0)}`;

function go(mm) {
  const frac = nv.mm2frac(mm);
  nv.scene.crosshairPos = frac;
  nv.createOnLocationChange();
  nv.drawScene();
}

function jump(kind, places) {
  if (!places.length) { $("says").textContent = kind === "finding" ? "This row has no finding here." : "No lesion."; return false; }
  visited[kind] = (visited[kind] + 1) % places.length;
  const place = places[visited[kind]];
  go(place.mm);
  $("says").textContent = kind === "finding"
    ? `Finding ${visited.finding + 1} of ${places.length} of ${row().run}: peak ${short(place.value)}, threshold ${short(row().map_threshold)}.${chosen().startsWith("map") ? "" : " Key 4 shows the map."}`
    : `Lesion ${visited.lesion + 1} of ${places.length}: SUVmax ${place.value.toFixed(1)}.`;
  return true;
}

async function changeRow() {
  visited.finding = -1;
  const old = nv.volumes[mapAt], next = await volume(`map-${$("row").value}`, "jet");
  nv.removeVolume(old);
  nv.addVolume(next);
  nv.setVolume(next, mapAt);
  show();
  drawScores();
  go(here);
}

// Every column of a projection is a line through the body; depth keeps which voxel was highest.
function project() {
  const mode = chosen(), source = mode === "ct" || mode === "map" || mode === "mappet" ? (mode === "ct" ? CT : mapAt) : PET;
  const image = nv.volumes[source], [, nx, ny, nz] = image.hdr.dims, [, dx, dy, dz] = image.hdr.pixDims;
  const step = Math.max(dx, dy), [cosine, sine] = [Math.cos(angle()), Math.sin(angle())];
  const width = Math.ceil(Math.hypot(nx * dx, ny * dy) / step) + 1;
  const highest = new Float32Array(width * nz).fill(-Infinity), depth = new Int32Array(width * nz).fill(-1);
  const columns = new Int32Array(nx * ny);
  for (let y = 0; y < ny; y++) for (let x = 0; x < nx; x++) {
    const along = (x - nx / 2) * dx * cosine + (y - ny / 2) * dy * sine;
    columns[y * nx + x] = Math.round(along / step + width / 2);
  }
  for (let z = 0, at = 0; z < nz; z++) for (let i = 0; i < nx * ny; i++, at++) {
    const to = z * width + columns[i], found = image.img[at];
    if (found > highest[to]) { highest[to] = found; depth[to] = at; }
  }
  projected = {image, source, width, step, highest, depth, nx, ny, nz, dx, dy, dz};
  drawMip();
}

function drawMip() {
  if (!projected) return;
  const {image, source, width, nz, dz, step, highest} = projected, canvas = $("mip");
  const [low, high] = [image.cal_min, image.cal_max];
  const {scl_slope: slope, scl_inter: first} = image.hdr;
  const tall = Math.max(1, Math.round(nz * dz / step));
  canvas.width = width; canvas.height = tall;
  const context = canvas.getContext("2d"), picture = context.createImageData(width, tall);
  const invert = source === PET && !matchMedia("(prefers-color-scheme: dark)").matches;
  for (let y = 0; y < tall; y++) {
    const z = Math.min(nz - 1, nz - 1 - Math.floor(y * nz / tall));
    for (let x = 0; x < width; x++) {
      const raw = highest[z * width + x], at = 4 * (y * width + x);
      if (raw === -Infinity) continue;
      const level = 255 * Math.min(1, Math.max(0, (raw * slope + first - low) / (high - low)));
      picture.data.fill(invert ? 255 - level : level, at, at + 3);
      picture.data[at + 3] = 255;
    }
  }
  context.putImageData(picture, 0, 0);
  const place = spot();
  context.strokeStyle = "#d08000";
  context.lineWidth = Math.max(1, width / 200);
  context.strokeRect(place[0] - 4, place[1] - 4, 8, 8);
}

// Where the crosshair is in the projection.
function spot() {
  const {width, nz, dz, step, nx, ny, dx, dy} = projected, vox = voxelOf(projected.image, here);
  const along = (vox[0] - nx / 2) * dx * Math.cos(angle()) + (vox[1] - ny / 2) * dy * Math.sin(angle());
  return [along / step + width / 2, (nz - 0.5 - vox[2]) * dz / step];
}

const angle = () => Number($("angle").value) * Math.PI / 180;
// Columns of the affine are at right angles, as in every DICOM stack.
function voxelOf(image, mm) {
  const affine = image.getAffine();
  return [0, 1, 2].map(axis => {
    const column = [0, 1, 2].map(i => affine[i][axis]), length = column.reduce((sum, x) => sum + x * x, 0);
    return column.reduce((sum, x, i) => sum + x * (mm[i] - affine[i][3]), 0) / length;
  });
}
function mmOf(image, vox) {
  return image.getAffine().slice(0, 3).map(line => line[3] + line[0] * vox[0] + line[1] * vox[1] + line[2] * vox[2]);
}

function pickFromMip(event) {
  const {image, width, nz, nx, ny, depth} = projected, canvas = $("mip");
  const box = canvas.getBoundingClientRect(), scale = Math.min(box.width / canvas.width, box.height / canvas.height);
  const x = Math.floor((event.clientX - box.left - (box.width - canvas.width * scale) / 2) / scale);
  const y = (event.clientY - box.top - (box.height - canvas.height * scale) / 2) / scale;
  const z = nz - 1 - Math.floor(y * nz / canvas.height);
  if (x < 0 || x >= width || z < 0 || z >= nz || depth[z * width + x] < 0) return;
  const at = depth[z * width + x];
  go(mmOf(image, [at % nx, Math.floor(at / nx) % ny, Math.floor(at / (nx * ny))]));
}

function drawScores() {
  if (!state.rows.length) return;
  const {scores, threshold} = row(), count = state.slices.length, values = Object.values(scores);
  const low = Math.min(...values, threshold ?? Infinity), high = Math.max(...values, threshold ?? -Infinity);
  const height = score => 2 + 21 * (score - low) / (high - low || 1);
  const bars = Object.entries(scores).map(([level, score]) =>
    `<rect x="${100 * level / count}" width="${90 / count}" y="${24 - height(score)}" height="${height(score)}"${threshold !== null && score > threshold ? ' class="over"' : ""}/>`);
  $("scores").innerHTML = `${bars.join("")}<line id="at" y1="0" y2="24"/>`;
  mark(levelOf(here));
}

function mark(level) {
  const x = 100 * (level + 0.45) / state.slices.length;
  for (const end of ["x1", "x2"]) $("at")?.setAttribute(end, x);
}

function goToSlice(event) {
  const box = $("scores").getBoundingClientRect();
  goToLevel(Math.floor((event.clientX - box.left) / box.width * state.slices.length));
}

function goToLevel(level) {
  const normal = state.toSlice.slice(0, 3), length = normal.reduce((sum, x) => sum + x * x, 0);
  const away = (level - (normal.reduce((sum, x, i) => sum + x * here[i], 0) + state.toSlice[3])) / length;
  go(here.map((x, i) => x + away * normal[i]));
}

const KEYS = {
  ArrowLeft: [-1, 0, 0], ArrowRight: [1, 0, 0], ArrowUp: [0, 1, 0], ArrowDown: [0, -1, 0], PageUp: [0, 0, 1], PageDown: [0, 0, -1],
};

function press(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  // NiiVue has keys of its own, of which the page says nothing.
  if (event.target === $("planes")) event.stopPropagation();
  const field = event.target.matches("input[type=range], input[type=radio], select");
  const modes = document.querySelectorAll("[name=mode]");
  if (KEYS[event.key] && !field) nv.moveCrosshairInVox(...KEYS[event.key]);
  else if (event.key === "f" && state.rows.length) jump("finding", row().findings);
  else if (event.key === "l") jump("lesion", state.lesions);
  else if (event.key === "m" && state.rows.length > 1) { $("row").selectedIndex = ($("row").selectedIndex + 1) % state.rows.length; changeRow(); }
  else if (modes[event.key - 1]) { modes[event.key - 1].checked = true; show(); }
  else return;
  if (!field || !KEYS[event.key]) event.preventDefault();
}

function listen() {
  for (const input of document.querySelectorAll("[name=mode], #label, #map-low, #opacity, #centre, #width, #suv-low, #suv-high"))
    input.addEventListener("input", show);
  for (const button of document.querySelectorAll(".window")) button.addEventListener("click", () => {
    $("centre").value = button.dataset.centre;
    $("width").value = button.dataset.width;
    show();
  });
  $("row")?.addEventListener("change", changeRow);
  $("finding")?.addEventListener("click", () => jump("finding", row().findings));
  $("lesion")?.addEventListener("click", () => jump("lesion", state.lesions));
  $("angle").addEventListener("input", () => { $("angle-says").value = `${$("angle").value}°`; project(); });
  $("mip").addEventListener("click", pickFromMip);
  $("scores")?.addEventListener("click", goToSlice);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawMip);
  document.addEventListener("keydown", press, true);
  document.addEventListener("dblclick", event => event.stopPropagation(), true);
}

start().catch(error => {
  $("trouble").hidden = false;
  $("trouble").textContent = `The images cannot be shown: ${error.message} A browser with WebGL 2 is needed, such as Firefox, Chrome or Safari of the last years.`;
});
