const { classes, videos } = JSON.parse(document.getElementById("data").textContent);
const specs = JSON.parse(document.getElementById("specs").textContent);
const PAGE = 24;

const picture = (image) => `data:image/jpeg;base64,${image}`;

const counts = new Map();
for (const video of videos) {
  if (!video.top.length || isRight(video)) continue;
  const pair = JSON.stringify([video.venue, video.top[0][0]]);
  counts.set(pair, (counts.get(pair) ?? 0) + 1);
}
const confusions = (video) => counts.get(JSON.stringify([video.venue, video.top.length ? video.top[0][0] : null])) ?? 0;
const sorted = (list, key) => [...list].sort((a, b) => key(b) - key(a));
const answered = videos.filter((video) => video.top.length);
const LISTS = {
  worst: ["wrong predictions, the most confident first", () => sorted(answered.filter((v) => !isRight(v)), (v) => confidence(v) - own(v))],
  confused: ["wrong predictions of the most frequent confusions", () => sorted(answered.filter((v) => !isRight(v)), confusions)],
  uncertain: ["videos whose two most probable venues are closest", () => sorted(answered, (v) => -margin(v))],
  disputed: ["videos whose feature sets disagree most with the prediction", () => sorted(answered, (v) => -agreement(v))],
  best: ["right predictions, the most confident first", () => sorted(answered.filter(isRight), confidence)],
  all: ["test videos", () => videos],
};

let current = { title: LISTS.all[0], list: videos, shown: 0 };
const cards = document.getElementById("cards");
const more = document.getElementById("more");
const show = () => {
  const next = current.list.slice(current.shown, current.shown + PAGE);
  cards.append(...next.map((video) => card(video)));
  current.shown += next.length;
  more.hidden = current.shown >= current.list.length;
  document.getElementById("shown").textContent = `${current.shown.toLocaleString("en")} of ${current.list.length.toLocaleString("en")} ${current.title}`;
};
const choose = (key) => {
  const search = document.getElementById("search").value.trim().toLowerCase();
  const [title, list] = LISTS[key];
  const found = list().filter((video) => !search || [video.id, video.text, video.venue, video.path].some((text) => text?.toLowerCase().includes(search)));
  current = { key, title, list: found, shown: 0 };
  cards.replaceChildren();
  document.querySelectorAll("[data-list]").forEach((button) => button.setAttribute("aria-pressed", String(button.dataset.list === key)));
  show();
};
if (cards) {
  document.querySelectorAll("[data-list]").forEach((button) => button.addEventListener("click", () => choose(button.dataset.list)));
  document.getElementById("search").addEventListener("input", () => choose(current.key));
  more.addEventListener("click", show);
  choose(answered.some((video) => !isRight(video)) ? "worst" : "best");
}

const dialog = document.getElementById("cell");
const openCell = (truth, predicted) => {
  const found = answered.filter((video) => video.venue === classes[truth] && video.top[0][0] === classes[predicted]);
  dialog.querySelector("h2").replaceChildren(name(classes[truth]), " predicted as ", name(classes[predicted]), `: ${found.length}`);
  dialog.querySelector("ul").replaceChildren(...found.slice(0, 200).map((video) => card(video)));
  dialog.showModal();
  dialog.scrollTop = 0;
};
document.querySelectorAll("[data-truth]").forEach((button) => {
  button.addEventListener("click", () => openCell(Number(button.dataset.truth), Number(button.dataset.predicted)));
});
dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());

const options = { ast: true, actions: false, renderer: "svg", tooltip: { disableDefaultStyle: true }, mode: "vega-lite", logLevel: 1 };
for (const [id, spec] of Object.entries(specs)) {
  const place = document.getElementById(id);
  if (!place) continue;
  window.vegaEmbed(place, spec, options).then(({ view }) => {
    if (id === "chart-confusion") view.addEventListener("click", (_, item) => item?.datum?.i !== undefined && openCell(item.datum.i, item.datum.j));
    place.dataset.ready = "true";
  });
}

for (const table of document.querySelectorAll("table.sortable")) {
  table.querySelectorAll("thead th").forEach((head, column) => {
    const button = document.createElement("button");
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const up = head.getAttribute("aria-sort") === "descending";
      const key = (row) => row.cells[column].dataset.value ?? row.cells[column].textContent.trim();
      const order = (a, b) => isNaN(a) || isNaN(b) || a === "" || b === "" ? a.localeCompare(b) : a - b;
      const rows = [...table.tBodies[0].rows].sort((a, b) => order(key(a), key(b)) * (up ? 1 : -1));
      table.querySelectorAll("th[aria-sort]").forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      table.tBodies[0].append(...rows);
    });
  });
}
