// Thousands of thumbnails on one canvas, cut from one sprite: they move, zoom, answer a pointer and can be chosen.
// ui/atlas.py says what `data` holds. Nothing is kept between two maps but the view and the mode.

const known = new WeakMap(); // what has been set up, by the element that Streamlit gives us
const MOVE = 450; // milliseconds in which the pictures go to new places
const HOVER = 26; // pixels around the pointer in which a picture answers
const CARD = 132; // pixels a side of the picture that answers

export default function ({ data, parentElement, setStateValue }) {
  const map = known.get(parentElement) ?? setUp(parentElement);
  known.set(parentElement, map);
  map.tell = (chosen) => setStateValue("chosen", chosen && { of: map.data.of, ...chosen });
  take(map, data);
}

function setUp(root) {
  const find = (name) => root.querySelector(name);
  const map = {
    box: find(".box"), below: find(".below"), above: find(".above"), card: find(".card"), zoom: find(".zoom"),
    keys: find(".keys"), scale: 1, x: 0, y: 0, hovered: -1, mode: "select", data: null, sprite: null, levels: [],
  };
  if (matchMedia("(pointer: coarse)").matches) map.mode = ""; // a finger scrolls the page until told otherwise
  new ResizeObserver(() => resize(map)).observe(map.box);
  for (const button of root.querySelectorAll(".tools button")) button.onclick = () => press(map, button.dataset.do);
  map.above.addEventListener("pointerdown", (event) => down(map, event));
  map.above.addEventListener("pointermove", (event) => over(map, event));
  map.above.addEventListener("pointerup", (event) => up(map, event));
  map.above.addEventListener("pointercancel", () => { map.drag = null; drawAbove(map); });
  map.above.addEventListener("pointerleave", () => hover(map, -1));
  map.above.addEventListener("wheel", (event) => {
    if (!event.ctrlKey && !event.metaKey) return; // the page scrolls
    event.preventDefault();
    zoom(map, Math.exp(-event.deltaY / 200), event.offsetX, event.offsetY);
  }, { passive: false });
  show(map);
  return map;
}

// What comes from Python ----------------------------------------------------------------------------------------------

function take(map, data) {
  const before = map.now;
  map.data = data;
  map.count = data.count;
  map.aim = array(data.places, Float32Array);
  map.group = array(data.groups, Uint8Array);
  map.label = array(data.labels, Int16Array);
  map.prediction = array(data.predictions, Int16Array);
  map.probability = array(data.probabilities, Uint8Array);
  map.wrong = array(data.wrong, Uint8Array);
  map.chosen = data.chosen === null ? null : new Uint8Array(map.count);
  if (map.chosen) for (const k of array(data.chosen, Int32Array)) map.chosen[k] = 1;
  const same = before && before.length === map.aim.length;
  const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
  map.from = same && !still ? before.slice() : map.aim;
  map.now = map.from.slice();
  map.began = performance.now();
  map.box.setAttribute("aria-label", data.alt);
  keys(map);
  load(map, data.sprite);
  for (const name of ["mark", "focus"]) {
    const given = data[name];
    if (given?.url && map[`${name}Url`] !== given.url) {
      map[`${name}Url`] = given.url;
      map[`${name}Image`] = new Image();
      map[`${name}Image`].onload = () => drawAbove(map);
      map[`${name}Image`].src = given.url;
    }
  }
  hover(map, map.hovered < map.count ? map.hovered : -1);
  resize(map);
}

function array(text, Kind) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  return new Kind(bytes.buffer);
}

