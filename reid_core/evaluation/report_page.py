"""The report's page: frame and style sheet. Colours are variables, so that light and dark differ in one place."""

from string import Template

STYLE = """
:root {
  color-scheme: light dark;
  --page: #ffffff; --panel: #f6f7f9; --text: #1c2430; --soft: #5b6675; --line: #d9dee5;
  --match: #14834a; --wrong: #c5303a; --ignored: #98a1ad; --accent: #1f5fbf;
  --series-1: #1f5fbf; --series-2: #c2570c; --series-3: #14834a;
  --series-4: #8a3fb0; --series-5: #0d7f8c; --series-6: #a0741a;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #12161c; --panel: #1b212a; --text: #e6eaf0; --soft: #9aa6b5; --line: #333c48;
    --match: #3ecf8a; --wrong: #ff7078; --ignored: #6b7684; --accent: #76aaff;
    --series-1: #76aaff; --series-2: #ff9d57; --series-3: #3ecf8a;
    --series-4: #cf93ef; --series-5: #4fd0dd; --series-6: #e2bd5c;
  }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--text); line-height: 1.5;
  font-family: system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
main, header { max-width: 1248px; margin: 0 auto; padding: 0 24px; }
header { padding-top: 40px; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 4px; overflow-wrap: anywhere; }
h2 { font-size: 1.25rem; margin: 44px 0 12px; padding-bottom: 6px; border-bottom: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 24px 0 8px; }
p { margin: 0 0 12px; } .soft { color: var(--soft); }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
caption { text-align: left; color: var(--soft); padding-bottom: 8px; }
th, td { white-space: nowrap; padding: 8px 16px; border-bottom: 1px solid var(--line); text-align: right; }
thead th { color: var(--soft); font-weight: 600; }
th:first-child { text-align: left; padding-left: 4px; }
.numbers { min-width: min(640px, 100%); font-size: 1.05rem; }
.numbers .best { font-weight: 700; color: var(--accent); }
.settings td { white-space: normal; text-align: left; overflow-wrap: anywhere;
  font-family: ui-monospace, Menlo, Consolas, monospace; }
.settings { font-size: .9rem; } .settings th { font-weight: 500; vertical-align: top; }
.settings th, .settings td { padding: 4px 16px 4px 4px; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(340px, 100%), 1fr)); gap: 20px; }
.plots figure { margin: 0; background: var(--panel); border-radius: 10px; padding: 16px; }
.plots figcaption { font-weight: 600; margin-bottom: 6px; }
.plots svg { width: 100%; max-width: 560px; height: auto; display: block; margin: 0 auto; color: var(--text); }
.plots img { max-width: 100%; height: auto; display: block; margin: 0 auto; border-radius: 6px; }
.plots svg text { font-family: inherit !important; }
.ranked { display: flex; gap: 20px; padding: 14px; margin: 0 0 12px; background: var(--panel); border-radius: 10px;
  break-inside: avoid; }
.ranked > .query { flex: 0 0 116px; border-right: 1px solid var(--line); }
.ranked p { font-size: .8rem; margin: 8px 0 0; }
.ranked ol { list-style: none; display: flex; flex-wrap: wrap; gap: 12px 4px; margin: 0; padding: 0; }
.ranked figure { margin: 0; width: 84px; font-size: .75rem; line-height: 1.35; }
.ranked img { display: block; max-width: calc(100% - 6px); height: auto; border-radius: 3px; box-sizing: content-box;
  border: 3px solid transparent; }
.ranked figure.match img { border-color: var(--match); } .ranked .match b { color: var(--match); }
.ranked figure.wrong img { border-color: var(--wrong); } .ranked .wrong b { color: var(--wrong); }
.ranked figure.ignored img { border: 3px dashed var(--ignored); opacity: .55; }
.ranked figure.ignored figcaption { color: var(--soft); }
.ranked figcaption { margin-top: 3px; }
.key span { display: inline-block; margin-right: 18px; }
.key i { display: inline-block; width: 12px; height: 12px; border: 3px solid; border-radius: 3px; margin-right: 6px;
  vertical-align: -1px; }
footer { max-width: 1248px; margin: 40px auto 32px; padding: 0 24px; color: var(--soft); font-size: .85rem; }
@media (max-width: 560px) { .ranked { flex-direction: column; } .ranked > .query { border: 0; } }
@media print {
  :root { color-scheme: light; --page: #fff; --panel: #fff; --text: #000; --soft: #444; --line: #bbb;
    --match: #14834a; --wrong: #c5303a; --ignored: #888; --accent: #1f5fbf; --series-1: #1f5fbf; --series-2: #c2570c;
    --series-3: #14834a; --series-4: #8a3fb0; --series-5: #0d7f8c; --series-6: #a0741a; }
  body { font-size: 10pt; } .plots { grid-template-columns: 1fr 1fr; gap: 8px; }
  .plots figure { break-inside: avoid; padding: 8px; }
  .ranked figure { width: 49px; font-size: 5pt; } .ranked p { font-size: 7pt; }
  .ranked > .query { flex-basis: 62px; }
  .ranked ol { gap: 4px 2px; } .ranked { gap: 8px; padding: 6px; margin-bottom: 6px; }
  .ranked, .plots figure { border: 1px solid var(--line); }
  h2, h3 { break-after: avoid; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
}
"""

PAGE = Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>$style</style>
</head>
<body>
<header>
<h1>$title</h1>
<p class="soft">$subtitle</p>
</header>
<main>
$sections
</main>
</body>
</html>
""")
