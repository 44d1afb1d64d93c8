"""The LSTM encoder of RNN-T: layers of LSTM with layer norm, frames stacked between them.

    x -> (linear -> norm) -> LSTM -> norm -> (stack r frames) -> LSTM -> norm -> …

A linear layer and a layer norm before the first LSTM keep its gates within what integers resolve: gates of
raw features grow far beyond the range where sigmoid and tanh still change. Stacking r frames after the first
layer (time reduction) makes all that follows run r times less often.
Source: He et al., Streaming end-to-end speech recognition for mobile devices, ICASSP 2019.
"""

from torch import Tensor, nn

from nnaq.models.causal import RecurrentLayer, stacked


class LstmEncoder(nn.Module):
    """[T,N,features] to [T/reduction,N,width].

    projection: see RecurrentLayer; joined: the width of the linear layer before the first LSTM; 0 for none.
    """

    def __init__(
        self,
        features: int,
        hidden: int,
        layers: int,
        projection: int = 0,
        reduction: int = 2,
        dropout: float = 0.0,
        joined: int = 0,
    ) -> None:
        super().__init__()
        self.width, self.reduction = projection or hidden, reduction
        self.join = nn.Sequential(nn.Linear(features, joined), nn.LayerNorm(joined)) if joined else None
        inputs = [joined or features, self.width * reduction] + [self.width] * (layers - 2)
        self.layers = nn.ModuleList(RecurrentLayer(n, hidden, projection) for n in inputs[:layers])
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        if self.join is not None:
            x = self.join(x)
        for number, layer in enumerate(self.layers):
            if number == 1:
                x = stacked(x, self.reduction)
            x = self.dropout(layer(x))
        return x
