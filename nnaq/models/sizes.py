"""Transducers by the name of their encoder."""

from typing import Any

from torch import nn

from nnaq.errors import DataError
from nnaq.models.conformer import ConformerEncoder
from nnaq.models.contextnet import ContextNetEncoder
from nnaq.models.convrnnt import ConvRnntEncoder
from nnaq.models.rnnt import LstmEncoder
from nnaq.models.transducer import Transducer

ENCODERS: dict[str, Any] = {
    "rnnt": LstmEncoder,
    "convrnnt": ConvRnntEncoder,
    "conformer": ConformerEncoder,
    "contextnet": ContextNetEncoder,
}


def make_encoder(name: str, features: int, **sizes: Any) -> nn.Module:
    """A fresh encoder of `features` per frame. Raises DataError for an unknown name or size."""
    if name not in ENCODERS:
        raise DataError(f"there is no model {name!r}; there are {', '.join(ENCODERS)}")
    try:
        made: nn.Module = ENCODERS[name](features, **sizes)
    except TypeError as error:
        raise DataError(f"sizes of model {name!r}: {error}; see its docstring for what it has") from None
    return made


def make_transducer(
    features: int,
    units: int,
    *,
    encoder: str,
    predictor: int,
    joint: int,
    embedding: int | None = None,
    dropout: float = 0.0,
    **sizes: Any,
) -> Transducer:
    """A fresh transducer of `units`, the blank among them; sizes: of its encoder. embedding: as predictor."""
    made = make_encoder(encoder, features, dropout=dropout, **sizes)
    return Transducer(made, units, embedding or predictor, predictor, joint, dropout)
