// The page's behaviour. The server keeps no state of a visitor: every request says all that it needs.
"use strict";

const PICTURES = 12;
const VERDICTS = {
  match: ["✓ same", "same identity"],
  other: ["✗ other", "another identity"],
  ignored: ["own camera", "same identity and camera, not counted"],
  unknown: ["", ""],
};
const byId = (id) => document.getElementById(id);
const state = { facts: null, query: null, first: 0, running: null };

function element(name, properties = {}, children = []) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

function showError(text) {
  byId("error").textContent = text || "";
  byId("error").hidden = !text;
}

async function request(path, options = {}) {
  let response;
  try {
    response = await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("The server does not answer. Is it still running?");
  }
  if (response.ok) return response;
  let text = `The server answered with error ${response.status}.`;
  try {
    text = (await response.json()).error || text;
  } catch {
    // The answer came from something between here and the server; its status is all there is to tell.
  }
  throw new Error(text);
}

const imagePath = (entry) => `api/image/${entry.source}/${entry.number}`;
const attentionPath = (entry) => `api/attention/${entry.source}/${entry.number}?model=${byId("model").value}`;

// Of "camera", "identity" what is known, in words.
function described(entry) {
  return [entry.identity && `identity ${entry.identity}`, entry.camera && `camera ${entry.camera}`].filter(Boolean).join(", ");
}

// ---- what is searched with ----

function chooseFile(file) {
  if (!file) return;
  const limit = state.facts.upload.max_bytes;
  if (file.size > limit) {
    showError(`The file is too large: up to ${limit / 2 ** 20} MB are taken.`);
    return;
  }
  choose({ source: "upload", file, name: file.name || "pasted image" });
}

function choose(query) {
  const before = state.query;
  if (before && before.address) URL.revokeObjectURL(before.address);
  state.query = query;
  const image = byId("query-image");
  if (query.source === "upload") query.address = URL.createObjectURL(query.file);
  image.dataset.plain = query.address || imagePath(query);
  image.src = image.dataset.plain;
  image.alt = query.source === "upload" ? `Query: ${query.name}` : `Query: ${query.source} image ${query.number + 1}`;
  byId("query-text").textContent = query.source === "upload" ? query.name : `${query.source} image ${query.number + 1}`;
  byId("query").hidden = false;
  const camera = query.camera || null;
  const own = byId("cameras").querySelector('[value="not-own"]');
  if (own) {
    own.disabled = !camera;
    if (!camera && own.selected) byId("cameras").value = "";
  }
  markPicked();
  search(true);
}

function markPicked() {
  for (const button of byId("pictures").querySelectorAll("button")) {
    const { source, number } = button.entry;
    const picked = state.query && state.query.source === source && state.query.number === number;
    button.setAttribute("aria-pressed", String(Boolean(picked)));
  }
}

async function showPictures(first) {
  const { source, images } = state.facts.pick;
  state.first = Math.max(0, Math.min(first, images - 1));
  byId("first").value = state.first + 1;
  byId("extent").textContent = `to ${Math.min(state.first + PICTURES, images)} of ${images}`;
  byId("previous").disabled = state.first === 0;
  byId("next").disabled = state.first + PICTURES >= images;
  const asked = state.first;
  const answer = await (await request(`api/pictures?source=${source}&first=${asked}&count=${PICTURES}`)).json();
  if (asked !== state.first) return;
  byId("pictures").replaceChildren(...answer.pictures.map((known) => {
    const entry = { ...known, source };
    const words = [`${source} image ${entry.number + 1}`, described(entry)].filter(Boolean).join(", ");
    const image = element("img", { src: imagePath(entry), alt: words, title: words });
    const button = element("button", { type: "button", entry }, [image]);
    button.addEventListener("click", () => choose(entry));
    return element("li", {}, [button]);
  }));
  markPicked();
}

// ---- searching ----

