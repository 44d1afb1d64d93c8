"""Fine-tuning by forward passes alone, through integers.

directions   random numbers that are a function of seed, step, query and parameter
parameters   the kept entries of arrays, as reals or integer codes: how they move and are updated
estimator    the two-sided estimate of a gradient
masks        which entries are kept: arms, and the merging of tasks
scores       what it costs to freeze a weight
"""
