"""Models that ship with nnaq: plain torch modules, shaped so that they stream and cross to integers."""