function searchRequest(query) {
  const cameras = byId("cameras").value;
  const options = new URLSearchParams({ model: byId("model").value, count: byId("count").value });
  if (cameras === "not-own") options.set("own_camera", "0");
  else if (cameras !== "") options.set("camera", cameras);
  if (query.source === "upload") return [`api/search?${options}`, { method: "POST", body: query.file }];
  return [`api/search/${query.source}/${query.number}?${options}`, {}];
}

async function search(moveFocus = false) {
  if (!state.query) return;
  if (state.running) state.running.abort();
  const running = (state.running = new AbortController());
  byId("found").setAttribute("aria-busy", "true");
  byId("status").textContent = "Searching …";
  showError("");
  try {
    const [path, options] = searchRequest(state.query);
    const answer = await (await request(path, { ...options, signal: running.signal })).json();
    if (running === state.running) showAnswer(answer, moveFocus);
  } catch (error) {
    if (running !== state.running) return;
    byId("status").textContent = "";
    showEmpty("No results.");
    showError(error.message);
  } finally {
    if (running === state.running) {
      state.running = null;
      byId("found").setAttribute("aria-busy", "false");
    }
  }
}

function showAnswer(answer, moveFocus) {
  const query = state.query;
  const words = described(answer.query);
  const title = query.source === "upload" ? query.name : `${query.source} image ${query.number + 1}`;
  byId("query-text").textContent = [title, words].filter(Boolean).join(", ");
  const focusIsLost = byId("results").contains(document.activeElement);
  byId("key").hidden = !answer.query.identity || !answer.hits.length;
  byId("status").textContent = answer.hits.length
    ? `${answer.hits.length} of ${answer.candidates} images by ${byId("model").selectedOptions[0].text}`
    : "";
  if (answer.hits.length) byId("results").replaceChildren(...answer.hits.map(card));
  else showEmpty("No image of the gallery passes the camera filter.");
  showAttention();
  if (!moveFocus) return;
  const heading = byId("results-title");
  if (focusIsLost) heading.focus(); // the result that was pressed is gone
  if (heading.getBoundingClientRect().top > window.innerHeight - 120) heading.scrollIntoView();
}

function card(hit) {
  const entry = { source: "gallery", number: hit.number, camera: hit.camera };
  const [short, spoken] = VERDICTS[hit.verdict];
  const rank = hit.rank === null ? "not ranked" : `rank ${hit.rank}`;
  const words = [rank, spoken, described(hit), `score ${hit.score.toFixed(3)}`].filter(Boolean).join(", ");
  const image = element("img", { src: imagePath(entry), alt: words, loading: "lazy" });
  image.dataset.plain = imagePath(entry);
  image.entry = entry;
  const button = element("button", { type: "button", title: "Search with this image" }, [image]);
  button.addEventListener("click", () => choose(entry));
  const lines = [
    [element("b", { className: "rank", textContent: hit.rank === null ? "–" : hit.rank }),
      element("span", { className: "score", title: "cosine", textContent: hit.score.toFixed(3) })],
    [element("span", { className: "verdict", textContent: short })],
    [element("span", { className: "soft identity", textContent: hit.identity ? `id ${hit.identity}` : "" }),
      element("span", { className: "soft camera", textContent: hit.camera ? `cam ${hit.camera}` : "" })],
  ].filter((parts) => parts.some((part) => part.textContent));
  const text = lines.map((parts) => element("div", { className: "line", ariaHidden: "true" }, parts));
  const item = element("li", { className: `card ${hit.verdict}` }, [button, ...text]);
  item.dataset.number = hit.number;
  return item;
}

function showEmpty(text) {
  byId("key").hidden = byId("scale").hidden = true;
  byId("results").replaceChildren(element("li", { className: "empty", textContent: text }));
}

// ---- attention ----

