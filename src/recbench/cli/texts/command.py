"""``recbench write-texts rationale|llm_cf --to FILE model.backbone=MODEL [key=value ...]``: a language model writes about histories of training,
as model.auxiliary=[rationale] and [llm_cf] read it.

Words choose data and protocol as for a run. For rationale there is a text for the history of each training window, for llm_cf one for a tenth of
all training rows; --rows N draws N of them. A history holds training events alone, and nothing that comes later is read, so the file passes the leak
check of those who read it. Texts are kept under cache_dir: what was written once is not written again, and a command that was stopped goes on.
"""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

from recbench.core.errors import UserError
from recbench.core.terminal import Parser, exit_status, speak

#: Groups whose words say which histories there are.
GROUPS = ("data", "protocol", "cache_dir", "hardware")
#: Keys of the language model; all others of ``model`` belong to whoever reads the texts.
MODEL_KEYS = ("backbone", "n_layers", "precision", "tiny_hidden_size", "tiny_n_heads", "tiny_feedforward_size")


def read_arguments(arguments: list[str]) -> argparse.Namespace:
    """The command line. Raises UserError for wrong use."""
    parser = Parser(prog="recbench write-texts", description=__doc__)
    parser.add_argument("kind", choices=["rationale", "llm_cf"], help="the auxiliary that will read them")
    parser.add_argument("words", nargs="*", metavar="key=value", help="model.backbone, data, protocol, their keys")
    parser.add_argument("--to", type=Path, required=True, metavar="FILE", help="the file that the auxiliary reads")
    parser.add_argument("--rows", type=int, metavar="N", help="draw so many of the training rows")
    parser.add_argument("--seed", type=int, default=0, help="of the rows and words that are drawn (0)")
    parser.add_argument("--prompt", metavar="TEXT", help="what the model is asked; {titles} and {noun} are filled in")
    parser.add_argument("--chat", action="store_true", help="ask it as a message, in the model's own form for these")
    parser.add_argument("--noun", default="item", help="what an item is called, as in movie (item)")
    parser.add_argument("--history", type=int, default=20, metavar="N", help="the last events that are told (20)")
    parser.add_argument("--title-words", type=int, default=8, metavar="N", help="the first words of a title (8)")
    parser.add_argument("--tokens", type=int, default=48, metavar="N", help="of a text, at most (48)")
    parser.add_argument("--temperature", type=float, default=0.0, help="0: the likeliest words; above it, drawn (0)")
    parser.add_argument("--top-p", type=float, default=1.0, help="draw from the likeliest words of this share (1)")
    parser.add_argument("--batch", type=int, default=16, metavar="N", help="texts that are written side by side (16)")
    chosen = parser.parse_intermixed_args(arguments)
    for name in ("rows", "history", "title_words", "batch"):
        value = getattr(chosen, name)
        if value is not None and value < 1:
            raise UserError(f"--{name.replace('_', '-')} must be at least 1, not {value}")
    if chosen.seed < 0:
        raise UserError(f"--seed must be at least 0, not {chosen.seed}")
    chosen.model_words, chosen.run_words = sorted_words(chosen.words)
    return chosen


def sorted_words(words: list[str]) -> tuple[list[str], list[str]]:
    """(words about the language model, words about data and protocol). Raises UserError for any other."""
    ours: list[str] = []
    others: list[str] = []
    for word in words:
        key, sign, _ = word.partition("=")
        group, _, name = key.partition(".")
        if sign and group == "model" and name in MODEL_KEYS:
            ours.append(word)
        elif sign and (group in GROUPS or key == "training.max_length"):
            others.append(word)
        else:
            raise UserError(
                f"'{word}' says nothing of what is written; give model.backbone=..., data=..., protocol=... or their keys"
            )
    return ours, others


def main(arguments: list[str]) -> int:
    """Returns the exit status: 0, 2 for wrong use, 130 stopped from the keyboard."""
    return exit_status(lambda: _main(arguments), "stopped; the same command goes on where it was")


def _main(arguments: list[str]) -> int:
    chosen = read_arguments(arguments)
    speak()
    from recbench.cli.texts.write import write_texts

    done = write_texts(chosen)
    print(
        f"{chosen.to}: {done.n_texts:,} texts ({done.n_written:,} written now, {done.n_kept:,} found in the cache"
        + (f", {done.n_empty:,} rows without a word left out" if done.n_empty else "")
        + (f", {done.n_cut:,} titles of other items cut" if done.n_cut else "")
        + ")"
    )
    words = shlex.join(word for word in chosen.run_words if not word.startswith("hardware"))
    where, file = f"model.{chosen.kind}", shlex.quote(str(chosen.to))
    print(
        f"next: recbench model=sasrec {words} 'model.auxiliary=[{chosen.kind}]' {where}.texts={file}".replace("  ", " ")
    )
    print(f"and its control: {where}.shuffle=1")
    return 0
