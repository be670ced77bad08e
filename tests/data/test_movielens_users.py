"""Users of MovieLens, from made files as the releases write them."""

import zipfile

import pytest

from recbench.core.errors import UserError
from recbench.data.sources.movielens import MovieLensConfig
from recbench.data.store import prepare
from recbench.data.user_attributes import has_user_attributes, user_attributes, users_key

RATINGS = "".join(f"{user}::{item}::4::{100 + item}\n" for user in (1, 2, 3) for item in (10, 20, 30))
USERS = "1::F::1::10::48067\n2::M::56::16::70072\n3::M::25::15::55117\n9::F::35::7::02460\n"


def config(folder, version="1m"):
    return MovieLensConfig(version=version, raw_dir=str(folder), k_core=0)


def known(data, asked, cache):
    """Raw user id -> (gender, age, occupation)."""
    found = user_attributes(data, asked, cache)
    assert found.columns == ["user", "gender", "age", "occupation"]  # no postal code
    return dict(zip(data.user_ids()["user_id"], found.drop("user").rows(), strict=True))


def write(folder, users=USERS):
    (folder / "ml-1m").mkdir()
    (folder / "ml-1m" / "ratings.dat").write_text(RATINGS)
    if users is not None:
        (folder / "ml-1m" / "users.dat").write_text(users, encoding="latin-1")
    return config(folder)


def test_gender_age_and_occupation_of_the_users_of_the_data(tmp_path):
    asked = write(tmp_path)
    data = prepare(asked, tmp_path / "cache")
    assert has_user_attributes(asked)
    found = known(data, asked, tmp_path / "cache")
    assert found == {"1": ("F", "1", "10"), "2": ("M", "56", "16"), "3": ("M", "25", "15")}


def test_the_same_from_the_archive_and_the_key_is_of_the_content(tmp_path):
    asked = write(tmp_path)
    packed = tmp_path / "packed"
    packed.mkdir()
    with zipfile.ZipFile(packed / "ml-1m.zip", "w") as archive:
        for name in ("ratings.dat", "users.dat"):
            archive.write(tmp_path / "ml-1m" / name, f"ml-1m/{name}")
        archive.writestr("ml-1m/movies.dat", "10::A (1990)::Drama\n20::B (1990)::Drama\n30::C (1990)::Drama\n")
    data, cache = prepare(config(packed), tmp_path / "cache"), tmp_path / "cache"
    assert known(data, config(packed), cache)["1"] == ("F", "1", "10")
    before = users_key(asked, cache)
    (tmp_path / "ml-1m" / "users.dat").write_text(USERS.replace("1::F", "1::M", 1))
    assert users_key(asked, cache) != before


def test_years_of_the_first_release_become_the_bands_of_the_next(tmp_path):
    (tmp_path / "ml-100k").mkdir()
    (tmp_path / "ml-100k" / "u.data").write_text(RATINGS.replace("::", "\t"))
    (tmp_path / "ml-100k" / "u.user").write_text("1|24|M|technician|85711\n2|7|F|none|94043\n3|73|M|retired|32067\n")
    asked = config(tmp_path, "100k")
    found = known(prepare(asked, tmp_path / "cache"), asked, tmp_path / "cache")
    assert {user: age for user, (_, age, _) in found.items()} == {"1": "18", "2": "1", "3": "56"}


@pytest.mark.parametrize(
    ("users", "words"),
    [
        (None, r"no users\.dat beside .*ratings\.dat; put it there, or name a table of users"),
        ("1::F::1::10\n", r"users\.dat line 1: 4 fields, not 5"),
        ("1::F::1::10::48067\n2::M::old::16::70072\n", r"users\.dat line 2: no usable user, age or gender"),
        ("1::F::1::10::48067\n1::M::1::10::48067\n", "stands more than once"),
    ],
)
def test_mistakes_are_answered(tmp_path, users, words):
    asked = write(tmp_path, users)
    data = prepare(asked, tmp_path / "cache")
    with pytest.raises(UserError, match=words):
        user_attributes(data, asked, tmp_path / "cache")


def test_later_releases_say_nothing_of_their_users(tmp_path):
    assert not has_user_attributes(config(tmp_path, "25m"))
