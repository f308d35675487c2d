"""Settings of the whole suite."""

import torch

# Two cores are shared by everything that runs: more threads only wait for each other.
torch.set_num_threads(1)
