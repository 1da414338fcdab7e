"""Write the ONNX file of one recipe as a coded file, and prove in a fresh process that it decodes to the same bytes."""

import lzma
import subprocess
import sys
import tempfile
from pathlib import Path

from src.core.errors import UserError
from src.core.files import atomic, write_json
from src.core.params import recipe_name
from src.core.stage import run_stage
from src.export.coded import bits_by_tensor, encode
from src.export.measured import CODED
from src.export.runtime import FILES, session


def main() -> None:
    """Write models/coded/RECIPE.coded; print its size, that of the ONNX file in xz, and the bits per weight by layer.

    The numbers also go to models/coded/RECIPE.json.
    """
    name = recipe_name("coded", __doc__)
    source, file = FILES / f"{name}.onnx", CODED / f"{name}.coded"
    session(source, threads=1)  # says what is wrong with it
    content = source.read_bytes()
    with atomic(file) as temporary:
        temporary.write_bytes(encode(content))
        if decoded(temporary) != content:
            raise UserError(f"{file}: does not decode to {source}")
    sizes = {"coded_bytes": file.stat().st_size, "xz_bytes": len(lzma.compress(content))}
    bits = bits_by_tensor(content)
    write_json(CODED / f"{name}.json", {"recipe": name, **sizes, "bits_per_weight": bits})
    print(
        f"coded {name}: {sizes['coded_bytes']:,} of {len(content):,} bytes (xz {sizes['xz_bytes']:,}); bits per weight:"
    )
    print(*(f"{value:6.2f}  {tensor.partition('.weight')[0]}" for tensor, value in bits.items()), sep="\n")


def decoded(file: Path) -> bytes:
    """Return what the decoder, in a process of its own, makes of ``file``; b"" if it fails, which it says itself."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "decoded.onnx")
        subprocess.run([sys.executable, "-m", "src.export.decode", file, out], check=False)
        return out.read_bytes() if out.exists() else b""


if __name__ == "__main__":
    run_stage(main)
