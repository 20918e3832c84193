for (const head of document.querySelectorAll(".sort thead th")) head.firstElementChild.onclick = () => {
  const body = head.closest("table").tBodies[0], column = head.cellIndex;
  const up = head.getAttribute("aria-sort") === "descending" ? 1 : -1;
  const value = row => row.cells[column].dataset.v;
  const compare = (a, b) => isNaN(a) || isNaN(b) ? (a > b) - (a < b) : a - b;
  for (const other of head.parentNode.cells) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", up > 0 ? "ascending" : "descending");
  const empty = row => value(row) === "";
  body.append(...[...body.rows].sort((a, b) => empty(a) - empty(b) || up * compare(value(a), value(b))));
};
const light = pick => {
  const lit = pick.getAttribute("aria-pressed") === "true";
  for (const part of document.querySelectorAll("#curves g[data-model]"))
    if (part.dataset.model === pick.dataset.model) part.classList.toggle("lit", lit);
};
for (const pick of document.querySelectorAll(".pick")) {
  light(pick);
  pick.onclick = () => {
    pick.setAttribute("aria-pressed", pick.getAttribute("aria-pressed") !== "true");
    light(pick);
  };
}
for (const slider of document.querySelectorAll(".layers input")) slider.oninput = () => {
  slider.parentNode.style.setProperty("--at", slider.value);
  slider.setAttribute("aria-valuetext", ["CT", "PET", "PET on CT", "map"][Math.round(slider.value)]);
};
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach(d => d.open = true));
