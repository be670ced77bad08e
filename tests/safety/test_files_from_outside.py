"""Files that somebody made to do harm: each is read as what it is, or refused in a line, and nothing of it is executed or unpacked elsewhere."""

from __future__ import annotations

import ast
import gzip
import io
import json
import pickle
import re
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

import recbench
from recbench.core.errors import UserError
from recbench.core.run_folder import RunFolder
from recbench.data.prepared import PreparedData
from recbench.data.sources import raw_lines
from recbench.data.sources.movielens import MovieLensConfig
from recbench.data.sources.raw_lines import line_blocks, unpack
from recbench.data.sources.table_config import Columns, TableConfig
from recbench.data.store import prepare
from recbench.experiment.run import open_run, run
from recbench.models.weights import check_checkpoint, load_tensors, load_weights, save_tensors
from recbench.training import fit

SASREC = ["model=sasrec", "model.hidden_size=16", "model.feedforward_size=16", "training.batch_size=256"]


class Bomb:
    """Unpickled, it makes a file."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return (Path.touch, (Path(self.path),))


@pytest.fixture
def mark(tmp_path):
    """A file that code would make if it were executed."""
    path = tmp_path / "executed"
    yield path
    assert not path.exists()


def table_of(path, **keys):
    columns = Columns(user="user", item="item", timestamp="time")
    return TableConfig(path=str(path), columns=columns, **keys)


# Pickles


def test_the_bomb_would_go_off(tmp_path):
    pickle.loads(pickle.dumps(Bomb(tmp_path / "made")))
    assert (tmp_path / "made").exists()


@pytest.mark.parametrize(
    "write", [lambda o, f: torch.save(o, f), lambda o, f: f.write_bytes(pickle.dumps(o))], ids=["torch", "pickle"]
)
def test_a_pickle_in_place_of_weights_is_refused(tmp_path, mark, write):
    path = tmp_path / "weights.safetensors"
    write({"weight": torch.zeros(2), "x": Bomb(mark)}, path)
    with pytest.raises(UserError, match="cannot be read"):
        load_tensors(path)


def test_weights_of_another_model_are_refused_in_a_line(tmp_path):
    from recbench.models.base import ModelContext
    from recbench.models.counting.popularity import Popularity, PopularityConfig

    save_tensors({"counts_of_another": torch.zeros(3)}, tmp_path / "weights.safetensors")
    with pytest.raises(UserError, match="not those of this model"):
        load_weights(Popularity(PopularityConfig(), ModelContext(2, 1, 5)), tmp_path / "weights.safetensors")


def test_a_header_that_promises_more_than_the_file_holds_is_refused(tmp_path):
    header = json.dumps({"w": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 1 << 42]}}).encode()
    (tmp_path / "weights.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    with pytest.raises(UserError, match="cannot be read"):
        load_tensors(tmp_path / "weights.safetensors")


@pytest.fixture
def interrupted(run_config, tmp_path, monkeypatch):
    """The words and the folder of a run that was stopped in its second epoch and left a checkpoint."""
    words = [*SASREC, "training.max_epochs=3"]
    plain = fit.ResumePoint.on_train_epoch_end

    def stop(self, trainer, learner):
        plain(self, trainer, learner)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(fit.ResumePoint, "on_train_epoch_end", stop)
        with pytest.raises(KeyboardInterrupt):
            run(run_config(tmp_path / "runs", *words))
    (folder,) = [RunFolder(p.parent) for p in (tmp_path / "runs").glob("sasrec-*/resume.ckpt")]
    return words, folder


def test_a_checkpoint_as_it_was_left_is_continued(interrupted, run_config, tmp_path):
    words, folder = interrupted
    check_checkpoint(folder.resume_checkpoint)
    assert len(run(run_config(tmp_path / "runs", *words)).folder.history()) == 3


def test_a_checkpoint_with_code_in_it_is_refused_and_says_what_to_do(interrupted, run_config, tmp_path, mark):
    words, folder = interrupted
    stored = torch.load(folder.resume_checkpoint, weights_only=True)
    torch.save({**stored, "callbacks": {"more": Bomb(mark)}}, folder.resume_checkpoint)
    with pytest.raises(UserError, match=r"more than tensors.*delete it to train from the start"):
        run(run_config(tmp_path / "runs", *words))
    assert folder.state == "failed"


@pytest.mark.parametrize(
    "harm",
    [lambda b: b[: len(b) // 2], lambda b: b"", lambda b: b"PK\x03\x04" + b[100:]],
    ids=["cut", "empty", "garbage"],
)
def test_a_damaged_checkpoint_is_refused_and_says_what_to_do(interrupted, run_config, tmp_path, harm):
    words, folder = interrupted
    folder.resume_checkpoint.write_bytes(harm(folder.resume_checkpoint.read_bytes()))
    with pytest.raises(UserError, match="delete it to train from the start"):
        run(run_config(tmp_path / "runs", *words))


def test_an_array_of_objects_is_not_unpickled(tmp_path, mark):
    data = PreparedData.from_arrays(tmp_path / "data", np.array([1, 2, 1]), np.array([0, 3]))
    np.save(data.folder / "items.npy", np.array([Bomb(mark)], dtype=object), allow_pickle=True)
    with pytest.raises(UserError, match="damaged"):
        PreparedData.open(data.folder)


# Archives


def ratings_zip(path, members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(name, content)


RATINGS = "".join(f"{u}::{(u * k) % 9 + 1}::5::{100 * k}\n" for u in range(1, 21) for k in range(1, 8)).encode()


def test_a_zip_with_members_outside_of_it_writes_nothing_outside(tmp_path):
    raw = tmp_path / "raw" / "deep"
    raw.mkdir(parents=True)
    link = zipfile.ZipInfo("ml-1m/users.dat")
    link.external_attr = 0o120777 << 16  # a symbolic link
    ratings_zip(
        raw / "ml-1m.zip",
        [
            ("ml-1m/ratings.dat", RATINGS),
            ("ml-1m/movies.dat", b"1::One (1990)::Drama\n"),
            ("../../escaped.txt", b"x"),
            ("/absolute.txt", b"x"),
            (link, b"/etc/passwd"),
        ],
    )
    data = prepare(MovieLensConfig(raw_dir=str(raw), k_core=0), tmp_path / "cache")
    assert data.n_users == 20
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cache", "raw"]
    assert [p.name for p in raw.parent.iterdir()] == ["deep"]
    assert [p.name for p in raw.iterdir()] == ["ml-1m.zip"]


def test_a_link_in_place_of_the_ratings_is_read_as_its_text_alone(tmp_path):
    secret = tmp_path / "secret"
    secret.write_bytes(RATINGS)
    link = zipfile.ZipInfo("ml-1m/ratings.dat")
    link.external_attr = 0o120777 << 16
    ratings_zip(tmp_path / "ml-1m.zip", [(link, str(secret).encode()), ("ml-1m/movies.dat", b"1::One (1990)::Drama\n")])
    with pytest.raises(UserError, match=r"ratings\.dat line 1"):
        prepare(MovieLensConfig(raw_dir=str(tmp_path), k_core=0), tmp_path / "cache")


def test_a_tar_is_never_unpacked(tmp_path):
    link = tarfile.TarInfo("events.csv")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        archive.addfile(link)
        escape = tarfile.TarInfo("../escaped.csv")
        escape.size = 3
        archive.addfile(escape, io.BytesIO(b"a,b"))
    for name in ("ml-1m.zip", "events.csv.gz"):
        (tmp_path / name).write_bytes(packed.getvalue())
    with pytest.raises(UserError, match="not a zip archive"):
        prepare(MovieLensConfig(raw_dir=str(tmp_path), k_core=0), tmp_path / "cache")
    # Named like a packed table, its bytes are read as text, of which no column is the right one.
    with pytest.raises(UserError):
        prepare(table_of(tmp_path / "events.csv.gz"), tmp_path / "cache")
    assert not (tmp_path.parent / "escaped.csv").exists()


def bomb(path, megabytes):
    with gzip.open(path, "wb", compresslevel=9) as out:
        for _ in range(megabytes):
            out.write(b"0" * (1 << 20))


def test_a_gzip_bomb_fills_no_disk(tmp_path, monkeypatch):
    monkeypatch.setattr(raw_lines, "ALWAYS_ALLOWED", 8 << 20)
    bomb(tmp_path / "events.csv.gz", 64)
    with pytest.raises(UserError, match="unpacks to more than 200 times its size"):
        unpack(tmp_path / "events.csv.gz", tmp_path / "events.csv")
    assert (tmp_path / "events.csv").stat().st_size <= 2 * raw_lines.BLOCK_BYTES
    with pytest.raises(UserError, match="unpacks to more than"):
        prepare(table_of(tmp_path / "events.csv.gz"), tmp_path / "cache")
    assert list((tmp_path / "cache" / "prepared").glob("*.csv")) == []


def test_a_zip_bomb_is_stopped_too(tmp_path, monkeypatch):
    monkeypatch.setattr(raw_lines, "ALWAYS_ALLOWED", 8 << 20)
    ratings_zip(tmp_path / "a.zip", [("ratings.dat", b"1::1::5::1\n" * (1 << 22))])
    with pytest.raises(UserError, match="unpacks to more than"):
        list(line_blocks(tmp_path / "a.zip", member="ratings.dat"))


def test_a_small_file_of_much_repetition_is_no_bomb(tmp_path):
    bomb(tmp_path / "a.gz", 2)
    assert sum(len(block) for _, block in line_blocks(tmp_path / "a.gz")) == (2 << 20) + 1


def test_a_line_without_an_end_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(raw_lines, "LONGEST_LINE", 1 << 20)
    (tmp_path / "a.csv").write_bytes(b"0" * (4 << 20))
    with pytest.raises(UserError, match="line 1: more than"):
        list(line_blocks(tmp_path / "a.csv", size=1 << 18))


# Tables


def events(path, cells, n=12):
    """A table in which every user sees the given items, one after the other."""
    rows = [f"{u},{cell},{k}" for u in range(n) for k, cell in enumerate(cells)]
    path.write_bytes(("user,item,time\n" + "\n".join(rows) + "\n").encode())
    return path


def test_formulas_are_ids_like_any_other(tmp_path):
    cells = ["=cmd|' /C calc'!A0", "+1+1", "-2", "@SUM(1;2)", "'; DROP TABLE items;--"]
    data = prepare(table_of(events(tmp_path / "e.csv", cells), k_core=0), tmp_path / "cache")
    assert set(data.item_table()["item"]) == set(cells)


def test_nul_bytes_and_control_characters_harm_nothing(tmp_path):
    cells = ["a\0b", "a", "\x1b[31mred", "c"]
    data = prepare(table_of(events(tmp_path / "e.csv", cells), k_core=0), tmp_path / "cache")
    assert set(data.item_table()["item"]) == set(cells)


def test_a_huge_field_is_read_or_refused_in_a_short_line(tmp_path):
    huge = "x" * (8 << 20)
    data = prepare(table_of(events(tmp_path / "e.csv", [huge, "a", "b"], n=3), k_core=0), tmp_path / "cache")
    assert huge in set(data.item_table()["item"])
    (tmp_path / "t.csv").write_text(f"user,item,time\nu,i,1\nu,j,{huge}\n")
    with pytest.raises(UserError, match="no usable timestamp") as caught:
        prepare(table_of(tmp_path / "t.csv", k_core=0), tmp_path / "cache")
    assert len(str(caught.value)) < 600


def test_a_message_about_a_bad_row_does_not_steer_the_terminal(tmp_path):
    (tmp_path / "t.csv").write_text("user,item,time\nu,i,1\nu,j,\x1b[2Jsoon\n")
    with pytest.raises(UserError) as caught:
        prepare(table_of(tmp_path / "t.csv", k_core=0), tmp_path / "cache")
    assert "\x1b" not in str(caught.value)


def test_brackets_within_brackets_are_a_bad_row(tmp_path):
    from recbench.data.sources.amazon import AmazonConfig

    good = [
        {"reviewerID": f"u{u}", "asin": f"i{i}", "overall": 5.0, "unixReviewTime": 1000 + i}
        for u in range(8)
        for i in range(6)
    ]
    lines = [json.dumps(row).encode() for row in good]
    lines.insert(3, b'{"reviewerID": ' + b"[" * 100_000)
    with gzip.open(tmp_path / "reviews_Beauty_5.json.gz", "wb") as out:
        out.write(b"\n".join(lines))
    config = AmazonConfig(raw_dir=str(tmp_path), k_core=0, files="5core")
    with pytest.raises(UserError, match="line 4"):
        prepare(config, tmp_path / "cache")
    config.bad_rows = "skip"
    assert prepare(config, tmp_path / "cache").n_interactions == 48


def test_python_in_metadata_is_read_as_values_and_never_run(tmp_path, mark):
    from recbench.data.sources.amazon_metadata import _parse

    assert _parse(b"{'asin': 'a', 'title': 'One'}") == {"asin": "a", "title": "One"}
    assert _parse(f"{{'asin': __import__('pathlib').Path({str(mark)!r}).touch()}}".encode()) is None


# Configs and code


def test_a_stored_config_cannot_ask_for_the_environment(run_config, tmp_path, monkeypatch):
    made = run(run_config(tmp_path, "model=popularity"))
    stored = made.folder.config()
    stored["data"]["text"]["template"] = "${oc.env:HOME}"
    (made.folder.path / "config.yaml").write_text(yaml.safe_dump(stored))
    with pytest.raises(UserError, match=r"data\.text\.template"):
        open_run(made.folder.path)


def test_python_objects_in_yaml_are_refused(run_config, tmp_path, mark):
    made = run(run_config(tmp_path, "model=popularity"))
    path = made.folder.path / "config.yaml"
    path.write_text(path.read_text() + f"more: !!python/object/apply:os.system ['touch {mark}']\n")
    with pytest.raises(UserError, match=r"config\.yaml cannot be read"):
        open_run(made.folder.path)


def test_a_model_that_brings_code_of_its_own_is_refused(tmp_path, mark):
    from recbench.nn.language.pretrained import read_config

    (tmp_path / "evil.py").write_text(f"from pathlib import Path\nPath({str(mark)!r}).touch()\nclass C: pass\n")
    config = {
        "model_type": "evil",
        "auto_map": {"AutoConfig": "evil.C", "AutoModel": "evil.C"},
        "hidden_size": 8,
        "num_hidden_layers": 1,
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="cannot read the backbone"):
        read_config(str(tmp_path))


def test_pickled_weights_of_a_backbone_are_refused(stored_llama, tmp_path, mark):
    import shutil

    from recbench.nn.language.backbone import Backbone
    from recbench.nn.language.backbone_config import BackboneConfig

    folder = tmp_path / "llama"
    shutil.copytree(stored_llama, folder)
    (folder / "model.safetensors").unlink()
    torch.save({"x": Bomb(mark)}, folder / "pytorch_model.bin")
    with pytest.raises(UserError, match="safetensors"):
        Backbone(BackboneConfig(backbone=str(folder), n_layers=1), 10)


#: Calls that run what they are given, or write where they are told.
FORBIDDEN = {"eval", "exec", "compile", "extractall", "extract", "unpack_archive", "register_new_resolver"}


#: Modules that run what they read.
PICKLES = ("pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve")
#: yaml.SafeLoader, and the names under which one that derives from it is used.
SAFE_LOADERS = {"Loader", "loader", "yaml.SafeLoader", "yaml.CSafeLoader"}


#: What all of these calls have in their text; a file without is not parsed.
SUSPECT = re.compile(r"\b(" + "|".join([*FORBIDDEN, *PICKLES, r"\w*load", "from_pretrained"]) + r")\b")


def calls(path):
    text = path.read_text(encoding="utf-8")
    if not SUSPECT.search(text):
        return
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            owner = ast.unparse(node.func.value) if isinstance(node.func, ast.Attribute) else ""
            words = {word.arg: ast.unparse(word.value) for word in node.keywords}
            yield owner, name, words | {i: ast.unparse(value) for i, value in enumerate(node.args)}, node.lineno


def test_nothing_in_the_package_evaluates_unpickles_or_extracts():
    """What the tests above try on some doors holds for all: the calls that could do harm are not there, or say that they do not."""
    found = []
    for path in sorted(Path(recbench.__file__).parent.rglob("*.py")):
        for owner, name, words, line in calls(path):
            harmless = owner in ("re", "torch") or (name == "eval" and owner)  # re.compile, torch.compile, model.eval()
            if name in FORBIDDEN and not harmless:
                found.append((path.name, line, name))
            if owner in PICKLES:
                found.append((path.name, line, f"{owner}.{name}"))
            if (owner, name) == ("torch", "load") and words.get("weights_only") != "True":
                found.append((path.name, line, "torch.load without weights_only"))
            if (owner, name) == ("np", "load") and words.get("allow_pickle") != "False":
                found.append((path.name, line, "np.load without allow_pickle=False"))
            if name == "from_pretrained" and owner != "nn.Embedding" and words.get("trust_remote_code") != "False":
                found.append((path.name, line, "from_pretrained without trust_remote_code=False"))
            loader = words.get("Loader", words.get(1, ""))
            if owner == "yaml" and name in ("load", "full_load", "unsafe_load") and loader not in SAFE_LOADERS:
                found.append((path.name, line, f"yaml.{name}"))
    assert found == []
