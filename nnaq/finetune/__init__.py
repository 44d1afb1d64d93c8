"""`nnaq finetune`: a lowered model adapted to tasks by forward passes, with the files around it.

settings  what is asked, what it takes, what came out
ready     the folder and the tasks, read and checked
run       masks, the frozen part, the steps; going on from a run that was killed
files     the tuned folder
"""
