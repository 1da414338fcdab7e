"""Faults of disks: full, read-only, and a damaged object in the cache of DVC."""

import contextlib
import ctypes
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

from checks.faults.judge import Bench, Case, Skipped, differences, failed, halves, line_of, told_or_right, unclean
from checks.faults.project import Done, Project, forked, remove, run_stage

MEGABYTES = 100
CLONE_NEWNS = 0x00020000  # of sched.h; Python has os.unshare from 3.12 on
CACHED = ("data/prepared", "models/networks/vgg16.safetensors", "models/onnx/flagship.onnx")


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """Yield the new ``folder``, which is a small disk of its own (a tmpfs); `Skipped` if this process may not mount.

    Other processes do not see it, and it ends with this process, however that ends.
    """
    folder.mkdir()
    own_mounts()
    mount("-t", "tmpfs", "-o", f"size={MEGABYTES}m,mode=700", "tmpfs", folder)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def own_mounts() -> None:
    """Give this process its own table of mounts, which ends with it; `Skipped` if it may not."""
    if not hasattr(ctypes.CDLL(None), "unshare") or ctypes.CDLL(None).unshare(CLONE_NEWNS):
        raise Skipped("it needs root on Linux")
    mount("--make-rprivate", "/")


def mount(*arguments: str | Path) -> None:
    """Call mount; `Skipped` if this process may not."""
    if subprocess.run(["mount", *arguments], capture_output=True, check=False).returncode:
        raise Skipped("this process may not mount")


def disk_full(bench: Bench) -> Iterator[Case]:
    """The disk becomes full at each write of each stage: one line that says so (or, where the rest still has room, the
    right result), no half output, nothing left behind; with room again the stage gives the right bytes.
    """
    with small_disk(bench.folder / "disk") as disk:
        project = _lean_copy(bench, disk / "project")
        for stage in bench.stages:
            if not stage.startswith("release"):  # which is cp
                yield from _full_at_each_write(bench, project, stage, disk / "ballast")


def _full_at_each_write(bench: Bench, project: Project, stage: str, ballast: Path) -> Iterator[Case]:
    """Yield a case for each file that ``stage`` opens, and one for the stage with room again."""
    for event in _opened(bench, stage):
        done = project.stage(stage, f"full|{event}", FAULT_FILE=str(ballast))
        wrong = [] if ballast.exists() else ["the disk did not become full"]
        wrong += told_or_right(done, "No space left on device|cannot be written", project, bench, stage)
        remove(ballast)
        yield Case(f"{stage}, {event}", tuple(wrong), line_of(done))
    again = project.stage(stage)
    yield Case(f"{stage}, with room again", tuple(failed(again) + halves(project, bench, [stage])))


def _opened(bench: Bench, stage: str) -> list[str]:
    """Return the files that ``stage`` opens to write; of pictures and curves the first and one more."""
    events = [event for event in bench.writes[stage] if event.startswith("open") and ".dvc/" not in event]
    if bench.short:
        return events[1::2]
    many = [event for event in events if "plots/" in event]
    return [event for event in events if event not in many[1:] or event == many[len(many) // 2]]


def _lean_copy(bench: Bench, folder: Path) -> Project:
    """Return a copy of the project without Git and without the cache of DVC."""
    folder.mkdir()
    names = ("data", "models", "metrics", "plots", "docs", "src", "stages", "dvc.yaml", "dvc.lock", "params.yaml")
    for name in names:
        if (bench.base.folder / name).exists():
            subprocess.run(["cp", "-a", bench.base.folder / name, folder], check=True)
    return Project(folder, bench.base.side)


def read_only(bench: Bench) -> Iterator[Case]:
    """The folder of each output, and of logs and checkpoints, is read-only: one line that says so, or, where nothing
    of the results lies there, the right result.
    """
    if os.geteuid() == 0:
        own_mounts()  # here, so that a process which may not mount skips all
    project = _lean_copy(bench, bench.folder / "read-only")
    for name in ("logs", "scratch"):
        (project.folder / name).mkdir()
    for stage in bench.stages:
        if stage.startswith("release"):
            continue
        for folder in sorted({event.split()[1].split("/")[0] for event in bench.writes[stage]} - {".dvc"}):
            done = _with_read_only(project, stage, folder)
            wrong = told_or_right(done, "[Rr]ead-only|Permission denied", project, bench, stage)
            yield Case(f"{stage}, {folder}", tuple(wrong), line_of(done))
        project.stage(stage)


def _with_read_only(project: Project, stage: str, folder: str) -> Done:
    """Return how ``stage`` ends where ``folder`` is read-only: by a mount for root, whom no rights of files stop."""
    place = project.folder / folder
    for out in project.outs(stage):
        remove(project.folder / out)

    def mounted() -> None:
        own_mounts()
        mount("--bind", place, place)
        mount("-o", "remount,bind,ro", place)
        run_stage(project, stage)

    if os.geteuid() == 0:
        return forked(mounted, project.side / "printed.txt")
    mode = place.stat().st_mode
    place.chmod(0o555)
    try:
        return forked(lambda: run_stage(project, stage), project.side / "printed.txt")
    finally:
        place.chmod(mode)


def corrupt_cache(bench: Bench) -> Iterator[Case]:
    """An object of DVC's cache is damaged (a changed byte, or cut off) and its copy in the project is gone: `dvc
    repro` ends with the right bytes or in one line, and never with a damaged file.
    """
    if bench.short:
        raise Skipped("the short pass has no cached network")
    for out in CACHED:
        for damage in (lambda content: content[:-9], lambda content: content[:-9] + b"!" + content[-8:]):
            project = bench.copy(f"cache-{len(list(bench.folder.iterdir()))}")
            md5 = next(o["md5"] for stage in project.lock().values() for o in stage["outs"] if o["path"] == out)
            cached = project.folder / ".dvc/cache/files/md5" / md5[:2] / md5[2:]
            content = cached.read_bytes()
            cached.chmod(0o644)
            cached.write_bytes(damage(content))
            cached.chmod(0o444)
            remove(project.folder / out)
            done = project.dvc("repro")
            wrong = unclean(done) + (failed(done) and ([] if line_of(done) else ["no line"]))
            wrong += differences(project, bench) if done.code == 0 else []
            yield Case(
                f"{out}, {'cut off' if len(damage(content)) < len(content) else 'one byte'}",
                tuple(wrong),
                line_of(done),
            )
