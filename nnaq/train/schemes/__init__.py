"""Ways to train a weight towards the codes that ship, a file each.

int8                plain int8 codes, straight-through
ste                 fixed tables, straight-through
lsq                 a uniform grid with a learned step
acosr               pulled to a uniform grid by a cosine
s8bqat              pulled to fixed centroids by arches of a cosine, and compressed now and then
general_quantizer   trainable centroids behind an annealed softmax
dkm                 k-means by attention inside of the forward pass
"""

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

from nnaq.errors import RecipeError
from nnaq.quantize.training import SchemeChoice
from nnaq.train.schemes.acosr import Acosr
from nnaq.train.schemes.base import Scheme, Weight
from nnaq.train.schemes.dkm import Dkm
from nnaq.train.schemes.general_quantizer import GeneralQuantizer
from nnaq.train.schemes.int8 import Int8
from nnaq.train.schemes.lsq import Lsq
from nnaq.train.schemes.s8bqat import S8bqat
from nnaq.train.schemes.ste import Ste

SCHEMES: dict[str, type[Scheme]] = {
    "int8": Int8,
    "ste": Ste,
    "lsq": Lsq,
    "acosr": Acosr,
    "s8bqat": S8bqat,
    "general_quantizer": GeneralQuantizer,
    "dkm": Dkm,
}


def check_scheme(chosen: SchemeChoice) -> None:
    """Raise RecipeError for a scheme that does not exist."""
    if chosen.name not in SCHEMES:
        close = get_close_matches(chosen.name, SCHEMES, n=1)
        near = f"; did you mean {close[0]!r}?" if close else ""
        raise RecipeError(f"no scheme {chosen.name!r}{near}; there are {', '.join(SCHEMES)}")


def make_scheme(name: str, weight: Weight, options: Mapping[str, Any] | None = None) -> Scheme:
    """The scheme of a weight.

    options: by name, the others at their defaults. Raises RecipeError for a scheme that does not exist, an
    option that it does not have, a value that the option cannot have, or a palette that it cannot make.
    """
    check_scheme(SchemeChoice(name))
    return SCHEMES[name](weight, **(options or {}))
