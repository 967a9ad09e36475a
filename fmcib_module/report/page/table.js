// The table of lesions: sorted and filtered as a list of lesions; rows are made when they come near the window.
const ROWS_AT_ONCE = 40;
const ROWS_ON_PAPER = 300;
const AHEAD = 1200; // pixels below the window that are filled too
const view = { rows: LESIONS, sort: null, descending: false, shown: 0, listeners: [] };

const nearCell = (lesion) => {
  if (!lesion.near?.length) return "";
  const [place, cosine] = lesion.near[0];
  return element("span", {}, openLink(LESIONS[place]), element("div", { class: "small" }, `cosine ${cosine.toFixed(3)}`));
};
const flagBadges = (lesion) => lesion.flags.map((flag) => badge("flagged", flagTitle(flag), DATA.flags[flag]?.[1]));

const COLUMNS = [
  { title: "#", key: (x) => x.place, cell: (x) => String(x.place + 1), number: true },
  { title: "Picture", cell: (x) => element("button", { class: "thumb", type: "button", tabindex: -1, "aria-label": `Enlarge ${nameOf(x)}`, onclick: () => openViewer(x) }, pictureNode(x)) },
  { title: "ROI", key: nameOf, class: "name", cell: (x) => element("span", {}, openLink(x), element("div", { class: "small" }, x.number === null ? x.kind : `${x.kind} ${x.number}`)) },
  { title: "Status", key: (x) => x.flags.length, class: "status", cell: (x) => element("span", {}, ...(x.flagged ? flagBadges(x) : [badge("ok", "ok")])) },
  { title: "Volume ml", key: (x) => x.ml, cell: (x) => (x.ml === null ? "–" : x.ml.toFixed(x.ml < 10 ? 2 : 1)), number: true },
  { title: "Extent mm", key: sizeOf, cell: (x) => sizeOf(x)?.toFixed(0) ?? "–", number: true },
  { title: "Centre LPS mm", key: (x) => x.lps[2], cell: (x) => x.lps.map((v) => v.toFixed(1)).join("  "), number: true },
  { title: "Nearest", key: (x) => x.near?.[0]?.[1] ?? null, class: "nearest", cell: nearCell },
  { title: "Series", key: seriesOf, cell: (x) => element("span", { class: "uid short", title: seriesOf(x) }, shortUid(seriesOf(x))) },
];
const nearestAt = COLUMNS.findIndex((column) => column.title === "Nearest");
if (LESIONS.some((x) => x.stable)) {
  COLUMNS.splice(nearestAt, 0, { title: "Stability", key: (x) => x.stable?.[0] ?? null, cell: (x) => x.stable?.[0].toFixed(4) ?? "–", number: true });
}
COLUMNS.splice(nearestAt, 0, ...DATA.heads.map(headColumn));
if (LESIONS.some((x) => x.patient)) { // a pseudonym; images that are not DICOM have none
  COLUMNS.push({ title: "Patient", key: (x) => x.patient || null, cell: (x) => element("span", { class: "uid short", title: x.patient }, shortUid(x.patient) || "–") });
}

function headColumn(head) { // of two classes the second one's probability; of more, the likeliest
  const shown = (x) => (head.outcomes.length > 2 ? likeliestOf(x, head) : head.outcomes.at(-1));
  const many = head.outcomes.length > 2;
  return {
    title: many ? head.name : `${head.name}: ${head.outcomes.at(-1)}`,
    key: (x) => (many && x.scores ? likeliestOf(x, head) : scoreOf(x, head, shown(x))),
    cell: (x) => (x.scores ? `${many ? `${shown(x)} ` : ""}${scoreOf(x, head, shown(x)).toFixed(3)}` : "–"),
    number: !many,
  };
}

function openLink(lesion) {
  return element("button", { class: "link", type: "button", onclick: () => openViewer(lesion) }, nameOf(lesion));
}

function makeHead() {
  for (const column of COLUMNS) {
    const label = column.key ? element("button", { type: "button", onclick: () => sortBy(column) }, column.title) : element("span", {}, column.title);
    column.head = element("th", { scope: "col", class: column.number ? "number" : null }, label);
    byId("table").tHead.rows[0].append(column.head);
  }
}

