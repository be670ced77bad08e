"""RQ-VAE against LC-Rec's, and its learned codebooks against two public residual quantisers."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from recbench.models.tokenizers.rqvae import Autoencoder, RQVAEConfig
from recbench.nn.codes.learned_codebooks import LearnedCodebooks
from recbench.nn.codes.quantization import sinkhorn
from tests.parity import ours
from tests.parity.compare import (
    EXACT,
    NOT_RECORDED,
    Check,
    Pair,
    differs,
    every_comparison,
    golden,
    part,
    tensor,
    within,
)

LEVELS, CODES, LATENT, BETA = 3, 6, 4, 0.25


def _lcrec() -> dict[str, Pair]:
    arrays = golden("rqvae_lcrec")
    theirs, plain = part(arrays, "w."), part(arrays, "plain.")
    config = RQVAEConfig(levels=LEVELS, codebook_size=CODES, latent_size=LATENT, hidden_sizes=[8], beta=BETA)
    network = Autoencoder(10, config)
    books = "rq.vq_layers.{}.embedding.weight"
    names = {"codebooks.books": np.stack([theirs[books.format(level)] for level in range(LEVELS)])}
    for side in ("encoder", "decoder"):
        # Theirs has a dropout before each linear layer.
        for mine, there in ((0, 1), (2, 4)):
            for kind in ("weight", "bias"):
                names[f"{side}.{mine}.{kind}"] = theirs[f"{side}.mlp_layers.{there}.{kind}"]
    ours.set_weights(network, names)

    x = tensor(arrays["x"])
    coded = network.codebooks(network.encoder(x))
    reconstruction = F.mse_loss(network.decoder(coded.vectors), x)
    own = ours.gradients(network, reconstruction + coded.loss)
    their_books = np.stack([plain[f"g.{books.format(level)}"] for level in range(LEVELS)])
    network.codebooks.uniform_last = True
    uniform = network.codebooks(network.encoder(x))
    plan = arrays["Q"] / arrays["Q"].sum(1, keepdims=True)
    return {
        "codes": Pair(coded.codes, plain["codes"]),
        "reconstruction loss": Pair(reconstruction, plain["recon"]),
        "quantisation loss": Pair(coded.loss, LEVELS * plain["rq"]),
        "gradient by codebooks": Pair(own["codebooks.books"], LEVELS * their_books),
        "gradient by decoder": Pair(own["decoder.0.weight"], plain["g.decoder.mlp_layers.1.weight"]),
        "gradient by encoder": Pair(own["encoder.0.weight"], plain["g.encoder.mlp_layers.1.weight"]),
        "codes with a uniform last level": Pair(uniform.codes, arrays["sk.codes"]),
        "Sinkhorn's plan": Pair(sinkhorn(arrays["d"]), plan),
    }


def _codebooks(arrays: dict) -> LearnedCodebooks:
    quantizer = LearnedCodebooks(LEVELS, CODES, LATENT, BETA, False, False)
    ours.set_weights(quantizer, {"books": arrays["books"]})
    return quantizer


def _botta() -> dict[str, Pair]:
    arrays = golden("rq_botta")
    quantizer = _codebooks(arrays)
    coded = quantizer(tensor(arrays["x"]))
    own = ours.gradients(quantizer, coded.loss)
    return {
        "codes": Pair(coded.codes, arrays["codes"]),
        "quantised vectors": Pair(coded.vectors, arrays["total"]),
        "loss": Pair(LATENT * coded.loss, arrays["loss"]),
        "gradient by codebooks": Pair(LATENT * own["books"], arrays["gbooks"]),
    }


def _lucidrains() -> dict[str, Pair]:
    arrays = golden("rq_lucidrains")
    quantizer = _codebooks(arrays)
    x = tensor(arrays["x"]).requires_grad_()
    coded = quantizer(x)
    # Its loss is the commitment alone: of each level, from what the levels before have left.
    residual, commitments = x, []
    for level in range(LEVELS):
        chosen = quantizer.books[level][coded.codes[:, level]].detach()
        commitments.append(BETA * F.mse_loss(residual, chosen))
        residual = residual - chosen
    torch.stack(commitments).sum().backward()
    return {
        "codes": Pair(coded.codes, arrays["codes"]),
        "quantised vectors": Pair(coded.vectors, arrays["total"]),
        "commitment of each level, from our codes": Pair(torch.stack(commitments), arrays["losses"]),
        "gradient of the commitment, from our codes": Pair(x.grad, arrays["gx"]),
    }


CHECKS = [
    Check(
        "rqvae",
        "RUCAIBox/LC-Rec",
        NOT_RECORDED,
        {
            "codes": EXACT,
            "reconstruction loss": within(1e-5),
            "quantisation loss": within(1e-5),
            "gradient by codebooks": within(1e-5),
            "gradient by decoder": within(1e-5),
            "gradient by encoder": differs(1e-6),
            "codes with a uniform last level": EXACT,
            "Sinkhorn's plan": within(1e-4),
        },
        _lcrec,
        "the loss sums over levels here and is their mean there; the commitment of every level reaches the encoder here, so its gradient differs",
    ),
    Check(
        "rqvae, its codebooks",
        "EdoardoBotta/RQ-VAE-Recommender",
        NOT_RECORDED,
        {
            "codes": EXACT,
            "quantised vectors": within(1e-5),
            "loss": within(1e-4),
            "gradient by codebooks": within(1e-4),
        },
        _botta,
        "squared errors are means over the width here and sums there",
    ),
    Check(
        "rqvae, its codebooks",
        "lucidrains, ResidualVQ",
        NOT_RECORDED,
        {
            "codes": EXACT,
            "quantised vectors": within(1e-5),
            "commitment of each level, from our codes": within(1e-5),
            "gradient of the commitment, from our codes": within(1e-5),
        },
        _lucidrains,
        "codebooks have no loss there, so the commitment alone is compared",
    ),
]


@every_comparison(CHECKS)
def test_equals_the_published_code(check: Check, what: str) -> None:
    check.hold(what)
