// The map: one dot per lesion; colour and shape by what the reader chooses. Dots that the filters take out are faded.
const EDGE = 400;
const MARGIN = 26;
const COLOURS = ["#0072b2", "#e69f00", "#009e73", "#d55e00", "#56b4e9", "#cc79a7", "#b8ac1f", "#8c8c8c"]; // Okabe and Ito
const STATUS_COLOURS = { ok: "#009e73", flagged: "#e69f00" };
const COLOUR_BY = {
  "status": statusOf,
  "ROI name": nameOf,
  "source": (x) => x.kind,
  "series": (x) => shortUid(seriesOf(x)),
  "patient": (x) => shortUid(x.patient) || "–",
  ...Object.fromEntries(DATA.heads.filter((head) => head.outcomes.length > 1).map((head) => [`class by ${head.name}`, (x) => (x.scores ? likeliestOf(x, head) : "no score")])),
};
const dots = [];
let ring = null;

// "xy" (PCA) or "tsne": the key of a lesion's place on the chosen map.
const chosenMap = () => document.querySelector("[name=map]:checked")?.value ?? "xy";

function makeMap() {
  const label = (x, y, text, more) => { const node = shape("text", { class: "axis", x, y, "text-anchor": "end", ...more }); node.textContent = text; return node; };
  const axes = [shape("line", { class: "axis", x1: MARGIN, x2: EDGE - MARGIN, y1: EDGE - 16, y2: EDGE - 16 }), shape("line", { class: "axis", x1: 16, x2: 16, y1: MARGIN, y2: EDGE - MARGIN })];
  byId("points").append(...axes, label(EDGE - MARGIN, EDGE - 4, "component 1"), label(11, MARGIN, "component 2", { transform: `rotate(-90 11 ${MARGIN})` }));
  const radius = LESIONS.length > 1500 ? 2.5 : LESIONS.length > 200 ? 4 : 6;
  dots.push(...LESIONS.map((lesion) => shape("circle", { class: "dot", r: radius, "data-place": lesion.place })));
  ring = shape("circle", { class: "ring", r: radius + 4, cx: -99, cy: -99 });
  byId("points").append(...dots, ring);
}

// One scale for both directions, so that distances on the map are distances.
function placeDots() {
  const map = chosenMap();
  const range = (axis) => LESIONS.reduce(([low, high], x) => [Math.min(low, x[map][axis]), Math.max(high, x[map][axis])], [Infinity, -Infinity]);
  const [[left, right], [bottom, top]] = [range(0), range(1)];
  const scale = (EDGE - 2 * MARGIN) / (Math.max(right - left, top - bottom) || 1);
  for (const lesion of LESIONS) {
    dots[lesion.place].setAttribute("cx", EDGE / 2 + (lesion[map][0] - (left + right) / 2) * scale);
    dots[lesion.place].setAttribute("cy", EDGE / 2 - (lesion[map][1] - (bottom + top) / 2) * scale);
  }
  for (const axis of document.querySelectorAll("#points .axis")) axis.style.display = map === "xy" ? "" : "none";
}

function chooseMap() {
  showTip(null);
  placeDots();
  for (const about of document.querySelectorAll("[data-about]")) about.hidden = about.dataset.about !== chosenMap();
  const name = chosenMap() === "xy" ? "on the first two principal components" : "by t-SNE";
  byId("points").setAttribute("aria-label", `Lesions ${name}. Arrow keys move from lesion to lesion, Enter opens one. The table holds the same lesions.`);
  byId("spoken").textContent = `The map shows the lesions ${name}.`;
}

