"""Protocols in words: what a reader must know of a protocol id, without the id."""

from __future__ import annotations

import re

FULL = "all items ranked"
CATALOGUE = {"full": FULL, "warm": "items with a training event ranked"}
SEEN = {"mask": "seen items left out", "keep": "seen items ranked too"}
TARGETS = {
    "last": "last event of each user as target",
    "successive": "every event as target, one by one",
    "random": "one random event of each user as target",
    "all": "all later events as targets",
}


def protocol_words(protocol: str) -> str:
    """A protocol id in words; the id itself where it is not known here.

    >>> protocol_words("leave_one_out-full-mask-v1")
    'leave-one-out, all items ranked, seen items left out'
    >>> protocol_words("sessions-d7-min5-full-keep-v1")
    'whole sessions, last 7 days as test, items with 5 events or more, all items ranked, seen items ranked too'
    >>> protocol_words("holdout-random.s0-v0.1-t0.2-valcand-full-mask-v1")
    'items of each user kept back, drawn at random, 10 % to validate and 20 % to test, all items ranked, seen items left out'
    >>> protocol_words("holdout-given-v0.1.s0-valcand-full-mask-v1")
    'items of each user kept back, as the data say, 10 % of training drawn to validate, all items ranked, seen items left out'
    >>> protocol_words("given-all-lastval-full-keep-v1")
    'parts as given, all later events as targets, last training event as validation target, all items ranked, seen items ranked too'
    >>> protocol_words("leave_5_out-all-full-keep-v1")
    'last 5 events of each user as test, as one set, all items ranked, seen items ranked too'
    >>> protocol_words("fixed_date-d20140701-t7-last-full-mask-v1")
    'live on 2014-07-01, 7 days as test, last event of each user as target, all items ranked, seen items left out'
    >>> protocol_words("user_folds-0of5.s0-rest0.8-full-mask-v1")
    'users of fold 0 of 5 unknown to training, 80 % of their events known, all items ranked, seen items left out'
    >>> protocol_words("my_protocol")
    'my_protocol'
    """
    found = re.fullmatch(
        r"(leave_one_out|leave_\d+_out|fixed_date|user_folds|temporal|sessions|holdout|given)-(.+)-(mask|keep)-v\d+",
        protocol,
    )
    if found is None:
        return protocol
    kind, middle, seen = found.groups()
    if re.fullmatch(r"leave_\d+_out", kind):
        return ", ".join([*_leave_k_out(kind.split("_")[1], middle), SEEN[seen]])
    words = {
        "leave_one_out": _leave_one_out,
        "fixed_date": _fixed_date,
        "user_folds": _user_folds,
        "temporal": _temporal,
        "sessions": _sessions,
        "holdout": _holdout,
        "given": _given,
    }[kind](middle)
    return ", ".join([*words, SEEN[seen]])


def _draw(seed: str) -> str:
    """What is said of a draw; nothing of the usual one, and where nothing is drawn."""
    return f" (draw {seed})" if seed not in ("", "0") else ""


def _leave_one_out(middle: str) -> list[str]:
    rest, words = middle.removeprefix("fitval-"), ["leave-one-out"]
    if rest != middle:
        words.append(OTHER["fitval"])
    sampled = re.fullmatch(r"uniform(\d+)\.s(\d+)(\.warm)?", rest)
    if sampled:
        known = " that training holds" if sampled[3] else ""
        return [*words, f"ranked among {int(sampled[1]):,} sampled items{known}{_draw(sampled[2])}"]
    return [*words, CATALOGUE.get(rest, rest)]


def _leave_k_out(k: str, middle: str) -> list[str]:
    target, *more, catalogue = middle.split("-")
    asked = "as one set" if target == "all" else "one by one"
    words = [OTHER.get(word, word) for word in more]
    return [f"last {k} events of each user as test", asked, *words, CATALOGUE.get(catalogue, catalogue)]


def _fixed_date(middle: str) -> list[str]:
    date, *rest, catalogue = middle.split("-")
    words = ["live on " + re.sub(r"d(\d{4})(\d{2})(\d{2}).*", r"\1-\2-\3", date)]
    for part in rest:
        days = re.fullmatch(r"([tv])(\d+)", part)
        name, _, seed = part.partition(".s")
        if days:
            words.append(f"{days[2]} days as {'test' if days[1] == 't' else 'validation'}")
        else:
            words.append(TARGETS.get(name, OTHER.get(name, name)) + _draw(seed))
    return [*words, CATALOGUE.get(catalogue, catalogue)]


