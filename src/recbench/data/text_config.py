"""How item texts are read and turned into vectors: settings only. The work is done in ``recbench.nn.text``.

They decide nothing about the prepared data, so they enter neither their key nor that of a run that reads no text vectors.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from recbench.core.errors import UserError, nearest
from recbench.core.key_fields import LATER

#: Fields of the item table that a template may name.
TEXT_FIELDS = ("title", "brand", "categories", "price", "description")
PRECISIONS = ("float32", "bfloat16")
#: Encoders that are no language models.
TFIDF, FILE = "tfidf_svd", "file"


@dataclass
class TextConfig:
    """encoder: ``tfidf_svd``; ``file``, for vectors that are ready in ``path``; or a hub name or local folder of a sentence encoder or a T5.

    template: segments between semicolons; one whose fields are unknown for an item is left out of its text.
    """

    encoder: str = TFIDF
    template: str = "{title}; {price}; {brand}; {categories}"
    path: str | None = None
    width: int = 256
    normalise: bool = True
    precision: str = "float32"
    batch_size: int = 64
    max_tokens: int = 128
    #: A seed: the texts are dealt out among the items anew, so that each is the text of another. The control of every model that reads texts.
    shuffle: int | None = field(default=None, metadata=LATER)

    def validate(self) -> None:
        """Raises UserError for a value outside the choices."""
        if not self.encoder:
            raise UserError(f"data.text.encoder is empty; choose {TFIDF}, {FILE}, or a model by hub name or folder")
        if self.precision == "float16":
            raise UserError(
                "data.text.precision=float16 overflows in T5 encoders; choose float32, or bfloat16 for half the memory"
            )
        if self.precision not in PRECISIONS:
            raise UserError(f"unknown data.text.precision '{self.precision}'; {nearest(self.precision, PRECISIONS)}")
        for key in ("width", "batch_size", "max_tokens"):
            if getattr(self, key) < 1:
                raise UserError(f"data.text.{key} must be at least 1, not {getattr(self, key)}")
        if (self.encoder == FILE) != (self.path is not None):
            raise UserError(
                "data.text.encoder=file and data.text.path=FILE (.npz, .npy or .parquet) go together; give both or neither"
            )
        if self.shuffle is not None and self.shuffle < 0:
            raise UserError(f"data.text.shuffle must be a seed from 0, or null, not {self.shuffle}")
        template_segments(self.template)


def template_segments(template: str) -> list[tuple[str, list[str]]]:
    """(segment, fields in it) of each segment of a template. Raises UserError for unknown fields, and for a segment without any.

    >>> template_segments("Title: {title}; {brand}")
    [('Title: {title}', ['title']), ('{brand}', ['brand'])]
    """
    from string import Formatter

    found = []
    for segment in (part.strip() for part in template.split(";")):
        if not segment:
            continue
        try:
            fields = [name for _, name, _, _ in Formatter().parse(segment) if name is not None]
        except ValueError as error:
            raise UserError(
                f"data.text.template: cannot read '{segment}' ({error}); write fields as {{title}}"
            ) from error
        if not fields:
            raise UserError(
                f"data.text.template: the segment '{segment}' names no field and would be the same for every item"
            )
        for name in fields:
            if name not in TEXT_FIELDS:
                raise UserError(f"data.text.template: unknown field '{{{name}}}'; {nearest(name, TEXT_FIELDS)}")
        found.append((segment, fields))
    if not found:
        raise UserError("data.text.template is empty; name at least one field, as in {title}")
    return found
