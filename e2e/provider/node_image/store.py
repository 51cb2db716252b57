"""Keeps built parts: a folder that exists is complete, whatever interrupted the runs before."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

# A maker gets the folder that it fills, and a scratch folder.
Maker = Callable[[Path, Path], None]


class Store:
    """Parts below a folder, each named after the recipe that it was made by."""

    def __init__(self, folder: Path) -> None:
        """Use `folder`; it need not exist."""
        self.folder = folder
        self.work = folder / "work"

    def path_of(self, name: str, recipe: object) -> Path:
        """Where the part of this recipe is, or would be."""
        return self.folder / "parts" / f"{name}-{digest(recipe)}"

    def has(self, name: str, recipe: object) -> bool:
        """Whether the part of this recipe is there."""
        return self.path_of(name, recipe).is_dir()

    def keep(self, name: str, recipe: object, make: Maker) -> Path:
        """Give the folder of a part; make it first if it is not there."""
        kept = self.path_of(name, recipe)
        if not kept.is_dir():
            made, scratch = self.scratch(name) / "made", self.work / name / "scratch"
            made.mkdir()
            scratch.mkdir()
            make(made, scratch)
            self.accept(name, recipe, made)
        return kept

    def accept(self, name: str, recipe: object, made: Path) -> Path:
        """Move a finished folder to the place of its part, in one step."""
        kept = self.path_of(name, recipe)
        kept.parent.mkdir(parents=True, exist_ok=True)
        made.rename(kept)
        shutil.rmtree(self.work / name, ignore_errors=True)
        return kept

    def scratch(self, name: str) -> Path:
        """Give a new empty folder for work that may be thrown away."""
        folder = self.work / name
        if folder.exists():
            shutil.rmtree(folder)
        folder.mkdir(parents=True)
        return folder

    def clear(self) -> None:
        """Remove what interrupted runs left behind."""
        if self.work.exists():
            shutil.rmtree(self.work)


def digest(recipe: object) -> str:
    """A short name for everything that decides what comes out."""
    text = json.dumps(recipe, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
