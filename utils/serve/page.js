"use strict"; // pictures leave this page only for the server that it came from
const FLOOR = 0.05; // least score asked for; a better one never depends on a worse one, so the page may hide those
const PAUSE = 150; // ms without a move of a slider before the server is asked again
const FRAME_SIDE = 1280; // px of a camera's picture
const part = (name) => document.getElementById(name);
const [stage, canvas, status] = [part("stage"), part("picture"), part("status")];
let model = null; // what /v1/model says
let shown = null; // {picture, answer}: what is to be seen
let asked = null; // {blob, picture}: what a new IoU is tried on
let number = 0; // of the latest request; answers to earlier ones are late
let camera = null; // a MediaStream while it runs
let facing = "environment";
let marked = -1; // the object pointed at in the list

function say(text, wrong = false) {
  status.textContent = text;
  status.classList.toggle("error", wrong);
}

const colour = (index) => model.colours[index % model.colours.length];

function ink(background) {
  const [red, green, blue] = [1, 3, 5].map((start) => parseInt(background.slice(start, start + 2), 16));
  return 0.299 * red + 0.587 * green + 0.114 * blue > 150 ? "#000" : "#fff";
}

function visible() {
  return shown && shown.answer ? shown.answer.detections.filter((one) => one.score > Number(part("conf").value)) : [];
}

async function ask(blob) {
  const form = new FormData();
  form.append("image", blob, "image");
  form.append("conf", String(Math.min(FLOOR, model.defaults.conf)));
  form.append("iou", part("iou").value);
  const began = performance.now();
  const reply = await fetch("v1/detect", { method: "POST", body: form });
  const answer = await reply.json();
  if (!reply.ok) throw Object.assign(new Error(answer.error), { retry: Number(reply.headers.get("Retry-After")) });
  return Object.assign(answer, { trip: performance.now() - began });
}

function measure() { // the picture as large as there is room, in device pixels, which keeps lines and letters sharp
  const { width, height } = shown.picture;
  const room = Math.max(stage.clientWidth, 100);
  const scale = Math.min(room / width, Math.max(innerHeight * 0.78, 240) / height, 2);
  const dense = devicePixelRatio || 1;
  canvas.style.width = `${Math.round(width * scale)}px`;
  canvas.style.height = `${Math.round(height * scale)}px`;
  canvas.width = Math.round(width * scale * dense);
  canvas.height = Math.round(height * scale * dense);
  return [scale * dense, dense];
}

function draw() {
  if (!shown) return;
  canvas.hidden = false;
  part("hint").hidden = true;
  stage.classList.add("filled");
  const [scale, dense] = measure();
  const pen = canvas.getContext("2d");
  pen.drawImage(shown.picture, 0, 0, canvas.width, canvas.height);
  const found = visible();
  const worstFirst = found.map((one, index) => [one, index === marked]).reverse();
  for (const [one, strong] of worstFirst) drawBox(pen, one, scale, (strong ? 5 : 2.5) * dense);
  for (const [one] of worstFirst) drawLabel(pen, one, scale, dense);
  canvas.setAttribute("aria-label", found.length ? `Image with ${summary(found)}` : "Image without objects");
}

function drawBox(pen, one, scale, width) {
  const [left, top, right, bottom] = one.box.map((side) => side * scale);
  pen.strokeStyle = colour(one.class);
  pen.lineWidth = width;
  pen.strokeRect(left, top, right - left, bottom - top);
}

function drawLabel(pen, one, scale, dense) {
  const [paint, text, size] = [colour(one.class), `${one.name} ${one.score.toFixed(2)}`, 12.5 * dense];
  pen.font = `600 ${size}px system-ui, "DejaVu Sans", sans-serif`;
  const [width, height] = [pen.measureText(text).width + 8 * dense, size * 1.45];
  const [left, top] = [one.box[0] * scale - 1.25 * dense, one.box[1] * scale];
  const x = Math.max(0, Math.min(left, canvas.width - width));
  const y = top >= height ? top - height : top;
  pen.fillStyle = paint;
  pen.fillRect(x, y, width, height);
  pen.fillStyle = ink(paint);
  pen.textBaseline = "middle";
  pen.fillText(text, x + 4 * dense, y + height / 2);
}