function load(map, sprite) {
  if (!sprite?.url || map.spriteUrl === sprite.url) return;
  map.spriteUrl = sprite.url;
  const image = new Image();
  image.onload = () => {
    if (map.spriteUrl !== sprite.url) return;
    map.sprite = sprite;
    map.levels = [image]; // halved again and again, so that small tiles are averages and not samples
    for (let size = sprite.tile; size % 2 === 0 && size > 8; size /= 2) {
      const last = map.levels[map.levels.length - 1];
      const half = new OffscreenCanvas(last.width / 2, last.height / 2);
      half.getContext("2d").drawImage(last, 0, 0, half.width, half.height);
      map.levels.push(half);
    }
    draw(map);
  };
  image.onerror = () => setTimeout(() => { // it goes away while a run of the page is broken off, and comes back
    if (map.spriteUrl !== sprite.url) return;
    map.spriteUrl = null;
    load(map, sprite);
  }, 1000);
  // Streamlit serves it beside the app, and pages are one level deep.
  image.src = sprite.url.startsWith("/") ? new URL(sprite.url.slice(1), location.href).href : sprite.url;
}

function keys(map) {
  const told = JSON.stringify([map.data.names, map.data.palette]);
  if (map.told === told) return;
  map.told = told;
  map.keys.replaceChildren(...map.data.names.map((name, k) => {
    const key = document.createElement("button");
    const dot = document.createElement("span");
    dot.style.background = map.data.palette[k];
    key.append(dot, name);
    key.title = `Choose all of ${name}`;
    key.onclick = () => map.tell({ group: k });
    return key;
  }));
}

// Where things are ----------------------------------------------------------------------------------------------------

function resize(map) {
  const width = map.box.clientWidth;
  if (!width || !map.data) return;
  map.side = Math.min(width, map.data.side);
  map.width = width;
  map.box.style.height = `${map.side}px`;
  const sharp = devicePixelRatio || 1;
  for (const canvas of [map.below, map.above]) {
    canvas.width = Math.round(width * sharp);
    canvas.height = Math.round(map.side * sharp);
    canvas.getContext("2d").setTransform(sharp, 0, 0, sharp, 0, 0);
  }
  draw(map);
}

function tileSize(map) {
  const one = map.data.tile * map.side;
  return map.data.grid ? one * map.scale : Math.max(3, one * map.scale ** 0.8);
}

function place(map, x, y) { // from [0, 1] to pixels; the margin keeps the outermost pictures whole
  const margin = (map.data.tile * map.side) / 2 + (map.data.grid ? 0 : 4);
  const room = map.side - 2 * margin;
  const left = (map.width - map.side) / 2 + margin;
  return [(left + x * room) * map.scale + map.x, (margin + y * room) * map.scale + map.y];
}

function back(map, x, y) {
  const [left, top] = place(map, 0, 0);
  const [right, bottom] = place(map, 1, 1);
  return [(x - left) / (right - left), (y - top) / (bottom - top)];
}

function zoom(map, by, x = map.width / 2, y = map.side / 2) {
  const to = Math.min(40, Math.max(1, map.scale * by));
  map.x = x - ((x - map.x) * to) / map.scale;
  map.y = y - ((y - map.y) * to) / map.scale;
  map.scale = to;
  bound(map);
}

function bound(map) { // some of the map stays in view
  map.x = Math.min(0, Math.max(map.width * (1 - map.scale), map.x));
  map.y = Math.min(0, Math.max(map.side * (1 - map.scale), map.y));
  hover(map, -1);
  draw(map);
}

// Drawing -------------------------------------------------------------------------------------------------------------

function draw(map) {
  if (map.waiting || !map.data) return;
  map.waiting = true;
  requestAnimationFrame(() => {
    map.waiting = false;
    const share = Math.min(1, (performance.now() - map.began) / MOVE);
    const eased = 1 - (1 - share) ** 3;
    for (let k = 0; k < map.aim.length; k++) map.now[k] = map.from[k] + (map.aim[k] - map.from[k]) * eased;
    drawBelow(map);
    drawAbove(map);
    if (share < 1) draw(map);
  });
}

