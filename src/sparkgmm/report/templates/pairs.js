"use strict";
// Draws any two features of the report's sample: rows, ellipses and means. Text only by textContent.
(function () {
  const data = JSON.parse(document.getElementById("pairs").textContent);
  const svg = document.getElementById("pair");
  const selects = ["pair-x", "pair-y"].map((id) => document.getElementById(id));
  const box = { left: 74, right: 624, top: 12, bottom: 404 };

  function add(name, attributes, text) {
    const element = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const key of Object.keys(attributes)) element.setAttribute(key, attributes[key]);
    if (text !== undefined) element.textContent = text;
    svg.appendChild(element);
  }

  function covariance(component, i, j) {
    const sd = data.sd[component], row = Math.max(i, j), column = Math.min(i, j);
    const r = i === j ? 1 : data.correlations === null ? 0 : data.correlations[component][row * (row - 1) / 2 + column] / 1e3;
    return r * sd[i] * sd[j];
  }

  function short(name) {
    return name.length > 60 ? name.slice(0, 59) + "…" : name;
  }

  // Axes of values spread over powers of ten are logarithmic.
  function scaled(i, v) {
    return data.log[i] ? Math.log10(Math.max(v, 1e-300)) : v;
  }

  function range(i) {
    const seen = data.rows[i].filter((v) => v !== null);
    const sorted = Float64Array.from(seen, (v) => scaled(i, v)).sort();
    if (sorted.length === 0) return [0, 1];
    const low = sorted[Math.floor(0.005 * (sorted.length - 1))];
    const high = sorted[Math.ceil(0.995 * (sorted.length - 1))];
    const margin = 0.08 * (high - low) || 0.01 * Math.abs(high) || 1;
    return [low - margin, high + margin];
  }

  function powers(low, high) {
    const found = [], every = Math.ceil((high - low) / 8);
    for (let n = Math.ceil(low); n <= high; n += every) {
      found.push({ at: n, text: String(Number(Math.pow(10, n).toPrecision(3))) });
    }
    return found;
  }

  function ticks(low, high) {
    const raw = (high - low) / 6;
    const power = Math.pow(10, Math.floor(Math.log10(raw)));
    const step = power * [1, 2, 2.5, 5, 10].find((s) => s * power >= raw);
    const digits = Math.ceil(Math.log10(Math.max(Math.abs(low), Math.abs(high)) / step)) + 2;
    const first = Math.ceil(low / step), found = [];
    for (let n = 0; n < 12 && (first + n) * step <= high; n++) {
      const at = (first + n) * step;
      found.push({ at: at, text: String(Number(at.toPrecision(Math.min(Math.max(digits, 1), 16)))) });
    }
    return found;
  }

  function ellipse(component, i, j, sigmas, x, y) {
    const a = covariance(component, i, i), b = covariance(component, i, j), c = covariance(component, j, j);
    const l1 = Math.sqrt(a), l2 = b / l1, l3 = Math.sqrt(Math.max(c - l2 * l2, 0));
    const mean = data.means[component];
    const points = [];
    for (let s = 0; s <= 72; s++) {
      const angle = s * Math.PI / 36, u = sigmas * Math.cos(angle), v = sigmas * Math.sin(angle);
      points.push(x(scaled(i, mean[i] + l1 * u)) + "," + y(scaled(j, mean[j] + l2 * u + l3 * v)));
    }
    return points.join(" ");
  }

  // The shape of a component's marks changes after every six.
  function mark(component, x, y, r, looks) {
    const shape = Math.floor(component / 6) % data.shapes.length;
    if (shape === 0) return add("circle", Object.assign({ cx: x, cy: y, r: r }, looks));
    const corners = data.shapes[shape].map((c) => (Number(x) + 1.2 * r * c[0]).toFixed(1) + "," + (Number(y) + 1.2 * r * c[1]).toFixed(1));
    add("polygon", Object.assign({ points: corners.join(" ") }, looks));
  }

  function draw() {
    const i = Number(selects[0].value), j = Number(selects[1].value);
    const [xl, xh] = range(i), [yl, yh] = range(j);
    const xTicks = (data.log[i] ? powers : ticks)(xl, xh), yTicks = (data.log[j] ? powers : ticks)(yl, yh);
    box.left = Math.max(74, 34 + 7 * Math.max(...yTicks.map((t) => t.text.length)));
    const x = (v) => (box.left + (v - xl) / (xh - xl) * (box.right - box.left)).toFixed(1);
    const y = (v) => (box.bottom - (v - yl) / (yh - yl) * (box.bottom - box.top)).toFixed(1);
    svg.replaceChildren();
    add("clipPath", { id: "frame" });
    const rectangle = { x: box.left, y: box.top, width: box.right - box.left, height: box.bottom - box.top };
    add("rect", Object.assign({ fill: "none", stroke: "var(--line)" }, rectangle));
    const clip = document.createElementNS("http://www.w3.org/2000/svg", "rect");
    for (const key of Object.keys(rectangle)) clip.setAttribute(key, rectangle[key]);
    svg.firstChild.appendChild(clip);
    const longest = 14 + 7 * Math.max(...xTicks.map((t) => t.text.length));
    const every = Math.ceil(longest * xTicks.length / (box.right - box.left));
    const inside = xTicks.filter((t) => Number(x(t.at)) + longest / 2 - 7 <= 640);
    for (const t of inside.filter((_, n) => n % every === 0)) {
      add("text", { x: x(t.at), y: box.bottom + 18, "text-anchor": "middle" }, t.text);
    }
    for (const t of yTicks) {
      add("text", { x: box.left - 6, y: Number(y(t.at)) + 4, "text-anchor": "end" }, t.text);
    }
    add("text", { x: (box.left + box.right) / 2, y: 446, "text-anchor": "middle" }, short(data.names[i]));
    add("text", { transform: "translate(14 " + (box.top + box.bottom) / 2 + ") rotate(-90)", "text-anchor": "middle" }, short(data.names[j]));
    const many = data.means.length > 6;
    const colour = (component) => data.colours[component % data.colours.length];
    const clipped = { "clip-path": "url(#frame)" };
    for (let n = 0; n < data.labels.length; n++) {
      if (data.rows[i][n] === null || data.rows[j][n] === null) continue;
      const looks = Object.assign({ fill: colour(data.labels[n]), "fill-opacity": 0.45 }, clipped);
      mark(data.labels[n], x(scaled(i, data.rows[i][n])), y(scaled(j, data.rows[j][n])), 2.2, looks);
    }
    data.means.forEach((mean, component) => {
      for (const sigmas of [1, 2]) {
        const line = { points: ellipse(component, i, j, sigmas, x, y), fill: "none", stroke: colour(component), "stroke-width": 1.8 };
        if (sigmas === 2) line["stroke-dasharray"] = "6 4";
        add("polyline", Object.assign(line, clipped));
      }
      const at = [x(scaled(i, mean[i])), y(scaled(j, mean[j]))];
      if (many) mark(component, at[0], at[1], 5, Object.assign({ fill: colour(component), stroke: "var(--ink)" }, clipped));
      const text = { x: at[0], y: Number(at[1]) - (many ? 8 : 0), "font-weight": "bold", "text-anchor": "middle" };
      add("text", Object.assign(text, clipped), String(component));
    });
  }

  selects.forEach((select, which) => {
    data.names.forEach((name, index) => select.add(new Option(name, String(index))));
    select.value = String(data.first[which]);
    select.addEventListener("change", draw);
  });
  draw();
})();
