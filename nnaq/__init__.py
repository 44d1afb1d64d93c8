"""nnaq: quantisation and bit-exact emulation for neural network accelerators."""
