"""How fast nnaq is here, and what that depends on.

samples       one tiny node per operator, over the reals
warm          every kernel compiled beforehand
surroundings  what nnaq sees of the machine: versions, instructions, threads, cache
bench         times of a lowered model, of its nodes, and of a few layers, beside a peer
peer          ONNX Runtime in a process of its own
"""
