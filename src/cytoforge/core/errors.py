"""Every error that cytoforge raises on purpose.

```
CytoforgeError
├── ConfigError       a setting is unknown, out of range or does not fit the others
├── DataError         a file or folder of the user's is missing, broken or unsuitable
├── CheckpointError   a run folder or checkpoint cannot be used
└── TrainingError     training stopped itself: NaN, divergence, collapse
```

A message says what was expected, what came, where, and what to do. `cli` turns them
into a line and an exit code.
"""


class CytoforgeError(Exception):
    """Anything that a user can put right."""


class ConfigError(CytoforgeError):
    """A setting is unknown, out of range or does not fit the others."""


class DataError(CytoforgeError):
    """A file or folder of the user's is missing, broken or unsuitable."""


class CheckpointError(CytoforgeError):
    """A run folder or checkpoint cannot be used."""


class TrainingError(CytoforgeError):
    """Training stopped itself: NaN, divergence, collapse."""
