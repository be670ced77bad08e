"""Texts that a language model wrote, kept by what they were made of, so that none is written twice and an interrupted command goes on.

A folder holds what one model writes behind one template with one way of decoding; its name is a hash of all that. Texts come in parts, each of which
is there whole or not at all, and none is ever changed:

    settings.json       what the name of the folder stands for
    part-<hash>.jsonl   {"input": hash of the prompt, "text": what followed it}
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recbench.core.disk import disk_errors, write_atomically


def short_hash(value: Any) -> str:
    """16 hexadecimal digits of anything that JSON can hold."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


class TextCache:
    """cache_dir: of recbench. settings: all that decides a text beside its prompt."""

    def __init__(self, cache_dir: Path, settings: Mapping[str, Any]) -> None:
        self.cache_dir, self.settings = cache_dir, dict(settings)
        self.folder = cache_dir / "written" / short_hash(self.settings)

    def texts(self) -> dict[str, str]:
        """Hash of the prompt -> text, of all parts. A part that was damaged is as if it were not there."""
        found: dict[str, str] = {}
        for path in sorted(self.folder.glob("part-*.jsonl")):
            try:
                rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
                own = {str(row["input"]): str(row["text"]) for row in rows}
            except (OSError, ValueError, KeyError, TypeError):
                continue
            found |= own
        return found

    def add(self, texts: Mapping[str, str]) -> None:
        """Keep one more part. Raises UserError where the disk takes none."""
        rows = [{"input": name, "text": text} for name, text in texts.items()]
        with disk_errors(self.cache_dir, "cache_dir"):
            self.folder.mkdir(parents=True, exist_ok=True)
            about = self.folder / "settings.json"
            if not about.exists():
                with write_atomically(about) as temporary:
                    told = json.dumps(self.settings, indent=1, ensure_ascii=False)
                    temporary.write_text(told + "\n", encoding="utf-8")
            with write_atomically(self.folder / f"part-{short_hash(sorted(texts))}.jsonl") as temporary:
                lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
                temporary.write_text(lines, encoding="utf-8")
