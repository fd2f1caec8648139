'use strict';
(function () {
  const facts = JSON.parse(document.getElementById('facts').textContent);
  const at = (id) => document.getElementById(id);
  const tokens = facts.tokens, drawn = facts.drawn;
  const make = (name, properties, ...children) => {
    const element = Object.assign(document.createElement(name), properties);
    element.append(...children);
    return element;
  };
  const svg = (name, attributes) => {
    const element = document.createElementNS('http://www.w3.org/2000/svg', name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    return element;
  };
  const shown = (text) => text.replace(/\n/g, '⏎') || '∅';
  let chosen = -1, unit = 0;

  // The text: every token a button, its surprisal a bar under it.
  const text = at('text'), buttons = [];
  const most = Math.max(1, ...tokens.map((token) => token.nats || 0));
  tokens.forEach((token, place) => {
    if (token.begins && place > 0) text.append(make('br'));
    const bar = make('span', { className: 'bar' });
    bar.style.width = (100 * (token.nats || 0) / most) + '%';
    const button = make('button', { type: 'button', title: token.nats == null ? 'given' : token.nats.toFixed(2) + ' nats' }, shown(token.text), bar);
    button.setAttribute('aria-pressed', 'false');
    button.setAttribute('aria-label', shown(token.text) + (token.nats == null ? ', given' : ', ' + token.nats.toFixed(2) + ' nats'));
    button.addEventListener('click', () => choose(place));
    buttons.push(button);
    text.append(button);
    if (token.text.includes('\n') || token.text === '<eos>') text.append(make('br'));
  });
  const arcs = svg('svg', { 'aria-hidden': 'true' });
  text.append(arcs);

  function bars(list, best) {
    list.replaceChildren(...best.map(([word, share]) => {
      const bar = make('span', {});
      bar.style.width = (8 * share) + 'rem';
      return make('li', {}, bar, shown(word) + ' ' + (100 * share).toFixed(1) + ' %');
    }));
  }

  function values(cause) {
    const measure = at('measure').value;
    if (measure === 'integrated') return cause.integrated.length ? cause.integrated : cause.product;
    if (measure === 'product' || measure === 'embedding') return cause[measure];
    const [kind, layer, gate] = measure.split('.');
    return kind === 'cell' ? cause.cell[layer] : cause.gates[layer][gate];
  }

  function draw() {
    arcs.replaceChildren();
    buttons.forEach((button) => { button.style.background = ''; });
    const cause = facts.causes.find((cause) => facts.place[cause.token] === chosen);
    if (chosen < 0) return;
    if (!cause) { at('cause').textContent = 'What it goes back to was not worked out; name it with the option explain.'; return; }
    const found = values(cause);
    const largest = Math.max(1e-12, ...found.map(Math.abs));
    const box = text.getBoundingClientRect();
    const top = (button) => {
      const own = button.getBoundingClientRect();
      return [own.left - box.left + own.width / 2, own.top - box.top];
    };
    const [x, y] = top(buttons[chosen]);
    found.forEach((value, step) => {
      const share = Math.abs(value) / largest;
      if (share < 0.04) return;
      const button = buttons[cause.from + step];
      const [from, height] = top(button);
      const lift = Math.min(46, 12 + Math.abs(x - from) / 6);
      arcs.append(svg('path', { class: value < 0 ? 'arc less' : 'arc', d: `M${from} ${height}Q${(x + from) / 2} ${Math.min(y, height) - lift} ${x} ${y}`,
        'stroke-width': (0.5 + 4 * share).toFixed(2), opacity: (0.2 + 0.75 * share).toFixed(2) }));
      button.style.background = `color-mix(in srgb, var(${value < 0 ? '--c5' : '--c2'}) ${Math.round(45 * share)}%, transparent)`;
    });
    const order = found.map((value, step) => [value, step]).sort((a, b) => Math.abs(b[0]) - Math.abs(a[0])).slice(0, 5);
    const error = cause.integrated_error == null ? '' : ` The integrated gradients miss their sum by ${(100 * cause.integrated_error).toFixed(2)} %.`;
    at('cause').textContent = `log-probability ${cause.log_probability.toFixed(3)}; most by ` +
      order.map(([value, step]) => `${shown(tokens[cause.from + step].text)} (${value.toPrecision(3)})`).join(', ') + '.' + error;
  }

  function choose(place) {
    if (chosen >= 0) buttons[chosen].setAttribute('aria-pressed', 'false');
    chosen = place;
    buttons[place].setAttribute('aria-pressed', 'true');
    const token = tokens[place];
    at('chosen').textContent = shown(token.text) + (token.nats == null ? '' : `: ${token.nats.toFixed(2)} nats, probability ${Math.exp(-token.nats).toPrecision(2)}`);
    bars(at('before'), place > 0 && !token.begins ? tokens[place - 1].best : []);
    bars(at('after'), token.best);
    draw();
    paint();
  }

  // The heat map.
  const canvas = at('map'), pen = canvas.getContext('2d');
  const decoded = {};
  function channel() {
    const layer = facts.layers[at('layer').value], name = at('channel').value, key = at('layer').value + name;
    if (!decoded[key]) decoded[key] = Uint8Array.from(atob(layer.channels[name]), (c) => c.charCodeAt(0));
    return { layer, name, bytes: decoded[key], width: name === 'h' ? layer.recurrent : layer.hidden };
  }
  // Cells are drawn by their own largest value each: some hold a hundred times as much as others.
  const value = ({ layer, name }, byte, unit) => ['i', 'f', 'o'].includes(name) ? byte / 255 : (byte / 127.5 - 1) * layer.scale[name][unit];
  function order(width) {
    const layer = facts.layers[at('layer').value];
    const places = [...Array(width).keys()], sort = at('sort').value;
    if (width !== layer.hidden || sort === 'unit') return places;
    const by = layer.orders[sort];
    return by;
  }
  const colours = () => {
    const style = getComputedStyle(document.documentElement);
    const rgb = (name) => { const hex = style.getPropertyValue(name).trim(); return [1, 3, 5].map((n) => parseInt(hex.slice(n, n + 2), 16)); };
    return [rgb('--shut'), rgb('--mid'), rgb('--open')];
  };
  let rows = [];
  function paint() {
    const found = channel(), { bytes, width } = found;
    rows = order(width);
    const across = Math.max(2, Math.min(16, Math.floor(1100 / drawn))), down = Math.max(2, Math.min(9, Math.floor(560 / width)));
    canvas.width = drawn * across;
    canvas.height = width * down;
    const [low, middle, high] = colours();
    const palette = [...Array(256).keys()].map((byte) => {
      const share = byte / 127.5 - 1, to = share < 0 ? low : high;
      return 'rgb(' + middle.map((part, n) => Math.round(part + Math.abs(share) * (to[n] - part))).join(',') + ')';
    });
    rows.forEach((unit, row) => {
      for (let place = 0; place < drawn; place++) {
        pen.fillStyle = palette[bytes[place * width + unit]];
        pen.fillRect(place * across, row * down, across, down);
      }
    });
    if (chosen >= 0 && chosen < drawn) {
      pen.strokeStyle = getComputedStyle(document.body).color;
      pen.strokeRect(chosen * across + 0.5, 0.5, across, canvas.height - 1);
    }
    canvas.dataset.across = across;
    canvas.dataset.down = down;
    canvas.setAttribute('aria-label', `${at('channel').selectedOptions[0].text} of layer ${+at('layer').value + 1}: ${drawn} tokens across, ${width} units down`);
    trace();
  }
  canvas.addEventListener('click', (event) => {
    const box = canvas.getBoundingClientRect();
    unit = rows[Math.min(rows.length - 1, Math.floor((event.clientY - box.top) / canvas.dataset.down))];
    at('unit').value = unit;
    choose(Math.min(drawn - 1, Math.floor((event.clientX - box.left) / canvas.dataset.across)));
  });
  function trace() {
    const found = channel(), { bytes, width } = found;
    unit = Math.max(0, Math.min(width - 1, +at('unit').value || 0));
    const points = [...Array(drawn).keys()].map((place) => value(found, bytes[place * width + unit], unit));
    const low = Math.min(...points), high = Math.max(...points);
    const x = (place) => 46 + 548 * place / Math.max(1, drawn - 1), y = (v) => 104 - 92 * (v - low) / Math.max(1e-9, high - low);
    const line = svg('path', { class: 'curve s0', d: 'M' + points.map((v, place) => `${x(place).toFixed(1)} ${y(v).toFixed(1)}`).join('L') });
    const label = (v, height) => { const element = svg('text', { x: 2, y: height }); element.textContent = v.toFixed(3); return element; };
    const parts = [label(high, 14), label(low, 106), line];
    if (chosen >= 0 && chosen < drawn) {
      parts.push(svg('path', { class: 'grid-line', d: `M${x(chosen)} 6V110` }));
    }
    at('trace').replaceChildren(...parts);
    at('trace').setAttribute('aria-label', `${found.name} of unit ${unit} over the text, from ${low.toFixed(3)} to ${high.toFixed(3)}`);
    const layer = facts.layers[at('layer').value];
    const follows = facts.follows.filter((name, n) => layer.follows[n] && Math.abs(layer.follows[n][unit]) > 0.3)
      .map((name) => `${name} (${layer.follows[facts.follows.indexOf(name)][unit].toFixed(2)})`);
    at('of-unit').textContent = `unit ${unit}: ` + (layer.memory[unit] !== undefined ? `remembers ${layer.memory[unit]} tokens` : '') +
      (follows.length ? '; follows ' + follows.join(', ') : '');
  }
  for (const id of ['layer', 'channel', 'sort']) at(id).addEventListener('change', paint);
  at('unit').addEventListener('input', trace);
  at('measure').addEventListener('change', draw);
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', paint);
  addEventListener('resize', draw);
  const explained = facts.causes.map((cause) => facts.place[cause.token]).sort((a, b) => tokens[b].nats - tokens[a].nats);
  choose(explained.length ? explained[0] : Math.min(1, tokens.length - 1));
})();
