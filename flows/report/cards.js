"use strict";
const make = (tag, attributes = {}, ...children) => {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
};
const name = (text) => make("bdi", {}, text);
const percent = (share) => `${(100 * share).toFixed(share > 0.0995 ? 0 : 1)} %`;
const isRight = (video) => video.top.length > 0 && video.top[0][0] === video.venue;
const own = (video) => (video.top.find(([venue]) => venue === video.venue) ?? [null, 0])[1];
const confidence = (video) => (video.top.length ? video.top[0][1] : 0);
const margin = (video) => (video.top.length > 1 ? video.top[0][1] - video.top[1][1] : 1);
const agreement = (video) => {
  const votes = Object.values(video.votes).filter((vote) => vote.venue !== null);
  return votes.length ? votes.filter((vote) => video.top.length && vote.venue === video.top[0][0]).length / votes.length : 1;
};

const bar = (venue, probability, isTruth) => {
  const fill = make("i", { class: "bar" });
  fill.style.width = `${100 * probability}%`;
  return make("div", { class: isTruth ? "guess truth" : "guess" }, name(venue), make("span", {}, percent(probability)), fill);
};

const vote = ([set, { venue, probability, observed }], video) => {
  const state = observed === null ? "" : observed ? "observed" : "filled in";
  const said = venue === null ? make("span", { class: "quiet" }, "–") : name(venue);
  const mark = venue === null || video.venue === null ? "" : venue === video.venue ? " ✓" : " ✗";
  const cells = [make("td", {}, said, mark), make("td", { class: "n" }, venue === null ? "" : percent(probability)), make("td", { class: "quiet" }, state)];
  return make("tr", {}, make("th", { scope: "row" }, name(set)), ...cells);
};

const shares = ([set, { consistent, complementary, scores }]) => {
  const strip = make("span", { class: "stack", "aria-hidden": "true" });
  for (const share of [consistent, Math.max(0, 1 - consistent - complementary), complementary]) {
    const piece = make("i");
    piece.style.width = `${100 * share}%`;
    strip.append(piece);
  }
  const text = `${percent(consistent)} consistent, ${percent(complementary)} complementary`;
  const relation = make("span", { class: "relation", role: "img", "aria-label": `Relation scores of ${scores.length} features of ${set}`, title: "Relation scores of the features that vary most: the stronger the colour, the more the other modalities share of one" });
  const stops = scores.map((score, i) => `rgb(var(--heat) / ${score}) ${(100 * i) / scores.length}% ${(100 * (i + 1)) / scores.length}%`);
  relation.style.background = `linear-gradient(to right, ${stops.join(", ")})`;
  return make("div", { class: "shares" }, name(set), make("small", {}, text), strip, relation);
};

const verdict = (video) => (!video.top.length ? "no prediction" : video.venue === null ? "not labelled" : isRight(video) ? "✓ right" : "✗ wrong");

const card = (video, tag = "li") => {
  const item = make(tag, { class: "example" });
  if (video.images.length) {
    const strip = make("div", { class: "frames" });
    video.images.forEach((image, i) => {
      strip.append(make("img", { src: picture(image), alt: `Key frame ${i + 1} of ${video.id}`, loading: "lazy" }));
    });
    item.append(strip);
  }
  if (video.spectrogram) {
    item.append(make("img", { class: "sound", src: picture(video.spectrogram), alt: `Spectrogram of ${video.id}`, title: "Spectrogram of the sound: time from left to right, low tones at the bottom, loud ones bright", loading: "lazy" }));
  }
  const truth = video.venue === null ? [] : [" · truth: ", name(video.venue)];
  item.append(make("p", { class: "truth" }, make("span", { class: "verdict" }, verdict(video)), ...truth));
  item.append(make("p", { class: "quiet", dir: "auto" }, video.text ?? "(no description)"));
  for (const [venue, probability] of video.top) item.append(bar(venue, probability, venue === video.venue));
  const votes = Object.entries(video.votes);
  if (votes.length) {
    const table = make("table", { class: "votes" }, make("tbody", {}, ...votes.map((entry) => vote(entry, video))));
    item.append(make("details", {}, make("summary", {}, "Each feature set alone"), table, ...Object.entries(video.shares).map(shares)));
  }
  const about = [video.id, video.path, video.status === "ok" ? null : video.reason].filter(Boolean);
  item.append(make("small", { class: "about" }, ...about.flatMap((text, i) => (i ? [" · ", name(text)] : [name(text)]))));
  return item;
};