function summary(found) {
  const counts = new Map();
  for (const one of found) counts.set(one.name, (counts.get(one.name) || 0) + 1);
  return [...counts].map(([name, count]) => `${count} ${name}${count > 1 ? "s" : ""}`).join(", ");
}

function list() {
  const found = visible();
  part("found").textContent = found.length ? `Objects (${found.length})` : "Objects";
  part("none").hidden = found.length > 0;
  part("none").textContent = shown && shown.answer ? "None with that confidence." : "None yet.";
  part("list").hidden = found.length === 0;
  part("rows").replaceChildren(...found.map(row));
  part("save").disabled = !(shown && shown.answer);
}

function row(one, index) {
  const line = document.createElement("tr");
  const [width, height] = [one.box[2] - one.box[0], one.box[3] - one.box[1]].map(Math.round);
  for (const text of [one.name, one.score.toFixed(2), `${width} × ${height}`]) line.insertCell().textContent = text;
  const swatch = document.createElement("span");
  swatch.className = "swatch";
  swatch.style.background = colour(one.class);
  line.cells[0].prepend(swatch);
  line.tabIndex = 0;
  const mark = (now) => () => { marked = now; draw(); };
  line.addEventListener("focus", mark(index));
  line.addEventListener("blur", mark(-1));
  line.addEventListener("mouseenter", mark(index));
  line.addEventListener("mouseleave", mark(-1));
  return line;
}

function show(picture, answer) {
  shown = { picture, answer };
  marked = -1;
  if (answer) {
    part("network").textContent = answer.milliseconds.network.toFixed(1);
    part("server").textContent = answer.milliseconds.total.toFixed(1);
    part("trip").textContent = answer.trip.toFixed(1);
  }
  draw();
  list();
}

async function detect() { // in what was chosen last
  const [mine, { blob, picture }] = [++number, asked];
  say("Looking …");
  try {
    const answer = await ask(blob);
    if (mine !== number) return;
    show(picture, answer);
    say(summary(visible()) || "Nothing found.");
  } catch (error) {
    if (mine === number) say(`Not detected: ${error.message}`, true);
  }
}

async function choose(blob) {
  if (!blob || !model) return;
  stopCamera();
  const mine = ++number;
  const most = model.limits;
  if (blob.size > most.upload_bytes * 0.99) { // there is a little around the file
    return say(`That file has ${(blob.size / 1e6).toFixed(1)} MB; at most ${most.upload_bytes / 1e6} MB are taken.`, true);
  }
  let picture;
  try {
    picture = await createImageBitmap(blob);
  } catch {
    return say("That is no image that this browser can show.", true);
  }
  if (mine !== number) return;
  asked = { blob, picture };
  show(picture, null);
  await detect();
}

async function startCamera() {
  if (!navigator.mediaDevices) return say("Browsers give the camera to https:// and localhost only.", true);
  const mine = ++number;
  say("Waiting for the camera …");
  try {
    const video = { facingMode: facing, width: { ideal: FRAME_SIDE } };
    const stream = await navigator.mediaDevices.getUserMedia({ video, audio: false });
    if (mine !== number) return stream.getTracks().forEach((track) => track.stop());
    camera = stream;
  } catch (error) {
    return say(`No camera: ${error.message}`, true);
  }
  asked = null;
  cameraShown(true);
  await live(camera);
}

function cameraShown(on) {
  part("camera").setAttribute("aria-pressed", String(on));
  part("camera").textContent = on ? "Stop camera" : "Use camera";
  part("flip").hidden = !on;
  part("rate-card").hidden = !on;
}

