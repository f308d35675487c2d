"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const find = (id) => document.getElementById(id);
  const still = matchMedia("(prefers-reduced-motion: reduce)");
  const VEIL = "rgba(8, 10, 15, .84)", FADE = 220;
  const NAMES = { text: "Text", image: "Image", video: "Video", audio: "Audio" };
  const SHAPES = { play: "M8 5v14l11-7z", pause: "M7 5h3.6v14H7zM13.4 5H17v14h-3.6z" };
  const kinds = [...new Set(data.kinds.map(([kind]) => kind))].filter((kind) => NAMES[kind]);
  const kindOf = data.kinds.flatMap(([kind, count]) => Array(count).fill(kind));
  const whole = {};
  for (const kind of kindOf) whole[kind] = (whole[kind] || 0) + 1;
  const total = kinds.reduce((sum, kind) => sum + whole[kind], 0);
  const count = (number) => number.toLocaleString("en-US");

  // Stage 0 is the prompt, stage l + 1 what layer l sees.
  let stage = 0, before = 0, since = -1e9, timer = null;
  const last = data.layers;

  function make(tag, options = {}, ...children) {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(options)) {
      if (name === "text") node.textContent = value;
      else if (name === "style") node.style.cssText = value;
      else node.setAttribute(name, value);
    }
    node.append(...children);
    return node;
  }
  const colour = (kind) => `var(--${kind})`;
  const swatch = (kind) => make("span", { class: "swatch", style: `background: ${colour(kind)}` });
  const resolved = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const stageName = (at) => (at ? `Layer ${at - 1}` : "Prompt");
  const seen = (method, kind, at) => (at ? (method.modalities[kind] || [])[at - 1] ?? 0 : whole[kind]);
  const seenAll = (method, at) => (at ? method.tokens[at - 1] : total);

  // --- pictures of tokens -------------------------------------------------------------------
  const canvases = [];

  /** A canvas over a box; `draw(context, width, height, dark)` gets how dark each position is. */
  function canvas(box, method, label, draw) {
    const node = make("canvas", { role: "img" });
    box.append(node);
    canvases.push({ node, method, label, draw });
    return node;
  }

  /** How dark a token is while one stage fades into another: 0 seen, 1 not. */
  function darkness(method, share) {
    const { until } = method;
    return (position) => {
      const then = until[position] < before ? 1 : 0, now = until[position] < stage ? 1 : 0;
      return then + (now - then) * share;
    };
  }

  function drawAll(share) {
    for (const { node, method, draw } of canvases) {
      const { width, height } = node.parentElement.getBoundingClientRect();
      if (!width) continue;
      const ratio = window.devicePixelRatio || 1;
      const wide = Math.round(width * ratio), tall = Math.round(height * ratio);
      if (node.width !== wide || node.height !== tall) [node.width, node.height] = [wide, tall];
      const context = node.getContext("2d");
      context.setTransform(1, 0, 0, 1, 0, 0);
      context.clearRect(0, 0, wide, tall);
      context.setTransform(ratio, 0, 0, ratio, 0, 0);
      draw(context, width, height, darkness(method, share));
    }
  }

  function animate() {
    const share = still.matches ? 1 : Math.min(1, (performance.now() - since) / FADE);
    drawAll(share);
    if (share < 1) requestAnimationFrame(animate);
  }

  function drawGrid(picture) {
    const ink = resolved(`--${picture.kind}`);
    return (context, width, height, dark) => {
      const own = picture.positions;
      let [rows, columns] = picture.grid || [0, 0];
      const strip = !picture.grid;
      if (strip) {
        // No place on the picture is known: a band of cells below it, in the order of the prompt.
        columns = Math.max(1, Math.ceil(Math.sqrt(own.length * 4)));
        rows = Math.ceil(own.length / columns);
      }
      const top = strip ? height * 0.6 : 0, tall = strip ? height * 0.4 : height;
      if (strip) {
        context.fillStyle = resolved("--screen");
        context.fillRect(0, top, width, tall);
      }
      const x = (column) => (column * width) / columns, y = (row) => top + (row * tall) / rows;
      const some = own.some((position) => dark(position) > 0);
      const small = width / columns < 8;
      own.forEach((position, index) => {
        const row = Math.floor(index / columns), column = index % columns, veil = dark(position);
        const box = [x(column), y(row), x(column + 1) - x(column), y(row + 1) - y(row)];
        if (strip) {
          context.globalAlpha = 1 - 0.82 * veil;
          context.fillStyle = ink;
          context.fillRect(box[0], box[1], box[2] - 0.7, box[3] - 0.7);
        } else if (veil > 0) {
          context.globalAlpha = veil;
          context.fillStyle = VEIL;
          context.fillRect(...box);
        }
      });
      context.globalAlpha = 1;
      if (strip) return;
      context.lineWidth = small ? 0.35 : 0.7;
      context.strokeStyle = "rgba(255, 255, 255, .22)";
      context.beginPath();
      for (let row = 1; row < rows; row++) { context.moveTo(0, y(row)); context.lineTo(width, y(row)); }
      for (let column = 1; column < columns; column++) { context.moveTo(x(column), 0); context.lineTo(x(column), height); }
      context.stroke();
      if (!some || small) return;
      // What is left is outlined in the colour of its kind.
      context.strokeStyle = ink;
      context.lineWidth = Math.min(1.6, (0.09 * width) / columns);
      own.forEach((position, index) => {
        const row = Math.floor(index / columns), column = index % columns, light = 1 - dark(position);
        if (light <= 0) return;
        context.globalAlpha = light;
        context.strokeRect(x(column) + 1, y(row) + 1, x(column + 1) - x(column) - 2, y(row + 1) - y(row) - 2);
      });
      context.globalAlpha = 1;
    };
  }

  function drawColumns(positions) {
    return (context, width, height, dark) => {
      context.fillStyle = VEIL;
      const step = width / positions.length;
      positions.forEach((position, index) => {
        const veil = dark(position);
        if (!veil) return;
        context.globalAlpha = veil;
        context.fillRect(index * step, 0, step + 0.3, height);
      });
    };
  }

  function drawWave(sound) {
    const ink = resolved("--audio");
    return (context, width, height, dark) => {
      const step = width / sound.positions.length, middle = height / 2;
      const gap = step > 2.4 ? step * 0.26 : 0;
      sound.positions.forEach((position, index) => {
        // The square root keeps soft sounds visible next to loud ones.
        const tall = Math.max(1.2, Math.sqrt(sound.envelope[index]) * (middle - 3));
        const veil = dark(position), x = index * step + gap / 2;
        context.globalAlpha = 0.16;
        context.fillStyle = "#ffffff";
        context.fillRect(x, middle - tall, step - gap, 2 * tall);
        context.globalAlpha = 1 - veil;
        context.fillStyle = ink;
        context.fillRect(x, middle - tall, step - gap, 2 * tall);
      });
    };
  }

  function drawStrip() {
    const inks = Object.fromEntries(kinds.map((kind) => [kind, resolved(`--${kind}`)]));
    return (context, width, height, dark) => {
      const step = width / kindOf.length;
      kindOf.forEach((kind, position) => {
        if (!inks[kind]) return;
        context.globalAlpha = 1 - dark(position);
        context.fillStyle = inks[kind];
        context.fillRect(position * step, 0, step + 0.2, height);
      });
    };
  }

  // --- one card per method ------------------------------------------------------------------
  const cards = [];

  function answerBox(title, text, verdict) {
    const box = make("div", {}, make("h3", { text: title }), make("p", { class: "answer", text: text || "(nothing)" }));
    if (verdict) box.append(verdict);
    return box;
  }

  function picturesOf(method) {
    const box = make("div", { class: "frames" });
    const many = data.pictures.length;
    const [frame, most] = many > 16 ? ["64px", "22%"] : many > 4 ? ["84px", "22%"] : ["180px", many === 3 ? "30%" : "46%"];
    box.style.setProperty("--frame", frame);
    box.style.setProperty("--most", most);
    if (many === 1) box.style.gridTemplateColumns = "minmax(0, 380px)";
    data.pictures.forEach((picture, index) => {
      const strip = picture.grid ? picture.ratio : picture.ratio * 0.6;
      const screen = make("div", { class: "screen", style: `aspect-ratio: ${strip}` });
      const image = make("img", { src: picture.source, alt: "", draggable: "false" });
      if (!picture.grid) image.style.height = "60%";
      screen.append(image);
      const moment = picture.seconds === null ? "" : `${picture.seconds.toFixed(1)} s`;
      const name = picture.kind === "video" ? `Frame at ${moment || index + 1}` : `Image ${index + 1}`;
      canvas(screen, method, () => `${name}: ${left(picture.positions, method)}`, drawGrid(picture));
      box.append(make("figure", { class: "frame" }, screen, make("figcaption", { text: moment })));
    });
    if (data.pictures_left_out) {
      const shown = data.pictures.length;
      box.append(make("p", { class: "figures", style: "grid-column: 1 / -1", text: `${shown} of ${shown + data.pictures_left_out} pictures are shown.` }));
    }
    return box;
  }

  const left = (positions, method) =>
    `${count(positions.filter((position) => method.until[position] >= stage).length)} of ${count(positions.length)} tokens are seen`;

  function soundOf(method) {
    const box = make("div", { class: "sound" });
    if (!data.sound) return box;
    const { positions, spectrum, seconds } = data.sound;
    const above = make("div", { class: "screen spectrum" }, make("img", { src: spectrum, alt: "", draggable: "false" }));
    canvas(above, method, () => `Spectrum of the sound: ${left(positions, method)}`, drawColumns(positions));
    const below = make("div", { class: "screen wave" });
    canvas(below, method, () => `Waveform: ${left(positions, method)}`, drawWave(data.sound));
    box.append(above, below, make("div", { class: "between" },
      make("span", { text: "0 s" }), make("span", { text: "sound, one bar per token" }), make("span", { text: `${seconds.toFixed(1)} s` })));
    return box;
  }

  function stripOf(method) {
    const strip = make("div", { class: "screen strip" });
    canvas(strip, method, () => `The prompt: ${count(seenAll(method, stage))} of ${count(total)} tokens are seen`, drawStrip());
    return make("div", {}, strip, make("div", { class: "between" },
      make("span", { text: "all tokens in the order of the prompt" })));
  }

  function countsOf(method) {
    const box = make("div", { class: "counts" }), lines = {};
    for (const kind of kinds) {
      const bar = make("i", { style: `background: ${colour(kind)}` }), own = make("b"), of = make("span", { class: "of" });
      box.append(make("span", {}, swatch(kind), NAMES[kind]), make("div", { class: "bar" }, bar), make("span", {}, own, of));
      lines[kind] = { bar, own, of };
    }
    return { box, update: () => {
      for (const kind of kinds) {
        const now = seen(method, kind, stage);
        lines[kind].bar.style.width = `${(100 * now) / whole[kind]}%`;
        lines[kind].own.textContent = count(now);
        lines[kind].of.textContent = ` of ${count(whole[kind])}`;
      }
    } };
  }

  function costsOf(method) {
    const head = make("th", { scope: "col" });
    const cell = () => make("td", {}, make("span"), make("small"));
    const fill = (td, value, share) => { td.firstChild.textContent = value; td.lastChild.textContent = share; };
    const flops = cell(), kv = cell(), flopsSum = cell(), kvSum = cell();
    fill(flopsSum, method.sums.flops, method.sums.flops_share);
    fill(kvSum, method.sums.kv, method.sums.kv_share);
    const table = make("table", { class: "costs" },
      make("thead", {}, make("tr", {}, make("td", { style: "border: 0" }), head, make("th", { scope: "col", text: "all layers" }))),
      make("tbody", {},
        make("tr", {}, make("th", { scope: "row", text: "Prefill FLOPs" }), flops, flopsSum),
        make("tr", {}, make("th", { scope: "row", text: "KV cache" }), kv, kvSum)));
    return { box: table, update: () => {
      head.textContent = stage ? `layer ${stage - 1}` : "one layer";
      fill(flops, stage ? method.flops[stage - 1] : "\u2013", stage ? method.flops_share[stage - 1] : "");
      fill(kv, stage ? method.kv[stage - 1] : "\u2013", stage ? method.kv_share[stage - 1] : "");
    } };
  }

  function chartOf(method) {
    const wide = 400, tall = 78, foot = 8, top = 2, high = tall - foot - top, step = wide / last;
    const space = "http://www.w3.org/2000/svg";
    const svg = document.createElementNS(space, "svg");
    svg.setAttribute("viewBox", `0 0 ${wide} ${tall}`);
    svg.setAttribute("preserveAspectRatio", "none");
    svg.setAttribute("aria-hidden", "true");
    const columns = [];
    const rect = (x, y, width, height, fill) => {
      const node = document.createElementNS(space, "rect");
      for (const [name, value] of Object.entries({ x, y, width, height, fill })) node.setAttribute(name, value);
      return node;
    };
    for (let layer = 0; layer < last; layer++) {
      const group = document.createElementNS(space, "g");
      const x = layer * step + step * 0.08, width = step * 0.84;
      group.append(rect(x, top, width, high, "var(--dropped)"));
      let base = top + high;
      for (const kind of kinds) {
        const height = (high * seen(method, kind, layer + 1)) / total;
        base -= height;
        group.append(rect(x, base, width, height, colour(kind)));
      }
      columns.push(group);
      svg.append(group);
    }
    const mark = rect(0, tall - 4, step * 0.84, 3, "var(--ink)");
    svg.append(mark);
    svg.addEventListener("click", (event) => {
      const box = svg.getBoundingClientRect();
      pause();
      go(1 + Math.min(last - 1, Math.floor(((event.clientX - box.left) / box.width) * last)));
    });
    const first = method.tokens[0], end = method.tokens[last - 1];
    const box = make("div", { class: "chart" }, svg, make("div", { class: "between" },
      make("span", { text: `layer 0: ${count(first)} tokens` }), make("span", { text: `layer ${last - 1}: ${count(end)} tokens` })));
    return { box, update: () => {
      columns.forEach((group, layer) => group.setAttribute("opacity", !stage || layer === stage - 1 ? 1 : 0.55));
      mark.setAttribute("x", (stage ? stage - 1 : 0) * step + step * 0.08);
      mark.setAttribute("opacity", stage ? 1 : 0);
    } };
  }

  function tableOf(method) {
    const head = ["Layer", ...kinds.map((kind) => NAMES[kind]), "FLOPs", "of dense", "KV"];
    const rows = [];
    const body = make("tbody");
    for (let layer = 0; layer < last; layer++) {
      const cells = [...kinds.map((kind) => count(seen(method, kind, layer + 1))), method.flops[layer], method.flops_share[layer], method.kv[layer]];
      const row = make("tr", {}, make("th", { scope: "row", text: layer }), ...cells.map((text) => make("td", { text })));
      rows.push(row);
      body.append(row);
    }
    const { flops, flops_share: share, kv } = method.sums;
    body.append(make("tr", {}, make("th", { scope: "row", text: "sum" }), ...kinds.map(() => make("td")), ...[flops, share, kv].map((text) => make("td", { text }))));
    const table = make("table", {}, make("thead", {}, make("tr", {}, ...head.map((text) => make("th", { scope: "col", text })))), body);
    const box = make("details", {}, make("summary", { text: "All layers in numbers" }), make("div", { class: "wide" }, table));
    return { box, update: () => rows.forEach((row, layer) => row.classList.toggle("now", layer === stage - 1)) };
  }

  function card(method, index) {
    const verdict = make("p", { class: `verdict ${method.agrees ? "same" : "other"}`, text: method.agrees ? "= same as dense" : "\u2260 differs from dense" });
    const answers = make("div", { class: "answers" }, answerBox("Dense", data.dense.answer), answerBox("Pruned", method.answer, verdict));
    if (method.reason) answers.append(make("p", { class: "reason", text: `Nothing was cut, because ${method.reason}.` }));
    const counts = countsOf(method), costs = costsOf(method), chart = chartOf(method), table = tableOf(method);
    const name = make("h2", { text: method.method, id: `method-${index}` });
    const cost = make("span", { class: "cost", text: `${method.sums.flops_share} of the dense FLOPs` });
    const media = make("div", {}, picturesOf(method));
    const node = make("article", { class: "card", "aria-labelledby": `method-${index}` },
      make("div", { class: "name" }, name, cost), answers, media,
      make("div", { style: "display: grid; gap: 10px; align-content: start" }, soundOf(method), stripOf(method)),
      counts.box, make("div", { style: "display: grid; gap: 12px" }, costs.box, chart.box), table.box);
    cards.push({ node, update: () => [counts, costs, chart, table].forEach((part) => part.update()) });
    return node;
  }

  // --- moving through the layers ------------------------------------------------------------
  function go(to, { speak = true } = {}) {
    to = Math.max(0, Math.min(last, to));
    if (to !== stage) {
      before = stage;
      since = performance.now();
    }
    stage = to;
    update(speak);
    requestAnimationFrame(animate);
  }

  function update(speak) {
    const where = stageName(stage);
    const slider = find("layer");
    slider.value = stage;
    const counted = data.methods.map((method) => `${method.method} ${count(seenAll(method, stage))}`).join(", ");
    slider.setAttribute("aria-valuetext", `${where}: ${counted} of ${count(total)} tokens`);
    slider.style.setProperty("--part", `calc(11px + (100% - 22px) * ${stage / last})`);
    find("stage").replaceChildren(make("span", { text: where }),
      make("small", { text: stage ? `of layers 0 to ${last - 1}` : "all tokens, before any cut" }));
    find("back").disabled = stage === 0;
    find("next").disabled = stage === last;
    for (const { update: refresh } of cards) refresh();
    for (const { node, label } of canvases) node.setAttribute("aria-label", label());
    if (speak) find("live").textContent = slider.getAttribute("aria-valuetext");
  }

  function showPlaying(playing) {
    find("play-shape").setAttribute("d", playing ? SHAPES.pause : SHAPES.play);
    find("play").setAttribute("aria-label", playing ? "Pause" : "Play");
  }

  function pause() {
    clearInterval(timer);
    timer = null;
    showPlaying(false);
  }

  function play() {
    if (stage === last) go(0, { speak: false });
    showPlaying(true);
    timer = setInterval(() => {
      go(stage + 1, { speak: false });
      if (stage === last) {
        pause();
        find("live").textContent = find("layer").getAttribute("aria-valuetext");
      }
    }, Math.max(240, Math.min(800, 9000 / last)));
  }
  const toggle = () => (timer ? pause() : play());
  const step = (by) => { pause(); go(stage + by); };

  const KEYS = { ArrowRight: () => step(1), ArrowLeft: () => step(-1), Home: () => { pause(); go(0); }, End: () => { pause(); go(last); }, " ": toggle };
  document.addEventListener("keydown", (event) => {
    const action = KEYS[event.key];
    if (!action || event.ctrlKey || event.metaKey || event.altKey) return;
    // A focused button, a summary and the switch of methods keep their own keys.
    const kept = event.key === " " ? "button, summary, [type=radio]" : "[type=radio]";
    if (event.target.closest?.(kept)) return;
    event.preventDefault();
    action();
  });
  find("layer").addEventListener("input", (event) => { pause(); go(Number(event.target.value)); });
  find("back").addEventListener("click", () => step(-1));
  find("next").addEventListener("click", () => step(1));
  find("play").addEventListener("click", toggle);

  // --- the page -----------------------------------------------------------------------------
  find("title").textContent = data.title;
  find("about").textContent = [data.model, data.title === data.question ? "" : data.question].filter(Boolean).join(" \u00b7 ");
  find("prompt").append(make("span", { text: `Prompt: ${count(total)} tokens` }),
    ...kinds.map((kind) => make("span", {}, swatch(kind), `${count(whole[kind])} ${kind}`)));
  find("dense-answer").textContent = data.dense.answer || "(nothing)";
  find("dense-figures").textContent =
    `${count(total)} tokens in each of ${last} layers \u00b7 ${data.dense.sums.flops} \u00b7 KV ${data.dense.sums.kv}`;

  const shown = (index) => cards.forEach(({ node }, own) => node.classList.toggle("shown", own === index));
  data.methods.forEach((method, index) => {
    find("methods").append(card(method, index));
    const radio = make("input", { type: "radio", name: "method", value: index });
    radio.checked = index === data.methods.length - 1;
    radio.addEventListener("change", () => { shown(index); drawAll(1); });
    find("switch").append(make("label", {}, radio, method.method));
  });
  find("switch").classList.toggle("single", data.methods.length < 2);
  shown(data.methods.length - 1);

  find("layer").max = last;
  const every = Math.max(1, Math.ceil(last / 8));
  find("ticks").append(make("span", { text: "prompt", style: "left: 0" }));
  // The first label would touch the one before it.
  for (let layer = every > 1 ? every : 0; layer < last; layer += every)
    find("ticks").append(make("span", { text: layer, style: `left: ${(100 * (layer + 1)) / last}%` }));
  showPlaying(false);
  go(0, { speak: false });
  new ResizeObserver(() => drawAll(1)).observe(document.body);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => drawAll(1));
})();
