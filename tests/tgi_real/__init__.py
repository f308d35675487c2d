"""Pruning inside the real Python server of Text Generation Inference, driven as its router does.

Run by deploy/tgi/real_server_test.sh, which makes an environment that has the server.
"""