function drawBelow(map) {
  const paint = map.below.getContext("2d");
  paint.clearRect(0, 0, map.width, map.side);
  const size = tileSize(map);
  const dots = map.data.dots || !map.sprite || map.sprite.count !== map.count;
  const gap = map.data.grid && size > 9 ? 1 : 0;
  const frame = map.data.names.length || map.data.palette.length ? Math.max(1, Math.min(3, size * 0.09)) : 0;
  const level = dots ? 0 : depth(map, size);
  const tile = dots ? 0 : map.sprite.tile / 2 ** level;
  paint.imageSmoothingEnabled = tile > 0 && size < tile * 1.5;
  for (const dimmed of map.chosen ? [true, false] : [false]) { // the chosen ones lie above the others
    paint.globalAlpha = dimmed ? 0.16 : 1;
    for (let k = 0; k < map.count; k++) {
      if (map.chosen && dimmed === Boolean(map.chosen[k])) continue;
      const [x, y] = place(map, map.now[2 * k], map.now[2 * k + 1]);
      if (x < -size || y < -size || x > map.width + size || y > map.side + size) continue;
      const colour = map.data.palette[map.group[k]];
      if (dots) {
        const radius = Math.max(2, Math.min(7, size * 0.32));
        paint.fillStyle = colour ?? "#868e96";
        paint.beginPath();
        paint.arc(x, y, radius, 0, 7);
        paint.fill();
      } else {
        const left = x - size / 2, top = y - size / 2, edge = colour ? frame : 0;
        if (edge) {
          paint.fillStyle = colour;
          paint.fillRect(left, top, size - gap, size - gap);
        }
        const col = k % map.sprite.columns, row = Math.floor(k / map.sprite.columns);
        const inner = size - gap - 2 * edge;
        paint.drawImage(map.levels[level], col * tile, row * tile, tile, tile, left + edge, top + edge, inner, inner);
      }
    }
  }
  paint.globalAlpha = 1;
}

function depth(map, size) { // which halving is no smaller than what is drawn
  const sharp = size * (devicePixelRatio || 1);
  let level = 0;
  while (level + 1 < map.levels.length && map.sprite.tile / 2 ** (level + 1) >= sharp) level++;
  return level;
}

function drawAbove(map) {
  const paint = map.above.getContext("2d");
  paint.clearRect(0, 0, map.width, map.side);
  const accent = map.data.accent;
  if (map.hovered >= 0) outline(map, paint, map.now[2 * map.hovered], map.now[2 * map.hovered + 1], 3);
  const focus = map.data.focus;
  if (focus) outline(map, paint, map.now[2 * focus.k], map.now[2 * focus.k + 1], 3);
  const mark = map.data.mark;
  if (mark && map.markImage?.complete) {
    const [x, y] = place(map, mark.x, mark.y);
    const size = Math.max(34, tileSize(map) * 1.3);
    paint.strokeStyle = accent;
    paint.lineWidth = 2;
    paint.beginPath();
    paint.moveTo(x, y);
    paint.lineTo(x + size * 0.7, y - size * 0.7);
    paint.stroke();
    paint.fillStyle = accent;
    paint.beginPath();
    paint.arc(x, y, 4, 0, 7);
    paint.fill();
    const left = Math.min(x + size * 0.4, map.width - size - 3), top = Math.max(y - size * 1.4, 3);
    paint.fillRect(left - 3, top - 3, size + 6, size + 6);
    paint.imageSmoothingEnabled = map.markImage.width > size;
    paint.drawImage(map.markImage, left, top, size, size);
  }
  if (map.drag?.box) {
    const { x, y, to } = map.drag;
    paint.strokeStyle = accent;
    paint.fillStyle = accent + "22";
    paint.lineWidth = 1.5;
    paint.fillRect(x, y, to[0] - x, to[1] - y);
    paint.strokeRect(x, y, to[0] - x, to[1] - y);
  }
}

function outline(map, paint, x, y, width) {
  const size = tileSize(map) + width;
  const [left, top] = place(map, x, y);
  paint.strokeStyle = map.data.accent;
  paint.lineWidth = width;
  paint.strokeRect(left - size / 2, top - size / 2, size, size);
}

// What people do ------------------------------------------------------------------------------------------------------

function nearest(map, x, y) {
  let best = -1, least = Math.max(HOVER, tileSize(map) * 0.75) ** 2;
  for (let k = 0; k < map.count; k++) {
    const [left, top] = place(map, map.now[2 * k], map.now[2 * k + 1]);
    const far = (left - x) ** 2 + (top - y) ** 2;
    if (far < least) [best, least] = [k, far];
  }
  return best;
}

