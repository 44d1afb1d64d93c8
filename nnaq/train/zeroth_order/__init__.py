"""Fine-tuning by forward passes alone, through the integers of a lowered graph.

directions   random numbers that are a function of seed, step, query and parameter
parameters   the kept entries of arrays, as reals or integer codes: how they move and are updated
estimator    the two-sided estimate of a gradient
masks        which entries are kept: arms, and the merging of tasks
scores       what it costs to freeze a weight
sensitivity  slopes and curvatures of a layer, by noise in its accumulators
examples     inputs with labels, together or one by one, and their loss, read from integer logits
frozen       the part of a graph that does not move, computed once
surfaces     what of a lowered graph is tuned: its weights, or its scales
tuning       the loop, its log, and the replay of the log
"""
