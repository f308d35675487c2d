"""What can go wrong, as one tree.

FastAVError
├── ConfigError (ValueError)        a setting out of range, an unknown name, an unreadable file
├── TokenMapError (ValueError)      a TokenMap that does not describe this prompt
├── UnsupportedError (TypeError)    a model, cache or option that cannot be pruned exactly
├── HookError (TypeError)           a LayerHook that breaks its contract
└── StateError (RuntimeError)       right objects, wrong moment: unbound, interrupted

Every message names the problem, the value, what is allowed and the remedy.
"""


class FastAVError(Exception):
    """Base class of everything this package raises on purpose."""


class ConfigError(FastAVError, ValueError):
    """A setting out of range, an unknown key or name, or an unreadable file."""


class TokenMapError(FastAVError, ValueError):
    """A TokenMap that does not describe the prompt it came with."""


class UnsupportedError(FastAVError, TypeError):
    """A model, cache or option that cannot be pruned exactly."""


class HookError(FastAVError, TypeError):
    """A LayerHook that breaks its contract."""


class StateError(FastAVError, RuntimeError):
    """Right objects, wrong moment: unbound, interrupted, or in use elsewhere."""
