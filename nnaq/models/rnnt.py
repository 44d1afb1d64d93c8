"""The LSTM encoder of RNN-T: layers of LSTM with layer norm, frames stacked between them.

    x -> LSTM -> norm -> (stack r frames) -> LSTM -> norm -> …

Stacking r frames after the first layer (time reduction) makes all that follows run r times less often.
Source: He et al., Streaming end-to-end speech recognition for mobile devices, ICASSP 2019.
"""

from torch import Tensor, nn

from nnaq.models.causal import RecurrentLayer, stacked


class LstmEncoder(nn.Module):
    """[T,N,features] to [T/reduction,N,width]. projection: see RecurrentLayer; 0 for none."""

    def __init__(
        self,
        features: int,
        hidden: int,
        layers: int,
        projection: int = 0,
        reduction: int = 2,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.width, self.reduction = projection or hidden, reduction
        inputs = [features, self.width * reduction] + [self.width] * (layers - 2)
        self.layers = nn.ModuleList(RecurrentLayer(n, hidden, projection) for n in inputs[:layers])
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        for number, layer in enumerate(self.layers):
            if number == 1:
                x = stacked(x, self.reduction)
            x = self.dropout(layer(x))
        return x
