"""The authors' checkpoints and adapters, read tensor by tensor."""
