// What the other scripts share: the data, the pictures, small helpers. Text of the input is only ever set as text.
const DATA = JSON.parse(document.getElementById("data").textContent);
const LESIONS = DATA.lesions;
const byId = (id) => document.getElementById(id);
const NAMES = new Intl.Collator(undefined, { numeric: true, sensitivity: "base" });
LESIONS.forEach((lesion, place) => { lesion.place = place; });

// element("td", { class: "number" }, "text", child, ...)
function element(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (value !== null && value !== false) node.setAttribute(key, value);
  }
  node.append(...children);
  return node;
}

function shape(name, attributes) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  return node;
}

// Pictures stand in blocks, one data URI per line; a block is split when one of its pictures is first asked for.
const blocks = document.getElementsByClassName("pictures");
const splitBlocks = new Map();
function pictureOf(lesion) {
  const number = Math.floor(lesion.place / DATA.picturesPerBlock);
  if (!splitBlocks.has(number)) splitBlocks.set(number, (blocks[number]?.textContent ?? "").split("\n"));
  return splitBlocks.get(number)[lesion.place % DATA.picturesPerBlock] ?? "";
}

function pictureNode(lesion, fallback = "no picture") {
  const uri = pictureOf(lesion);
  if (!uri) return element("span", { class: "small" }, fallback);
  const alt = `Overview, axial, coronal and sagittal view of ${nameOf(lesion)}`;
  return element("img", { src: uri, alt, width: 978, height: 282 });
}

const nameOf = (lesion) => lesion.roi.trim() || (lesion.number === null ? `${lesion.kind} ${lesion.place + 1}` : `${lesion.kind} ${lesion.number}`);
const seriesOf = (lesion) => DATA.series[lesion.series];
const shortUid = (uid) => (uid.length > 16 ? `…${uid.slice(-12)}` : uid);
const flagTitle = (flag) => DATA.flags[flag]?.[0] ?? flag;
const scoreOf = (lesion, head, outcome) => lesion.scores?.[`head.${head.name}.${outcome}`] ?? null;
const likeliestOf = (lesion, head) => head.outcomes.reduce((best, name) => (scoreOf(lesion, head, name) > scoreOf(lesion, head, best) ? name : best));
const statusOf = (lesion) => (lesion.flagged ? "flagged" : "ok");
const sizeOf = (lesion) => (lesion.size ? Math.max(...lesion.size) : null);
const badge = (kind, text, title = "") => element("span", { class: `badge ${kind}`, title: title || null }, text);

function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  byId("theme").textContent = theme === "dark" ? "Light" : "Dark";
  byId("theme").setAttribute("aria-pressed", String(theme === "dark"));
}
byId("theme").addEventListener("click", () => setTheme(document.documentElement.dataset.theme === "dark" ? "light" : "dark"));
byId("print").addEventListener("click", () => window.print());
setTheme(window.matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
