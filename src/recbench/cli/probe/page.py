"""A probe's result as a page: what to take from it, the figures beside their controls, then the latents one by one."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

STYLE = """
:root{color-scheme:light dark;--ink:#1c2430;--soft:#657080;--line:#dfe4ea;--card:#f6f8fa;--a:#2563a8;--b:#b8c4d2;--bad:#b3541e}
@media(prefers-color-scheme:dark){:root{--ink:#e4e9ef;--soft:#94a0ae;--line:#313a46;--card:#1b222c;--a:#6aa9ec;--b:#475364;--bad:#e39a63}}
body{font:15px/1.5 system-ui,sans-serif;color:var(--ink);max-width:68rem;margin:2rem auto;padding:0 1rem}
h1{font-size:1.5rem;margin:0}h2{font-size:1.1rem;margin-top:2rem}.soft{color:var(--soft)}
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(11rem,1fr));gap:.8rem;margin:1.2rem 0}
.card{background:var(--card);border:1px solid var(--line);border-radius:8px;padding:.7rem .9rem}.card b{display:block;font-size:1.35rem}
table{border-collapse:collapse;width:100%}th,td{text-align:left;padding:.35rem .5rem;border-bottom:1px solid var(--line);vertical-align:top}
th{color:var(--soft);font-weight:500}td.n{white-space:nowrap;font-variant-numeric:tabular-nums}
.bar{display:inline-block;height:.7rem;border-radius:2px;background:var(--a);vertical-align:middle;margin-right:.4rem}.bar.c{background:var(--b)}
.down{color:var(--bad)}
"""
CONTROLS = {
    "confidence": "this dictionary",
    "confidence_random_dictionary": "random dictionary of the same size",
    "confidence_neurons": "the model's own axes",
    "confidence_principal_axes": "principal axes",
    "confidence_dealt_attributes": "random dictionary, attributes dealt anew (chance)",
}


def verdict(figures: Mapping[str, float]) -> str:
    """One sentence: whether the learned directions say more than random ones."""
    own, chance = figures["confidence"], figures["confidence_random_dictionary"]
    if own > 1.1 * chance:
        return f"The learned directions tell attributes better than random ones of the same size (F1 {own:.3f} against {chance:.3f})."
    return (
        f"Random directions of the same size tell attributes as well as the learned ones (F1 {chance:.3f} against {own:.3f}): "
        "do not read the concepts below as found in the model."
    )


def markdown(found: Mapping[str, Any]) -> str:
    """The page as Markdown."""
    figures = found["figures"]
    lines = [f"# Sparse dictionary of {found['run']}", "", verdict(figures), "", "| figure | value |", "| --- | ---: |"]
    lines += [f"| {name} | {value:,.4g} |" for name, value in figures.items()]
    lines += [
        "",
        "| latent | concept | kind | confidence | fires | effect | of another | strongest after |",
        "| ---: | --- | --- | ---: | ---: | ---: | ---: | --- |",
    ]
    for row in found["rows"]:
        items = "; ".join(str(item)[:40].replace("|", "/") for item in row["items"][:3])
        concept = row["concept"].replace("|", "/")
        lines.append(
            f"| {row['latent']} | {concept} | {row['kind']} | {row['confidence']:.2f} | {row['fires']:.2%} | {_points(row['effect'])} | "
            f"{_points(row['effect_of_another'])} | {items} |"
        )
    return "\n".join([*lines, "", NOTE, ""])


NOTE = (
    "Concept and threshold are chosen on half of the users, confidence is F1 on the other half. Kind item: one last item makes most of the strong "
    "activations. Effect: change, in percentage points, of the concept's share of the top 10 when the latent is taken out where it fires; "
    "of another: the same amount along the direction of a latent that fires about as often."
)


def html(found: Mapping[str, Any]) -> str:
    """The page as HTML that needs no network."""
    figures = found["figures"]
    cards = [
        ("NDCG@10 as it is", f"{figures['ndcg@10']:.4f}"),
        ("from the reconstruction", f"{figures['ndcg@10_reconstructed']:.4f}"),
        ("from one mean state", f"{figures['ndcg@10_mean_state']:.4f}"),
        ("variance unexplained", f"{figures['unexplained_variance']:.1%}"),
        ("dead latents", f"{figures['dead_share']:.1%}"),
        ("detectors of one item", f"{figures['item_detectors_share']:.1%}"),
        ("found again by a second seed", f"{figures['matched_by_second_seed']:.1%}"),
    ]
    top = max(figures[name] for name in CONTROLS) or 1.0
    bars = "".join(
        f'<tr><td>{escape(told)}</td><td class="n"><span class="bar{"" if name == "confidence" else " c"}" '
        f'style="width:{18 * figures[name] / top:.2f}rem"></span>{figures[name]:.3f}</td></tr>'
        for name, told in CONTROLS.items()
    )
    rows = "".join(_row(row) for row in found["rows"])
    settings = ", ".join(f"{key}={value}" for key, value in found["settings"].items())
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'><title>{escape(found['run'])}</title>"
        f"<style>{STYLE}</style><h1>What the states of {escape(found['run'])} hold</h1><p class=soft>{figures['states']:,} states, "
        f"{figures['latents']:,} latents, {escape(settings)}</p><p>{escape(verdict(figures))}</p><div class=cards>"
        + "".join(f"<div class=card><span class=soft>{name}</span><b>{value}</b></div>" for name, value in cards)
        + f"</div><h2>How well directions tell attributes</h2><p class=soft>Mean F1 on held-out users of the surest latents</p><table>{bars}</table>"
        "<h2>The surest latents</h2><table><tr><th>latent<th>concept<th>confidence<th>fires<th>effect of taking it out<th>of another direction"
        f"<th>strongest after</tr>{rows}</table><p class=soft>{escape(NOTE)}</p></html>\n"
    )


def _row(row: Mapping[str, Any]) -> str:
    items = "<br>".join(escape(str(item)[:60]) for item in row["items"][:3])
    mark = " <span class=soft>(one item)</span>" if row["kind"] == "item" else ""
    cells = (
        f"<td class=n>{row['latent']}<td>{escape(row['concept'])}{mark}<td class=n>"
        f"<span class=bar style='width:{5 * row['confidence']:.2f}rem'></span>{row['confidence']:.2f}<td class=n>{row['fires']:.2%}"
    )
    effects = "".join(
        f"<td class='n{' down' if (row[name] or 0) < 0 else ''}'>{_points(row[name])}"
        for name in ("effect", "effect_of_another")
    )
    return f"<tr>{cells}{effects}<td class=soft>{items}</tr>"


def _points(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:+.1f}"
