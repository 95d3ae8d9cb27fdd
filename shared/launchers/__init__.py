"""The documented launchers, `torch_imagenet/test/*.sh` and `tf_seresnet/test/*.sh`.

All of them are one program, `scripts/documented_launcher.py`. It turns a launcher's options into one command of the
half's main.py, runs it, and writes the result files that the originals document.
"""