function sortBy(column) {
  view.descending = view.sort === column && !view.descending;
  view.sort = column;
  for (const { head, key, title } of COLUMNS) {
    if (!key) continue;
    const active = key === column.key;
    if (active) head.setAttribute("aria-sort", view.descending ? "descending" : "ascending");
    else head.removeAttribute("aria-sort");
    head.firstChild.textContent = title + (active ? (view.descending ? " ▼" : " ▲") : "");
  }
  refresh();
}

function matches(lesion, wanted) {
  if (wanted.status && statusOf(lesion) !== wanted.status) return false;
  if (wanted.flag && !lesion.flags.includes(wanted.flag)) return false;
  if (wanted.kind && lesion.kind !== wanted.kind) return false;
  if (wanted.series && String(lesion.series) !== wanted.series) return false;
  const text = `${lesion.place + 1} ${nameOf(lesion)} ${lesion.kind} ${seriesOf(lesion)} ${lesion.patient} ${lesion.source}`.toLowerCase();
  return wanted.search.toLowerCase().split(" ").every((word) => text.includes(word));
}

function compare(a, b) { // empty cells last, whatever the direction
  if (a === null || b === null) return (a === null) - (b === null);
  const order = typeof a === "string" ? NAMES.compare(a, b) : a - b;
  return view.descending ? -order : order;
}

function refresh() {
  const wanted = Object.fromEntries(["search", "status", "flag", "kind", "series"].map((id) => [id, byId(id).value.trim()]));
  view.rows = LESIONS.filter((lesion) => matches(lesion, wanted));
  if (view.sort) view.rows.sort((a, b) => compare(view.sort.key(a), view.sort.key(b)) || a.place - b.place);
  view.shown = 0;
  byId("table").tBodies[0].replaceChildren();
  showMore();
  byId("count").textContent = view.rows.length === LESIONS.length ? `${LESIONS.length} lesions` : `${view.rows.length} of ${LESIONS.length} lesions`;
  view.listeners.forEach((listener) => listener());
}

function showMore(count = ROWS_AT_ONCE) {
  const next = view.rows.slice(view.shown, view.shown + count);
  byId("table").tBodies[0].append(...next.map(makeRow));
  view.shown += next.length;
  byId("more").hidden = view.shown >= view.rows.length;
  if (!byId("more").hidden && byId("more").getBoundingClientRect().top < window.innerHeight + AHEAD) showMore();
}

function makeRow(lesion) {
  const cells = COLUMNS.map((column) => element("td", { class: [column.number ? "number" : "", column.class ?? ""].join(" ").trim() || null }, column.cell(lesion)));
  const light = (on) => () => highlight(on ? lesion : null);
  return element("tr", { "data-place": lesion.place, onmouseenter: light(true), onmouseleave: light(false) }, ...cells);
}

function fillFilters() {
  const options = (id, values, title = (v) => v) => byId(id).append(...values.map((v) => element("option", { value: v }, title(v))));
  options("flag", Object.keys(DATA.flags).sort(), flagTitle);
  options("kind", [...new Set(LESIONS.map((x) => x.kind))].sort());
  options("series", [...new Set(LESIONS.map((x) => x.series))], (n) => shortUid(DATA.series[n]));
}

if (byId("table")) {
  makeHead();
  fillFilters();
  for (const id of ["search", "status", "flag", "kind", "series"]) byId(id).addEventListener("input", refresh);
  byId("clear").addEventListener("click", () => {
    for (const id of ["search", "status", "flag", "kind", "series"]) byId(id).value = "";
    refresh();
  });
  for (const button of document.querySelectorAll("[data-flag]")) {
    button.addEventListener("click", () => {
      byId("flag").value = button.dataset.flag;
      refresh();
      byId("lesions").scrollIntoView();
    });
  }
  new IntersectionObserver((seen) => { if (seen.at(-1).isIntersecting) showMore(); }, { rootMargin: `${AHEAD}px` }).observe(byId("more"));
  window.addEventListener("beforeprint", () => {
    showMore(Math.max(ROWS_ON_PAPER - view.shown, 0));
    for (const places of document.querySelectorAll(".attention details")) places.open = true;
    if (view.shown < view.rows.length) byId("count").textContent = `the first ${view.shown} of ${view.rows.length} lesions`;
  });
}
