"""The report's style sheet: light and dark, desktop and phone, no font or image from outside."""

STYLE = """
:root{--bg:#f6f4f0;--card:#fff;--ink:#1d1a16;--soft:#645d53;--line:#e2ddd3;--accent:#a8480f;--accent2:#f3dfd0;
--good:#1c6e46;--bad:#ab2a2a;--s0:#1f6fb5;--s1:#d2691e;--s2:#2a8a5b;--s3:#8a4fb0;--s4:#b0336b;--s5:#57606a;color-scheme:light}
@media (prefers-color-scheme:dark){:root{--bg:#14120f;--card:#1e1b17;--ink:#f0ebe3;--soft:#a89f92;--line:#37322b;
--accent:#f0955a;--accent2:#43291a;--good:#6fcf9c;--bad:#f08a84;--s0:#6db3f2;--s1:#f2a15f;--s2:#6fcf9c;--s3:#c79be6;
--s4:#f08bb4;--s5:#b4bcc6;color-scheme:dark}}
*{box-sizing:border-box}
body{margin:0;background:var(--bg);color:var(--ink);font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
main,header>div,footer>div{max-width:1180px;margin:0 auto;padding:0 24px}
header{background:var(--card);border-bottom:1px solid var(--line);padding:28px 0 30px}
.brand{display:flex;flex-wrap:wrap;gap:6px 14px;align-items:baseline;color:var(--soft);font-size:14px}
.brand b{color:var(--accent);font-size:20px;letter-spacing:-.02em}
.brand code{overflow-wrap:anywhere}
h1{font-size:clamp(26px,3.6vw,40px);line-height:1.15;letter-spacing:-.02em;margin:22px 0 8px;
max-width:24em;font-weight:700}
h1 em{font-style:normal;color:var(--accent);white-space:nowrap}
h1 small{font-size:.55em;font-weight:500;color:var(--soft);letter-spacing:0;white-space:nowrap}
.lead{color:var(--soft);margin:0 0 22px;max-width:62em}
h2{font-size:22px;letter-spacing:-.01em;margin:44px 0 4px}
h3{font-size:15px;margin:0;font-weight:650}
.note,figcaption,.small{color:var(--soft);font-size:13.5px}
.note{margin:0 0 14px;max-width:75em}
.card{background:var(--card);border:1px solid var(--line);border-radius:12px;padding:16px 18px}
.bars{display:grid;grid-template-columns:auto 1fr;gap:10px 16px;align-items:center;max-width:820px}
.bars dt{font-weight:600;font-size:15px}
.bars dd{margin:0;display:flex;align-items:center;gap:12px;min-width:0}
.bars i{display:block;height:20px;border-radius:4px;background:var(--line);min-width:3px;flex:0 0 auto}
.bars .last i{background:var(--accent)}
.bars b{font-variant-numeric:tabular-nums;font-size:18px}
.bars dd>span{white-space:nowrap;color:var(--soft);font-size:14px}
.track{flex:0 1 46%;min-width:40px}
.good,.bars .good{color:var(--good)}.bad,.bars .bad{color:var(--bad)}
.warn{border-left:4px solid var(--bad);margin:24px 0 0}
.warn ul{margin:6px 0 0;padding-left:20px}
.charts{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,340px),1fr));gap:16px;margin-top:12px}
.charts figure{margin:0;min-width:0;display:flex;flex-direction:column}
.charts svg{width:100%;height:auto;margin-top:6px;display:block}
.legend{display:flex;flex-wrap:wrap;gap:2px 14px;font-size:13px;color:var(--soft);list-style:none;
margin:2px 0 0;padding:0}
.legend li::before{content:"";display:inline-block;width:14px;height:3px;border-radius:2px;margin-right:6px;
vertical-align:middle;background:var(--c)}
figcaption{margin-top:2px}
svg text{font:11px system-ui,sans-serif;fill:var(--soft)}
svg .grid{stroke:var(--line);stroke-width:1}svg .axis{stroke:var(--soft);stroke-width:1}
svg .guide{stroke:var(--good);stroke-width:1.2;stroke-dasharray:6 4}
svg .event{stroke:var(--accent);stroke-width:1.2;stroke-dasharray:2 3}svg .eventno{fill:var(--accent);font-weight:700}
svg .line{fill:none;stroke-width:2.2;stroke-linejoin:round;stroke-linecap:round}svg .faint{stroke-width:1;opacity:.3}
.idle{--c:var(--line)}svg .lane{fill:var(--line);opacity:.55}
svg rect.span{fill:var(--c);stroke:var(--card);stroke-width:.6;stroke-dasharray:none}
svg.time{min-width:640px;width:100%;height:auto;display:block;margin:8px 0}figure.wide{margin:12px 0 0}
svg .dot{stroke:var(--card);stroke-width:1}
.s0{stroke:var(--s0);--c:var(--s0)}.s1{stroke:var(--s1);--c:var(--s1)}.s2{stroke:var(--s2);--c:var(--s2)}
.s3{stroke:var(--s3);--c:var(--s3)}.s4{stroke:var(--s4);--c:var(--s4)}.s5{stroke:var(--s5);--c:var(--s5)}
svg .s1{stroke-dasharray:7 3}svg .dot{fill:var(--c);stroke-dasharray:none}
svg .s2{stroke-dasharray:2 4}svg .s3{stroke-dasharray:9 3 2 3}svg .dot.s0,svg .dot.s1,svg .dot.s2,svg .dot.s3{
stroke:var(--card);stroke-dasharray:none}
details{margin-top:8px;font-size:13.5px}summary{cursor:pointer;color:var(--soft)}
summary:focus-visible{outline:2px solid var(--accent);outline-offset:2px}
.scroll{overflow-x:auto;-webkit-overflow-scrolling:touch}
table{border-collapse:collapse;font-size:13.5px;font-variant-numeric:tabular-nums;width:100%}
caption{text-align:left;color:var(--soft);padding:4px 0}
th,td{padding:7px 7px;text-align:right;border-bottom:1px solid var(--line);white-space:nowrap}
th:first-child{text-align:left;position:sticky;left:0;background:var(--card)}
thead th{color:var(--soft);font-weight:600;vertical-align:bottom;white-space:normal;line-height:1.25}
tr.primary th,tr.primary td{font-weight:700;background:var(--accent2)}
.events{padding-left:22px;margin:10px 0 0;font-size:14px}
.gallery{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,540px),1fr));gap:16px;margin-top:12px}
.gallery article{min-width:0}
.shots{display:grid;grid-auto-flow:column;grid-auto-columns:minmax(0,104px);gap:10px;margin-top:10px}
.shots figure{margin:0;min-width:0}
.shots figcaption{font-size:12.5px;line-height:1.3;text-align:center;margin-top:5px}
.shots figcaption b{color:var(--ink);display:block}
.frame{position:relative;line-height:0}
.shots img{display:block;width:100%;height:auto;image-rendering:pixelated;border-radius:5px}
.shots .zoom{margin-top:5px;border:2px solid var(--accent)}
.frame i{position:absolute;border:1.5px solid var(--accent);box-shadow:0 0 0 1px rgba(255,255,255,.6)}
.ref{display:grid;gap:5px}.ref.many{grid-template-columns:1fr 1fr}
.pill{display:inline-block;border:1px solid var(--line);border-radius:99px;padding:0 9px;font-size:12px;
color:var(--soft);margin-left:6px;font-weight:400}
.stack{display:flex;height:26px;border-radius:6px;overflow:hidden;margin:10px 0 8px}
.stack i{background:var(--c);min-width:2px;border-right:1px solid var(--card)}
.facts{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,340px),1fr));gap:2px 28px;margin:0}
.facts div{display:flex;gap:12px;justify-content:space-between;
border-bottom:1px solid var(--line);padding:6px 0;min-width:0}
.facts dt{color:var(--soft);flex:none}.facts dd{margin:0;text-align:right;overflow-wrap:anywhere;font-size:14px}
.facts .wide{grid-column:1/-1}
code{font:13px ui-monospace,SFMono-Regular,Menlo,monospace}
footer{margin:48px 0 30px;color:var(--soft);font-size:13px}
@media (max-width:560px){main,header>div,footer>div{padding:0 16px}.bars{grid-template-columns:1fr;gap:2px}
.bars dd{margin-bottom:10px}.bars .track{flex:0 0 34%}.bars dd>span{white-space:normal}
.shots{gap:5px;grid-auto-columns:minmax(0,1fr)}
.shots figcaption{font-size:11px}.card{padding:14px}}
@media print{body{background:#fff}.card{break-inside:avoid}}
"""
