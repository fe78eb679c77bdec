"""What the page of a report adds to the look that all pages share; its colours are theirs."""

CSS = """
.facts { display: grid; gap: .9rem; margin: 1rem 0 0;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 10.5rem), 1fr)); }
.facts dt { color: var(--faint); font-size: .82rem; }
.facts dd { margin: 0; font-size: 1.05rem; font-weight: 600; overflow-wrap: anywhere; }
h1 { overflow-wrap: anywhere; }
.charts { display: grid; gap: 1.2rem 2rem; margin: .8rem 0;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 19rem), 1fr)); }
.charts figure { margin: 0; max-width: 30rem; }
figcaption { font-weight: 600; font-size: .95rem; margin-bottom: .2rem; }
figure svg { width: 100%; height: auto; }
svg text { font-size: 10.5px; }
svg text.label { font-family: system-ui, "Segoe UI", "DejaVu Sans", sans-serif; }
.tick { stroke: var(--faint); stroke-width: 1; }
.line { fill: none; stroke: var(--named); stroke-width: 2; stroke-linejoin: round; }
.dot { fill: var(--named); }
details { margin: .7rem 0; } summary { cursor: pointer; color: var(--named); }
details p, details .wide { margin: .5rem 0; }
.indices { font: .82rem/1.5 ui-monospace, "DejaVu Sans Mono", monospace; overflow-wrap: anywhere; }
.feature { border-top: 1px solid var(--rule); padding: 1rem 0 .4rem; }
.feature h3 { margin: 0 0 .3rem; font-size: 1.05rem; }
.feature > p { margin: .2rem 0 .6rem; }
.texts { font-size: .93rem; } .texts td { vertical-align: top; border-top: 1px solid var(--rule); }
.texts td.number { font-size: .82rem; padding-top: .32rem; }
.texts th.between { color: var(--faint); font: 500 .82rem system-ui, sans-serif;
  padding-top: .7rem; }
.text { width: 100%; white-space: pre-wrap; overflow-wrap: anywhere; padding-right: 0; }
mark { color: inherit; background: none; border-radius: 3px; }
mark.w1 { background: color-mix(in srgb, var(--mark) 25%, transparent); }
mark.w2 { background: color-mix(in srgb, var(--mark) 50%, transparent); }
mark.w3 { background: color-mix(in srgb, var(--mark) 75%, transparent); }
mark.w4 { background: var(--mark); }
mark.at { font-weight: 700; outline: 1.5px solid var(--named); outline-offset: 0; }
@media print {
  section { break-inside: auto; }
  .charts figure, .feature tr { break-inside: avoid; }
  h2, h3, .feature > p { break-after: avoid; }
}
"""
