"""``python -m benchmarks.rivals``: install every rival and fetch tcmalloc; what is there already is left alone."""

from __future__ import annotations

from benchmarks.rivals.environments import PYTHONS, environment, fetch_tcmalloc


def main() -> None:
    for rival in PYTHONS:
        print(f"{rival}: {environment(rival)}")
    print(f"tcmalloc: {fetch_tcmalloc() or 'not found; install the package libtcmalloc-minimal4 to measure with it'}")


if __name__ == "__main__":
    main()
