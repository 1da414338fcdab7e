"""Fetching the data: from a local HTTP server that fails in several ways, from hostile archives, from folders."""

import errno
import hashlib
import io
import shutil
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pooch
import pytest

from src.core.errors import UserError, exit_cleanly
from src.data import raw as raw_module
from src.data.cifar import LAYOUTS
from src.data.fetch import LOCAL_COPY, OFFICIAL_SITE, SAMPLE, DownloadSettings, Site, fetch
from src.data.prepared import load_arrays
from stages import download as stage

ROOT = Path(__file__).resolve().parent.parent
NAME = "cifar-10-binary.tar.gz"
FILES = (*LAYOUTS[0].train, LAYOUTS[0].test)
CONTENT = {
    name: b"".join(bytes([i, *np.random.default_rng(i).bytes(3072)]) for i in range(n, n + 2))
    for n, name in enumerate(FILES)
}
FORM = {"side": 32, "fit": "stretch", "unreadable": "stop"}
RAW = Path("data/raw")
STORED = ["dataset_info.json", "test.npz", "train.npz"]


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    """Work in an empty folder, and without the variable that names a local copy."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(LOCAL_COPY, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def digest(content=CONTENT):
    """The SHA-256 over those of label, size and pixels of each image in order, which names the edition."""
    digests = []
    for start in range(0, 12 * 3073, 3073):
        label, *pixels = b"".join(content.values())[start : start + 3073]
        interleaved = np.array(pixels, np.uint8).reshape(3, -1).T.tobytes()
        digests.append(hashlib.sha256(f"{label} 32 32 ".encode() + interleaved).digest())
    return hashlib.sha256(b"".join(digests)).hexdigest()


@pytest.fixture
def official(monkeypatch):
    """Let the official edition be that of the files in this test."""
    monkeypatch.setattr(raw_module, "EDITIONS", {digest(): "official"})


def get(source, raw=RAW, site=OFFICIAL_SITE):
    """Fetch ``source``, which may be a path; what is known of it."""
    given = {"source": source, "path": "unused"} if source == "official" else {"source": "path", "path": source}
    return fetch(DownloadSettings(**given, **FORM), raw, site)[0]


def tar(path, content=CONTENT, top="cifar-10-batches-bin/", extra=()):
    """Write an archive with ``content`` and the members ``extra``; return its path."""
    with tarfile.open(path, f"w:{path.suffix[1:]}") as archive:
        for name, data in content.items():
            member = tarfile.TarInfo(top + name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
        for member in extra:
            archive.addfile(member, io.BytesIO(bytes(member.size)))
    return path


def folder(path, content=CONTENT):
    path.mkdir(parents=True)
    for name, data in content.items():
        (path / name).write_bytes(data)
    return path


def member(name, kind=tarfile.REGTYPE, target=""):
    made = tarfile.TarInfo(name)
    made.type, made.linkname, made.size = kind, target, 3 if kind == tarfile.REGTYPE else 0
    return made


def contents(raw=RAW):
    """The records in ``raw``, by file, as they were in the binary form."""
    arrays = {name: load_arrays(name, raw) for name in ("train", "test")}
    records = {
        name: [bytes([label]) + image.tobytes() for image, label in zip(images, labels, strict=True)]
        for name, (images, labels) in arrays.items()
    }
    train = [b"".join(records["train"][start : start + 2]) for start in range(0, len(records["train"]), 2)]
    return dict(zip(FILES, [*train, b"".join(records["test"])], strict=True))


def refused(source, match, site=OFFICIAL_SITE):
    """Assert that ``source`` is refused, and that no new file is left.

    The message for the official source lists three ways out; for others it is one line.
    """
    before = sorted(Path().rglob("*"))
    with pytest.raises(UserError, match=match) as caught:
        get(source, site=site)
    _, *others = str(caught.value).splitlines()
    if source == "official":
        for way in ("retry", f"{LOCAL_COPY}=/path/to/", "download.source to sample"):
            assert way in str(others)
    else:
        assert others == []
    assert caught.value.exit_code == 1
    assert [path for path in sorted(Path().rglob("*")) if path not in before] in ([], [Path("data")])


class Handler(BaseHTTPRequestHandler):
    """Answers the first request by the first of the server's ``behaviors``, and so on; the last one is repeated."""

    def do_GET(self):
        server = self.server
        behavior = server.behaviors[min(server.requests, len(server.behaviors) - 1)]
        server.requests += 1
        if behavior == "missing":
            return self.send_error(404)
        body = {"wrong": b"X" + server.archive[1:]}.get(behavior, server.archive)
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body if behavior in ("good", "wrong") else body[: len(body) // 2])
        if behavior == "stalled":
            self.wfile.flush()
            server.over.wait(20)
        return None

    def log_message(self, *_):
        pass


@pytest.fixture
def server(tmp_path_factory):
    """A local server; set ``behaviors``, read ``requests``; ``site()`` is its address."""
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    httpd.archive = tar(tmp_path_factory.mktemp("site") / NAME).read_bytes()
    httpd.behaviors, httpd.requests, httpd.over = ["good"], 0, threading.Event()
    url = f"http://127.0.0.1:{httpd.server_port}/{NAME}"
    md5 = hashlib.md5(httpd.archive).hexdigest()
    httpd.site = lambda retries=0, timeout=30: Site(url, md5, timeout=timeout, retries=retries)
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield httpd
    httpd.over.set()
    httpd.shutdown()
    thread.join()
    httpd.server_close()


@pytest.mark.usefixtures("official")
def test_download_replaces_the_old_files_with_the_images_of_the_six_files(server, capfd):
    folder(RAW, {"stale.bin": b"stale"})
    get("official", site=server.site())
    assert contents() == CONTENT
    assert [path.name for path in Path("data").iterdir()] == ["raw"]
    assert sorted(path.name for path in RAW.iterdir()) == STORED
    assert "100%" in capfd.readouterr().err


@pytest.mark.usefixtures("official")
@pytest.mark.parametrize("first", ["missing", "truncated", "stalled", "wrong"])
def test_download_is_tried_again(server, first):
    server.behaviors = [first, "good"]
    get("official", site=server.site(retries=1, timeout=3 if first == "stalled" else 30))
    assert contents() == CONTENT
    assert server.requests == 2


@pytest.mark.usefixtures("official")
@pytest.mark.parametrize(
    ("behavior", "complaint"),
    [
        ("missing", "404"),
        ("truncated", "IncompleteRead|more expected"),
        ("stalled", "timed out"),
        ("wrong", "MD5"),
    ],
)
def test_bad_download_is_reported_and_leaves_no_file(server, behavior, complaint):
    server.behaviors = [behavior]
    site = server.site(timeout=0.5 if behavior == "stalled" else 30)
    refused("official", f"{NAME}: cannot be downloaded: .*({complaint})", site)


def test_bad_download_keeps_the_old_files(server):
    server.behaviors = ["truncated"]
    get(str(folder(Path("mine"))))
    refused("official", "cannot be downloaded", server.site())
    assert contents() == CONTENT


def test_unreachable_site_is_reported(server):
    site = server.site()
    server.shutdown()
    server.server_close()
    refused("official", "cannot be downloaded: .*refused", site)


def test_download_of_other_bytes_is_refused(server):
    refused("official", f"{NAME}: not the official edition of CIFAR-10; its images or labels differ", server.site())


def test_full_disk_while_downloading_is_reported(server, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(pooch.HTTPDownloader, "__call__", full)
    refused("official", "cannot be downloaded: No space left on device", server.site())


def test_full_disk_while_writing_is_reported(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    source = tar(tmp_path / NAME)
    monkeypatch.setattr(np.lib.format, "write_array", full)
    refused(str(source), "data/raw: cannot be written: No space left on device")


@pytest.mark.usefixtures("official")
@pytest.mark.parametrize("kind", [".tar.gz", ".tar.xz", "folder", "folder in a folder"])
def test_local_copy_is_used_instead_of_the_site(server, tmp_path, monkeypatch, kind):
    copy = tmp_path / f"copy{kind}"
    if kind.startswith("folder"):
        folder(copy / "cifar-10-batches-bin" if "in" in kind else copy)
        (copy / "readme.html").write_text("not used")
    else:
        tar(copy, extra=[member("cifar-10-batches-bin/readme.html")])
    monkeypatch.setenv(LOCAL_COPY, str(copy))
    get("official", site=server.site())
    assert contents() == CONTENT
    assert server.requests == 0


@pytest.mark.usefixtures("official")
def test_bad_local_copy_is_reported_and_the_site_is_not_asked(server, tmp_path, monkeypatch):
    flipped = CONTENT | {"test_batch.bin": CONTENT["test_batch.bin"][:-1] + b"\0"}
    for copy, complaint in [
        (tmp_path / "nowhere.tar.gz", "nowhere.tar.gz: no such file or folder"),
        (tar(tmp_path / "flipped.tar.gz", flipped), r"flipped.tar.gz: not the official edition"),
        (folder(tmp_path / "flipped", flipped), r"flipped: not the official edition"),
    ]:
        monkeypatch.setenv(LOCAL_COPY, str(copy))
        refused("official", complaint, server.site())
    assert server.requests == 0


def test_local_copy_is_used_only_for_the_official_source(tmp_path, monkeypatch):
    monkeypatch.setenv(LOCAL_COPY, "nowhere.tar.gz")
    info = get(str(tar(tmp_path / "mine.tar.xz", top="")))
    assert contents() == CONTENT
    assert (info.name, info.edition) == ("CIFAR-10", digest()[:8])


def test_source_that_is_not_an_archive_is_reported(tmp_path):
    (tmp_path / "letter.tar.gz").write_text("Dear Sir or Madam")
    refused("letter.tar.gz", r"letter\.tar\.gz: no folder, and no tar, zip or npz file that can be read")


@pytest.mark.parametrize("suffix", ["gz", "xz"])
def test_damage_that_the_checksum_alone_tells_is_reported(tmp_path, suffix):
    archive = tar(tmp_path / f"damaged.tar.{suffix}")
    whole = archive.read_bytes()
    half = len(whole) // 2
    for content in (whole[:-9], whole[:half] + bytes([whole[half] ^ 0xFF]) + whole[half + 1 :]):
        archive.write_bytes(content)
        refused(archive.name, rf"damaged\.tar\.{suffix}: cannot be read: ")


@pytest.mark.parametrize(
    "hostile",
    [
        member("../escaped.txt"),
        member("cifar-10-batches-bin/../../escaped.txt"),
        member("/tmp/escaped-from-cifar-10.txt"),
        member("../data_batch_1.bin"),
        member("link", tarfile.SYMTYPE, "/etc/passwd"),
        member("cifar-10-batches-bin/link", tarfile.LNKTYPE, "../../outside"),
        member("null", tarfile.CHRTYPE),
        member("disk", tarfile.BLKTYPE),
        member("pipe", tarfile.FIFOTYPE),
    ],
    ids=lambda m: m.name,
)
def test_hostile_member_is_refused(tmp_path, hostile):
    project = tmp_path / "project"
    project.mkdir()
    archive = tar(project / "hostile.tar.gz", extra=[hostile])
    refused(str(archive), f"{hostile.name}': only plain files and folders are allowed")
    assert [path.name for path in tmp_path.iterdir() if path.name != "data"] == ["project"]
    assert not Path("/tmp/escaped-from-cifar-10.txt").exists()


def test_missing_batches_are_named(tmp_path):
    some = {name: CONTENT[name] for name in FILES[:4]}
    for source in (tar(tmp_path / "some.tar.gz", some), folder(tmp_path / "some", some)):
        refused(str(source), rf"{source.name}: does not hold data_batch_5\.bin, test_batch\.bin; expected")


def test_batch_found_twice_is_refused(tmp_path):
    archive = tar(tmp_path / "twice.tar.gz", extra=[member("other/test_batch.bin")])
    refused(str(archive), r"twice\.tar\.gz: holds test_batch\.bin twice")
    twice = folder(tmp_path / "twice")
    folder(twice / "copy", {"test_batch.bin": b"other"})
    refused(str(twice), r"twice: holds test_batch\.bin twice")


@pytest.fixture
def project(tmp_path):
    """The current folder as a project with the committed pipeline and a link to the bundled sample."""
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data/sample").symlink_to(ROOT / SAMPLE.parent)
    return tmp_path


def choose(project, source):
    params = project / "params.yaml"
    text = params.read_text()
    assert "  source: official\n" in text
    params.write_text(text.replace("  source: official\n", f"  source: {source}\n"))


def test_stage_unpacks_the_bundled_sample(project, capsys):
    choose(project, "sample")
    stage.main()
    assert sorted(path.name for path in RAW.iterdir()) == STORED
    assert capsys.readouterr().out.splitlines()[2:] == [
        "data/raw: CIFAR-10, sample edition",
        "train: 5,000 pictures, 0 scaled (crop): 500 in each of 10 classes",
        "test: 1,000 pictures, 0 scaled (crop): 100 in each of 10 classes",
    ]


def test_stage_refuses_a_damaged_sample(project):
    choose(project, "sample")
    (project / "data/sample").unlink()
    (project / "data/sample").mkdir()
    tar(project / SAMPLE)
    with pytest.raises(UserError, match=r"cifar-10-sample\.tar\.xz: not the sample edition"):
        stage.main()


@pytest.mark.usefixtures("project")
def test_stage_ends_with_1_for_a_missing_local_copy(monkeypatch, capsys):
    monkeypatch.setenv(LOCAL_COPY, "nowhere.tar.gz")
    with pytest.raises(SystemExit) as caught:
        exit_cleanly(stage.main)
    assert caught.value.code == 1
    assert "error: nowhere.tar.gz: no such file" in capsys.readouterr().err


def test_stage_ends_with_2_for_a_bad_param(project, capsys):
    choose(project, "7")
    with pytest.raises(SystemExit) as caught:
        exit_cleanly(stage.main)
    assert caught.value.code == 2
    assert "params.yaml: download.source" in capsys.readouterr().err
