'use strict';
(() => {
  // Nothing of the image becomes markup: names are set as text, and numbers are numbers.
  const data = JSON.parse(document.getElementById('data').textContent);
  const NAME = 0, BYTES = 1, FILES = 2, LAYER = 3, REACHED = 4, KIND = 5, PARTS = 6;
  const FOLDER = 0, FILE = 1, OTHERS = 2, LAYERS = 3, HIDDEN = 4;
  const TITLE = 16, SEEN = 1.5;
  const SVG = 'http://www.w3.org/2000/svg';
  const sections = [...document.querySelectorAll('section.map')];
  if (!sections.length) return;

  const make = (tag, parent, attributes, text) => {
    const made = tag === 'svg' || tag === 'g' || tag === 'rect' || tag === 'text'
      ? document.createElementNS(SVG, tag) : document.createElement(tag);
    for (const [key, value] of Object.entries(attributes || {})) made.setAttribute(key, value);
    if (text !== undefined) made.textContent = text;
    if (parent) parent.append(made);
    return made;
  };

  const size = (bytes) => {
    if (bytes < 1024) return bytes + ' B';
    const units = ['KiB', 'MiB', 'GiB', 'TiB', 'PiB'];
    let unit = -1;
    do { bytes /= 1024; unit += 1; } while (bytes >= 1023.95 && unit < units.length - 1);
    return bytes.toFixed(1) + ' ' + units[unit];
  };

  // Rectangles as near to squares as can be, in the order of their bytes: Bruls, Huizing and van Wijk.
  const areas = (sizes, area) => {
    const total = sizes.reduce((sum, one) => sum + one, 0);
    const found = [];
    let {x, y, w, h} = area;
    const scale = total > 0 ? w * h / total : 0;
    let at = 0;
    const worst = (sum, largest, smallest, short) => {
      const side = short * short, square = sum * sum;
      return side > 0 && square > 0 && smallest > 0
        ? Math.max(side * largest / square, square / (side * smallest)) : Infinity;
    };
    while (at < sizes.length) {
      const short = Math.min(w, h);
      const first = sizes[at] * scale;
      let sum = first, end = at + 1;
      while (end < sizes.length) {
        const next = sizes[end] * scale;
        if (worst(sum + next, first, next, short) > worst(sum, first, sizes[end - 1] * scale, short)) break;
        sum += next;
        end += 1;
      }
      const upright = w >= h;
      const thick = short > 0 ? Math.min(sum / short, Math.max(w, h)) : 0;
      let along = 0;
      for (; at < end; at += 1) {
        const length = sum > 0 ? short * sizes[at] * scale / sum : 0;
        found.push(upright ? {x, y: y + along, w: thick, h: length} : {x: x + along, y, w: length, h: thick});
        along += length;
      }
      if (upright) { x += thick; w = Math.max(0, w - thick); } else { y += thick; h = Math.max(0, h - thick); }
    }
    return found;
  };

  const legend = document.querySelector('.legend');

  // The shown map, and the way from its root to the part that fills the view.
  let shown = 0, way = [data.maps[0].root], color = 'layer';

  const title = (node, index) => {
    if (node[KIND] === OTHERS) return 'others';
    if (node[KIND] === HIDDEN) return 'hidden by later layers';
    if (node[KIND] === LAYERS) return (node[LAYER] + 1) + ' ' + node[NAME];
    return index === 0 ? 'all' : node[NAME];
  };
  const path = (nodes) => '/' + nodes.slice(1)
    .filter((node) => node[KIND] === FOLDER || node[KIND] === FILE).map((node) => node[NAME]).join('/');
  const percent = (node) => {
    const all = data.maps[shown].root[BYTES];
    return all > 0 ? (node[BYTES] * 100 / all).toFixed(1) + ' %' : '';
  };
  const reached = (node) => node[REACHED] !== null && node[REACHED] * 2 >= node[BYTES] && node[BYTES] > 0;

  const details = (nodes) => {
    const node = nodes[nodes.length - 1];
    const parts = [size(node[BYTES]) + ', ' + percent(node)];
    if (node[FILES] > 0) parts.push(node[FILES] === 1 ? '1 file' : node[FILES] + ' files');
    if (node[KIND] === OTHERS) parts.unshift('small ones, gathered');
    if (node[KIND] === HIDDEN) parts.unshift('removed or replaced by later layers');
    if (data.reached && node[REACHED] !== null && node[KIND] !== HIDDEN) {
      parts.push(node[REACHED] === node[BYTES] ? 'reached' : node[REACHED] === 0 ? 'not reached' : size(node[REACHED]) + ' reached');
    }
    if (node[LAYER] >= 0 && nodes.length > 1) {
      const made = data.layers[node[LAYER]];
      parts.push((node[PARTS].length && node[KIND] !== LAYERS ? 'mostly ' : '') + 'layer ' + (node[LAYER] + 1) + (made ? ': ' + made : ''));
    }
    return parts.join(' · ');
  };

  const first = sections[0];
  const view = first.querySelector('.view');
  sections.slice(1).forEach((section) => section.remove());
  const heading = first.querySelector('h2');
  heading.textContent = 'Where the bytes are';
  const bar = make('div', null, {class: 'bar'});
  const crumbs = make('nav', null, {class: 'crumbs', 'aria-label': 'Zoomed to'});
  view.before(bar, crumbs);
  const detail = make('p', null, {class: 'detail', id: 'detail', 'aria-live': 'polite'});
  view.after(detail);

  const choice = (name, words, chosen, act) => {
    const set = make('fieldset', bar);
    make('legend', set, {}, name);
    words.forEach(([value, text]) => {
      const label = make('label', set);
      const input = make('input', label, {type: 'radio', name, value});
      input.checked = value === chosen;
      input.addEventListener('change', () => act(value));
      label.append(' ' + text);
    });
  };
  if (data.maps.length > 1) {
    choice('Map', data.maps.map((map, index) => [String(index), map.title]), '0', (value) => {
      shown = Number(value);
      way = [data.maps[shown].root];
      draw();
    });
  }
  if (data.reached) {
    choice('Color', [['layer', 'layer'], ['reached', 'reached by the program']], 'layer', (value) => {
      color = value;
      if (legend) legend.hidden = color !== 'reached';
      draw();
    });
  }

  const tell = (nodes) => {
    detail.replaceChildren();
    const last = nodes[nodes.length - 1];
    const name = last[KIND] === OTHERS || last[KIND] === HIDDEN ? path(nodes) + ' (' + title(last) + ')' : path(nodes);
    make('b', detail, {}, name);
    detail.append(' ' + details(nodes));
  };

  const zoom = (nodes, focus) => {
    way = nodes;
    draw();
    if (focus) {
      const target = view.querySelector('.zooms') || crumbs.lastElementChild;
      if (target) target.focus();
    }
  };

  const fill = (node) => {
    if (node[PARTS].length) return 'folder';
    if (node[KIND] === HIDDEN) return 'hidden';
    const more = node[KIND] === OTHERS ? ' others' : '';
    if (color === 'reached') return (reached(node) ? 'reached' : 'left') + more;
    return 'c' + (node[LAYER] < 0 ? 0 : node[LAYER] % data.colors) + more;
  };

  // Draws a part into its area. Of the parts of the one that fills the view, those with parts of their own can be zoomed into.
  const part = (parent, nodes, area, depth) => {
    if (area.w < SEEN || area.h < SEEN) return;
    const node = nodes[nodes.length - 1];
    const opens = node[PARTS].length > 0 && depth > 0;
    const group = make('g', parent, opens ? {class: 'zooms'} : {});
    if (opens && depth === 1) {
      group.setAttribute('tabindex', '0');
      group.setAttribute('role', 'button');
      group.setAttribute('aria-label', title(node, nodes.length - 1) + ', ' + size(node[BYTES]) + ': zoom in');
    }
    const rect = make('rect', group, {
      class: fill(node), x: area.x.toFixed(2), y: area.y.toFixed(2), width: area.w.toFixed(2), height: area.h.toFixed(2),
    });
    rect.nodes = nodes;
    group.nodes = nodes;
    let inner = {x: area.x + 1, y: area.y + 1, w: Math.max(0, area.w - 2), h: Math.max(0, area.h - 2)};
    if (depth === 0) inner = area;
    const room = Math.floor((area.w - 8) / 6.7);
    if (depth > 0 && room >= 3 && area.h >= TITLE + 4) {
      const name = title(node, nodes.length - 1);
      const whole = [...name];
      const label = whole.length > room ? whole.slice(0, room - 1).join('') + '…' : name;
      const text = make('text', group, {x: (area.x + 4).toFixed(2), y: (area.y + 12).toFixed(2)}, label);
      if (node[PARTS].length) {
        text.setAttribute('class', 'head');
        inner = {x: area.x + 2, y: area.y + TITLE, w: Math.max(0, area.w - 4), h: Math.max(0, area.h - TITLE - 2)};
      } else if (area.h >= 2 * TITLE && room >= size(node[BYTES]).length) {
        make('text', group, {x: (area.x + 4).toFixed(2), y: (area.y + 26).toFixed(2)}, size(node[BYTES]));
      }
    }
    const found = areas(node[PARTS].map((one) => one[BYTES]), inner);
    node[PARTS].forEach((one, index) => part(group, [...nodes, one], found[index], depth + 1));
  };

  const draw = () => {
    const w = Math.max(200, view.clientWidth);
    const h = Math.round(Math.min(Math.max(320, innerHeight * 0.62), Math.max(360, w * 0.9)));
    const svg = make('svg', null, {
      viewBox: '0 0 ' + w + ' ' + h, width: w, height: h, role: 'group', 'aria-label': 'Map of the bytes: each part as large as its bytes',
      'aria-describedby': 'detail',
    });
    part(svg, way, {x: 0, y: 0, w, h}, 0);
    view.replaceChildren(svg);
    crumbs.replaceChildren();
    way.forEach((node, index) => {
      if (index) make('span', crumbs, {'aria-hidden': 'true'}, '›');
      const button = make('button', crumbs, {type: 'button'}, title(node, index));
      if (index === way.length - 1) button.setAttribute('aria-current', 'true');
      button.addEventListener('click', () => zoom(way.slice(0, index + 1), false));
    });
    tell(way);
    document.documentElement.dataset.drawn = way.length;
  };

  let marked = null;
  const mark = (rect) => {
    if (marked) marked.classList.remove('at');
    marked = rect;
    if (rect) rect.classList.add('at');
    tell(rect ? rect.nodes : way);
  };
  view.addEventListener('pointerover', (event) => mark(event.target.nodes && event.target.nodes.length > way.length ? event.target : null));
  view.addEventListener('pointerleave', () => mark(null));
  view.addEventListener('focusin', (event) => { if (event.target.nodes) tell(event.target.nodes); });
  view.addEventListener('click', (event) => {
    let nodes = event.target.nodes;
    if (!nodes) return;
    if (!nodes[nodes.length - 1][PARTS].length) nodes = nodes.slice(0, -1);
    if (nodes.length > way.length) zoom(nodes, false);
  });
  document.addEventListener('keydown', (event) => {
    const inside = view.contains(event.target) || crumbs.contains(event.target) || event.target === document.body;
    if (!inside || event.ctrlKey || event.altKey || event.metaKey) return;
    if ((event.key === 'Enter' || event.key === ' ') && event.target.nodes) {
      event.preventDefault();
      zoom(event.target.nodes, true);
    } else if ((event.key === 'Escape' || event.key === 'Backspace') && way.length > 1) {
      event.preventDefault();
      zoom(way.slice(0, -1), true);
    }
  });
  let waits = 0;
  addEventListener('resize', () => { cancelAnimationFrame(waits); waits = requestAnimationFrame(draw); });
  draw();
})();
