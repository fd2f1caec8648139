// The page: writes with a model through the server's own API, shows what else could have come and what the units do, and how runs
// get on.
"use strict";

const at = (id) => document.getElementById(id);
const make = (tag, text, fields = {}) => Object.assign(document.createElement(tag), { textContent: text }, fields);
const number = (id) => Number(at(id).value);

// What is written: the tokens of prompt and text, and of each written one what is known of it.
let models = [];
let prompt = { text: "", ids: [] };
let tokens = [];
let clamps = [];
let running = null;
let chosen = -1;

function headers() {
  const token = sessionStorage.getItem("token");
  return token ? { Authorization: `Bearer ${token}` } : {};
}

async function ask(path, body, signal) {
  const options = body
    ? { method: "POST", headers: { "Content-Type": "application/json", ...headers() }, body: JSON.stringify(body), signal }
    : { headers: headers() };
  const response = await fetch(path, options);
  if (response.ok) return response;
  if (response.status === 401) at("token-label").hidden = false;
  const said = await response.json().catch(() => ({}));
  throw new Error(said.error?.message ?? `${path}: ${response.status}`);
}

function say(text) {
  at("status").textContent = text;
}

function model() {
  return models.find((model) => model.id === at("model").value);
}

function request(ids, length, extra = {}) {
  const settings = {
    model: at("model").value, max_tokens: length, temperature: number("temperature"), top_p: number("top_p"),
    top_k: number("top_k"), min_p: number("min_p"), repetition_penalty: number("repetition_penalty"), seed: number("seed"),
  };
  return { ...settings, prompt: ids, ...extra };
}

// Events of a stream, one object each.
async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let held = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    held += value;
    let end;
    while ((end = held.indexOf("\n\n")) >= 0) {
      const data = held.slice(0, end).replace(/^data: /, "");
      held = held.slice(end + 2);
      if (data === "[DONE]") return;
      const event = JSON.parse(data);
      if (event.error) throw new Error(event.error.message);
      yield event;
    }
  }
}

// Goes on from the prompt and what is written of `tokens`.
async function write(length) {
  stop();
  const own = new AbortController();
  running = own;
  at("stop").disabled = false;
  const inside = { layer: number("inside-layer"), part: at("inside-part").value };
  const ids = prompt.ids.length || !prompt.text ? [...prompt.ids, ...tokens.map((token) => token.id)] : prompt.text;
  say("Writing …");
  let end = "stopped";
  try {
    const extra = { stream: true, details: true, inside, clamp: clamps };
    const response = await ask("/v1/completions", request(ids, length, extra), own.signal);
    let shown = performance.now();
    for await (const event of events(response)) {
      // Of a text that was given up some may have come already.
      if (own.signal.aborted) return;
      const choice = event.choices[0];
      if (!choice) continue;
      for (const token of choice.details) add(token);
      end = choice.finish_reason ?? end;
      // What has come already comes without a pause: the page would not be drawn, nor a key be heard, until the end.
      if (performance.now() - shown > 30) {
        describe();
        await new Promise((next) => setTimeout(next));
        shown = performance.now();
      }
    }
    describe();
    say(`${tokens.length} tokens written${end === "stopped" ? "; the server ended early" : ""}.`);
  } catch (error) {
    if (own.signal.aborted) return;
    say(`Error: ${error.message}`);
  }
  if (running === own) {
    running = null;
    at("stop").disabled = true;
  }
}

function stop() {
  running?.abort();
  running = null;
  at("stop").disabled = true;
}

// The same, by the one who watches.
function halt() {
  if (!running) return;
  stop();
  describe();
  say(`Stopped after ${tokens.length} tokens.`);
}