function stopCamera() {
  if (!camera) return;
  camera.getTracks().forEach((track) => track.stop());
  camera = null;
  cameraShown(false);
  say("");
}

async function live(stream) { // the next picture leaves when the answer to the last one is there
  const video = Object.assign(document.createElement("video"), { srcObject: stream, muted: true, playsInline: true });
  await video.play();
  say("Looking through the camera.");
  let before = performance.now();
  while (camera === stream) {
    const picture = grab(video);
    const blob = await new Promise((done) => picture.toBlob(done, "image/jpeg", 0.85));
    try {
      const answer = await ask(blob);
      if (camera !== stream) return;
      show(picture, answer);
      say("Looking through the camera.");
      part("rate").textContent = (1000 / (performance.now() - before)).toFixed(1);
      before = performance.now();
    } catch (error) {
      if (camera !== stream) return;
      say(`Not detected: ${error.message}`, true);
      await new Promise((done) => setTimeout(done, 1000 * (error.retry || 1)));
    }
  }
}

function grab(video) {
  const scale = Math.min(1, FRAME_SIDE / Math.max(video.videoWidth, video.videoHeight));
  const size = { width: Math.round(video.videoWidth * scale), height: Math.round(video.videoHeight * scale) };
  const picture = Object.assign(document.createElement("canvas"), size);
  picture.getContext("2d").drawImage(video, 0, 0, picture.width, picture.height);
  return picture;
}

function save() {
  const content = { ...shown.answer, detections: visible() };
  content.thresholds = { ...content.thresholds, conf: Number(part("conf").value) };
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([JSON.stringify(content, null, 2)], { type: "application/json" }));
  link.download = "detections.json";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

function slider(name, changed) {
  const [input, value] = [part(name), part(`${name}-shown`)];
  const tell = () => { value.textContent = Number(input.value).toFixed(2); };
  input.addEventListener("input", () => { tell(); changed(); });
  return (start) => { input.value = start; tell(); };
}

let waiting = 0;
const setConfidence = slider("conf", () => {
  marked = -1;
  draw();
  list();
  if (shown && shown.answer && !camera) say(summary(visible()) || "Nothing found.");
});
const setIou = slider("iou", () => {
  clearTimeout(waiting);
  waiting = setTimeout(() => { if (asked && !camera) detect(); }, PAUSE);
});

part("file").addEventListener("change", (event) => { choose(event.target.files[0]); event.target.value = ""; });
part("camera").addEventListener("click", () => { if (camera) stopCamera(); else startCamera(); });
part("flip").addEventListener("click", () => {
  facing = facing === "user" ? "environment" : "user";
  stopCamera();
  startCamera();
});
part("save").addEventListener("click", save);
addEventListener("paste", (event) => choose(event.clipboardData.files[0]));
addEventListener("resize", draw);
addEventListener("visibilitychange", () => { if (document.hidden) stopCamera(); });
addEventListener("dragover", (event) => { event.preventDefault(); stage.classList.add("over"); });
addEventListener("dragleave", (event) => { if (!event.relatedTarget) stage.classList.remove("over"); });
addEventListener("drop", (event) => {
  event.preventDefault();
  stage.classList.remove("over");
  choose(event.dataTransfer.files[0]);
});

async function start() {
  try {
    const reply = await fetch("v1/model");
    if (!reply.ok) throw new Error((await reply.json()).error);
    model = await reply.json();
  } catch (error) {
    return say(`The server does not answer: ${error.message}`, true);
  }
  const { name, names, input, defaults } = model;
  const count = Object.keys(names).length;
  part("about").textContent = `${name}: ${count} class${count > 1 ? "es" : ""}, input ${input.width} × ${input.height} px`;
  part("about").title = Object.values(names).join(", ");
  setConfidence(defaults.conf);
  setIou(defaults.iou);
  part("example").textContent = `curl -F image=@picture.jpg '${new URL("v1/detect", location.href)}?conf=${defaults.conf}&iou=${defaults.iou}'`;
}
start();
