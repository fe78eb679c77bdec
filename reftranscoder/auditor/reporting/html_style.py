"""How the page of a report looks: by day, by night and on paper."""

CSS = """
:root {
  --paper: #fbfaf8; --ink: #1f2328; --faint: #6b7280; --rule: #e2dfd8; --card: #ffffff;
  --bar: #7c9cbf; --good: #1a7f4b; --fault: #c42b1c; --care: #9a6700; --named: #3257c0;
  --none: #6b7280; --mark: #f3c98b;
}
@media screen and (prefers-color-scheme: dark) {
  :root {
    --paper: #15171a; --ink: #e6e4df; --faint: #9aa1ab; --rule: #33373d; --card: #1c1f23;
    --bar: #5f83ab; --good: #57c78b; --fault: #ff7b6b; --care: #e0b050; --named: #8facff;
    --none: #9aa1ab; --mark: #7a4f16;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, "Segoe UI", "Helvetica Neue", "DejaVu Sans", sans-serif;
}
main { max-width: 62rem; margin: 0 auto; padding: 2rem 1.5rem 3rem; }
h1 { font-size: 1.5rem; margin: 0 0 .6rem; }
header { margin: 0 0 2rem; }
h2, section h1 {
  font-size: 1.25rem; margin: 0 0 .4rem; display: flex; gap: .8rem; align-items: center;
}
h3 { font-size: .95rem; margin: 1.3rem 0 .3rem; }
p { margin: .4rem 0; max-width: 52rem; overflow-wrap: anywhere; }
a { color: var(--named); }
section {
  background: var(--card); border: 1px solid var(--rule); border-radius: 10px;
  padding: 1.4rem 1.6rem; margin: 0 0 1.5rem;
}
.sentence { font-size: 1.08rem; margin: 0 0 1rem; overflow-wrap: anywhere; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .22rem .9rem .22rem 0; vertical-align: middle; }
thead th {
  font-weight: 500; color: var(--faint); font-size: .82rem; vertical-align: bottom;
  border-bottom: 1px solid var(--rule);
}
tbody th { font-weight: 500; }
tbody th, td.number { font-family: ui-monospace, "DejaVu Sans Mono", monospace; }
tbody th, td.number { font-size: .87rem; }
th.number, td.number { text-align: right; white-space: nowrap; }
.stages tbody tr { border-bottom: 1px solid var(--rule); }
.stages tbody tr:has(+ .detail) { border-bottom: 0; }
.stages tbody tr:last-child { border-bottom: 0; }
.stages td:last-child, .stages th:last-child { padding-right: 0; width: 370px; }
.detail td { padding: 0 0 .5rem; color: var(--faint); font-size: .87rem; }
tr.fault + .detail td { color: var(--fault); }
.overview td { vertical-align: top; border-bottom: 1px solid var(--rule); }
.ties { width: auto; } .ties td, .ties th { padding-right: 2rem; }
.verdict { white-space: nowrap; color: var(--good); }
.verdict b { display: inline-block; width: 1em; text-align: center; }
.verdict.fault { color: var(--fault); font-weight: 600; }
.verdict.ambiguous { color: var(--care); }
.verdict.convention { color: var(--named); }
.verdict.cannot-tell, .verdict.not-judged { color: var(--none); }
.outcome {
  font-size: .8rem; font-weight: 600; padding: .1rem .6rem; border-radius: 1rem;
  border: 1px solid currentColor; color: var(--good); white-space: nowrap;
}
.outcome.fault { color: var(--fault); }
.outcome.convention { color: var(--named); }
.outcome.cannot-tell { color: var(--care); }
.warnings { margin: .3rem 0; padding-left: 1.1rem; }
.warnings li::marker { color: var(--care); content: "▲  "; font-size: .75em; }
abbr { text-decoration: none; cursor: help; }
svg { display: block; }
svg text { font: 10px ui-monospace, "DejaVu Sans Mono", monospace; fill: var(--faint); }
.said { fill: var(--good); }
.bar { fill: var(--bar); } .bar.beyond { fill: var(--fault); }
.grid { stroke: var(--rule); stroke-width: 1; }
.bound { stroke: var(--ink); stroke-width: 1.5; }
.tier { stroke-width: 1.2; stroke-dasharray: 3 2; stroke: var(--care); }
.tier-C { stroke: var(--good); }
footer p { color: var(--faint); font-size: .84rem; }
@media (max-width: 40rem) {
  main { padding: 1rem .6rem 2rem; } section { padding: 1rem .9rem; }
}
@media print {
  :root { --paper: #fff; --card: #fff; --ink: #000; --rule: #bbb; --faint: #444; }
  body { font-size: 11px; } main { max-width: none; padding: 0; }
  section { border: 0; padding: 0; break-inside: avoid-page; }
  .stages tr { break-inside: avoid; } .wide { overflow: visible; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
}
"""
