"""``recbench probe KIND RUN_FOLDER [key=value ...]``: ask a finished run something that its figures do not say.

sae: a sparse dictionary on its states, what the latents say, and what taking one out does to the lists.
extraction: how much of it can be copied by somebody who asks it for lists.
loop: what becomes of it when it is retrained on the clicks on its own lists (data=synthetic).
leakage: how well its states and lists tell an attribute of the users.

The run is read and never written to. The result lies in probes/RUN/KIND-KEY of the working folder, or in --out: probe.json, page.md, page.html.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple

from recbench.core.errors import UserError, nearest
from recbench.core.terminal import Parser, exit_status


class Kind(NamedTuple):
    """settings: dataclass of the keys. make: (run, context, settings) -> the result as plain values. pages: file name -> how it is written."""

    settings: type
    make: Callable[[Any, Any, Any], dict[str, Any]]
    pages: dict[str, Callable[[dict[str, Any]], str]]
    verdict: Callable[[dict[str, float]], str]


def kinds() -> dict[str, Kind]:
    """All probes by name; imports them."""
    from recbench.cli.probe import extraction, extraction_page, leakage, leakage_page, loop, loop_page, page, sae

    def of_tables(settings: type, make: Callable[[Any, Any, Any], dict[str, Any]], told: Any) -> Kind:
        pages = {
            "page.md": lambda found: told.page(found).markdown(),
            "page.html": lambda found: told.page(found).html(),
        }
        return Kind(settings, make, pages, told.verdict)

    return {
        "sae": Kind(sae.SaeSettings, sae.probe_sae, {"page.md": page.markdown, "page.html": page.html}, page.verdict),
        "extraction": of_tables(extraction.ExtractionSettings, extraction.probe_extraction, extraction_page),
        "loop": of_tables(loop.LoopSettings, loop.probe_loop, loop_page),
        "leakage": of_tables(leakage.LeakageSettings, leakage.probe_leakage, leakage_page),
    }


#: Names for the help, so that it imports nothing.
NAMES = ("sae", "extraction", "loop", "leakage")


def read_arguments(arguments: list[str]) -> argparse.Namespace:
    """The command line. Raises UserError for wrong use."""
    parser = Parser(prog="recbench probe", description=__doc__)
    parser.add_argument("kind", metavar="KIND", help=", ".join(NAMES))
    parser.add_argument("run", type=Path, metavar="RUN_FOLDER", help="a finished run, such as runs/sasrec-3f9c2b71a0d4")
    parser.add_argument("words", nargs="*", metavar="key=value", help="settings, as in k=8 seed=1")
    parser.add_argument("--out", type=Path, help="folder of the results (default: probes)")
    chosen = parser.parse_intermixed_args(arguments)
    if chosen.kind not in NAMES:
        raise UserError(f"unknown probe '{chosen.kind}'; {nearest(chosen.kind, NAMES)}")
    return chosen


def settings_from(words: list[str], schema: type) -> Any:
    """key=value words as the settings of a probe. Raises UserError for an unknown key and a value of another type."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    known = [part.name for part in fields(schema)]
    for word in words:
        key, equals, _ = word.partition("=")
        if not equals:
            raise UserError(f"cannot read '{word}'; write key=value, as in {known[0]}=8")
        if key not in known:
            raise UserError(f"unknown key '{key}'; {nearest(key, known)}")
    try:
        return OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(schema), OmegaConf.from_dotlist(words)))
    except OmegaConfBaseException as error:
        raise UserError(str(error).splitlines()[0]) from error


def run_probe(chosen: argparse.Namespace) -> int:
    """Make the probe, or find it, and say where it lies; returns the exit status."""
    from dataclasses import asdict

    from recbench.core.run_folder import replacing
    from recbench.core.terminal import open_out
    from recbench.experiment.device import prepare_device
    from recbench.experiment.run import open_run

    kind = kinds()[chosen.kind]
    settings = settings_from(chosen.words, kind.settings)
    run, stage = open_run(chosen.run)
    asked = json.dumps({"run": run.folder.key, "kind": chosen.kind, "settings": asdict(settings)}, sort_keys=True)
    key = hashlib.blake2b(asked.encode(), digest_size=4).hexdigest()
    folder = (chosen.out or Path("probes")).expanduser().absolute() / run.folder.key / f"{chosen.kind}-{key}"
    stored = folder / "probe.json"
    if not stored.is_file():
        prepare_device(run.config.hardware, getattr(settings, "seed", 0))
        found = kind.make(run, stage, settings)
        open_out(folder)
        for name, write in kind.pages.items():
            with replacing(folder / name) as temporary:
                temporary.write_text(write(found), encoding="utf-8")
        with replacing(stored) as temporary:
            temporary.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(kind.verdict(json.loads(stored.read_text(encoding="utf-8"))["figures"]))
    for name in ("probe.json", *kind.pages):
        print(folder / name)
    return 0


def main(arguments: list[str]) -> int:
    """Returns the exit status: 0, or 2 for wrong use."""
    return exit_status(lambda: run_probe(read_arguments(arguments)))
