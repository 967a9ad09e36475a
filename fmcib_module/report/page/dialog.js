// One lesion enlarged: its picture, what is known of it, and the lesions whose features are most like its own.
let opened = null;

function openViewer(lesion) {
  opened = lesion;
  byId("viewer-title").textContent = `${lesion.place + 1}. ${nameOf(lesion)}`;
  byId("viewer-body").replaceChildren(element("div", { class: "picture" }, pictureNode(lesion, "There is no picture of this lesion.")), ...fileLink(lesion), detail(lesion), ...neighbours(lesion));
  if (!byId("viewer").open) byId("viewer").showModal();
  byId("viewer").scrollTop = 0;
  highlight(lesion);
}

function fileLink(lesion) {
  if (!lesion.picture) return [];
  const href = lesion.picture.split("/").map(encodeURIComponent).join("/");
  return [element("p", { class: "small" }, "Amber: outline of the ROI. Cyan cross: seed. ", element("a", { href, target: "_blank", rel: "noopener" }, "Picture as a file"))];
}

function detail(lesion) {
  const facts = {
    "Centre (LPS, mm)": lesion.lps.map((v) => v.toFixed(1)).join(", "),
    "Extent x, y, z (mm)": lesion.size ? lesion.size.map((v) => v.toFixed(1)).join(" × ") : "a point",
    "Volume (ml)": lesion.ml === null ? "–" : lesion.ml.toFixed(3),
    "Marked by": lesion.number === null ? lesion.kind : `${lesion.kind}, number ${lesion.number}`,
    "Source": lesion.source || "–",
    "Series": seriesOf(lesion),
    "Patient (pseudonym)": lesion.patient || "–",
  };
  if (lesion.stable) {
    const [mean, lowest, done, asked] = lesion.stable;
    facts["Cosine to jittered seeds"] = `mean ${mean.toFixed(4)}, lowest ${lowest.toFixed(4)} (${done} of ${asked})`;
  }
  for (const head of lesion.scores ? DATA.heads : []) {
    for (const outcome of head.outcomes) facts[`${head.name}: ${outcome}`] = scoreOf(lesion, head, outcome).toFixed(4);
  }
  for (const [mode, other, cosine, l2] of lesion.drift ?? []) facts[`${mode} and ${other}`] = `cosine ${cosine.toFixed(4)}, relative L2 ${l2.toFixed(4)}`;
  const list = element("dl", { class: "facts" }, ...Object.entries(facts).map(([name, value]) => element("div", {}, element("dt", {}, name), element("dd", {}, value))));
  const flags = lesion.flags.map((flag) => element("p", {}, badge("flagged", flagTitle(flag)), ` ${DATA.flags[flag]?.[1] ?? ""}`));
  return element("div", { class: "detail" }, element("div", {}, list), element("div", {}, ...(flags.length ? flags : [element("p", {}, badge("ok", "ok"), " No flags.")])));
}

function neighbours(lesion) {
  if (!lesion.near?.length) return [];
  const buttons = lesion.near.map(([place, cosine]) => {
    const other = LESIONS[place];
    return element("button", { type: "button", onclick: () => openViewer(other) }, pictureNode(other), element("b", {}, `${nameOf(other)}`), element("div", { class: "small" }, `cosine ${cosine.toFixed(4)}`));
  });
  return [element("h3", {}, "Nearest by features"), element("div", { class: "near" }, ...buttons)];
}

function step(by) {
  const at = view.rows.indexOf(opened);
  const next = view.rows[(at + by + view.rows.length) % view.rows.length];
  if (next) openViewer(next);
}

byId("previous").addEventListener("click", () => step(-1));
byId("next").addEventListener("click", () => step(1));
byId("close").addEventListener("click", () => byId("viewer").close());
byId("viewer").addEventListener("click", (event) => { if (event.target === byId("viewer")) byId("viewer").close(); });
byId("viewer").addEventListener("close", () => highlight(null));
byId("viewer").addEventListener("keydown", (event) => {
  if (event.key === "ArrowLeft") step(-1);
  if (event.key === "ArrowRight") step(1);
});