def _user_folds(middle: str) -> list[str]:
    rule, target, *more, catalogue = middle.split("-")
    which, _, seed = rule.partition(".s")
    fold, _, folds = which.partition("of")
    known = "their last event as target" if target == "last" else f"{100 * float(target[4:]):g} % of their events known"
    words = [OTHER.get(word, word) for word in more]
    return [
        f"users of fold {fold} of {folds}{_draw(seed)} unknown to training",
        known,
        *words,
        CATALOGUE.get(catalogue, catalogue),
    ]


def _given(middle: str) -> list[str]:
    target, *more, catalogue = middle.split("-")
    words = [{"lastval": "last training event as validation target"}.get(word, OTHER.get(word, word)) for word in more]
    return ["parts as given", TARGETS.get(target, target), *words, CATALOGUE.get(catalogue, catalogue)]


def _temporal(middle: str) -> list[str]:
    rest, _, catalogue = middle.rpartition("-")
    cuts = re.match(r"q([\d.]+)-q([\d.]+)-", rest)
    if cuts:
        first, second = (f"{100 * float(part):g} %" for part in cuts.groups())
        words, rest = ["split in time", f"cuts at {first} and {second} of the events"], rest[cuts.end() :]
    else:
        # Two dates in front of the target; each is its digits, with a time of day where it has one.
        dates = re.match(r"(.+?)-(?=last|successive|random|all)", rest)
        words = ["split in time"]
        if dates:
            words.append(f"cuts at {_dates(dates[1])}")
            rest = rest[dates.end() :]
    target, *more = rest.split("-")
    name, _, seed = target.partition(".s")
    words.append(TARGETS.get(name, name) + _draw(seed))
    words += ["targets unknown to training left out" if part == "nocold" else OTHER.get(part, part) for part in more]
    return [*words, CATALOGUE.get(catalogue, catalogue)]


def _holdout(middle: str) -> list[str]:
    order, *rest, catalogue = middle.split("-")
    name, _, seed = order.partition(".s")
    words = [
        "items of each user kept back",
        {"random": f"drawn at random{_draw(seed)}", "time": "the last ones in time", "given": "as the data say"}.get(
            name, name
        ),
    ]
    for part in rest:
        if name == "given" and part.startswith("v0"):
            share, _, draw = part[1:].partition(".s")
            words.append(f"{100 * float(share):g} % of training drawn to validate{_draw(draw)}")
        elif part.startswith("v0"):
            words.append(f"{100 * float(part[1:]):g} % to validate and ")
        elif part.startswith("t0"):
            words[-1] += f"{100 * float(part[1:]):g} % to test"
        elif part.startswith("min"):
            words.append(f"users with {part[3:]} items or more")
        else:
            words.append(HOLDOUT.get(part, OTHER.get(part, part)))
    return [*filter(None, words), CATALOGUE.get(catalogue, catalogue)]


#: The usual, that validation items are rivals at test, is not said.
HOLDOUT = {"mmrec": "a fifth of them, by MMRec's rule", "valcand": "", "valhist": "validation items known at test"}


def _dates(text: str) -> str:
    """
    >>> _dates("d20140101-d20140201T120000Z")
    '2014-01-01 and 2014-02-01'
    """
    days = re.findall(r"(\d{4})-?(\d{2})-?(\d{2})", text)
    return " and ".join("-".join(day) for day in days) if len(days) == 2 else text


def _sessions(middle: str) -> list[str]:
    words = ["whole sessions"]
    borders = 0
    for part in middle.removesuffix("-full").split("-"):
        if re.fullmatch(r"given|d\d+|q[\d.]+", part):
            # One border stands for both; of two the second is that of validation.
            words.append(_border(part, "test" if borders == 0 else "validation"))
            borders += 1
        elif part.startswith("min"):
            words.append(f"items with {part[3:]} events or more")
        elif part.startswith("last"):
            words.append(f"latest {part[4:].replace('of', '/')} of training")
        else:
            words.append(OTHER.get(part, part))
    return [*words, FULL]


OTHER = {
    "overall": "items counted over test too",
    "strict": "sessions on a border left out",
    "fitval": "trained on validation too",
    "cold": "items without a training event stay",
}


def _border(part: str, of: str) -> str:
    if part == "given":
        return f"{of} as the data set gives it"
    if part.startswith("d"):
        days = int(part[1:])
        return f"last {days} days as {of}" if days > 1 else f"last day as {of}"
    return f"last {100 * (1 - float(part[1:])):.3g} % of sessions as {of}"
