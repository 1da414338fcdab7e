"""Build a page that classifies pictures in the browser: python -m scripts.page.

The folder page/ then holds all that it needs: any static server will do, and no network. Its runtime comes from the
npm registry; the archive of 33 MB is kept in scratch/.
"""

import argparse
import gzip
import shutil
from pathlib import Path

import numpy as np
import onnxruntime
from jinja2 import StrictUndefined, Template

from scripts.npm import Package, contents_of
from scripts.predict import MODEL
from scripts.report import __main__ as report
from scripts.report import sections
from scripts.revision import open_revision
from src.core.errors import exit_cleanly
from src.core.files import atomic, read_csv
from src.data.cifar import CLASSES
from src.data.fetch import SAMPLE
from src.data.look import opened
from src.data.prepared import rank_in_class
from src.export.runtime import class_names, session
from src.results.comparison import COMPARISON

OUT = Path("page")
HERE = Path(__file__).parent
ONNXRUNTIME = Package(  # the archive holds no license; those of the wheel for Python are the same
    "onnxruntime-web",
    "1.30.0",
    "d2228df7e4616bc3348bf504ee888f3bec43789a273f0a63f3e68d203ce3bf71",
    "MIT",
    ("dist/ort.wasm.bundle.min.mjs", "dist/ort-wasm-simd-threaded.wasm"),
)
LICENSES = [Path(onnxruntime.__file__).with_name(name) for name in ("LICENSE", "ThirdPartyNotices.txt")]
COPIED = (MODEL, Path("plots/pictures/pareto_latency.png"), report.FOLDER / "page.css", HERE / "page.js", *LICENSES)


def main() -> None:
    """Build the folder and say how to open it."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    build(OUT)
    print(f"{OUT}: run `python -m http.server -d {OUT}` and open http://localhost:8000")


def build(out: Path) -> None:
    """Write the folder ``out``; `UserError` if the runtime cannot be had, or if a file is missing or damaged."""
    rows = {row["recipe"]: row for row in read_csv(COMPARISON, "recipe", "test_accuracy")}
    numbers = sections.headline(rows, sections.test_images(open_revision(None).dataset()))
    classes = tuple(class_names(session(MODEL, threads=1)) or CLASSES)
    values = {"numbers": numbers, "classes": classes, "runtime": ONNXRUNTIME.title}
    script, wasm = contents_of(ONNXRUNTIME)
    with atomic(out) as folder:
        folder.mkdir()
        for source in filter(Path.exists, (*COPIED, report.OUT)):
            shutil.copy(source, folder)
        # Not .mjs, whose type some servers do not know, nor .gz, which with some is unpacked before the page does it
        (folder / "runtime.js").write_bytes(script)
        (folder / "runtime.wasm.gzip").write_bytes(gzip.compress(wasm, mtime=0))
        values["labels"] = write_images(folder / "images") if classes == CLASSES else []
        values["files"] = [path.name for path in folder.iterdir()]
        text = (HERE / "index.html.jinja").read_text(encoding="utf-8")
        page = Template(text, autoescape=True, undefined=StrictUndefined, trim_blocks=True).render(values)
        (folder / "index.html").write_text(page, encoding="utf-8", newline="\n")


def write_images(folder: Path) -> list[str]:
    """Write two test images of each class in the sample as ``folder``/00.png and so on; return their classes."""
    with opened(SAMPLE) as sample:
        test = [sample.parts["test"][index] for index in range(len(sample.parts["test"]))]
    labels = np.array([label for _, label in test])
    chosen = np.flatnonzero(rank_in_class(labels) < 2)
    chosen = chosen[np.argsort(labels[chosen], kind="stable")]
    folder.mkdir()
    for number, index in enumerate(chosen):
        test[index][0].save(folder / f"{number:02}.png")
    return [CLASSES[label] for label in labels[chosen]]


if __name__ == "__main__":
    exit_cleanly(main)
