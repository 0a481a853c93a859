"""What people say of a run and do with it: a name, a note, put away, deleted.  Standard library only.

``about.json`` is written by pages and read by everybody; the training never looks at it.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import threading
import time
import unicodedata
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from alexnet.runs import RunDirectory, RunError, explained, replace_atomically, sync_folder

NAME_CHARACTERS = 80
NOTE_CHARACTERS = 10_000
_BYTES = 1 << 20
"""A file beyond this is none of ours."""
_TURNING = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Characters that turn the direction of what stands beside them, on the page too."""
CARRIED = re.compile(
    r"(config|status|about)\.json|metrics\.jsonl|(log|errors)\.txt|events\.[A-Za-z0-9._-]{1,200}"
    r"|checkpoints/(last|best|start|step-[0-9]{9,13})\.pt|probes/(picture\.png|step-[0-9]{9,13}\.npz)"
)
"""The files of a run, by name."""
_PASSING = re.compile(r"request\.json|stop|([a-z]+/)?\.[^/]*\.part|checkpoints|probes")
"""What else a run directory may hold, which belongs to a process or to this machine."""
_writing = threading.Lock()  # two tabs of one server are two threads


@dataclass(frozen=True, slots=True)
class About:
    """What is said of a run; nothing, where nobody said anything."""

    name: str = ""
    note: str = ""
    archived: bool = False

    def __post_init__(self) -> None:
        """Raises RunError where a text is too long or holds what cannot be shown."""
        for what, text, most in (("name", self.name, NAME_CHARACTERS), ("note", self.note, NOTE_CHARACTERS)):
            if not isinstance(text, str):
                raise RunError(f"a run's {what} is a text, got {type(text).__name__}")
            if len(text) > most:
                raise RunError(f"a run's {what} has at most {most:,} characters, got {len(text):,}: shorten it")
        if not isinstance(self.archived, bool):
            raise RunError(f"a run is archived or not, true or false, got {self.archived!r}")
        if "\n" in self.name:
            raise RunError("a run's name is one line: put the rest into its note")
        for what, text, allowed in (("name", self.name, ""), ("note", self.note, "\n\t")):
            for character in text:
                if character not in allowed and not _can_be_shown(character):
                    raise RunError(
                        f"a run's {what} cannot hold the control character U+{ord(character):04X}: take it out"
                    )


def about(run: Path) -> About:
    """What about.json says of this run; where it is absent or damaged, or a value in it is, nothing is said."""
    values: object = None
    with contextlib.suppress(OSError, ValueError, RecursionError), (run / "about.json").open("rb") as file:
        values = json.loads(file.read(_BYTES + 1)[:_BYTES])
    found = About()
    for field in asdict(found):
        if isinstance(values, dict) and field in values:
            with contextlib.suppress(RunError):
                found = replace(found, **{field: values[field]})
    return found


def write_about(run: Path, *, name: str | None = None, note: str | None = None, archived: bool | None = None) -> About:
    """Changes what is given and keeps the rest; what is said of the run then.

    Raises:
        RunError: there is no run, a text breaks its rule, or the file cannot be written; nothing is changed then.
    """
    if not is_run(run):
        raise RunError(f"there is no run in {run}, so nothing can be said of one")
    with _writing:
        before = about(run)
        changed = About(
            before.name if name is None else name.strip(),
            before.note if note is None else note.replace("\r\n", "\n").replace("\r", "\n").rstrip(),
            before.archived if archived is None else archived,
        )
        try:
            replace_atomically(
                run / "about.json", (json.dumps(asdict(changed), ensure_ascii=False, indent=2) + "\n").encode()
            )
        except OSError as error:
            raise RunError(f"{run / 'about.json'} cannot be written: {explained(error)}") from None
    return changed


# --- the folder ------------------------------------------------------------------------------------------------------


def is_run(path: Path) -> bool:
    """Whether this folder holds a run, or what a page asked of one that has not begun."""
    return (path / "config.json").is_file() or (path / "request.json").is_file()


def unknown_files(run: Path) -> tuple[str, ...]:
    """What lies in a run directory and is not of a run, by name; a folder of its own is named once."""
    found = []
    for parent, folders, files in os.walk(run):
        here = Path(parent).relative_to(run)
        for name in list(folders):
            path = here / name
            if (run / path).is_symlink() or not _PASSING.fullmatch(path.as_posix()):
                folders.remove(name)
                found.append(f"{path.as_posix()}/")
        for name in files:
            path = here / name
            known = CARRIED.fullmatch(path.as_posix()) or _PASSING.fullmatch(path.as_posix())
            if not known or (run / path).is_symlink():
                found.append(path.as_posix())
    return tuple(sorted(found))


def delete(run: Path, root: Path, *, everything: bool = False) -> None:
    """Deletes a run, in which no process trains, from the folder of runs `root`; it vanishes at once or not at all.

    `everything` takes files with it that no run has, and a folder whose config cannot be read.

    Raises:
        RunError: it is no run of that folder, it is in use, or it holds files that no run has.
    """
    if run.is_symlink() or not run.is_dir():
        raise RunError(f"{run} is no folder, so no run to delete")
    if run.resolve().parent != root.resolve() or run.name.startswith("."):
        raise RunError(f"{run} is not a run in {root}: only those are deleted")
    if not is_run(run):
        raise RunError(f"{run} holds no run: delete it by hand, if it is not needed")
    directory = RunDirectory(run)
    if not everything and directory.config_path.is_file():
        values = directory.config().get("config")
        if not isinstance(values, dict):
            raise RunError(
                f"{directory.config_path} is no run's: delete {run} with everything in it, if it is not needed"
            )
    if not everything and (unknown := unknown_files(run)):
        shown = ", ".join(map(shortened, unknown[:5])) + (f" and {len(unknown) - 5} more" if len(unknown) > 5 else "")
        raise RunError(f"{run} holds what is not of a run: {shown}; move it away, or delete everything with it")
    in_use = f"{run} is in use by a training: stop it first"
    condition = directory.condition()
    if directory.is_locked() or condition in {"waiting", "starting", "running"}:
        raise RunError(in_use)
    if condition == "silent" and not everything:
        raise RunError(
            f"{run} says that it is trained on {directory.status().get('host')}, from where nothing has been heard for "
            "a while: stop it there, or delete it with everything"
        )
    aside = root / f".deleted-{run.name[:100]}-{time.time_ns()}"
    try:
        run.rename(aside)
        if RunDirectory(aside).is_locked():  # a training began in this moment
            aside.rename(run)
            raise RunError(in_use)
        sync_folder(root)
        for folder in root.glob(".deleted-*"):  # those too whose deletion was interrupted
            shutil.rmtree(folder, ignore_errors=folder != aside)
    except OSError as error:
        where = f"some of its files are left in {aside}" if aside.exists() else "it is as it was"
        raise RunError(f"{run} cannot be deleted: {explained(error)}; {where}") from None


def shortened(name: str) -> str:
    """A name that may be anything, for a message of one line."""
    return repr(name if len(name) <= 100 else f"{name[:100]}…")


def _can_be_shown(character: str) -> bool:
    # Cc: control; Cs: half of a pair, which no file can hold; Zl, Zp: other ends of a line.
    return unicodedata.category(character) not in {"Cc", "Cs", "Zl", "Zp"} and character not in _TURNING
