"""Every deliberate error of nnaq.

NnaqError
├── GraphError       a graph, its text or its types contradict themselves
│   └── OpError      an operator is unknown or registered twice
├── PassError        a pass broke what it promised to keep
├── StreamError      a model reads what does not come chunk by chunk
├── FrontendError    a model file or module cannot be imported
├── DataError        recordings or arrays do not fit the model
├── RecipeError      a recipe contradicts itself or the model
├── TargetError      a target description is wrong
├── LoweringError    a real operator has no integer form with these constants
├── PluginError      a package or file from outside offers what nnaq cannot take
└── ArtifactError    an output folder or lowered file cannot be written or read

The command line prints one line for any of them and exits with code 2; every other
exception is a bug and shows its traceback.
"""


class NnaqError(Exception):
    """Who, what was found, what was expected, what to do: one sentence for the user."""


class GraphError(NnaqError):
    """A graph, its text or its types contradict themselves."""


class OpError(GraphError):
    """An operator is unknown or registered twice."""


class PassError(NnaqError):
    """A pass broke what it promised to keep."""


class StreamError(NnaqError):
    """A model reads what does not come chunk by chunk."""


class FrontendError(NnaqError):
    """A model file or module cannot be imported."""


class DataError(NnaqError):
    """Recordings or arrays do not fit the model."""


class RecipeError(NnaqError):
    """A recipe contradicts itself or the model."""


class TargetError(NnaqError):
    """A target description is wrong."""


class LoweringError(NnaqError):
    """A real operator has no integer form with these constants."""


class PluginError(NnaqError):
    """A package or file from outside offers what nnaq cannot take."""


class ArtifactError(NnaqError):
    """An output folder or a lowered file cannot be written or read."""
