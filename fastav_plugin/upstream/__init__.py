"""The border: the only place that names private or moving things of transformers and torch.

One function for each name that is no documented API: argument names of forwards, variables of
generate(), attributes that begin with an underscore. A lookup that does not find what it expects
raises UnsupportedError with the name, the installed release and the tested ones; where a release
of the window lacks a thing by nature, the function says so. Each module lists the names it relies
on as `CONTRACTS`; `check()` looks at all of them when a model is bound, so that importing the
package needs none.
"""

from fastav_plugin.upstream.contracts import check

__all__ = ["check"]
