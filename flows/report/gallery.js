const picture = (image) => image;
const WINDOW = 60;
const grid = document.getElementById("grid");
const dialog = document.getElementById("video");
const filters = document.getElementById("filters");
let all;
let found = [];
let drawn = 0;
let open = -1;

const outcome = (i) => (all.predicted[i] < 0 ? "none" : all.venue[i] < 0 ? "unlabelled" : all.venue[i] === all.predicted[i] ? "right" : "wrong");

const tile = (i) => {
  const image = make("span", { class: "picture" });
  if (all.images[i]) {
    const middle = Math.floor(all.images[i] / 2);
    image.append(make("img", { src: `data/images/${Math.floor(i / all.chunk)}/${i}-${middle}.jpg`, alt: "", loading: "lazy", decoding: "async" }));
  }
  const said = all.predicted[i] < 0 ? "no prediction" : all.venues[all.predicted[i]];
  const label = make("b", {}, name(said));
  const share = all.predicted[i] < 0 ? "" : ` · ${percent(all.confidence[i])}`;
  const truth = outcome(i) === "wrong" ? make("small", {}, "truth: ", name(all.venues[all.venue[i]])) : make("small", {}, name(all.text[i] || all.id[i]));
  label.append(share);
  const button = make("button", { type: "button", class: outcome(i), "data-video": i }, image, make("span", { class: "words" }, label, truth));
  return make("li", {}, button);
};

const grow = () => {
  const next = found.slice(drawn, drawn + WINDOW);
  grid.append(...next.map(tile));
  drawn += next.length;
};

const end = document.getElementById("end");
const observer = new IntersectionObserver(([entry]) => {
  if (!entry.isIntersecting || drawn >= found.length) return;
  grow();
  observer.unobserve(end); // it reports changes only: ask again whether the end is still near
  observer.observe(end);
}, { rootMargin: "1200px" });

const matches = (values) => {
  const venue = values.venue === "" ? null : Number(values.venue);
  const [low, high] = values.confidence ? values.confidence.split("-").map(Number) : [0, 1];
  const search = values.search.trim().toLowerCase();
  const agrees = { all: (share) => share === 1, some: (share) => share !== null && share < 1, none: (share) => share === 0 }[values.agreement];
  return (i) =>
    (venue === null || all.venue[i] === venue || all.predicted[i] === venue) &&
    (!values.outcome || outcome(i) === values.outcome) &&
    (!values.split || all.split[i] === values.split) &&
    (!values.confidence || (all.predicted[i] >= 0 && all.confidence[i] >= low && (all.confidence[i] < high || high === 1))) &&
    (!agrees || agrees(all.agreement[i])) &&
    (!search || all.id[i].toLowerCase().includes(search) || all.text[i].toLowerCase().includes(search));
};

const filter = () => {
  const values = Object.fromEntries(new FormData(filters));
  found = [...all.id.keys()].filter(matches(values));
  if (values.order) found.sort((a, b) => (values.order === "up" ? 1 : -1) * (all.confidence[a] - all.confidence[b]));
  drawn = 0;
  grid.replaceChildren();
  grow();
  observer.unobserve(end);
  observer.observe(end);
  document.getElementById("shown").textContent = `${found.length.toLocaleString("en")} of ${all.id.length.toLocaleString("en")} videos`;
  mapView?.change("videos", window.vega.changeset().remove(() => true).insert(points())).run();
};

const chunks = new Map();
window.nmclDetails = (number, videos) => chunks.get(number).resolve(videos);
const details = (i) => {
  const number = Math.floor(i / all.chunk);
  if (!chunks.has(number)) {
    let resolve;
    const promise = new Promise((done) => (resolve = done));
    chunks.set(number, { promise, resolve });
    document.head.append(make("script", { src: `data/details-${number}.js` }));
  }
  return chunks.get(number).promise.then((videos) => videos[i % all.chunk]);
};

const show = async (i) => {
  open = i;
  const video = await details(i);
  const player = document.getElementById("player");
  player.replaceChildren();
  if (video.address) player.append(make("video", { src: video.address, controls: "", preload: "metadata" }));
  document.getElementById("details").replaceChildren(card(video, "div"));
  document.querySelector("#details details")?.setAttribute("open", "");
  if (!dialog.open) dialog.showModal();
};
const step = (by) => {
  const at = found.indexOf(open) + by;
  if (at >= 0 && at < found.length) show(found[at]);
};

let mapView = null;
const points = () => found.filter((i) => all.place[i]).map((i) => ({ i, x: all.place[i][0], y: all.place[i][1], venue: all.venues[all.predicted[i]] ?? "no prediction", video: all.id[i], truth: all.venue[i] < 0 ? "–" : all.venues[all.venue[i]] }));
const drawMap = async () => {
  if (mapView || !document.getElementById("map").open) return;
  if (!window.vegaEmbed) {
    await new Promise((done) => {
      const library = make("script", { src: "data/vega.js" });
      library.addEventListener("load", done);
      document.head.append(library);
    });
  }
  const place = document.getElementById("chart-map");
  const spec = {
    description: "Map of the videos by their vectors",
    width: "container", height: "container", background: "transparent", autosize: { type: "fit", contains: "padding" },
    data: { name: "videos", values: points() },
    params: [{ name: "zoom", select: "interval", bind: "scales" }],
    mark: { type: "point", filled: true, size: 36, opacity: 0.8, cursor: "pointer" },
    encoding: {
      x: { field: "x", type: "quantitative", axis: null, scale: { domain: [-0.02, 1.02] } },
      y: { field: "y", type: "quantitative", axis: null, scale: { domain: [-0.02, 1.02] } },
      color: { field: "venue", type: "nominal", scale: { domain: all.venues.slice(0, 20), scheme: all.venues.length > 10 ? "tableau20" : "tableau10" }, legend: all.venues.length > 20 ? null : { title: null, orient: "right", symbolOpacity: 1, symbolSize: 90 } },
      tooltip: [{ field: "video" }, { field: "venue", title: "predicted" }, { field: "truth" }],
    },
    config: { view: { stroke: null }, font: "system-ui, sans-serif", legend: { labelColor: "#808a96", labelFontSize: 13 } },
  };
  const { view } = await window.vegaEmbed(place, spec, { ast: true, actions: false, renderer: "canvas", tooltip: { disableDefaultStyle: true }, mode: "vega-lite", logLevel: 1 });
  mapView = view;
  view.addEventListener("click", (_, item) => item?.datum?.i !== undefined && show(item.datum.i));
  place.dataset.ready = "true";
};

window.nmclIndex = (index) => {
  all = index;
  const select = filters.elements.venue;
  all.venues.forEach((venue, i) => select.append(make("option", { value: i }, venue)));
  filters.addEventListener("input", filter);
  filters.addEventListener("submit", (event) => event.preventDefault());
  filters.addEventListener("reset", () => setTimeout(filter));
  grid.addEventListener("click", (event) => {
    const button = event.target.closest("[data-video]");
    if (button) show(Number(button.dataset.video));
  });
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  dialog.addEventListener("close", () => document.querySelector("#player video")?.pause());
  dialog.addEventListener("keydown", (event) => {
    if (event.target.tagName === "VIDEO") return;
    if (event.key === "ArrowLeft") step(-1);
    if (event.key === "ArrowRight") step(1);
  });
  document.getElementById("previous").addEventListener("click", () => step(-1));
  document.getElementById("next").addEventListener("click", () => step(1));
  document.getElementById("map")?.addEventListener("toggle", drawMap);
  observer.observe(end);
  filter();
};
