"""The page that classifies, in a browser without a network: the classes of ONNX Runtime, the pixels of Pillow."""

import json
import re
import shutil
import subprocess
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from scripts import predict
from scripts.npm import REGISTRY
from scripts.page.__main__ import HERE, build
from src.core.errors import UserError
from src.export.runtime import session

OFFLINE = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"
OPTIONS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--enable-logging=stderr", OFFLINE)
LOOK = """
const lines = document.querySelector("#results").children;
const dataTransfer = new DataTransfer();
dataTransfer.items.add(new File(["text"], "no-picture.jpg"));
for (const button of document.querySelectorAll("#images button")) button.click();
dispatchEvent(new DragEvent("drop", { dataTransfer }));
while (lines.length < 22) await new Promise((resolve) => setTimeout(resolve, 20));
const { data } = await scaled((await fetch("pareto_latency.png")).blob(), 32);
console.log(JSON.stringify({ data: [...data], lines: [...lines].map((line) => line.innerText.split("\\n")) }));
close();
"""


def test_browser_without_a_network(tmp_path, monkeypatch):
    monkeypatch.chdir(HERE.parents[1])
    monkeypatch.setattr("scripts.npm.RETRIES", 0)
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or pytest.skip("no chromium on PATH")
    page = tmp_path / "page"
    try:
        build(page)
    except UserError as error:
        pytest.skip(str(error)) if REGISTRY in str(error) else pytest.fail(str(error))
    assert sum(path.stat().st_size for path in page.rglob("*")) < 20e6
    with (page / "page.js").open("a") as script:
        script.write(LOOK)
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=page)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        place = (f"--user-data-dir={tmp_path / 'profile'}", f"http://127.0.0.1:{server.server_port}")
        told = subprocess.run((chromium, *OPTIONS, *place), capture_output=True, text=True, timeout=300).stderr
        server.shutdown()
    (found,) = re.findall(r'CONSOLE.*?\] "(.*)", source: ', told)  # a second line would be an error
    data, lines = json.loads(found).values()
    pixels = np.reshape(data, (32, 32, 4))[..., :3].transpose(2, 0, 1)[None]
    assert np.abs(pixels - 255 * predict.prepare(page / "pareto_latency.png")).max() < 0.5
    network = session(predict.MODEL)
    images = [predict.prepare(path) for path in sorted(page.glob("images/*.png"))]
    wanted = [predict.CLASSES[network.run(None, {"images": image})[0].argmax()] for image in images]
    assert [line[1].split()[0] for line in lines[-2:0:-1]] == wanted
    assert re.fullmatch("no-picture.jpg cannot be classified: .+", *lines[0])
