"""The report in a real browser: no complaint, every drawing seen, no words outside of their drawing."""

import json
import re
import shutil
import subprocess
from html import unescape

import pytest
from simulate.lowered import recurrent

from nnaq.report import Layer, Report
from nnaq.simulate import simulate
from nnaq.targets import load_target

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
BROWSER = next(filter(None, map(shutil.which, BROWSERS)), None)
LOOK = """<script>
window.addEventListener("load", () => {
  const seen = [...document.querySelectorAll("svg")].map(svg => {
    const page = svg.getBoundingClientRect(), box = svg.viewBox.baseVal;
    const outside = [...svg.querySelectorAll("text")].filter(t => {
      const b = t.getBBox();
      return b.x < -1 || b.y < -1 || b.x + b.width > box.width + 1 || b.y + b.height > box.height + 1;
    });
    const title = svg.closest("section").querySelector("h2").textContent;
    const shapes = svg.querySelectorAll("rect, circle").length;
    return {title, width: page.width, height: page.height, shapes,
            outside: outside.map(t => t.textContent)};
  });
  const found = document.createElement("pre");
  found.id = "seen";
  found.textContent = JSON.stringify({drawings: seen, width: document.documentElement.scrollWidth});
  document.body.append(found);
});
</script>"""


@pytest.fixture(scope="module")
def page() -> str:
    step = simulate(recurrent(features=257, units=128), load_target("edge8"), {"T": 20}, "none")
    layers = [
        Layer(c.name, c.op, 9.5 * n, 12.0, 8, 8, c.cycles, c.bound) for n, c in enumerate(step.costs, start=1)
    ]
    return Report("m", "edge8", "r", {"nnaq": "0"}, layers=layers).to_html(step)


@pytest.mark.skipif(BROWSER is None, reason=f"no browser here: none of {', '.join(BROWSERS)} is installed")
def test_a_browser_shows_every_drawing_and_has_nothing_to_complain_of(page, tmp_path):
    (tmp_path / "report.html").write_text(page.replace("</body>", f"{LOOK}</body>"), encoding="utf-8")
    words = [
        *("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--window-size=1100,900"),
        *("--no-first-run", "--disable-background-networking", "--disable-component-update"),
        *("--enable-logging=stderr", "--virtual-time-budget=2000", f"--user-data-dir={tmp_path / 'profile'}"),
        *("--dump-dom", (tmp_path / "report.html").as_uri()),
    ]
    said = subprocess.run([BROWSER, *words], capture_output=True, text=True, timeout=120, check=True)
    assert "CONSOLE" not in said.stderr, said.stderr
    seen = json.loads(unescape(re.search(r'<pre id="seen">(.*?)</pre>', said.stdout, re.DOTALL)[1]))
    drawings = {d["title"]: d for d in seen["drawings"]}
    assert list(drawings) == [
        "Signal to quantisation noise by layer, worst first",
        "Cycles of one step by operator",
        "One step, engine by engine",
        "Where the cycles go",
        "Roofline",
        "SRAM over time",
    ]
    for drawing in drawings.values():
        assert drawing["width"] > 300 and drawing["height"] > 40 and drawing["shapes"] > 1, drawing
        assert drawing["outside"] == []
    assert seen["width"] <= 1100