// The prompt's tokens, so that a branch begins with the very same.
async function begin() {
  stop();
  const text = at("prompt").value;
  prompt = { text, ids: [] };
  tokens = [];
  show();
  say("Writing …");
  try {
    if (text) {
      const scored = await (await ask("/v1/score", { model: at("model").value, text })).json();
      prompt.ids = scored.texts[0].tokens.map((token) => token.id);
    }
    at("without").hidden = clamps.length === 0;
    if (clamps.length) free();
    await write(number("length"));
  } catch (error) {
    say(`Error: ${error.message}`);
  }
}

// The same text with nothing clamped, beside the clamped one.
async function free() {
  at("without-text").textContent = "…";
  try {
    const answer = await (await ask("/v1/completions", request(prompt.ids, number("length")))).json();
    at("without-text").textContent = prompt.text + answer.choices[0].text;
  } catch (error) {
    at("without-text").textContent = error.message;
  }
}

function show() {
  const text = at("text");
  text.replaceChildren(make("span", prompt.text, { className: "prompt" }));
  const written = tokens;
  tokens = [];
  chosen = -1;
  at("choices").hidden = true;
  draw(true);
  for (const token of written) add(token);
}

const percent = (logprob) => {
  const share = 100 * Math.exp(logprob);
  return share >= 0.1 ? `${share.toFixed(1)} %` : "< 0.1 %";
};

function add(token) {
  const index = tokens.push(token) - 1;
  const button = make("button", token.text.replace("\n", "⏎"), { type: "button" });
  const rank = token.top.findIndex((other) => other.id === token.id);
  button.className = rank < 0 ? "odd" : rank === 0 ? "likely" : "";
  button.title = percent(token.logprob);
  button.setAttribute("aria-pressed", "false");
  button.setAttribute("aria-label", `${token.text.trim() || "white space"}, ${percent(token.logprob)}`);
  button.tabIndex = index === 0 ? 0 : -1;
  button.addEventListener("click", () => choose(index));
  at("text").append(button);
  // A button breaks no line.
  if (token.text.includes("\n")) at("text").append("\n");
  draw(false);
}

const buttons = () => [...at("text").querySelectorAll("button")];

function move(to) {
  const all = buttons();
  if (!all.length) return;
  const next = Math.max(0, Math.min(all.length - 1, to));
  all.forEach((button, index) => { button.tabIndex = index === next ? 0 : -1; });
  all[next].focus();
}

function choose(index) {
  chosen = index;
  const token = tokens[index];
  buttons().forEach((button, place) => {
    button.setAttribute("aria-pressed", String(place === index));
    button.tabIndex = place === index ? 0 : -1;
  });
  at("choices-title").textContent = `Instead of “${token.text.trim() || "white space"}”`;
  at("alternatives").replaceChildren(...token.top.map((other) => {
    const button = make("button", "", { type: "button" });
    button.append(make("span", JSON.stringify(other.text).slice(1, -1)));
    button.append(make("span", percent(other.logprob), { className: "share" }));
    button.addEventListener("click", () => branch(index, other));
    const item = document.createElement("li");
    item.append(button);
    return item;
  }));
  at("choices").hidden = false;
}

// Goes on from another token in the place of one that was written.
function branch(index, other) {
  stop();
  const kept = tokens.slice(0, index);
  const instead = { ...tokens[index], id: other.id, text: other.text, logprob: other.logprob };
  const length = number("length") - index - 1;
  tokens = [...kept, instead];
  show();
  move(index);
  if (length > 0) write(length);
}

// The heat map: a column for every token, a row for every unit, of so many pixels.
const COLUMN = 8;
const CELL = 4;

function draw(anew) {
  const map = at("map");
  const units = tokens[0]?.inside.length ?? 0;
  if (!units) {
    [map.width, map.height] = [1, 1];
    map.setAttribute("aria-label", "Nothing written yet");
    return;
  }
  const context = map.getContext("2d");
  if (anew || map.height !== units * CELL || map.width < tokens.length * COLUMN) {
    // Twice what is needed, so that it is seldom painted anew.
    [map.width, map.height] = [Math.max(640, 2 * tokens.length * COLUMN), units * CELL];
    tokens.forEach((token, column) => paint(context, token, column));
  } else {
    paint(context, tokens.at(-1), tokens.length - 1);
  }
}