function hover(map, k) {
  if (k === map.hovered && k < 0) return;
  map.hovered = k;
  map.card.hidden = k < 0 || Boolean(map.drag);
  if (!map.card.hidden) card(map, k);
  drawAbove(map);
}

function card(map, k) {
  const canvas = map.card.querySelector("canvas");
  const paint = canvas.getContext("2d");
  canvas.hidden = !map.sprite || map.sprite.count !== map.count;
  if (!canvas.hidden) {
    const { tile, columns } = map.sprite;
    paint.imageSmoothingEnabled = tile > 40;
    paint.drawImage(map.levels[0], (k % columns) * tile, Math.floor(k / columns) * tile, tile, tile, 0, 0, CARD, CARD);
  }
  const { classes, kinds } = map.data;
  const label = kinds[map.label[k]];
  const [first, second] = map.card.querySelectorAll("p");
  first.textContent = label ?? "no label";
  second.textContent = `seen as ${classes[map.prediction[k]]} · ${map.probability[k]} %`;
  second.className = map.wrong[k] ? "wrong" : "";
  const [x, y] = place(map, map.now[2 * k], map.now[2 * k + 1]);
  const aside = tileSize(map) / 2 + 8;
  const width = map.card.offsetWidth, height = map.card.offsetHeight;
  const left = x + aside + width < map.width ? x + aside : x - aside - width;
  map.card.style.left = `${Math.max(0, Math.min(left, map.width - width))}px`;
  map.card.style.top = `${Math.max(0, Math.min(y - height / 2, map.side - height))}px`;
}

function down(map, event) {
  if (event.button || (event.pointerType !== "mouse" && !map.mode)) {
    map.tap = !event.button;
    return;
  }
  map.above.setPointerCapture(event.pointerId);
  const moves = map.mode === "move" || event.shiftKey;
  map.drag = { x: event.offsetX, y: event.offsetY, from: [map.x, map.y], moves, box: false };
}

function over(map, event) {
  const { drag } = map, x = event.offsetX, y = event.offsetY;
  if (!drag) return hover(map, nearest(map, x, y));
  if (!drag.far && Math.hypot(x - drag.x, y - drag.y) < 5) return;
  drag.far = true;
  map.card.hidden = true;
  if (drag.moves) {
    [map.x, map.y] = [drag.from[0] + x - drag.x, drag.from[1] + y - drag.y];
    bound(map);
  } else {
    drag.box = true;
    drag.to = [x, y];
    drawAbove(map);
  }
}

function up(map, event) {
  const { drag } = map, x = event.offsetX, y = event.offsetY;
  map.drag = null;
  if ((!drag && !map.tap) || (drag?.moves && drag.far)) return;
  map.tap = false;
  if (drag?.box) {
    const [left, top] = back(map, Math.min(x, drag.x), Math.min(y, drag.y));
    const [right, bottom] = back(map, Math.max(x, drag.x), Math.max(y, drag.y));
    map.tell({ box: [left, top, right, bottom] });
    drawAbove(map);
  } else {
    const k = nearest(map, x, y);
    if (k >= 0 || map.chosen) map.tell(k < 0 ? null : { one: k });
  }
}

function press(map, what) {
  if (what === "in") zoom(map, 1.6);
  else if (what === "out") zoom(map, 1 / 1.6);
  else if (what === "fit") { [map.scale, map.x, map.y] = [1, 0, 0]; bound(map); }
  else if (what === "none") map.tell(null);
  else map.mode = map.mode === what ? "" : what;
  show(map);
}

function show(map) {
  map.above.style.touchAction = map.mode ? "none" : "pan-y";
  map.above.style.cursor = map.mode === "move" ? "grab" : "crosshair";
  for (const button of map.box.parentElement.querySelectorAll("[aria-pressed]")) {
    button.setAttribute("aria-pressed", String(button.dataset.do === map.mode));
  }
}