function paint() {
  const group = COLOUR_BY[byId("colour").value];
  const counts = new Map();
  for (const lesion of LESIONS) counts.set(group(lesion), (counts.get(group(lesion)) ?? 0) + 1);
  const groups = [...counts.keys()].sort((a, b) => counts.get(b) - counts.get(a) || NAMES.compare(a, b));
  const colour = (name) => COLOURS[Math.min(groups.indexOf(name), COLOURS.length - 1)];
  const of = new Map(groups.map((name) => [name, STATUS_COLOURS[name] ?? colour(name)]));
  LESIONS.forEach((lesion, n) => dots[n].setAttribute("fill", of.get(group(lesion))));
  const named = groups.length > COLOURS.length ? groups.slice(0, COLOURS.length - 1) : groups;
  const entries = named.map((name) => [name, counts.get(name), of.get(name)]);
  if (named.length < groups.length) entries.push(["others", groups.slice(named.length).reduce((sum, name) => sum + counts.get(name), 0), COLOURS.at(-1)]);
  byId("legend").replaceChildren(...entries.map(([name, count, fill]) => {
    const key = shape("svg", { viewBox: "0 0 12 12", "aria-hidden": "true" });
    key.append(shape("circle", { cx: 6, cy: 6, r: 5, fill }));
    return element("li", {}, key, `${name} (${count})`);
  }));
}

function fade() {
  const shown = new Set(view.rows);
  LESIONS.forEach((lesion, n) => dots[n].classList.toggle("faded", !shown.has(lesion)));
}

// Mark a lesion in the map and in the table; null takes the mark away.
function highlight(lesion) {
  for (const row of document.querySelectorAll("tr.lit")) row.classList.remove("lit");
  if (lesion) document.querySelector(`tr[data-place="${lesion.place}"]`)?.classList.add("lit");
  if (!ring) return;
  ring.setAttribute("cx", lesion ? dots[lesion.place].getAttribute("cx") : -99);
  ring.setAttribute("cy", lesion ? dots[lesion.place].getAttribute("cy") : -99);
}

function showTip(lesion) {
  highlight(lesion);
  byId("tip").hidden = !lesion;
  if (!lesion) return;
  byId("tip").replaceChildren(element("b", {}, `${lesion.place + 1}. ${nameOf(lesion)} `), ...(lesion.flagged ? flagBadges(lesion) : []), pictureNode(lesion));
  byId("spoken").textContent = `${nameOf(lesion)}, ${statusOf(lesion)}`;
  const scale = byId("points").clientWidth / EDGE;
  const [x, y] = ["cx", "cy"].map((name) => Number(dots[lesion.place].getAttribute(name)) * scale);
  const tip = byId("tip");
  tip.style.left = `${Math.max(0, Math.min(x - tip.offsetWidth / 2, byId("points").clientWidth - tip.offsetWidth))}px`;
  tip.style.top = y > tip.offsetHeight + 16 ? `${y - tip.offsetHeight - 12}px` : `${y + 14}px`;
}

if (byId("points")) {
  byId("colour").append(...Object.keys(COLOUR_BY).map((name) => element("option", { value: name }, name)));
  makeMap();
  placeDots();
  paint();
  view.listeners.push(fade);
  byId("colour").addEventListener("input", paint);
  for (const button of document.querySelectorAll("[name=map]")) button.addEventListener("change", chooseMap);
  const under = (event) => LESIONS[event.target.dataset?.place] ?? null;
  let pointed = null;
  byId("points").addEventListener("mousemove", (event) => { if (under(event) !== pointed) showTip(pointed = under(event)); });
  byId("points").addEventListener("mouseleave", () => showTip(pointed = null));
  byId("points").addEventListener("blur", () => showTip(pointed = null));
  byId("points").addEventListener("click", (event) => { if (under(event)) openViewer(under(event)); });
  byId("points").addEventListener("keydown", (event) => {
    const by = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (by && view.rows.length) {
      event.preventDefault();
      const at = view.rows.indexOf(pointed);
      showTip(pointed = view.rows[at < 0 ? 0 : (at + by + view.rows.length) % view.rows.length]);
    }
    if (event.key === "Enter" && pointed) openViewer(pointed);
  });
}
if (byId("table")) refresh();