// The heat map in words.
function describe() {
  if (!tokens.length) return;
  const part = at("inside-part").selectedOptions[0].textContent;
  const values = tokens.at(-1).inside;
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  at("map").setAttribute("aria-label", `${part} of ${values.length} units over ${tokens.length} tokens, lately ${mean.toFixed(2)} on average`);
}

function paint(context, token, column) {
  const signed = "gch".includes(at("inside-part").value);
  token.inside.forEach((value, unit) => {
    const share = Math.max(0, Math.min(1, signed ? (value + 1) / 2 : value));
    // From dark blue over teal to yellow: brighter throughout, so that it reads without colours too.
    context.fillStyle = `hsl(${260 - 205 * share} 70% ${12 + 68 * share}%)`;
    context.fillRect(column * COLUMN, unit * CELL, COLUMN, CELL);
  });
}

function pick(event) {
  const map = at("map");
  const box = map.getBoundingClientRect();
  const unit = Math.floor((event.clientY - box.top) / box.height * map.height / CELL);
  const column = Math.floor((event.clientX - box.left) / box.width * map.width / COLUMN);
  const token = tokens[column];
  if (!token || token.inside[unit] === undefined) return;
  at("clamp-layer").value = at("inside-layer").value;
  at("clamp-unit").value = unit;
  at("clamping").open = true;
  at("map-said").textContent = `Unit ${unit} at “${token.text.trim()}”: ${token.inside[unit]}`;
}

function showClamps() {
  at("clamps").replaceChildren(...clamps.map((clamp, index) => {
    const item = document.createElement("li");
    const button = make("button", `layer ${clamp.layer}, unit ${clamp.unit} = ${clamp.value} ✕`, { type: "button" });
    button.setAttribute("aria-label", `Free layer ${clamp.layer}, unit ${clamp.unit}`);
    button.addEventListener("click", () => {
      clamps.splice(index, 1);
      showClamps();
      begin();
    });
    item.append(button);
    return item;
  }));
}

function showModel() {
  const own = model();
  if (!own) return;
  at("about").textContent = own.description;
  at("inside-layer").replaceChildren(...own.units.map((_, layer) => make("option", String(layer), { value: layer })));
  at("clamp-layer").max = own.layers - 1;
}

// The dashboard.
let watched = null;
const known = new Map();
const tasks = new Map();

async function watch() {
  try {
    const { runs } = await (await ask("/runs")).json();
    const figure = (value) => (value == null ? "–" : value.toFixed(2));
    // Who stands on one of them stays there.
    const here = document.activeElement?.dataset.run;
    at("runs-body").replaceChildren(...runs.map((run) => {
      tasks.set(run.name, run.task);
      const row = document.createElement("tr");
      const name = make("th", "", { scope: "row" });
      const button = make("button", run.name, { type: "button" });
      button.setAttribute("aria-pressed", String(run.name === watched));
      button.dataset.run = run.name;
      button.addEventListener("click", () => { watched = run.name; curve(); });
      name.append(button);
      const ago = run.written ? `${Math.max(0, Math.round(Date.now() / 1000 - run.written))} s ago` : "–";
      row.append(name, make("td", ago), make("td", figure(run.valid), { className: "number" }), make("td", figure(run.test), { className: "number" }));
      return row;
    }));
    if (here) [...document.querySelectorAll("[data-run]")].find((button) => button.dataset.run === here)?.focus();
    watched ??= runs[0]?.name ?? null;
    await curve();
  } catch (error) {
    at("curve-said").textContent = `Error: ${error.message}`;
  }
}