function showAttention() {
  const model = state.facts.models[Number(byId("model").value)];
  byId("attention").disabled = !model.attention;
  byId("attention-note").hidden = model.attention;
  const wanted = byId("attention").checked && model.attention;
  const images = [...byId("results").querySelectorAll("img")];
  byId("scale").hidden = !(wanted && images.length);
  for (const image of images) setSource(image, wanted ? attentionPath(image.entry) : image.dataset.plain);
  if (state.query) showQueryAttention(wanted);
}

async function showQueryAttention(wanted) {
  const query = state.query;
  const image = byId("query-image");
  if (!wanted) return setSource(image, image.dataset.plain);
  if (query.source !== "upload") return setSource(image, attentionPath(query));
  const model = byId("model").value;
  try {
    const answer = await request(`api/attention?model=${model}`, { method: "POST", body: query.file });
    const address = URL.createObjectURL(await answer.blob());
    if (query !== state.query || model !== byId("model").value || !byId("attention").checked) {
      URL.revokeObjectURL(address);
      return;
    }
    image.addEventListener("load", () => URL.revokeObjectURL(address), { once: true });
    image.src = address;
  } catch (error) {
    if (query === state.query) showError(error.message);
  }
}

// The browser shows the former picture until the new one is there; one that fails falls back to the plain image.
function setSource(image, source) {
  if (image.getAttribute("src") === source) return;
  image.onerror = () => {
    image.onerror = null;
    image.src = image.dataset.plain;
    showError("Some attention pictures could not be made.");
  };
  image.src = source;
}

// ---- start ----

function fillSettings(facts) {
  const cameras = facts.cameras.length;
  const counts = [`${facts.gallery.images} images`, cameras ? `${cameras} camera${cameras > 1 ? "s" : ""}` : "cameras unknown"];
  byId("gallery").textContent = `${facts.gallery.name}: ${counts.join(", ")}`;
  byId("pick-title").textContent = facts.pick.source === "query" ? "Or pick a query" : "Or pick an image of the gallery";
  byId("file").accept = facts.upload.types.join(",");
  byId("model").replaceChildren(...facts.models.map(({ name }, place) => element("option", { value: place, textContent: name })));
  const choices = [element("option", { value: "", textContent: "all" })];
  if (cameras) {
    choices.push(element("option", { value: "not-own", textContent: "all but the query's", disabled: true }));
    choices.push(...facts.cameras.map(({ camid, name }) => element("option", { value: camid, textContent: `only ${name}` })));
  }
  byId("cameras").replaceChildren(...choices);
  byId("cameras").disabled = !cameras;
}

function listen() {
  for (const id of ["model", "cameras", "count"]) byId(id).addEventListener("change", () => (state.query ? search() : showAttention()));
  byId("attention").addEventListener("change", showAttention);
  byId("file").addEventListener("change", (event) => {
    chooseFile(event.target.files[0]);
    event.target.value = ""; // so that the same file can be chosen again
  });
  const turn = (first) => showPictures(first).catch((error) => showError(error.message));
  byId("previous").addEventListener("click", () => turn(state.first - PICTURES));
  byId("next").addEventListener("click", () => turn(state.first + PICTURES));
  byId("first").addEventListener("change", (event) => turn((Number(event.target.value) || 1) - 1));
  window.addEventListener("paste", (event) => chooseFile(event.clipboardData.files[0]));
  window.addEventListener("dragover", (event) => {
    event.preventDefault();
    document.body.classList.add("dragging");
  });
  window.addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) document.body.classList.remove("dragging");
  });
  window.addEventListener("drop", (event) => {
    event.preventDefault();
    document.body.classList.remove("dragging");
    chooseFile(event.dataTransfer.files[0]);
  });
}

async function start() {
  // The token that the address held is a cookie now.
  if (location.search) history.replaceState(null, "", location.pathname);
  try {
    state.facts = await (await request("api/page")).json();
    fillSettings(state.facts);
    listen();
    showEmpty("Choose an image to see the most similar ones.");
    showAttention();
    await showPictures(0);
  } catch (error) {
    showError(error.message);
  }
}

start();