async function curve() {
  if (!watched) return;
  const name = watched;
  const lines = known.get(name) ?? [];
  const fresh = await (await ask(`/runs/${encodeURIComponent(name)}?from=${lines.length}`)).json();
  lines.push(...fresh.lines);
  known.set(name, lines);
  // Of a language model losses are read as perplexities, of another task as they are.
  const isLanguage = (tasks.get(name) ?? "language") === "language";
  const train = lines.filter((line) => line.loss != null).map((line) => [line.step, isLanguage ? Math.exp(line.loss) : line.loss]);
  const valid = lines.filter((line) => line.valid != null).map((line) => [line.step, line.valid]);
  const all = [...train, ...valid].filter(([, value]) => value > 0 && Number.isFinite(value));
  at("curve-title").textContent = name;
  at("curve").toggleAttribute("hidden", !all.length);
  if (!all.length) {
    at("curve-said").textContent = "No metrics yet.";
    return;
  }
  const last = Math.max(...all.map(([step]) => step));
  const logs = all.map(([, value]) => Math.log(value));
  const [low, high] = [Math.min(...logs), Math.max(...logs) + 1e-6];
  const place = ([step, value]) => [50 + 570 * step / last, 210 - 190 * (Math.log(value) - low) / (high - low)];
  const shape = (tag, fields) => {
    const shape = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(fields)) shape.setAttribute(name, value);
    return shape;
  };
  const line = (points, kind) => shape("polyline", { class: kind, points: points.map((point) => place(point).join(",")).join(" ") });
  const label = (x, y, text) => Object.assign(shape("text", { x, y }), { textContent: text });
  at("curve").replaceChildren(
    shape("line", { class: "axis", x1: 50, y1: 210, x2: 620, y2: 210 }), shape("line", { class: "axis", x1: 50, y1: 20, x2: 50, y2: 210 }),
    label(4, 26, Math.exp(high).toFixed(1)), label(4, 210, Math.exp(low).toFixed(1)), label(560, 230, `step ${last}`),
    line(train, "train"), line(valid, "valid"), ...valid.map((point) => shape("circle", { cx: place(point)[0], cy: place(point)[1], r: 3 })),
  );
  const end = (points) => points.at(-1)?.[1].toFixed(2) ?? "none yet";
  at("curve-said").textContent = `${isLanguage ? "Perplexity" : "Loss"} up to step ${last}: training (grey) now ${end(train)}, validation (blue, dots) now ${end(valid)}.`;
}

async function start() {
  try {
    const found = await (await ask("/v1/models")).json();
    models = found.data;
    at("model").replaceChildren(...models.map((model) => make("option", model.id, { value: model.id })));
    at("token-label").hidden = true;
    showModel();
    if (found.runs && at("runs").hidden) {
      at("runs").hidden = false;
      watch();
      setInterval(watch, 2000);
    }
    say("Ready.");
  } catch (error) {
    say(`Error: ${error.message}`);
  }
}

at("form").addEventListener("submit", (event) => { event.preventDefault(); begin(); });
at("stop").addEventListener("click", halt);
at("model").addEventListener("change", showModel);
at("token").addEventListener("change", () => { sessionStorage.setItem("token", at("token").value); start(); });
at("prompt").addEventListener("keydown", (event) => { if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); begin(); } });
document.addEventListener("keydown", (event) => { if (event.key === "Escape") halt(); });
at("text").addEventListener("keydown", (event) => {
  const here = buttons().indexOf(document.activeElement);
  const to = { ArrowRight: here + 1, ArrowLeft: here - 1, Home: 0, End: Infinity }[event.key];
  if (to === undefined) return;
  event.preventDefault();
  move(to);
});
for (const id of ["inside-layer", "inside-part"]) at(id).addEventListener("change", () => { if (tokens.length) begin(); });
at("map").addEventListener("click", pick);
at("clamp-add").addEventListener("click", () => {
  clamps.push({ layer: number("clamp-layer"), unit: number("clamp-unit"), value: number("clamp-value") });
  showClamps();
  begin();
});
start();
